"""The benchmark on real pictures: its plan, its splits, and the whole of it at a tiny size."""

import contextlib
import io
import json
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import save_file

from benchmarks import training
from benchmarks.real import plan, run
from benchmarks.real.data import SPLITS, prepare, some_of
from benchmarks.real.run import Workshop
from benchmarks.real.summarise import summary
from condetr.backbones.resnet import SmallResNetConfig
from condetr.cli.main import main
from condetr.data.sources import open_data, open_split
from condetr.errors import InputError
from tests.cli.conftest import TINY, coco_file, write_coco

COUNTS = {"bccd": (205, 87, 72), "neu-det": (1260, 180, 360), "facemask": (542, 135, 171)}


@pytest.mark.parametrize("data", COUNTS)
def test_the_splits_are_complete_and_have_no_image_in_common(data: str) -> None:
    names = [(SPLITS / data / f"{split}.txt").read_text().split() for split in ("train", "val", "test")]
    assert tuple(map(len, names)) == COUNTS[data]
    assert len(set().union(*names)) == sum(COUNTS[data])


@pytest.mark.parametrize("detector", plan.DETECTORS)
def test_everything_but_the_detector_is_held_equal(detector: str) -> None:
    best = plan.DETECTORS[detector].trials[0]._replace(rate=1.0)
    configs = [plan.schedules("bccd", name, best=best)[0] for name in (detector, "conditional_detr")]
    ours, other = (each.config(weights=Path("backbone.safetensors")) for each in configs)
    assert (ours.data, ours.ema, ours.schedule, ours.epochs, ours.seed) == (
        *(other.data, other.ema, other.schedule, other.epochs, other.seed),
    )
    assert ours.optimizer.lr == other.optimizer.lr
    assert ours.detector.backbone.name == other.detector.backbone.name  # type: ignore[union-attr]
    assert len(plan.DETECTORS[detector].trials) == 8
    assert len(set(plan.DETECTORS[detector].trials)) == 8


def test_schedules_of_all_lengths_share_the_epochs_before_the_rate_falls() -> None:
    runs = [each for each in plan.schedules("bccd", "detr", best=plan.TRANSFORMER[0]) if each.seed == 1]
    (chain,) = plan.chains(runs)
    assert [each.epochs for each in chain] == [20, 40, 80, 160]
    assert plan.epochs_trained(runs) == 128 + 4 + 8 + 16 + 32


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    names = [str(number) for number in range(11)]
    quarter, half = some_of(names, share=0.25), some_of(names, share=0.5)
    assert (len(quarter), len(half)) == (3, 6)
    assert set(quarter) < set(half)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A data set of twelve images in two splits, which are not those of the benchmark."""
    for split, first, count in (("train", 1, 8), ("val", 9, 4)):
        write_coco(tmp_path / "bolts", split=split, content=coco_file(first_image=first, num_images=count))
    return tmp_path / "bolts"


@pytest.fixture
def lists(tmp_path: Path) -> Path:
    """Six training, two validation and four test images, across the data set's own splits."""
    numbers = {"train": (1, 2, 3, 4, 9, 10), "val": (5, 11), "test": (6, 7, 8, 12)}
    (tmp_path / "lists" / "bolts").mkdir(parents=True)
    for split, names in numbers.items():
        (tmp_path / "lists" / "bolts" / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    return tmp_path / "lists"


def test_the_data_is_read_by_its_lists(source: Path, lists: Path, tmp_path: Path) -> None:
    prepare(source, tmp_path / "half", lists=lists / "bolts", share=0.5)
    found = open_data(tmp_path / "half", train_split="train", val_split="val")
    assert (len(found.train), len(found.val)) == (3, 2)
    test = open_split(tmp_path / "half", split="test")
    assert sorted(record.path.resolve().stem for record in test.records) == ["12", "6", "7", "8"]
    assert test.label_map.dataset_ids == (3, 7)
    assert test.records[0].boxes_xyxy.tolist() == [[4, 6, 20, 18]]


def test_a_data_set_that_lacks_an_image_is_refused(source: Path, lists: Path, tmp_path: Path) -> None:
    (lists / "bolts" / "test.txt").write_text("99\n")
    with pytest.raises(InputError, match="bolts has no image 99, which test needs: give the whole data set"):
        prepare(source, tmp_path / "prepared", lists=lists / "bolts")
    assert not (tmp_path / "prepared").exists()


def run_here(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:  # noqa: ANN401
    """Run a command of the benchmark in this process."""
    said = io.StringIO()
    if command[2] == "benchmarks.training":
        training.main(*map(Path, command[3:]))
        return subprocess.CompletedProcess(command, 0)
    with contextlib.redirect_stdout(said), pytest.raises(SystemExit, match=r"^0$"):
        main(command[3:])
    return subprocess.CompletedProcess(command, 0, stdout=said.getvalue())


@pytest.fixture
def tiny_plan(monkeypatch: pytest.MonkeyPatch, source: Path, lists: Path, tmp_path: Path) -> Workshop:
    """A plan of two detectors, two lengths and one seed."""
    held = [each for each in plan.HELD if not each.startswith(("data.transform.size_hw", "data.batch_size"))]
    small = [each for each in TINY if not each.startswith(("epochs", "loggers"))]
    monkeypatch.setattr(plan, "HELD", (*small, *held, "data.transform.size_hw=[32,32]"))
    detectors = {name: plan.DETECTORS[name] for name in plan.PAIR}
    monkeypatch.setattr(
        plan, "DETECTORS", {name: each._replace(trials=each.trials[:2]) for name, each in detectors.items()}
    )
    for name, value in {"LENGTHS": (Fraction(1, 2), Fraction(1)), "RATES_AGAIN": (1.0,)}.items():
        monkeypatch.setattr(plan, name, value)
    seeds = dict.fromkeys(plan.PAIR, 1)
    data = plan.Data(longest=4, seeds=seeds, shares={Fraction(1, 2): ("detr",)})
    monkeypatch.setattr(plan, "DATA", {"bolts": data})
    monkeypatch.setattr(subprocess, "run", run_here)
    monkeypatch.setattr(run, "usable_cores", lambda: 1)
    backbone = SmallResNetConfig(widths=(4, 4), blocks=(1,)).build(pretrained=False)
    save_file(backbone.state_dict(), tmp_path / "weights.safetensors")
    return Workshop(
        sources={"bolts": source},
        weights=tmp_path / "weights.safetensors",
        runs=tmp_path / "runs",
        results=tmp_path / "results",
        lists=lists,
    )


def test_the_whole_plan_runs_and_is_told_in_tables(tiny_plan: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    detectors = {"bolts": list(plan.PAIR)}
    with pytest.raises(InputError, match="is not complete: tune at first"):
        run.final(tiny_plan, detectors, parallel=1)

    run.tune(tiny_plan, detectors, parallel=1)
    run.final(tiny_plan, detectors, parallel=1)

    kept = sorted(path.parent.name for path in tiny_plan.results.rglob("test.json"))
    best = run.best_tuning("bolts", "detr", results=tiny_plan.results).name
    assert f"detr-{best}-2e-seed1" in kept
    assert f"detr-{best}-4e-seed1" in kept
    assert len(kept) == 2 * 2 + 1
    results = json.loads((tiny_plan.results / "bolts" / f"detr-{best}-4e-seed1" / "results.json").read_text())
    assert (results["epochs"], results["best_epoch"], results["train_images"]) == (4, 4, 6)

    monkeypatch.setattr(subprocess, "run", None)  # all is complete: nothing is trained again
    run.tune(tiny_plan, detectors, parallel=1)
    run.final(tiny_plan, detectors, parallel=1)

    before = {path: path.stat().st_mtime_ns for path in tiny_plan.results.rglob("*")}
    table = summary(tiny_plan.runs, tiny_plan.results, draws=5)
    assert before == {path: path.stat().st_mtime_ns for path in tiny_plan.results.rglob("*")}
    for line in ("| Conditional DETR | 2 | ", "| Conditional DETR | 4 | ", "| DETR | 50% | ", "| DETR | 100% | "):
        assert line in table
    assert f"| DETR | {plan.DETECTORS['detr'].trials[0].name} | 1 | " in table
    assert "1 seed a side: what another seed changes is unknown; the interval is over images alone." in table
