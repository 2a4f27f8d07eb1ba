"""The model card (README.md) of a published model: its architecture, classes, results and use."""

from pathlib import Path
from typing import Any

import jinja2

import condetr
from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.registry import PUBLISHED
from condetr.inference import DEFAULT_THRESHOLD
from condetr.inference.model_folder import LoadedModel, read_json
from condetr.words import ap_text

SHOWN_CLASSES = 100

NUMBERS = {"AP", "AP50", "AP75", "val_images", "train_images", "epochs", "best_epoch", "recipe", "train_seconds"}
"""Keys of a run's results.json that the card needs; the results.json of an evaluation lacks some."""

TEMPLATE = """\
---
library_name: transformers
pipeline_tag: object-detection
tags:
- object-detection
- vision
- {{ config.kind.replace("_", "-") }}
- condetr
---

# {{ name }}: {{ published.title }} with {{ backbone }}

An object detector of {{ label_map | length }} classes with {{ config.num_queries }} queries and {{ parameters }} M
parameters, after {{ published.paper }}.
{% if results %}
## Results

| AP | AP50 | AP75 | images | epochs | training images |
|---|---|---|---|---|---|
| {{ ap(results.AP) }} | {{ ap(results.AP50) }} | {{ ap(results.AP75) }} | {{ results.val_images }} | \
{{ results.epochs }} | {{ results.train_images }} |

COCO's average precision, from 0 to 1, on held-out images, with the model of epoch {{ results.best_epoch }}; recipe
`{{ results.recipe }}`, trained for {{ (results.train_seconds / 60) | round(1) }} minutes.
{% else %}
There are no recorded results for these weights.
{% endif %}
## Use

```python
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForObjectDetection  # needs timm as well

image = Image.open("photo.jpg").convert("RGB")
processor = AutoImageProcessor.from_pretrained("{{ name }}")
model = AutoModelForObjectDetection.from_pretrained("{{ name }}")
outputs = model(**processor(image, return_tensors="pt"))
found = processor.post_process_object_detection(
    outputs, threshold={{ threshold }}, target_sizes=[image.size[::-1]]
)[0]
```

or with condetr:

```python
import condetr

detections = condetr.load("{{ name }}").predict("photo.jpg")
```

where `{{ name }}` is this folder, or the model's id on the hub.\
{% if model.threshold is not none %} The threshold {{ threshold }} had the best F1 at IoU 0.5 on
the held-out images; condetr uses it by default.\
{% endif %}


## Classes

| row | id in the data set | name |
|---|---|---|
{% for row, category in classes -%}
| {{ row }} | {{ category.dataset_id }} | {{ category.name | replace("|", "/") }} |
{% endfor -%}
{% if label_map | length > shown %}
and {{ label_map | length - shown }} more, see `config.json`.
{% endif %}
## Limits

The model detects the classes above, in images like those that it was trained on. Images are preprocessed as
`preprocessor_config.json` states; transformers may round a resized side to one pixel more or less than condetr does.

Written by condetr {{ version }}.
"""


def make_card(model: LoadedModel, *, name: str, results: dict[str, Any] | None) -> str:
    """Return the card as Markdown; `results` are a run's results.json."""
    config, backbone = model.detector_config, model.detector_config.backbone
    assert isinstance(backbone, ResNetConfig)
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True)
    return environment.from_string(TEMPLATE).render(
        name=name,
        model=model,
        threshold=DEFAULT_THRESHOLD if model.threshold is None else model.threshold,
        config=config,
        published=PUBLISHED[type(config)],
        backbone=f"{'dilated ' if backbone.dilation else ''}ResNet-{backbone.depth}",
        parameters=round(sum(parameter.numel() for parameter in model.detector.parameters()) / 1e6, 1),
        results=results,
        ap=ap_text,
        label_map=model.label_map,
        classes=list(zip(model.label_map.row_of_each, model.label_map.categories, strict=True))[:SHOWN_CLASSES],
        shown=SHOWN_CLASSES,
        version=condetr.__version__,
    )


def read_results(weights: Path) -> dict[str, Any] | None:
    """Return the results of a run, given its folder or its best model; None if there are none.

    Raises InputError if they are damaged.
    """
    for path in (weights / "results.json", weights.parent / "results.json"):
        if path.is_file() and (content := read_json(path)).keys() >= NUMBERS:
            return content
    return None
