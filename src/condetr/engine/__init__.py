"""Training, evaluation during training, checkpoints and logs. The only user of lightning-fabric."""
