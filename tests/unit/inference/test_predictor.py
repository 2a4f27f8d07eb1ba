import base64
import io
from collections.abc import Sequence
from dataclasses import replace
from inspect import signature
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from PIL import Image

from condetr.cli.explain import explain
from condetr.cli.predict import predict
from condetr.data.batch import Batch
from condetr.errors import InputError
from condetr.explain.choose import choose
from condetr.inference import DEFAULT_THRESHOLD
from condetr.inference.detect import detect_batch
from condetr.inference.model_folder import LoadedModel
from condetr.inference.pixels import Picture
from condetr.inference.predictor import Predictor, usable_device
from condetr.interop.loading import load
from condetr.shapes import Detections


@pytest.fixture
def predictor(tiny: LoadedModel) -> Predictor:
    return Predictor(tiny.detector, transform=tiny.transform, label_map=tiny.label_map)


def picture(*, height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def assert_same(left: Detections, right: Detections) -> None:
    np.testing.assert_allclose(left.scores, right.scores, rtol=1e-5)
    np.testing.assert_allclose(left.boxes_xyxy, right.boxes_xyxy, atol=1e-3)
    assert left.names == right.names


def test_file_name_path_pil_image_and_array_give_the_same(predictor: Predictor, tmp_path: Path) -> None:
    array = picture()
    Image.fromarray(array).save(tmp_path / "a.png")

    expected = predictor.predict(array, threshold=0.0)

    for image in (Image.fromarray(array), tmp_path / "a.png", str(tmp_path / "a.png")):
        assert_same(predictor.predict(image, threshold=0.0), expected)


def test_a_turned_photograph_is_seen_upright(predictor: Predictor) -> None:
    turned = Image.fromarray(picture()).rotate(90, expand=True)
    turned.getexif()[274] = 6  # to be turned clockwise for display

    assert_same(predictor.predict(turned, threshold=0.0), predictor.predict(picture(), threshold=0.0))


def test_threshold_and_limit_bound_what_comes_back(predictor: Predictor) -> None:
    everything = predictor.predict(picture(), threshold=0.0)
    middle = float(everything.scores[2])

    assert len(everything) == 5
    assert len(predictor.predict(picture(), limit=3, threshold=0.0)) == 3
    assert (predictor.predict(picture(), threshold=middle).scores >= middle).all()


def test_python_and_the_command_line_have_one_default_threshold(predictor: Predictor) -> None:
    callers = (predict, explain, choose, predictor.predict, predictor.predict_all)

    assert {signature(caller).parameters["threshold"].default for caller in callers} == {None}
    assert predictor.threshold == DEFAULT_THRESHOLD


def test_without_a_threshold_only_what_is_likely_comes_back(predictor: Predictor) -> None:
    middle = torch.from_numpy(predictor.predict(picture(), threshold=0.0).scores).logit().median()
    with torch.no_grad():
        for name, parameter in predictor.detector.named_parameters():
            if "class" in name and name.endswith("bias"):
                parameter.sub_(middle - 1e-3)
    everything = predictor.predict(picture(), threshold=0.0)

    likely = predictor.predict(picture())

    assert 0 < len(likely) < len(everything)
    assert (likely.scores >= DEFAULT_THRESHOLD).all()


def test_the_threshold_of_the_model_is_the_default(tiny: LoadedModel) -> None:
    scores = (
        Predictor(tiny.detector, transform=tiny.transform, label_map=tiny.label_map)
        .predict(picture(), threshold=0.0)
        .scores
    )
    own = float(scores[1])

    predictor = Predictor(tiny.detector, transform=tiny.transform, label_map=tiny.label_map, threshold=own)

    assert len(predictor.predict(picture())) == len(predictor.optimize("fp32").predict(picture())) == 2


def test_every_query_has_one_name_that_of_its_best_class(predictor: Predictor) -> None:
    (pairs,) = detect_batch(
        predictor.detector, predictor.make_batch([picture()]), label_map=predictor.label_map, device="cpu", limit=100
    )

    found = predictor.predict(picture(), threshold=0.0)

    assert (len(pairs), len(found)) == (10, 5)
    assert found.sources is not None
    assert pairs.sources is not None
    assert sorted(found.sources) == [0, 1, 2, 3, 4]
    for source, score in zip(found.sources, found.scores, strict=True):
        assert score == pairs.scores[pairs.sources == source].max()


def test_many_images_come_back_in_order(predictor: Predictor) -> None:
    pictures = [picture(seed=seed) for seed in range(3)]

    found = list(predictor.predict_all(pictures, batch_size=2, threshold=0.0))

    for each, image in zip(found, pictures, strict=True):
        assert_same(each, predictor.predict(image, threshold=0.0))


@pytest.mark.parametrize("array", [np.zeros(4, np.uint8), np.zeros((3, 8, 8), np.uint8), np.zeros((0, 8, 3), np.uint8)])
def test_an_array_of_another_shape_is_refused(predictor: Predictor, array: np.ndarray) -> None:
    with pytest.raises(InputError, match="must be height x width x 3"):
        predictor.make_batch([array])


@pytest.mark.parametrize(
    "array",
    [np.full((8, 8, 3), 200.0), np.full((8, 8, 3), -0.5), np.full((8, 8), np.nan), np.zeros((8, 8, 3), np.int32)],
)
def test_an_array_of_unknown_range_is_refused(predictor: Predictor, array: np.ndarray) -> None:
    with pytest.raises(InputError, match="must hold uint8, uint16 or floats from 0 to 1"):
        predictor.predict(array)


def test_every_usual_kind_of_image_gives_the_same(predictor: Predictor, tmp_path: Path) -> None:
    array = picture()
    Image.fromarray(array).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    tensor = torch.from_numpy(array).permute(2, 0, 1)
    opaque = np.concatenate([array, np.full_like(array[..., :1], 99)], axis=2)
    expected = predictor(array, threshold=0.0)

    for image in (
        *(content, Image.fromarray(opaque), opaque, array.astype(np.uint16) * 257),
        *(array / 255, (array / 255).astype(np.float32), tensor, tensor / 255, np.asfortranarray(array)),
    ):
        assert_same(predictor(image, threshold=0.0), expected)


def test_grey_images_of_every_kind_give_the_same(predictor: Predictor, tmp_path: Path) -> None:
    grey = picture()[..., 0]
    Image.fromarray(grey).save(tmp_path / "a.png")
    expected = predictor(np.stack([grey] * 3, axis=2), threshold=0.0)

    for image in (
        *(grey, grey[..., None], tmp_path / "a.png", Image.fromarray(grey), torch.from_numpy(grey.copy())),
        *(torch.from_numpy(grey.copy())[None], grey.astype(np.uint16) << 8, grey / 255),
    ):
        assert_same(predictor(image, threshold=0.0), expected)


def test_a_given_array_is_not_changed(predictor: Predictor) -> None:
    array = picture()
    array.setflags(write=False)

    predictor(array)

    np.testing.assert_array_equal(array, picture())


@pytest.mark.parametrize("name", ["", " ", "."])
def test_an_empty_name_is_refused(predictor: Predictor, name: str) -> None:
    with pytest.raises(InputError, match="empty"):
        predictor(name)


def test_several_images_run_in_batches_without_padding(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    heights = (40, 40, 40, 60, 40)
    pictures = [picture(height=height, seed=seed) for seed, height in enumerate(heights)]
    alone = [predictor(each, threshold=0.0) for each in pictures]
    batches = []
    run = predictor.make_batch

    def make_batch(images: Sequence[Picture]) -> Batch:
        batches.append(run(images))
        return batches[-1]

    monkeypatch.setattr(predictor, "make_batch", make_batch)

    together = predictor(pictures, threshold=0.0, batch_size=2)

    assert [len(batch.pixels) for batch in batches] == [2, 1, 1, 1]
    assert not any(batch.is_padding.any() for batch in batches)
    for each, expected in zip(together, alone, strict=True):
        assert_same(each, expected)


def test_a_tuple_is_several_images_and_none_is_none(predictor: Predictor) -> None:
    assert len(predictor((picture(), picture()))) == 2
    assert predictor([]) == []


def test_only_the_classes_asked_for_come_back(predictor: Predictor) -> None:
    everything = predictor(picture(), threshold=0.0)

    for name in ("bolt", "nut"):
        found = predictor(picture(), threshold=0.0, classes=[name])
        assert found.boxes_xyxy.tolist() == everything.where(np.array(everything.names) == name).boxes_xyxy.tolist()
    with pytest.raises(InputError, match="the model has no class 'bolts'; did you mean 'bolt'"):
        predictor(picture(), classes=["bolts"])


def test_tiles_give_boxes_in_the_whole_image(predictor: Predictor) -> None:
    large = picture(height=150, width=200)

    tiled = predictor(large, threshold=0.0, tile=100, limit=1000)

    assert_same(predictor(large, threshold=0.0, tile=200), predictor(large, threshold=0.0))
    assert tiled.boxes_xyxy[:, 2].max() > 150
    assert (np.diff(tiled.scores) <= 0).all()


def test_a_notebook_shows_the_picture_and_what_is_in_it(predictor: Predictor, tmp_path: Path) -> None:
    array = np.zeros((400, 600, 3), np.uint8)
    Image.fromarray(array).save(tmp_path / "a.png")
    for image in (array, tmp_path / "a.png"):
        result = predictor(image, threshold=0.0)

        page = result._repr_html_()

        data = base64.b64decode(page.partition("base64,")[2].partition('"')[0])
        shown = np.array(Image.open(io.BytesIO(data)).convert("RGB"))
        assert shown.shape == (400, 600, 3)
        assert shown.max() > 150  # boxes on black
        assert "5 objects with a score of 0 or more: " in page
        assert result.alone().names == result.names


def test_a_shown_class_name_is_text_and_no_page(predictor: Predictor) -> None:
    result = replace(predictor(picture(), threshold=0.0).first(1), names=("<script>",))

    assert "<script>" not in result._repr_html_()


def test_a_batch_without_images_is_refused(predictor: Predictor) -> None:
    with pytest.raises(InputError, match="at least one image"):
        predictor.make_batch([])


def test_a_missing_image_is_named(predictor: Predictor, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.jpg"):
        predictor.predict(tmp_path / "gone.jpg")


def test_predicting_keeps_no_gradients(predictor: Predictor) -> None:
    predictor.predict(picture(), threshold=0.0)

    assert all(parameter.grad is None for parameter in predictor.detector.parameters())


def test_a_run_folder_loads_its_best_model(predictor: Predictor, model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    model_folder.rename(tmp_path / "run" / "best")

    loaded = load(tmp_path / "run")

    assert loaded.label_map == predictor.label_map
    assert_same(loaded.predict(picture(), threshold=0.0), predictor.predict(picture(), threshold=0.0))


def test_weights_that_are_nowhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist; give a run folder or a model folder"):
        load(tmp_path / "gone")
    with pytest.raises(InputError, match=r"holds neither config\.json nor best/config\.json"):
        load(tmp_path)


def test_a_device_that_is_not_here_is_refused(model_folder: Path) -> None:
    with pytest.raises(InputError, match="the device 'abacus' cannot be used here"):
        load(model_folder, device="abacus")


def test_without_a_device_the_gpu_is_taken_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Mock(return_value=torch.zeros(0))
    monkeypatch.setattr(torch, "empty", asked)

    for is_there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", Mock(return_value=is_there))
        usable_device()

    assert [call.kwargs["device"] for call in asked.call_args_list] == ["cpu", "cuda"]


@pytest.mark.parametrize(
    ("here", "chosen"),
    [(("xpu",), "xpu"), (("mps",), "mps"), (("xpu", "mps"), "xpu"), (("cuda", "xpu", "mps"), "cuda")],
)
def test_without_a_device_intels_and_apples_gpus_are_taken_where_there_is_no_other(
    here: tuple[str, ...], chosen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = Mock(return_value=torch.zeros(0))
    monkeypatch.setattr(torch, "empty", asked)
    for kind, module in (("cuda", torch.cuda), ("xpu", torch.xpu), ("mps", torch.backends.mps)):
        monkeypatch.setattr(module, "is_available", Mock(return_value=kind in here))

    usable_device()

    assert asked.call_args.kwargs["device"] == chosen


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("meta", "known are cpu, cuda, xpu, mps"),
        ("vulkan", "known are cpu, cuda, xpu, mps"),
        ("", "known are cpu, cuda, xpu, mps"),
        ("mps", "there is none, or torch was built without it"),
        ("xpu:1", "there is none, or torch was built without it"),
        ("cpu:x", "Invalid device string"),
    ],
)
def test_a_device_that_cannot_compute_here_is_refused_in_a_sentence(name: str, reason: str) -> None:
    with pytest.raises(InputError, match=f"the device '{name}' cannot be used here .*{reason}"):
        usable_device(name)


def test_a_device_may_be_a_torch_device(model_folder: Path) -> None:
    assert load(model_folder, device=torch.device("cpu")).device == torch.device("cpu")


def test_the_fast_form_finds_the_same(predictor: Predictor) -> None:
    fast = predictor.optimize("fp32")

    assert_same(fast.predict(picture(), threshold=0.0), predictor.predict(picture(), threshold=0.0))
    assert type(fast.detector) is not type(predictor.detector)


def test_a_detector_without_a_fast_form_is_used_as_it_is(predictor: Predictor) -> None:
    fast = predictor.optimize("fp32")

    assert fast.optimize("fp32").detector is fast.detector
