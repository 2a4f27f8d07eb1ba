import csv
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from condetr.data.dataset import ImageRecord, Split
from condetr.data.transforms import LightTransformConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.detectors.fcos import FcosConfig
from condetr.errors import InputError
from condetr.inference.model_folder import save_model
from condetr.labels import Category, LabelMap
from condetr.metrics.coco import evaluate_coco
from condetr.report.page import write_report
from condetr.shapes import Detections
from tests.tiny import TINY, tiny

LABELS = LabelMap((Category(3, "bolt"), Category(7, "<b>nut</b>"), Category(9, "washer")))
SECTIONS = (
    "Training",
    "Classes",
    "Errors",
    "Precision and recall",
    "Confusion matrix",
    "Pictures",
    "Attention",
    "Settings",
)

DETECTOR = ConditionalDetrConfig(**TINY)


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Six images, the last of them without objects."""
    (tmp_path / "images").mkdir()
    return Split(
        name="val", records=tuple(record(number, tmp_path / "images") for number in range(6)), label_map=LABELS
    )


def record(number: int, folder: Path) -> ImageRecord:
    path = folder / f"{number}.png"
    Image.new("RGB", (64, 48), "#808080").save(path)
    count = 0 if number == 5 else 2
    return ImageRecord(
        image_id=number,
        path=path,
        size_hw=(48, 64),
        boxes_xyxy=np.array([[4, 4, 30, 30], [32, 8, 60, 40]], np.float32)[:count],
        labels=np.array([0, 1])[:count],
        is_crowd=np.zeros(count, bool),
        areas=np.array([676, 896], np.float32)[:count],
    )


@pytest.fixture
def detections(split: Split) -> dict[int, Detections]:
    """Perfect in the first half of the images, nothing in the others."""
    return {
        each.image_id: Detections(
            boxes_xyxy=each.boxes_xyxy,
            scores=np.array([0.9, 0.8], np.float32),
            labels=each.labels,
            names=tuple(LABELS.names[label] for label in each.labels),
        )
        for each in split.records[:3]
    }


@pytest.fixture
def run(tmp_path: Path, split: Split, detections: dict[int, Detections]) -> Path:
    """Return a run folder without its model, evaluated in every second of four epochs."""
    folder = tmp_path / "my run"
    folder.mkdir()
    (folder / "config.yaml").write_text("epochs: 4\n")
    LABELS.save(folder / "labels.json")
    results = {**evaluate_coco(split, detections).to_dict(), "train_seconds": 3723.0, "versions": {"torch": "2.11.0"}}
    (folder / "results.json").write_text(json.dumps(results))
    with (folder / "metrics.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["epoch", "lr", "loss", "loss_l1", "AP", "AP50", "AP75"])
        writer.writeheader()
        for epoch in range(1, 5):
            accuracy = {"AP": 0.1, "AP50": 0.2, "AP75": 0.1} if epoch % 2 == 0 else {}
            writer.writerow({"epoch": epoch, "lr": 1e-4, "loss": 9 / epoch, "loss_l1": 1.0, **accuracy})
    return folder


@pytest.fixture
def run_with_model(run: Path) -> Path:
    """Return a whole run folder with its best model, which gives high scores to all its detections."""
    torch.manual_seed(0)
    detector = DETECTOR.build(num_classes=3)
    nn.init.constant_(detector.get_parameter("heads.class_head.bias"), 3.0)
    save_model(
        run / "best",
        detector,
        detector_config=DETECTOR,
        transform=LightTransformConfig(),
        label_map=LABELS,
    )
    return run


def sections(html: str) -> list[str]:
    return re.findall(r"<h2[^>]*>(.*?)</h2>", html)


def test_a_whole_run_has_every_section(run_with_model: Path, split: Split, detections: dict[int, Detections]) -> None:
    html = write_report(run_with_model, split=split, detections=detections).read_text()

    assert tuple(sections(html)) == SECTIONS
    assert "Left out" not in html
    assert 'src=""' not in html
    for text in ("my run", "1 h 02 min", "epochs: 4", "2.11.0", "0.png · F1 1.00", "3.png · F1 0.00"):
        assert text in html


def test_average_precision_is_shown_as_a_share(run: Path, split: Split, detections: dict[int, Detections]) -> None:
    html = write_report(run, split=split, detections=detections).read_text()

    results = json.loads((run / "results.json").read_text())
    assert f"<span>AP</span><b>{results['AP']:.3f}</b>" in html


def test_each_kind_of_error_is_shown_with_its_cost(run: Path, split: Split, detections: dict[int, Detections]) -> None:
    html = write_report(run, split=split, detections=detections).read_text()

    errors = html[html.index('<h2 id="errors"') : html.index('<h2 id="recall"')]
    missed = errors[errors.index("<td>missed") :]
    assert "0.396</span></td>\n<td>4</td><td>4</td><td>0</td><td>0</td>" in missed
    assert "bolt 2, &lt;b&gt;nut&lt;/b&gt; 2" in missed


def test_warnings_of_the_training_and_about_its_data_are_shown(run: Path) -> None:
    results = json.loads((run / "results.json").read_text())
    results["warnings"] = {"standing_loss": "the loss stands still"}
    results["findings"] = [
        {"severity": "warning", "what": "2 boxes without area, left out", "examples": ["a.jpg: box 1", "<b>.jpg"]},
        {"severity": "info", "what": "nothing to worry about", "examples": []},
    ]
    (run / "results.json").write_text(json.dumps(results))
    html = write_report(run, split=None, detections=None).read_text()

    assert "<li>the loss stands still</li>" in html
    assert "<li>2 boxes without area, left out (a.jpg: box 1; &lt;b&gt;.jpg)</li>" in html
    assert "nothing to worry about" not in html


def test_hits_misses_and_false_alarms_are_told_apart(
    run: Path, split: Split, detections: dict[int, Detections]
) -> None:
    html = write_report(run, split=split, detections=detections).read_text()
    assert "ground truth: 0 of 2 missed" in html
    assert "ground truth: 2 of 2 missed" in html
    assert "prediction: 2 right, 0 false alarms" in html


def test_the_first_batch_is_shown(run: Path) -> None:
    Image.new("RGB", (40, 30)).save(run / "first_batch.jpg")
    assert '<h2 id="batch">First batch</h2>' in write_report(run, split=None, detections=None).read_text()


def test_the_page_needs_no_other_file(run: Path, split: Split, detections: dict[int, Detections]) -> None:
    html = write_report(run, split=split, detections=detections).read_text()

    sources = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert "url(" not in html
    assert "<script" not in html


def test_names_from_the_data_are_text_not_markup(run: Path, split: Split, detections: dict[int, Detections]) -> None:
    html = write_report(run, split=split, detections=detections).read_text()

    assert "&lt;b&gt;nut&lt;/b&gt;" in html
    assert "<b>nut</b>" not in html


def test_the_same_run_gives_the_same_page(run: Path, split: Split, detections: dict[int, Detections]) -> None:
    first = write_report(run, split=split, detections=detections).read_text()

    assert write_report(run, split=split, detections=detections).read_text() == first


@pytest.mark.parametrize("name", ["config.yaml", "labels.json", "metrics.csv", "results.json"])
def test_what_is_missing_is_left_out_and_said(run: Path, name: str) -> None:
    (run / name).unlink()

    html = write_report(run, split=None, detections=None).read_text()

    assert f"Left out, because it did not exist when this page was written: {name}, the best model, the images" in html


def test_an_empty_run_folder_still_has_a_page(tmp_path: Path) -> None:
    assert sections(write_report(tmp_path, split=None, detections=None).read_text()) == ["Settings"]


def test_a_run_that_was_never_evaluated_shows_its_losses(run: Path) -> None:
    (run / "metrics.csv").write_text("epoch,lr,loss,AP\n1,0.1,3.5,\n2,0.1,nan,\n")

    html = write_report(run, split=None, detections=None).read_text()

    assert "Training losses" in html
    assert "Accuracy on the validation images" not in html


@pytest.mark.parametrize(
    ("name", "text"), [("metrics.csv", "epoch,loss\n1,abc\n"), ("results.json", "{"), ("labels.json", '[{"name": 1}]')]
)
def test_a_damaged_file_is_named(run: Path, name: str, text: str) -> None:
    (run / name).write_text(text)

    with pytest.raises(InputError, match=name):
        write_report(run, split=None, detections=None)


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such folder"):
        write_report(tmp_path / "gone", split=None, detections=None)


def test_pictures_that_cannot_be_read_are_passed_over(
    run: Path, split: Split, detections: dict[int, Detections]
) -> None:
    split.records[0].path.write_bytes(b"no image")

    html = write_report(run, split=split, detections=detections).read_text()

    assert "0.png" not in html
    assert "1.png" in html


def test_a_detector_that_finds_nothing_has_a_page(run: Path, split: Split) -> None:
    found = sections(write_report(run, split=split, detections={}).read_text())
    assert tuple(found) == tuple(section for section in SECTIONS if section != "Attention")


def test_a_run_without_its_best_model_says_so(run: Path, split: Split, detections: dict[int, Detections]) -> None:
    html = write_report(run, split=split, detections=detections).read_text()

    assert "Attention" not in sections(html)
    assert "Left out, because it did not exist when this page was written: the best model." in html


def links(html: str) -> list[str]:
    return re.findall(r'href="(explorer/[^"]*)"', html)


def test_the_best_and_the_worst_images_link_to_their_explorer(
    run_with_model: Path, split: Split, detections: dict[int, Detections]
) -> None:
    detections[3] = detections[0]  # false there, so that a worst image has something to show
    (run_with_model / "explorer").mkdir()
    (run_with_model / "explorer" / "best-9.html").write_text("of an earlier report")

    html = write_report(run_with_model, split=split, detections=detections).read_text()

    found = {page.relative_to(run_with_model).as_posix() for page in run_with_model.rglob("explorer/*")}
    assert set(links(html)) == found
    assert {"explorer/best-1.html", "explorer/best-2.html", "explorer/worst-1.html"} <= found
    assert "explorer/best-9.html" not in found
    captions = re.findall(r"<figcaption>(\S+) · .*?explorer/(\w+)-1.html", html)
    assert captions
    for image, kind in captions:
        assert (
            f"<title>attention in {image} · condetr</title>"
            in (run_with_model / "explorer" / f"{kind}-1.html").read_text()
        )
    assert all((run_with_model / page).stat().st_size < 6 * 2**20 for page in found)


def test_a_run_whose_detector_cannot_be_explained_has_no_explorer(
    run: Path, split: Split, detections: dict[int, Detections]
) -> None:
    config = tiny(FcosConfig)
    detector = config.build(num_classes=3)
    save_model(run / "best", detector, detector_config=config, transform=LightTransformConfig(), label_map=LABELS)

    html = write_report(run, split=split, detections=detections).read_text()

    assert links(html) == []
    assert not (run / "explorer").exists()
    assert "Attention" not in sections(html)
