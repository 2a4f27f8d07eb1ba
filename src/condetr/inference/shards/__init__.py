"""Predictions for more images than fit into memory or a day: shard by shard, to be continued after any stop.

`job` says what is done and where, `work` does a shard, `local` and `cluster` let processes and machines share them.
"""
