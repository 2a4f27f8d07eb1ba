"""`condetr compare`: run folders and official logs side by side, and what it refuses."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from condetr.config import override, to_yaml
from condetr.engine.config import TrainConfig
from condetr.metrics.matches import find_matches
from condetr.report.comparison import compare_runs, draw_comparison
from condetr.report.sides import compare_two_sides
from tests.cli.conftest import Command
from tests.unit.metrics.test_coco import HERE, THERE, guess, split_of, truth


def write_run(
    folder: Path, *, seconds_per_epoch: float, seed: int = 1, batch: int = 16, split_files: bool = True
) -> Path:
    """Write a run of four epochs, evaluated after the second and the fourth."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"seed: {seed}\ndetector: {{kind: {folder.name[:4]}}}\ndata: {{batch_size: {batch}}}\n"
    )
    metrics: list[dict[str, Any]] = [
        {"epoch": n, "step": 100 * n, "loss": 1.0, "AP": {2: 0.2, 4: 0.4}.get(n)} for n in range(1, 5)
    ]
    timing: list[dict[str, Any]] = [
        {"epoch": n, "step": 100 * n, "seconds": seconds_per_epoch * n} for n in range(1, 5)
    ]
    if not split_files:
        metrics = [{**one, **other} for one, other in zip(metrics, timing, strict=True)]
    for name, rows in {"metrics.csv": metrics, **({"timing.csv": timing} if split_files else {})}.items():
        with (folder / name).open("w", newline="") as stream:
            writer = csv.DictWriter(stream, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    return folder


def write_log(folder: Path, *, ap: list[float]) -> Path:
    """Write the log of an official training, whose epochs count from 0."""
    folder.mkdir(parents=True)
    rows = [
        {"epoch": n, "train_loss": 9.0, "test_coco_eval_bbox": [each, 0.5], "n_parameters": 1}
        for n, each in enumerate(ap)
    ]
    (folder / "log.txt").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize("split_files", [True, False])
def test_two_runs_are_compared_in_every_unit(condetr: Command, tmp_path: Path, *, split_files: bool) -> None:
    slow = write_run(tmp_path / "detr", seconds_per_epoch=30, split_files=split_files)
    fast = write_run(tmp_path / "cond", seconds_per_epoch=10, batch=8, split_files=split_files)
    ended = condetr("compare", slow, fast, "--levels", "0.3", "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    for text in ("0.300", "3.00 (1.0x)", "300 (1.0x)", "30.00 (3.0x)", "data.batch_size: 16 in detr, 8 in cond"):
        assert text in ended.out
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    assert written["rows"][1]["speed_ups"]["seconds"]["ratio"] == pytest.approx(3)
    with Image.open(tmp_path / "out" / "comparison.png") as picture:
        assert picture.width > 1500


def test_the_picture_shows_ap_as_a_share(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, seconds_per_epoch=10) for name in ("detr", "cond")]
    panel = draw_comparison(compare_runs(runs)).axes[0]
    assert panel.get_ylabel() == "AP"
    assert np.asarray(panel.lines[0].get_ydata()).max() == 0.4


def test_an_official_log_stands_beside_a_run(condetr: Command, tmp_path: Path) -> None:
    log = write_log(tmp_path / "official", ap=[0.1, 0.2, 0.3, 0.4])
    ended = condetr("compare", log / "log.txt", write_run(tmp_path / "mine", seconds_per_epoch=1), "--levels", "0.3")
    assert ended.code == 0, ended.err
    assert "3.00 (1.0x)" in ended.out
    assert "official: data, batch, schedule and evaluation are not recorded there" in ended.out


def test_seeds_are_taken_together(condetr: Command, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"detr{seed}", seconds_per_epoch=seed, seed=seed) for seed in (1, 2)]
    ended = condetr("compare", *runs)
    assert ended.code == 0, ended.err
    assert "detr1 (2 seeds)" in ended.out


def test_long_names_become_letters(condetr: Command, tmp_path: Path) -> None:
    runs = [write_run(tmp_path / f"{name}{'-slow' * 9}", seconds_per_epoch=1) for name in ("detr", "cond")]
    ended = condetr("compare", *runs, "--levels", "0.3")
    assert f"A: {runs[0].name}\nB: {runs[1].name}\n" in ended.out
    assert "how many times faster than A;" in ended.out
    heading = next(line for line in ended.out.splitlines() if line.split()[:1] == ["AP"])
    assert heading.split() == ["AP", "A", "B"]


@pytest.mark.parametrize(
    ("assignment", "text"),
    [
        *((same, "detr1 (2 seeds)") for same in ("checkpoint_minutes=0", "loggers=[]", "data.workers=1", "recipe=x")),
        ("epochs=3", "detr2"),
    ],
)
def test_what_does_not_touch_the_numbers_does_not_part_seeds(
    assignment: str, text: str, condetr: Command, tmp_path: Path
) -> None:
    runs = [write_run(tmp_path / f"detr{seed}", seconds_per_epoch=seed) for seed in (1, 2)]
    for run, assignments in zip(runs, ([], ["seed=1", assignment]), strict=True):
        (run / "config.yaml").write_text(to_yaml(override(TrainConfig(), assignments)))
    assert text in condetr("compare", *runs).out


def write_schedule(folder: Path, *, epochs: int, ap: float, seed: int = 1, kind: str = "detr", width: int = 8) -> Path:
    """Write a complete schedule of so many epochs."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(
        f"seed: {seed}\nepochs: {epochs}\nschedule: {{drop_epoch: {epochs - 1}}}\n"
        f"detector: {{kind: {kind}, dim: {width}}}\n"
    )
    (folder / "metrics.csv").write_text(f"epoch,step,AP\n1,9,0.9\n{epochs},{9 * epochs},{ap}\n")
    (folder / "timing.csv").write_text(f"epoch,step,seconds\n1,9,60\n{epochs},{9 * epochs},{60 * epochs}\n")
    (folder / "results.json").write_text("{}")
    return folder


def two_sides(tmp_path: Path, *, seeds: range = range(1, 4)) -> tuple[list[Path], list[Path]]:
    """Return schedules of two sides, of which the first needs a quarter of the epochs."""
    ours, theirs = [
        [
            write_schedule(
                tmp_path / f"{kind}-{epochs}e-seed{seed}", epochs=epochs, ap=ap + seed / 100, seed=seed, kind=kind
            )
            for epochs, ap in zip(lengths, (0.2, 0.3, 0.4, 0.5), strict=False)
            for seed in seeds
        ]
        for kind, lengths in (("conditional_detr", (10, 20, 40, 80)), ("detr", (40, 80, 160)))
    ]
    return ours, theirs


def test_two_sides_of_complete_schedules_have_a_ratio_with_an_interval(condetr: Command, tmp_path: Path) -> None:
    ours, theirs = two_sides(tmp_path)
    ended = condetr("compare", *ours, "--against", *theirs, "--out", tmp_path / "out")
    assert ended.code == 0, ended.err
    assert "conditional_detr needs at least 3." in ended.out
    assert "times fewer epochs than detr (95 %) to AP 0.420, which detr has after 160 epochs; estimate 4.0" in ended.out
    assert "AP at the end of complete schedules" in ended.out
    assert "warning: the interval is over seeds alone, not over images (--evaluation)" in ended.out
    assert "fewer than 3 seeds" not in ended.out
    assert "differ in schedule" not in ended.out
    written = json.loads((tmp_path / "out" / "comparison.json").read_text())
    low, high = written["rows"][-1]["ratios"]["epochs"]["interval"]
    assert 3 < low < 4 < high < 5
    assert written["rows"][-1]["ratios"]["seconds"]["estimate"] == pytest.approx([4, 4])
    assert [each["after"] for each in written["AP_differences"]] == [40, 80, 2400, 4800]
    assert np.subtract(*written["AP_differences"][0]["ap"]) == pytest.approx(0.2)
    assert (tmp_path / "out" / "comparison.png").stat().st_size > 10_000


def test_images_are_drawn_where_matches_were_kept(tmp_path: Path) -> None:
    ours, theirs = two_sides(tmp_path, seeds=range(1, 2))
    split = split_of(*(truth(HERE, THERE, image_id=number) for number in range(1, 9)))
    for run in (*ours, *theirs):
        found = int(run.name.split("-")[1].removesuffix("e")) / (20 if run in ours else 80)
        detections = {n: guess(HERE, scores=(n / 10,)) for n in range(1, 1 + int(2 * found))}
        (run / "test").mkdir()
        find_matches(split, detections).save(run / "test" / "matches.npz")
    content = compare_two_sides(ours, theirs, evaluation="test", draws=40).to_dict()
    assert content["rows"][-1]["ratios"]["epochs"]["estimate"] == pytest.approx([4, 4])
    # Both sides find the same in equal parts of their time, so no draw of the images changes the ratio.
    assert content["rows"][-1]["ratios"]["epochs"]["interval"] == pytest.approx([4, 4])
    assert content["rows"][-1]["AP"] == pytest.approx(26 / 101)  # 4 of 16 objects, all surely
    assert content["warnings"] == [
        "1 seed a side: what another seed changes is unknown; the interval is over images alone"
    ]


def test_runs_that_do_not_make_two_sides_are_refused_in_one_line(condetr: Command, tmp_path: Path) -> None:
    ours, theirs = two_sides(tmp_path, seeds=range(1, 3))
    wide = write_schedule(tmp_path / "wide", epochs=10, ap=0.2, seed=3, kind="conditional_detr", width=16)
    again = write_schedule(tmp_path / "again", epochs=10, ap=0.2, kind="conditional_detr")
    stopped = write_schedule(tmp_path / "stopped", epochs=90, ap=0.2, kind="conditional_detr")
    (stopped / "results.json").unlink()
    cases = {
        (*ours, wide): "differ in detector.dim: the runs of a side may differ only in their seed and their length",
        (*ours, again): "conditional_detr-10e-seed1 and again have the same seed and the same 10 epochs",
        (*ours, stopped): "stopped has not ended: go on with it, or leave it out",
        (*ours[:-1],): "conditional_detr lacks 80 epochs for seed 2: give that run, too",
    }
    for runs, sentence in cases.items():
        ended = condetr("compare", *runs, "--against", *theirs)
        assert (ended.code, len(ended.err.strip().splitlines())) == (2, 1)
        assert sentence in ended.err
    evaluated = condetr("compare", *ours, "--against", *theirs, "--evaluation", "test")
    assert "test/matches.npz cannot be read" in evaluated.err
    assert "name the runs of the other with --against" in condetr("compare", *ours, "--evaluation", "test").err
    assert condetr("compare", *ours, "--against").code == 2


def append_log(folder: Path, *, ap: list[float], first_epoch: int) -> None:
    """Append lines to a log as a training does that finds one."""
    rows = [{"epoch": first_epoch + n, "test_coco_eval_bbox": [each, 0.5]} for n, each in enumerate(ap)]
    with (folder / "log.txt").open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_two_trainings_in_one_log_are_refused(condetr: Command, tmp_path: Path) -> None:
    log = write_log(tmp_path / "official", ap=[0.1, 0.2, 0.3])
    append_log(log, ap=[0.05, 0.5], first_epoch=0)
    ended = condetr("compare", log, write_run(tmp_path / "mine", seconds_per_epoch=1))
    assert (ended.code, len(ended.err.strip().splitlines())) == (2, 1)
    assert "log.txt holds several trainings, one after the other: line 4 is back at epoch 0; make a file" in ended.err


def test_what_followed_an_epoch_that_was_run_again_does_not_count(condetr: Command, tmp_path: Path) -> None:
    log = write_log(tmp_path / "official", ap=[0.1, 0.2, 0.3, 0.4])
    append_log(log, ap=[0.21, 0.22], first_epoch=1)
    ended = condetr("compare", log, "--levels", "0.3", "--json")
    assert json.loads(ended.out)["groups"][0]["best_AP"] == [0.22]


@pytest.mark.parametrize("file", ["metrics.csv", "timing.csv"])
def test_two_trainings_in_one_table_are_refused(file: str, condetr: Command, tmp_path: Path) -> None:
    run = write_run(tmp_path / "mine", seconds_per_epoch=1)
    rows = (run / file).read_text().splitlines(keepends=True)
    (run / file).write_text("".join([*rows, *rows[1:]]))
    ended = condetr("compare", run, "--levels", "0.3")
    assert (ended.code, len(ended.err.strip().splitlines())) == (2, 1)
    assert f"{file} holds several trainings, one after the other: row 5 is back at epoch 1; make a run" in ended.err


def test_what_cannot_be_compared_is_refused_in_one_line(condetr: Command, tmp_path: Path) -> None:
    good = write_run(tmp_path / "good", seconds_per_epoch=1)
    empty, never, damaged, other = (tmp_path / name for name in ("empty", "never", "damaged", "other"))
    empty.mkdir()
    write_run(never, seconds_per_epoch=1)
    (never / "metrics.csv").write_text("epoch,AP\n1,\n")
    write_run(damaged, seconds_per_epoch=1)
    (damaged / "metrics.csv").write_text("epoch,AP\n1,x\n")
    write_log(other, ap=[0.1])
    (other / "log.txt").write_text('{"epoch": 0}\n{"epoch": 1, "test_coco_eval_bbox": []}\n')
    cases = {
        tmp_path / "gone": "gone does not exist; give a run folder or the log.txt",
        empty: "empty holds neither metrics.csv nor log.txt",
        never: "never holds no AP: the run was never evaluated",
        damaged: "metrics.csv cannot be read",
        other: "log.txt is no training log of the DETR family: line 2",
    }
    for path, sentence in cases.items():
        ended = condetr("compare", good, path, "--out", tmp_path / "out")
        assert (ended.code, len(ended.err.strip().splitlines())) == (2, 1)
        assert sentence in ended.err
    assert "--levels a is not a list of numbers" in condetr("compare", good, "--levels", "a").err
    assert not (tmp_path / "out").exists()
