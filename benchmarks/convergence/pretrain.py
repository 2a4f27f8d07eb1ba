"""Pretrain the small backbone, as in the paper, by classification: of crops of single objects from other scenes."""

import json
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from rich.console import Console
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset
from torchvision.transforms.v2.functional import resized_crop

from condetr.backbones.backbone import Backbone
from condetr.backbones.resnet import SmallResNetConfig
from condetr.data.batch import IMAGENET_MEAN, IMAGENET_STD
from condetr.data.dataset import Split
from condetr.data.images import read_image
from condetr.data.sources import open_data
from condetr.scenes.shapes import write_scenes

SCENES, SCENES_SEED = 4000, 77
CROP = 64
CONTEXT = 1.5
"""Side of a crop over the longer side of its object."""
EPOCHS, BATCH_SIZE, LEARNING_RATE = 12, 128, 1e-3

console = Console()


def pretrain(config: SmallResNetConfig, *, weights: Path) -> None:
    """Write a file with weights for the backbone, and `pretraining.json` beside it, unless they exist."""
    if weights.exists():
        return
    folder = weights.parent
    if not (folder / "pretraining").exists():
        write_scenes(folder / "pretraining", num_images=SCENES, val_images=SCENES // 10, seed=SCENES_SEED, size=128)
    splits = open_data(folder / "pretraining")
    torch.manual_seed(0)
    training, validation = _crops(splits.train), _crops(splits.val)
    backbone = config.build(pretrained=False)
    accuracy = _train(backbone, training, validation, num_classes=len(splits.train.label_map))
    (folder / "pretraining.json").write_text(json.dumps({"accuracy": accuracy, "crops": len(training)}) + "\n")
    save_file(backbone.state_dict(), weights)


def _crops(split: Split) -> TensorDataset:
    pictures, labels = [], []
    for record in split.records:
        image = read_image(record.path)
        for box_xyxy, label in zip(record.boxes_xyxy.tolist(), record.labels.tolist(), strict=True):
            pictures.append(_crop(image, box_xyxy))
            labels.append(label)
    return TensorDataset(torch.stack(pictures), torch.tensor(labels))


def _crop(image: UInt8[Tensor, "3 H W"], box_xyxy: list[float]) -> UInt8[Tensor, "3 64 64"]:
    x1, y1, x2, y2 = box_xyxy
    side = max(x2 - x1, y2 - y1, 4) * CONTEXT
    top, left = (y1 + y2 - side) / 2, (x1 + x2 - side) / 2
    crop: Tensor = resized_crop(image, round(top), round(left), round(side), round(side), [CROP, CROP])
    return crop


def _train(backbone: Backbone, training: TensorDataset, validation: TensorDataset, *, num_classes: int) -> float:
    """Train with a linear classifier on the mean of the map; return the accuracy on other scenes."""
    classifier = nn.Linear(backbone.channels[-1], num_classes)
    parameters = [*backbone.parameters(), *classifier.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.05)
    batches = DataLoader(training, batch_size=BATCH_SIZE, shuffle=True, drop_last=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=EPOCHS * len(batches))
    accuracy = 0.0
    for epoch in range(EPOCHS):
        backbone.train()
        for pictures, labels in batches:
            flipped = pictures.flip(-1) if torch.rand(()) < 0.5 else pictures
            loss = F.cross_entropy(_scores(backbone, classifier, flipped), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        accuracy = _accuracy(backbone.eval(), classifier, validation)
        console.print(f"pretraining, epoch {epoch + 1} of {EPOCHS}: {100 * accuracy:.1f} % right", highlight=False)
    return accuracy


@torch.inference_mode()
def _accuracy(backbone: nn.Module, classifier: nn.Module, validation: TensorDataset) -> float:
    right = [_scores(backbone, classifier, x).argmax(1) == y for x, y in DataLoader(validation, batch_size=BATCH_SIZE)]
    return torch.cat(right).double().mean().item()


def _scores(backbone: nn.Module, classifier: nn.Module, pictures: UInt8[Tensor, "B 3 64 64"]) -> Float[Tensor, "B K"]:
    mean, std = (torch.tensor(values)[:, None, None] for values in (IMAGENET_MEAN, IMAGENET_STD))
    scores: Tensor = classifier(backbone((pictures / 255 - mean) / std)[-1].mean((2, 3)))
    return scores
