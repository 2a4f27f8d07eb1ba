"""The folder of one training: its files, and when it may be used."""

import os
from dataclasses import dataclass
from pathlib import Path

from condetr.errors import InputError
from condetr.inference.model_folder import CONFIG, WEIGHTS
from condetr.storage.atomic import tidy


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder."""

    path: Path

    @property
    def config(self) -> Path:
        """The settings."""
        return self.path / "config.yaml"

    @property
    def labels(self) -> Path:
        """The label map."""
        return self.path / "labels.json"

    @property
    def images(self) -> Path:
        """The images used for training and validation."""
        return self.path / "images.json"

    @property
    def metrics(self) -> Path:
        """The metrics, a row for every epoch."""
        return self.path / "metrics.csv"

    @property
    def timing(self) -> Path:
        """The time of each epoch."""
        return self.path / "timing.csv"

    @property
    def first_batch(self) -> Path:
        """A picture of the first training batch, as it was augmented."""
        return self.path / "first_batch.jpg"

    @property
    def nonfinite(self) -> Path:
        """Reports about steps whose loss or gradient was not finite."""
        return self.path / "nonfinite"

    @property
    def results(self) -> Path:
        """The final metrics."""
        return self.path / "results.json"

    @property
    def predictions(self) -> Path:
        """Detections of the best model, in COCO's results format."""
        return self.path / "predictions.json"

    @property
    def report(self) -> Path:
        """The HTML report."""
        return self.path / "report.html"

    @property
    def explorer(self) -> Path:
        """The pages that the report links to."""
        return self.path / "explorer"

    @property
    def last_checkpoint(self) -> Path:
        """The last checkpoint, to resume from."""
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def best(self) -> Path:
        """The model folder of the best epoch."""
        return self.path / "best"

    @property
    def lock(self) -> Path:
        """The lock that a training holds while it runs."""
        return self.path / ".lock"

    def require_usable(self, *, resume: bool) -> None:
        """Raise InputError if a training may not be written here."""
        try:
            if self.path.is_dir() and any(entry != self.lock for entry in self.path.iterdir()):
                self._require_own(resume=resume)
            existing = next(folder for folder in (self.path, *self.path.absolute().parents) if folder.exists())
        except OSError as error:
            raise InputError(f"cannot write to {self.path}: {error.strerror}; choose another folder") from None
        if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
            raise InputError(f"cannot write to {self.path}: {existing} is not a folder that you may write to")

    def _require_own(self, *, resume: bool) -> None:
        """Raise InputError unless an existing folder can be resumed."""
        if not resume:
            raise InputError(
                f"{self.path} exists and is not empty: continue that run with --resume auto, or choose another folder "
                "with --out"
            )
        if not self.last_checkpoint.is_file() and not self._has_barely_begun():
            raise InputError(
                f"{self.path} has no checkpoints/{self.last_checkpoint.name} to resume from, but files that a new "
                "training would replace: choose another folder with --out"
            )

    def _has_barely_begun(self) -> bool:
        """Tell whether all files here may be from a training that ended before its first checkpoint."""
        written = (self.config, self.labels, self.images, self.metrics, self.timing, self.nonfinite, self.best)
        ours = {*written, self.first_batch, self.last_checkpoint.parent, self.path / "wandb", self.path / "mlruns"}
        here = {entry for entry in self.path.iterdir() if not entry.name.startswith((".", "events."))}
        best = {entry.name for entry in self.best.iterdir()} if self.best.is_dir() else set()
        epochs = len(self.metrics.read_text().splitlines()) - 1 if self.metrics.is_file() else 0
        return here <= ours and best <= {CONFIG, WEIGHTS} and epochs <= 1

    def create(self) -> None:
        """Create the folder and its subfolders, and remove incomplete files of a killed process."""
        self.last_checkpoint.parent.mkdir(parents=True, exist_ok=True)
        tidy(self.path)
        tidy(self.last_checkpoint.parent)
