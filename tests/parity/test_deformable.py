"""Deformable DETR in all its variants is transformers' function, learns the same, and exchanges weights with it."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from condetr.backbones.resnet import ResNetConfig
from condetr.detectors.deformable_detr import DeformableDetrConfig
from condetr.errors import InputError
from condetr.inference.model_folder import LoadedModel, blank_state
from condetr.interop.convert import convert
from condetr.interop.loading import find_source, read
from condetr.interop.official import write_official
from condetr.interop.original import copies_of, to_original
from condetr.layers.heads import inverse_sigmoid
from condetr.shapes import DetectorOutput, Prediction, PredictionSet, Targets
from tests.parity.peers import (
    Inputs,
    Peers,
    hf,
    inputs,
    make_peers,
    random_model,
    targets,
    their_gradients,
    their_targets,
)
from tests.parity.test_exchange import assert_same_function
from tests.parity.test_losses import (
    TERMS,
    as_dict,
    gradient_deviations,
    in_double_precision,
    their_criterion,
    weighted_sum,
)

ROWS = 9
VARIANTS: dict[str, dict[str, Any]] = {
    "single": {"num_levels": 1},
    "dc5": {"num_levels": 1, "backbone": ResNetConfig(depth=50, dilation=True)},
    "multi": {},
    "refined": {"box_refinement": True},
    "two_stage": {"box_refinement": True, "two_stage": True},
}
ENTRIES = {"single": (549, 509), "dc5": (549, 509), "multi": (561, 521), "refined": (597, 561), "two_stage": (630, 574)}
"""Of official checkpoints with ResNet-50, and how many of them are tensors of their own."""


@pytest.fixture(params=VARIANTS)
def variant(request: pytest.FixtureRequest) -> str:
    """Return the name of each variant."""
    return str(request.param)


def small(variant: str) -> DeformableDetrConfig:
    sizes: dict[str, Any] = {"num_queries": 12, "dim": 64, "num_heads": 4, "feedforward_dim": 64, "dropout": 0.0}
    sizes |= {"backbone": ResNetConfig(depth=18), "encoder_layers": 2, "decoder_layers": 3}
    return DeformableDetrConfig(**sizes | VARIANTS[variant])


def small_model(variant: str) -> LoadedModel:
    return random_model(small(variant), num_class_rows=ROWS)


def their_output(model: Any, batch: Inputs) -> DetectorOutput:  # noqa: ANN401 - a model of transformers
    """Run transformers' model and predict from every decoder layer, and from the encoder where that proposes."""
    output = model(pixel_values=batch.images, pixel_mask=(~batch.is_padding).long())
    references = [output.init_reference_points, *output.intermediate_reference_points.unbind(1)]
    layers = [
        _their_heads(model, state, layer=layer, reference=references[layer])
        for layer, state in enumerate(output.intermediate_hidden_states.unbind(1))
    ]
    torch.testing.assert_close(layers[-1], Prediction(output.logits, output.pred_boxes))
    sets = tuple(PredictionSet(f"layer{layer}", each) for layer, each in enumerate(layers))
    if not model.config.two_stage:
        return DetectorOutput(sets)
    proposals = Prediction(output.enc_outputs_class, output.enc_outputs_coord_logits.sigmoid())
    return DetectorOutput((PredictionSet("proposals", proposals, class_agnostic=True), *sets))


def _their_heads(model: nn.Module, state: Tensor, *, layer: int, reference: Tensor) -> Prediction:
    offsets = model.get_submodule(f"bbox_embed.{layer}")(state)
    moved = offsets[..., : reference.shape[-1]] + inverse_sigmoid(reference)
    logits = model.get_submodule(f"class_embed.{layer}")(state)
    return Prediction(logits, torch.cat([moved, offsets[..., reference.shape[-1] :]], dim=-1).sigmoid())


def their_losses(output: DetectorOutput, wanted: Targets) -> tuple[dict[str, Tensor], Tensor]:
    """Return transformers' terms of the last layer, and the papers' weighted sum over all sets.

    It has no loss of the encoder's predictions: they get its terms for targets that are all of class 0.
    """
    criterion = their_criterion("conditional_detr", num_classes=ROWS)
    layers = DetectorOutput(tuple(each for each in output.sets if not each.class_agnostic))
    terms = criterion(as_dict(layers), their_targets(wanted))
    total = weighted_sum(terms, kind="conditional_detr")
    for each in output.sets[: -len(layers.sets)]:
        objects = wanted._replace(labels=torch.zeros_like(wanted.labels))
        proposed = criterion(as_dict(DetectorOutput((each,))), their_targets(objects))
        total = total + weighted_sum(proposed, kind="conditional_detr")
    return terms, total


def losses_of_both(peers: Peers, *, sizes_hw: tuple[tuple[int, int], ...]) -> tuple[Any, Any]:
    batch, wanted = inputs(sizes_hw=sizes_hw), targets((3, 5), num_classes=ROWS)
    batch = batch._replace(images=batch.images.to(torch.get_default_dtype()))
    wanted = wanted._replace(boxes_cxcywh=wanted.boxes_cxcywh.to(torch.get_default_dtype()))
    ours = DeformableDetrConfig().build_criterion()(peers.ours(*batch), wanted, num_boxes=8.0)
    return ours, their_losses(their_output(peers.theirs, batch), wanted)


@torch.inference_mode()
def test_every_decoder_layer_and_the_encoder_predict_the_same(variant: str, tmp_path: Path) -> None:
    peers = make_peers(tmp_path, small_model(variant))
    batch = inputs()

    ours: DetectorOutput = peers.ours(*batch)
    theirs = their_output(peers.theirs, batch)

    assert theirs.final.logits.std() > 0.3
    assert theirs.final.boxes_cxcywh.std() > 0.03
    assert len(ours.sets) == (4 if variant == "two_stage" else 3)
    for mine, their in zip(ours.sets, theirs.sets, strict=True):
        assert mine.class_agnostic == their.class_agnostic
        torch.testing.assert_close(mine.prediction, their.prediction, rtol=0, atol=1e-4)


def test_every_loss_term_is_the_same(variant: str, tmp_path: Path) -> None:
    peers = make_peers(tmp_path, small_model(variant))

    ours, (terms, total) = losses_of_both(peers, sizes_hw=((96, 128), (112, 90)))

    for name, their_name in TERMS.items():
        torch.testing.assert_close(ours[f"loss_{name}"], terms[their_name].detach(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(ours["loss"], total, rtol=1e-5, atol=1e-6)


def test_every_parameter_gets_the_same_gradient(variant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    peers = make_peers(tmp_path, small_model(variant))

    # In float64: in float32, a point may be on another side of a cell's middle, where the gradient jumps.
    with in_double_precision(peers, monkeypatch):
        ours, (_, total) = losses_of_both(peers, sizes_hw=((64, 96), (80, 64)))
        ours["loss"].backward()
        total.backward()

    deviations = gradient_deviations(peers.ours, their_gradients(peers))
    assert max(deviations.values()) < 1e-5, max(deviations, key=lambda name: deviations[name])


def test_official_checkpoints_have_as_many_entries(variant: str) -> None:
    config = DeformableDetrConfig(**VARIANTS[variant])
    tensors = to_original(blank_state(config, num_class_rows=91), config)
    assert (len(tensors) + len(copies_of(tensors, config)), len(tensors)) == ENTRIES[variant]


def test_a_way_through_all_formats_changes_no_bit(variant: str, tmp_path: Path) -> None:
    first, last = tmp_path / "first.pth", tmp_path / "last.pth"
    model = small_model(variant)
    write_official(first, model)

    convert(first, tmp_path / "ours", to="condetr")
    convert(tmp_path / "ours", tmp_path / "theirs", to="transformers")
    convert(tmp_path / "theirs", tmp_path / "again", to="condetr")
    convert(tmp_path / "again", last, to="official")

    with torch.serialization.safe_globals([Namespace]):
        states = [torch.load(path)["model"] for path in (first, last)]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
    assert read(find_source(last)).detector_config == model.detector_config


def test_copies_that_are_not_equal_are_refused(variant: str, tmp_path: Path) -> None:
    write_official(tmp_path / "first.pth", small_model(variant))
    with torch.serialization.safe_globals([Namespace]):
        content = torch.load(tmp_path / "first.pth")
    copy = "transformer.decoder.bbox_embed.1" if VARIANTS[variant].get("box_refinement") else "bbox_embed.1"
    content["model"][f"{copy}.layers.0.bias"] = content["model"][f"{copy}.layers.0.bias"] + 1
    torch.save(content, tmp_path / "unlike.pth")

    with pytest.raises(InputError, match="which are one in this detector"):
        read(find_source(tmp_path / "unlike.pth"))


def test_what_a_profiler_left_is_passed_over(tmp_path: Path) -> None:
    model = small_model("multi")
    write_official(tmp_path / "first.pth", model)
    with torch.serialization.safe_globals([Namespace]):
        content = torch.load(tmp_path / "first.pth")
    content["model"]["transformer.encoder.total_ops"] = torch.zeros(1)
    torch.save(content, tmp_path / "profiled.pth")

    assert read(find_source(tmp_path / "profiled.pth")).detector_config == model.detector_config


def their_random_model(variant: str) -> Any:  # noqa: ANN401 - a model of transformers
    config = small(variant)
    sizes = {"d_model": 64, "encoder_layers": 2, "decoder_layers": 3, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
    sizes |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "num_queries": 12}
    sizes |= {"two_stage_num_proposals": 12, "num_feature_levels": config.num_levels, "num_labels": 7}
    switches = {"with_box_refine": config.box_refinement, "two_stage": config.two_stage}
    assert isinstance(config.backbone, ResNetConfig)
    backbone = {"backbone": f"resnet{config.backbone.depth}", "dilation": config.backbone.dilation}
    torch.manual_seed(0)
    model = hf.DeformableDetrForObjectDetection(hf.DeformableDetrConfig(**backbone, **sizes, **switches))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return model.eval()


def test_what_transformers_saves_is_read(variant: str, tmp_path: Path) -> None:
    theirs = their_random_model(variant)
    theirs.save_pretrained(tmp_path)

    model = read(find_source(tmp_path))

    assert isinstance(model.detector_config, DeformableDetrConfig)
    assert (model.label_map.num_rows, model.detector_config.num_queries) == (7, 12)
    assert_same_function(model, theirs)


def test_names_of_version_5_in_memory_are_read(variant: str, tmp_path: Path) -> None:
    theirs = their_random_model(variant)
    theirs.save_pretrained(tmp_path)
    saved = len(load_file(tmp_path / "model.safetensors"))
    state = {name: tensor.clone() for name, tensor in theirs.state_dict().items()}
    save_file(state, tmp_path / "model.safetensors")

    assert len(state) > saved
    assert_same_function(read(find_source(tmp_path)), theirs)


def test_transformers_keeps_one_copy_of_what_we_write(variant: str, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    peers = make_peers(tmp_path / "ours", small_model(variant))
    peers.theirs.save_pretrained(tmp_path / "theirs")  # type: ignore[operator]
    ours, theirs = (load_file(tmp_path / side / "model.safetensors") for side in ("ours", "theirs"))
    assert ours.keys() == theirs.keys()
