"""The settings of one training, from data to loggers."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field

from condetr.config import settings
from condetr.data.transforms import PaperTransformConfig, TransformConfig
from condetr.detectors.registry import DEFAULT_DETECTOR, DetectorConfig
from condetr.engine.optim import EmaConfig, OptimizerConfig, ScheduleConfig, StepScheduleConfig

Count = Annotated[int, Field(ge=1)]
Precision = Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


@settings
class DataConfig:
    """The images, their augmentation and batching."""

    path: str | None = None
    """A folder of images and annotations, or the file that describes them."""
    train_split: str | None = None
    """Name of the training split; by default the data set decides."""
    val_split: str | None = None
    """Name of the validation split; without one, some training images are held out."""
    val_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Fraction of the training images that is held out if the data has no validation split."""
    skip_unreadable: bool = False
    """Leave out images that cannot be read, and say how many, instead of refusing to train."""
    transform: Annotated[TransformConfig, Discriminator("kind")] = PaperTransformConfig()
    batch_size: Count = 16
    """Images per optimizer step, over all processes."""
    micro_batch_size: Count | None = None
    """Images that one process computes at once; gradients are accumulated up to `batch_size`."""
    eval_batch_size: Count = 1
    """Images per batch in evaluation; padding changes the metrics a little."""
    group_by_aspect: bool = False
    """Batch landscape and portrait images separately, which saves padding."""
    pad_multiple: Count = 1
    """Pad training batches to multiples of this many pixels; fewer sizes speed up compiled code and convolutions."""
    workers: Annotated[int, Field(ge=0)] = 4
    """Processes that read and augment images beside the training."""
    cache_mb: Annotated[int, Field(ge=0)] = 0
    """Memory in MiB for decoded images, so that later epochs need not decode them again."""


@settings
class EarlyStoppingConfig:
    """Stop when AP has not risen for a while."""

    patience: Count = 10
    """Evaluations without a new best AP after which training stops."""
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    """The least rise of AP that counts."""


@settings
class TrainConfig:
    """All settings of a training, except its output folder."""

    recipe: str = "custom"
    detector: DetectorConfig = DEFAULT_DETECTOR
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = StepScheduleConfig()
    epochs: Count = 50
    max_steps: Count | None = None
    """Steps after which training ends before all `epochs`, inside an epoch too."""
    minutes: Annotated[float, Field(gt=0)] | None = None
    """Time for everything, report included, in which `epochs`, `max_steps`, `evaluate_every` and the schedule's length
    are planned from the first steps."""
    evaluate_every: Count = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    keep: Literal["best", "last"] = "best"
    """The model that is kept: `best` by AP, or `last`: that is no choice by validation images."""
    checkpoint_minutes: Annotated[float, Field(ge=0)] = 10.0
    """Minutes between checkpoints inside an epoch, the most that a power cut can lose; 0 saves after every step."""
    process_timeout_minutes: Annotated[float, Field(gt=0, le=1440)] = 10.0
    """Minutes that processes wait for one that does not answer; evaluating and saving must take less time."""
    ema: EmaConfig | None = None
    """An average of the weights, which is evaluated and exported."""
    early_stopping: EarlyStoppingConfig | None = None
    """Stop when AP has not risen for a while."""
    init_from: str | None = None
    """Weights to start from, anything that `condetr.load` takes; what does not fit is re-initialised and named."""
    precision: Precision = "auto"
    """`auto` is bf16 if the device computes faster in it, fp16 with a scaled loss on GPUs that have fp16 alone
    (T4, V100), and otherwise fp32."""
    compile: bool = False
    """Compile the detector with torch.compile, which takes minutes for each new batch size; see data.pad_multiple."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 42
    """Of initial weights, the order of images, augmentation, dropout and held-out images."""
    loggers: tuple[Literal["tensorboard", "wandb", "mlflow"], ...] = ("tensorboard",)
    """Where metrics go besides metrics.csv."""

    def total_steps(self, steps_per_epoch: int) -> int:
        """Return the number of steps of the whole training."""
        steps = self.epochs * steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)
