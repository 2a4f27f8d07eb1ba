import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.conditional_detr import ConditionalDetrConfig
from condetr.errors import InputError
from condetr.inference.model_folder import LoadedModel, load_model, save_model


def change_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    tensors = {**load_file(folder / "model.safetensors"), **changes}
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, folder / "model.safetensors")


def test_a_model_comes_back_as_it_was_saved(tiny: LoadedModel, model_folder: Path) -> None:
    loaded = load_model(model_folder)

    assert (loaded.detector_config, loaded.transform, loaded.label_map, loaded.threshold) == tiny[1:]
    torch.testing.assert_close(loaded.detector.state_dict(), tiny.detector.state_dict(), rtol=0, atol=0)
    assert not loaded.detector.training


def test_the_same_image_gives_the_same_output_after_loading(tiny: LoadedModel, model_folder: Path) -> None:
    images, is_padding = torch.rand(1, 3, 32, 48), torch.zeros(1, 32, 48, dtype=torch.bool)

    before, after = tiny.detector(images, is_padding), load_model(model_folder).detector(images, is_padding)

    torch.testing.assert_close(after.final, before.final, rtol=0, atol=0)


def test_loading_needs_no_pretrained_weights(tiny: LoadedModel, tmp_path: Path) -> None:
    config = ConditionalDetrConfig(
        backbone=ResNetConfig(depth=18, weights=str(tmp_path / "gone.pth")),
        num_queries=5,
        dim=8,
        num_heads=2,
        feedforward_dim=8,
        encoder_layers=1,
        decoder_layers=1,
    )
    detector = config.build(num_classes=2, pretrained=False)
    save_model(tmp_path / "model", detector, detector_config=config, transform=tiny.transform, label_map=tiny.label_map)

    assert load_model(tmp_path / "model").detector_config == config


def test_weights_may_be_read_by_whoever_may_read_the_rest(model_folder: Path) -> None:
    modes = {path.stat().st_mode for path in model_folder.iterdir()}

    assert len(modes) == 1


@pytest.mark.parametrize("dataset_id", ["zz", 1e400, None, []])
def test_a_label_map_that_is_none_is_refused(model_folder: Path, dataset_id: object) -> None:
    change_config(model_folder, label_map=[{"training_id": 0, "dataset_id": dataset_id, "name": "x"}])

    with pytest.raises(InputError, match="holds no usable label_map"):
        load_model(model_folder)


def test_saving_again_replaces_the_model_and_leaves_nothing_beside_it(tiny: LoadedModel, model_folder: Path) -> None:
    with torch.no_grad():
        tiny.detector.get_parameter("query_embedding.weight").fill_(7.0)

    save_model(
        model_folder,
        tiny.detector,
        detector_config=tiny.detector_config,
        transform=tiny.transform,
        label_map=tiny.label_map,
    )

    assert (load_file(model_folder / "model.safetensors")["query_embedding.weight"] == 7.0).all()
    assert [path.name for path in model_folder.parent.iterdir()] == ["model"]


def test_the_threshold_is_kept_and_older_folders_have_none(model_folder: Path) -> None:
    assert load_model(model_folder).threshold is None

    change_config(model_folder, threshold=0.25)

    assert load_model(model_folder).threshold == 0.25


@pytest.mark.parametrize("threshold", [1.5, "0.5", True, [0.5]])
def test_a_threshold_that_is_none_is_refused(model_folder: Path, threshold: object) -> None:
    change_config(model_folder, threshold=threshold)

    with pytest.raises(InputError, match="which is no number from 0 to 1"):
        load_model(model_folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere is not a model folder: cannot read config.json"):
        load_model(tmp_path / "nowhere")


def test_missing_weights_are_named(model_folder: Path) -> None:
    (model_folder / "model.safetensors").unlink()

    with pytest.raises(InputError, match=r"cannot read the weights .*model\.safetensors"):
        load_model(model_folder)


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_cut_off_weights_are_refused(model_folder: Path, kept: int) -> None:
    path = model_folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:kept])

    with pytest.raises(InputError, match="is damaged"):
        load_model(model_folder)


def test_another_format_is_refused(model_folder: Path) -> None:
    change_config(model_folder, format=2)

    with pytest.raises(InputError, match="has format 2, this version of condetr reads format 1"):
        load_model(model_folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_config_that_is_none_is_refused(model_folder: Path, text: str) -> None:
    (model_folder / "config.json").write_text(text)

    with pytest.raises(InputError, match=r"config\.json"):
        load_model(model_folder)


@pytest.mark.parametrize("label_map", [None, "bolt", [{"name": "bolt"}], 3])
def test_an_unusable_label_map_is_refused(model_folder: Path, label_map: object) -> None:
    change_config(model_folder, label_map=label_map)

    with pytest.raises(InputError, match="no usable label_map"):
        load_model(model_folder)


def test_settings_of_another_detector_are_refused(model_folder: Path) -> None:
    change_config(model_folder, detector={"kind": "yolo"})

    with pytest.raises(InputError, match=r"config\.json: detector"):
        load_model(model_folder)


def test_a_missing_tensor_is_named(model_folder: Path) -> None:
    change_weights(model_folder, **{"query_embedding.weight": None})

    with pytest.raises(InputError, match=r"query_embedding\.weight is missing"):
        load_model(model_folder)


def test_a_misshapen_tensor_is_named_with_both_shapes(model_folder: Path) -> None:
    change_weights(model_folder, **{"query_embedding.weight": torch.zeros(4, 16)})

    with pytest.raises(InputError, match=r"query_embedding\.weight has shape \(4, 16\) instead of \(5, 16\)"):
        load_model(model_folder)


def test_a_tensor_too_many_is_named(model_folder: Path) -> None:
    change_weights(model_folder, extra=torch.zeros(1))

    with pytest.raises(InputError, match="extra is not part of the detector"):
        load_model(model_folder)
