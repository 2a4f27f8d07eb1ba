"""Deformable DETR: Deformable Transformers for End-to-End Object Detection (Zhu et al., ICLR 2021).

What the paper changed in DETR is that attention to a feature map looks at a few points around a reference instead of at
every cell, which makes it cheap enough for maps of several strides (section 4.1). Boxes may be refined from layer to
layer, and queries may be made from what the encoder finds (section 4.2).
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple, cast

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from condetr.backbones.registry import BackboneConfig
from condetr.backbones.resnet import ResNetConfig
from condetr.config import settings
from condetr.detectors import detr_family as family
from condetr.detectors.detector import (
    DecoderLayers,
    Detector,
    DetectorSettings,
    Dropout,
    EncoderLayers,
    Heads,
    Queries,
    Width,
    require_divisible,
)
from condetr.detectors.published import Checkpoint, Published, Reading, TransformersModel
from condetr.detectors.scores import build_set_criterion, rank_sigmoid
from condetr.errors import InputError
from condetr.layers.attention import MultiHeadAttention
from condetr.layers.deformable import DeformableAttention
from condetr.layers.heads import PredictionHeads, inverse_sigmoid, xavier_init
from condetr.layers.levels import FeatureLevels, Levels, cell_centres
from condetr.layers.mlp import FeedForward
from condetr.layers.positions import sine_embedding
from condetr.losses.criterion import CriterionConfig, SetCriterion
from condetr.shapes import DetectorOutput, Found, Prediction, PredictionSet, Targets

BACKBONE_LEVELS = 3
"""How many of the backbone's maps are read where there are several levels; coarser ones are made of the last."""

FIRST_SIDE_LOGIT = -2.0
"""Boxes begin with sides of about an eighth of the image, unless they begin as a proposal."""

FIRST_SIDE = 0.05
"""Side of a proposal in the finest level; it doubles from level to level (appendix A.4)."""

INSIDE = (0.01, 0.99)
"""A proposal's centre and sides must lie between these to count."""


@settings
class DeformableDetrConfig(DetectorSettings):
    """Settings of Deformable DETR; the defaults are the paper's with ResNet-50 and four levels."""

    kind: Literal["deformable_detr"] = "deformable_detr"
    backbone: BackboneConfig = ResNetConfig()
    num_queries: Queries = 300
    dim: Width = 256
    num_heads: Heads = 8
    feedforward_dim: Width = 1024
    encoder_layers: EncoderLayers = 6
    decoder_layers: DecoderLayers = 6
    dropout: Dropout = 0.1
    num_levels: Annotated[int, Field(ge=1, le=8)] = 4
    """Feature maps; with 1, the backbone's deepest alone."""
    num_points: Annotated[int, Field(ge=1, le=64)] = 4
    """Places in each level that a head looks at."""
    box_refinement: bool = False
    """Each decoder layer starts from the boxes of the one before it and has heads of its own (section 4.2)."""
    two_stage: bool = False
    """Queries are made from the best boxes that the encoder proposes (section 4.2); needs `box_refinement`."""
    criterion: CriterionConfig = CriterionConfig()

    def build(self, *, num_classes: int, pretrained: bool = True) -> "DeformableDetr":
        """Build the detector; without `pretrained` the backbone's weights are neither read nor downloaded."""
        dim = self.dim
        require_divisible(dim, num_heads=self.num_heads)
        if self.two_stage and not self.box_refinement:
            raise InputError("detector.two_stage proposes boxes that are refined: set detector.box_refinement=true too")
        levels = 1 if self.num_levels == 1 else min(self.num_levels, BACKBONE_LEVELS)
        sizes: dict[str, Any] = {
            "num_heads": self.num_heads,
            "num_levels": self.num_levels,
            "num_points": self.num_points,
            "hidden_dim": self.feedforward_dim,
            "dropout": self.dropout,
        }
        heads = PredictionHeads(dim, num_classes=num_classes, has_no_object=False, start_at_reference=True)
        num_heads = self.decoder_layers + self.two_stage if self.box_refinement else 1
        return DeformableDetr(
            FeatureLevels(
                self.backbone.build(pretrained=pretrained, levels=levels), dim=dim, num_levels=self.num_levels
            ),
            encoder=DeformableEncoder(DeformableEncoderLayer(dim, **sizes) for _ in range(self.encoder_layers)),
            queries=None if self.two_stage else LearnedQueries(dim, num_queries=self.num_queries),
            proposals=Proposals(dim, num_queries=self.num_queries) if self.two_stage else None,
            decoder=DeformableDecoder(
                (DeformableDecoderLayer(dim, **sizes) for _ in range(self.decoder_layers)),
                box_refinement=self.box_refinement,
            ),
            heads=[copy.deepcopy(heads) for _ in range(num_heads)],
        )

    def build_criterion(self) -> SetCriterion:
        """Build the losses that it learns from."""
        return build_set_criterion(self.criterion, scores="sigmoid")


class DeformableDetr(Detector):
    """Backbone, encoder, decoder and heads (section 4.1).

    There are heads for all decoder layers together or, with refinement, for each of them; the encoder's come last.
    """

    score_function = "sigmoid"
    looks_at = "points"

    def __init__(
        self,
        features: FeatureLevels,
        *,
        encoder: "DeformableEncoder",
        queries: "LearnedQueries | None",
        proposals: "Proposals | None",
        decoder: "DeformableDecoder",
        heads: Iterable[PredictionHeads],
    ) -> None:
        super().__init__()
        self.features = features
        self.encoder = encoder
        self.queries = queries
        self.proposals = proposals
        self.decoder = decoder
        self.heads = nn.ModuleList(heads)
        self.strides = features.strides
        source = proposals if queries is None else queries
        assert source is not None
        self.most_objects = source.num_queries
        if proposals is not None:
            self.any_object = tuple(f"heads.{len(self.heads) - 1}.class_head.{part}" for part in ("weight", "bias"))
        self._initialise()

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> DetectorOutput:
        """Predict class logits and a box for every query, from each decoder layer; `targets` are not read.

        With proposals, what the encoder predicts for every cell comes first.
        """
        levels = self.features(images, is_padding)
        memory = levels._replace(features=self.encoder(levels))
        proposed: tuple[PredictionSet, ...] = ()
        if self.proposals is not None:
            proposal = self.proposals(memory, heads=self.heads[-1])
            proposed = (PredictionSet("proposals", proposal, class_agnostic=True),)
            queries = self.proposals.queries(proposal)
        elif self.queries is not None:
            queries = self.queries(memory)
        predictions = self.decoder(queries, memory, heads=self._decoder_heads())
        layers = (PredictionSet(f"layer{layer}", each) for layer, each in enumerate(predictions))
        return DetectorOutput((*proposed, *layers))

    def found(self, output: DetectorOutput, *, limit: int) -> list[Found]:
        """Return the best classes of the last layer's queries."""
        return rank_sigmoid(output.final, limit)

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Restrict the detector to the classes of the given rows of the class heads, numbered in their order.

        The encoder's head stays: its first row stands for any object.
        """
        for heads in dict.fromkeys(self._decoder_heads()):
            heads.keep_classes(rows)

    def _decoder_heads(self) -> list[PredictionHeads]:
        """Return the heads of each decoder layer."""
        num_layers = len(self.decoder.layers)
        heads = cast("list[PredictionHeads]", list(self.heads))
        return heads[:num_layers] if self.decoder.box_refinement else heads * num_layers

    def _initialise(self) -> None:
        parts = [part for part in (self.encoder, self.decoder, self.queries, self.proposals) if part is not None]
        for part in parts:
            part.apply(_xavier_init)
        if self.proposals is None:
            first = self._decoder_heads()[0].box_head.layers[-1]
            nn.init.constant_(cast(Tensor, first.bias)[2:], FIRST_SIDE_LOGIT)


def _xavier_init(module: nn.Module) -> None:
    """Initialise matrices, but leave embeddings as they are and let deformable attention see to itself."""
    if isinstance(module, DeformableAttention):
        module.initialise()
    elif isinstance(module, nn.Linear):
        xavier_init(module)


class DeformableEncoder(nn.Module):
    """A stack of deformable self-attention layers over the cells of all levels."""

    def __init__(self, layers: Iterable["DeformableEncoderLayer"]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, levels: Levels) -> Float[Tensor, "B S D"]:
        """Return the memory that the decoder reads; the reference of a cell is its centre."""
        reference_xy = cell_centres(levels)
        for layer in self.layers:
            levels = levels._replace(features=layer(levels, reference_xy=reference_xy))
        return levels.features


class DeformableEncoderLayer(nn.Module):
    """Deformable self-attention, then a feed-forward network, each added and normalised."""

    def __init__(
        self, dim: int, *, num_heads: int, num_levels: int, num_points: int, hidden_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.self_attention = DeformableAttention(
            dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points
        )
        self.self_attention_norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, hidden_dim=hidden_dim, dropout=dropout)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, levels: Levels, *, reference_xy: Float[Tensor, "B S 2"]) -> Float[Tensor, "B S D"]:
        """Add positions to the queries, never to the values."""
        x: Tensor = levels.features
        attended = self.self_attention(x + levels.positions, reference=reference_xy, memory=levels)
        x = self.self_attention_norm(x + self.dropout(attended))
        x = self.feedforward_norm(x + self.feedforward(x))
        return x


class DecoderQueries(NamedTuple):
    """What the decoder starts from."""

    positions: Float[Tensor, "B Q D"]
    content: Float[Tensor, "B Q D"]
    reference: Float[Tensor, "B Q _"]
    """Points (x, y) or boxes (cx, cy, w, h) in [0, 1]."""


class LearnedQueries(nn.Module):
    """Queries that are the same for every image; the reference point of each is read off its position."""

    def __init__(self, dim: int, *, num_queries: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.embedding = nn.Embedding(num_queries, 2 * dim)
        self.reference_points = nn.Linear(dim, 2)
        nn.init.zeros_(self.reference_points.bias)

    def forward(self, memory: Levels) -> DecoderQueries:
        """Return the queries of as many images."""
        positions, content = self.embedding.weight.expand(memory.features.shape[0], -1, -1).chunk(2, dim=-1)
        return DecoderQueries(positions, content, self.reference_points(positions).float().sigmoid())


class Proposals(nn.Module):
    """The encoder predicts a box for every cell, and the best become queries (section 4.2 and appendix A.4)."""

    def __init__(self, dim: int, *, num_queries: int) -> None:
        super().__init__()
        self.num_queries = num_queries
        self.output = nn.Linear(dim, dim)
        self.output_norm = nn.LayerNorm(dim)
        self.query = nn.Linear(2 * dim, 2 * dim)
        self.query_norm = nn.LayerNorm(2 * dim)

    def forward(self, memory: Levels, *, heads: PredictionHeads) -> Prediction:
        """Predict for every cell; the boxes of cells that propose nothing are (1, 1, 1, 1)."""
        boxes_cxcywh = _cell_boxes(memory)
        is_inside = ((boxes_cxcywh > INSIDE[0]) & (boxes_cxcywh < INSIDE[1])).all(-1, keepdim=True)
        is_nothing = ~is_inside | memory.is_padding[..., None]
        features = self.output_norm(self.output(memory.features.masked_fill(is_nothing, 0)))
        return heads.refine(features, logits=inverse_sigmoid(boxes_cxcywh).masked_fill(is_nothing, torch.inf))

    def queries(self, proposal: Prediction) -> DecoderQueries:
        """Return the boxes whose first class scores highest, with queries made of nothing but them."""
        count = min(self.num_queries, proposal.logits.shape[1])
        best = proposal.logits[..., 0].topk(count).indices
        boxes_cxcywh = proposal.boxes_cxcywh.detach().gather(1, best[..., None].expand(-1, -1, 4))
        dim = self.output.out_features
        embedding = sine_embedding(boxes_cxcywh * 2 * torch.pi, dim=dim // 2).flatten(-2)
        positions, content = self.query_norm(self.query(embedding)).chunk(2, dim=-1)
        return DecoderQueries(positions, content, boxes_cxcywh)


def _cell_boxes(memory: Levels) -> Float[Tensor, "B S 4"]:
    """Return a box around each cell's centre, of a size that its level has."""
    centres = cell_centres(memory)
    sides = [
        centres.new_full((height * width,), FIRST_SIDE * 2**level)
        for level, (height, width) in enumerate(memory.sizes_hw)
    ]
    return torch.cat([centres, torch.cat(sides)[:, None].expand(*centres.shape[:2], 2)], dim=-1)


class DeformableDecoder(nn.Module):
    """Decoder layers, each of which predicts; with refinement, from where the layer before it has moved the boxes."""

    def __init__(self, layers: Iterable["DeformableDecoderLayer"], *, box_refinement: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.box_refinement = box_refinement

    def forward(self, queries: DecoderQueries, memory: Levels, *, heads: Sequence[PredictionHeads]) -> list[Prediction]:
        """Return the predictions of every layer; no gradient flows from one layer's boxes to those before them."""
        positions, embedding, reference = queries
        predictions: list[Prediction] = []
        for layer, head in zip(self.layers, heads, strict=True):
            embedding = layer(embedding, queries=positions, reference=reference, memory=memory)
            predictions.append(head.refine(embedding, logits=inverse_sigmoid(reference)))
            if self.box_refinement:
                reference = predictions[-1].boxes_cxcywh.detach()
        return predictions


class DeformableDecoderLayer(nn.Module):
    """Self-attention, deformable cross-attention and a feed-forward network, each added and normalised."""

    def __init__(
        self, dim: int, *, num_heads: int, num_levels: int, num_points: int, hidden_dim: int, dropout: float
    ) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(dim, num_heads=num_heads, dropout=dropout)
        self.self_attention_norm = nn.LayerNorm(dim)
        self.cross_attention = DeformableAttention(
            dim, num_heads=num_heads, num_levels=num_levels, num_points=num_points
        )
        self.cross_attention_norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, hidden_dim=hidden_dim, dropout=dropout)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B Q D"],
        *,
        queries: Float[Tensor, "B Q D"],
        reference: Float[Tensor, "B Q _"],
        memory: Levels,
    ) -> Float[Tensor, "B Q D"]:
        """Add the queries to the content before every projection to query or key."""
        placed = x + queries
        x = self.self_attention_norm(x + self.dropout(self.self_attention(query=placed, key=placed, value=x)))
        attended = self.cross_attention(x + queries, reference=reference, memory=memory)
        x = self.cross_attention_norm(x + self.dropout(attended))
        x = self.feedforward_norm(x + self.feedforward(x))
        return x


def read_settings(checkpoint: Checkpoint) -> Reading:
    """Read off the settings; raises InputError if they do not show or cannot be."""
    tensors, unseen, source = checkpoint
    num_levels, dim = family.matrix_shape(tensors, "transformer.level_embed", source=source)
    first = "transformer.decoder.layers.0"
    feedforward_dim, _ = family.matrix_shape(tensors, f"{first}.linear1.weight", source=source)
    places, _ = family.matrix_shape(tensors, f"{first}.cross_attn.attention_weights.weight", source=source)
    two_stage = "transformer.enc_output.weight" in tensors
    num_queries = unseen.num_queries
    if not two_stage:
        num_queries, _ = family.matrix_shape(tensors, "query_embed.weight", source=source)
    for width in (dim, places // num_levels):
        family.require_shared(width, num_heads=unseen.num_heads, source=source)
    settings = {
        "backbone": ResNetConfig(depth=family.resnet_depth(tensors, source=source), dilation=unseen.dilation),
        "num_queries": num_queries,
        "dim": dim,
        "num_heads": unseen.num_heads,
        "feedforward_dim": feedforward_dim,
        "encoder_layers": family.count_layers(tensors, r"transformer\.encoder\.layers\.(\d+)\."),
        "decoder_layers": family.count_layers(tensors, r"transformer\.decoder\.layers\.(\d+)\."),
        "dropout": unseen.dropout,
        "num_levels": num_levels,
        "num_points": places // num_levels // unseen.num_heads,
        "box_refinement": any(name.startswith("transformer.decoder.bbox_embed.") for name in tensors),
        "two_stage": two_stage,
    }
    heads = ("class_embed.0.weight", "transformer.decoder.class_embed.0.weight")
    head = next((name for name in heads if name in tensors), heads[0])
    head_rows, _ = family.matrix_shape(tensors, head, source=source)
    return Reading(settings, head_rows)


def copies(config: DeformableDetrConfig) -> Mapping[str, str]:
    """Return the second names of heads: a layer's where all share one, the decoder's where it refines with them."""
    if not config.box_refinement:
        numbers = range(1, config.decoder_layers)
        return {f"{kind}_embed.{number}": f"{kind}_embed.0" for number in numbers for kind in ("class", "bbox")}
    numbers = range(config.decoder_layers + config.two_stage)
    kinds = ("class", "bbox") if config.two_stage else ("bbox",)
    return {
        f"transformer.decoder.{kind}_embed.{number}": f"{kind}_embed.{number}" for number in numbers for kind in kinds
    }


def deviations(config: DeformableDetrConfig) -> tuple[str, ...]:
    """Return what others cannot build: where there are several levels, they read all three maps of the backbone."""
    return (f"num_levels={config.num_levels}",) if config.num_levels == BACKBONE_LEVELS - 1 else ()


PROPOSALS = {
    "output": "enc_output",
    "output_norm": "enc_output_norm",
    "query": "pos_trans",
    "query_norm": "pos_trans_norm",
}
"""Modules that make proposals, and what both the official code and transformers call them."""

ATTENTION = {
    "encoder.layers.*.self_attn": "encoder.layers.*.self_attn",
    "decoder.layers.*.cross_attn": "decoder.layers.*.encoder_attn",
}
"""Deformable attention in the official code and in transformers; its projections have the same names in both."""

PUBLISHED = Published(
    title="Deformable DETR",
    paper="[Deformable DETR: Deformable Transformers for End-to-End Object Detection](https://arxiv.org/abs/2010.04159)",
    mark="transformer.level_embed",
    original_names=(
        (r"^features\.projections\.", "input_proj."),
        (r"^features\.level_embedding$", "transformer.level_embed"),
        (r"^queries\.embedding\.", "query_embed."),
        (r"^queries\.reference_points\.", "transformer.reference_points."),
        *((rf"^proposals\.{ours}\.", f"transformer.{theirs}.") for ours, theirs in PROPOSALS.items()),
        (r"^heads\.(\d+)\.class_head\.", r"class_embed.\1."),
        (r"^heads\.(\d+)\.box_head\.", r"bbox_embed.\1."),
        # In the order in which the official code makes its norms, not in that in which it uses them.
        (r"^(decoder\.layers\.\d+)\.self_attention_norm\.", r"\1.norm2."),
        (r"^(decoder\.layers\.\d+)\.cross_attention_norm\.", r"\1.norm1."),
        *family.ORIGINAL_NAMES,
        (r"\.self_attention\.", ".self_attn."),
        (r"\.cross_attention\.", ".cross_attn."),
    ),
    read=read_settings,
    arguments={
        **family.ARGUMENTS,
        "num_feature_levels": "num_levels",
        "enc_n_points": "num_points",
        "dec_n_points": "num_points",
        "with_box_refine": "box_refinement",
        "two_stage": "two_stage",
    },
    copies=copies,
    deviations=deviations,
    transformers=TransformersModel(
        model_type="deformable_detr",
        class_prefix="DeformableDetr",
        settings={
            **family.TRANSFORMERS_SETTINGS,
            "num_feature_levels": "num_levels",
            "encoder_n_points": "num_points",
            "decoder_n_points": "num_points",
            "with_box_refine": "box_refinement",
            "two_stage": "two_stage",
            "two_stage_num_proposals": "num_queries",
        },
        modules={
            **family.TRANSFORMERS_MODULES,
            "input_proj.*.*": "model.input_proj.*.*",
            "transformer": "model",
            **{f"transformer.{name}": f"model.{name}" for name in ("reference_points", *PROPOSALS.values())},
            **{
                f"transformer.{attention}.{projection}": f"model.{theirs}.{projection}"
                for attention, theirs in ATTENTION.items()
                for projection in ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
            },
            "transformer.decoder.layers.*.norm1": "model.decoder.layers.*.encoder_attn_layer_norm",
            "transformer.decoder.layers.*.norm2": "model.decoder.layers.*.self_attn_layer_norm",
            "class_embed.*": "class_embed.*",
            "bbox_embed.*.layers.*": "bbox_embed.*.layers.*",
            "transformer.decoder.class_embed.*": "model.decoder.class_embed.*",
            "transformer.decoder.bbox_embed.*.layers.*": "model.decoder.bbox_embed.*.layers.*",
        },
        fused={"transformer.decoder.layers.*.self_attn": "model.decoder.layers.*.self_attn"},
        kept_copies=r"transformer\.decoder\.",
        tied=((r"^class_embed\.[1-9]\d*\.", "class_embed.0."),),
        loss_weights={"class_cost": 2, "bbox_loss_coefficient": 5, "giou_loss_coefficient": 2},
    ),
)
