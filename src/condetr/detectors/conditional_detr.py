"""Conditional DETR for Fast Training Convergence (Meng et al., ICCV 2021).

The paper changes the decoder of DETR: cross-attention gets a separate spatial query, computed from the decoder
embedding and a reference point, and content and spatial parts are concatenated instead of added (section 3).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal

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
    Groups,
    Heads,
    Queries,
    Width,
    require_divisible,
)
from condetr.detectors.published import Published, TransformersModel
from condetr.detectors.scores import RANKINGS, Scores, build_set_criterion
from condetr.layers.attention import DotProductAttention
from condetr.layers.encoder import Encoder, EncoderLayer
from condetr.layers.features import Cells, FeatureMap
from condetr.layers.heads import PredictionHeads, layer_sets, restored_sets, xavier_init
from condetr.layers.mlp import MLP, FeedForward
from condetr.layers.positions import point_embedding
from condetr.layers.queries import DenoisingQueries, Reference, ReferencePoints
from condetr.losses.criterion import CriterionConfig, SetCriterion
from condetr.shapes import DetectorOutput, Found, Prediction, Targets

SpatialQuery = Literal["CSQ", "C", "T", "P", "I"]
Transformation = Literal["diagonal", "identity", "scalar", "block", "full"]


@settings
class ConditionalDetrConfig(DetectorSettings):
    """Settings of Conditional DETR; the defaults are the paper's with ResNet-50."""

    kind: Literal["conditional_detr"] = "conditional_detr"
    backbone: BackboneConfig = ResNetConfig()
    num_queries: Queries = 300
    dim: Width = 256
    num_heads: Heads = 8
    feedforward_dim: Width = 2048
    encoder_layers: EncoderLayers = 6
    decoder_layers: DecoderLayers = 6
    dropout: Dropout = 0.1
    scores: Scores = "sigmoid"
    """`sigmoid` is trained with the focal loss, `softmax` with cross-entropy."""
    criterion: CriterionConfig = CriterionConfig()
    spatial_query: SpatialQuery = "CSQ"
    """Table 3. CSQ: T(f) p_s. C: the decoder embedding f. T: T(f) alone. P: p_s alone. I: T from the content query."""
    transformation: Transformation = "diagonal"
    """The form of T (figure 5)."""
    reference: Reference = "query"
    """Where reference points come from: predicted from each query, a parameter of each query, or all at (0.5, 0.5)."""
    offset_regression: bool = True
    """Predict the box centre as an offset from the reference point (equation 1)."""
    query_groups: Groups = 1
    """Groups of `num_queries` queries, trained in parallel; detection uses the first (Group DETR, section 3)."""
    denoising_groups: Annotated[int, Field(ge=0, le=64)] = 0
    """Noised copies of each target that the decoder learns to restore, in training only (DN-DETR, section 4)."""

    def build(self, *, num_classes: int, pretrained: bool = True) -> "ConditionalDetr":
        """Build the detector; without `pretrained` the backbone's weights are neither read nor downloaded."""
        dim, num_heads = self.dim, self.num_heads
        require_divisible(dim, num_heads=num_heads)
        sizes: dict[str, Any] = {"num_heads": num_heads, "hidden_dim": self.feedforward_dim, "dropout": self.dropout}
        return ConditionalDetr(
            FeatureMap(self.backbone.build(pretrained=pretrained), dim=dim),
            query_embedding=nn.Embedding(self.num_queries * self.query_groups, dim),
            encoder=Encoder(EncoderLayer(dim, **sizes) for _ in range(self.encoder_layers)),
            reference_points=ReferencePoints(
                dim, num_queries=self.num_queries * self.query_groups, source=self.reference
            ),
            decoder=ConditionalDecoder(
                [ConditionalDecoderLayer(dim, is_first=index == 0, **sizes) for index in range(self.decoder_layers)],
                norm=nn.LayerNorm(dim),
                spatial_query=ConditionalSpatialQuery(
                    dim, num_heads=num_heads, form=self.spatial_query, transformation=self.transformation
                ),
            ),
            heads=PredictionHeads(
                dim, num_classes=num_classes, has_no_object=self.scores == "softmax", start_at_reference=True
            ),
            denoising=DenoisingQueries(dim, num_classes=num_classes, groups=self.denoising_groups)
            if self.denoising_groups
            else None,
            scores=self.scores,
            offset_regression=self.offset_regression,
            query_groups=self.query_groups,
        )

    def build_criterion(self) -> SetCriterion:
        """Build the criterion for training."""
        return build_set_criterion(self.criterion, scores=self.scores)

    def for_inference(self) -> "ConditionalDetrConfig":
        """Return the settings of the exported detector: one group of queries and no denoising."""
        return replace(self, query_groups=1, denoising_groups=0)


class ConditionalDetr(Detector):
    """Backbone, encoder, conditional decoder and heads (section 3.2)."""

    looks_at = "cells"

    def __init__(
        self,
        features: FeatureMap,
        *,
        query_embedding: nn.Embedding,
        encoder: Encoder,
        reference_points: ReferencePoints,
        decoder: "ConditionalDecoder",
        heads: PredictionHeads,
        denoising: DenoisingQueries | None,
        scores: Scores,
        offset_regression: bool,
        query_groups: int,
    ) -> None:
        super().__init__()
        self.features = features
        self.query_embedding = query_embedding
        self.encoder = encoder
        self.reference_points = reference_points
        self.decoder = decoder
        self.heads = heads
        self.denoising = denoising
        self.rank, self.score_function = RANKINGS[scores], scores
        self.offset_regression = offset_regression
        self.query_groups = query_groups
        self.strides = (features.stride,)
        self.num_queries = self.most_objects = query_embedding.num_embeddings // query_groups
        xavier_init(self.encoder)
        xavier_init(self.decoder)

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> DetectorOutput:
        """Predict class logits and a box for every query, from each decoder layer.

        `targets` are only used in training with denoising.
        """
        features, positions, cell_is_padding = self.features(images, is_padding)
        memory = self.encoder(features, positions=positions, is_padding=cell_is_padding)
        cells = Cells(memory, positions, cell_is_padding)
        groups = self.query_groups if self.training else 1
        queries = self.query_embedding.weight[: groups * self.num_queries].expand(images.shape[0], -1, -1)
        layers = self._decode(cells, queries, reference_xy=self.reference_points(queries), groups=groups)
        sets = layer_sets(layers, groups=groups)
        if self.denoising is not None and targets is not None and self.training:
            queries, embedding, reference_xy, known = self.denoising(targets)
            groups = self.denoising.groups
            restored = self._decode(cells, queries, reference_xy=reference_xy, groups=groups, embedding=embedding)
            sets = (*restored_sets(restored, known=known, groups=groups), *sets)
        return DetectorOutput(sets)

    def found(self, output: DetectorOutput, *, limit: int) -> list[Found]:
        """Return the detections of the last layer."""
        return self.rank(output.final, limit)

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Restrict the detector to the classes of the given rows of the class head, numbered in their order."""
        self.heads.keep_classes(rows)

    def _decode(
        self,
        cells: Cells,
        queries: Float[Tensor, "B Q D"],
        *,
        reference_xy: Float[Tensor, "B Q 2"],
        groups: int,
        embedding: Float[Tensor, "B Q D"] | None = None,
    ) -> Prediction:
        embeddings = self.decoder(
            queries,
            cells.features,
            reference_xy=reference_xy,
            positions=cells.positions,
            memory_is_padding=cells.is_padding,
            groups=groups,
            embedding=embedding,
        )
        return self.heads(embeddings, reference_xy=reference_xy if self.offset_regression else None)  # type: ignore[no-any-return]


class ConditionalDecoder(nn.Module):
    """Decoder layers that share one transformation T and one output norm (section 3.3)."""

    def __init__(
        self,
        layers: Iterable["ConditionalDecoderLayer"],
        *,
        norm: nn.LayerNorm,
        spatial_query: "ConditionalSpatialQuery",
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm
        self.spatial_query = spatial_query

    def forward(
        self,
        queries: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B S D"],
        *,
        reference_xy: Float[Tensor, "B Q 2"],
        positions: Float[Tensor, "B S D"],
        memory_is_padding: Bool[Tensor, "B S"],
        groups: int = 1,
        embedding: Float[Tensor, "B Q D"] | None = None,
    ) -> Float[Tensor, "L B Q D"]:
        """Return the normalised decoder embedding of every layer; the next layer reads it without the norm.

        The first layer's `embedding` is zero, unless the queries have content of their own.
        """
        p_s = point_embedding(reference_xy, dim=queries.shape[-1])
        embedding, outputs = torch.zeros_like(queries) if embedding is None else embedding, []
        for layer in self.layers:
            embedding = layer(
                embedding,
                queries=queries,
                p_s=p_s,
                spatial_query=self.spatial_query,
                memory=memory,
                positions=positions,
                memory_is_padding=memory_is_padding,
                groups=groups,
            )
            outputs.append(self.norm(embedding))
        return torch.stack(outputs)


class ConditionalDecoderLayer(nn.Module):
    """Self-attention, conditional cross-attention and a feed-forward network, each added and normalised."""

    def __init__(self, dim: int, *, num_heads: int, hidden_dim: int, dropout: float, is_first: bool) -> None:
        super().__init__()
        self.is_first = is_first
        self.self_attention = ConditionalSelfAttention(dim, num_heads=num_heads, dropout=dropout)
        self.self_attention_norm = nn.LayerNorm(dim)
        self.cross_attention = ConditionalCrossAttention(dim, num_heads=num_heads, dropout=dropout, is_first=is_first)
        self.cross_attention_norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, hidden_dim=hidden_dim, dropout=dropout)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        embedding: Float[Tensor, "B Q D"],
        *,
        queries: Float[Tensor, "B Q D"],
        p_s: Float[Tensor, "B Q D"],
        spatial_query: "ConditionalSpatialQuery",
        memory: Float[Tensor, "B S D"],
        positions: Float[Tensor, "B S D"],
        memory_is_padding: Bool[Tensor, "B S"],
        groups: int,
    ) -> Float[Tensor, "B Q D"]:
        """Compute this layer's decoder embedding from the previous layer's."""
        attended = self.self_attention(embedding, queries=queries, groups=groups)
        content = self.self_attention_norm(embedding + self.dropout(attended))
        p_q = spatial_query(embedding, content=content, p_s=p_s, is_first=self.is_first)
        attended = self.cross_attention(
            content, queries=queries, p_q=p_q, memory=memory, positions=positions, memory_is_padding=memory_is_padding
        )
        x = self.cross_attention_norm(content + self.dropout(attended))
        x = self.feedforward_norm(x + self.feedforward(x))
        return x  # type: ignore[no-any-return]


class ConditionalSelfAttention(nn.Module):
    """Self-attention among queries; content and position are projected separately and added."""

    def __init__(self, dim: int, *, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.content_query = nn.Linear(dim, dim)
        self.position_query = nn.Linear(dim, dim)
        self.content_key = nn.Linear(dim, dim)
        self.position_key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.attend = DotProductAttention(num_heads, dropout=dropout)
        self.output = nn.Linear(dim, dim)
        nn.init.zeros_(self.output.bias)

    def forward(
        self, embedding: Float[Tensor, "B Q D"], *, queries: Float[Tensor, "B Q D"], groups: int = 1
    ) -> Float[Tensor, "B Q D"]:
        """Let every query attend to all queries of its group."""
        q = self.content_query(embedding) + self.position_query(queries)
        k = self.content_key(embedding) + self.position_key(queries)
        q, k, v = (x.reshape(groups * x.shape[0], -1, x.shape[-1]) for x in (q, k, self.value(embedding)))
        attended: Tensor = self.output(self.attend([q], [k], v)).view_as(embedding)
        return attended


class ConditionalCrossAttention(nn.Module):
    """Cross-attention with concatenated content and spatial parts (section 3.3, equation 3).

    A head's logit is (c_q . c_k + p_q . p_k) divided by the square root of twice the head's width. In the first layer,
    whose decoder embedding is zero, positions are added to the content parts as in DETR.
    """

    def __init__(self, dim: int, *, num_heads: int, dropout: float, is_first: bool) -> None:
        super().__init__()
        self.content_query = nn.Linear(dim, dim)
        self.position_query = nn.Linear(dim, dim) if is_first else None
        self.spatial_query = nn.Linear(dim, dim)
        self.content_key = nn.Linear(dim, dim)
        self.spatial_key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.attend = DotProductAttention(num_heads, dropout=dropout)
        self.output = nn.Linear(dim, dim)
        nn.init.zeros_(self.output.bias)

    def forward(
        self,
        content: Float[Tensor, "B Q D"],
        *,
        queries: Float[Tensor, "B Q D"],
        p_q: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B S D"],
        positions: Float[Tensor, "B S D"],
        memory_is_padding: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B Q D"]:
        """Let every query attend to the memory's cells."""
        c_q, c_k = self.content_query(content), self.content_key(memory)
        spatial_query, spatial_key = self.spatial_query(p_q), self.spatial_key(positions)
        if self.position_query is not None:
            c_q = c_q + self.position_query(queries)
            c_k = c_k + spatial_key
        attended: Tensor = self.output(
            self.attend([c_q, spatial_query], [c_k, spatial_key], self.value(memory), key_is_padding=memory_is_padding)
        )
        return attended


class ConditionalSpatialQuery(nn.Module):
    """The conditional spatial query p_q = T(f) p_s (section 3.3, equation 4), and the paper's variants of it.

    T is 1 in the first layer, which has no decoder embedding yet to predict it from.
    """

    def __init__(self, dim: int, *, num_heads: int, form: SpatialQuery, transformation: Transformation) -> None:
        super().__init__()
        head_dim = dim // num_heads
        outputs = {"diagonal": dim, "identity": 0, "scalar": 1, "block": dim * head_dim, "full": dim * dim}
        has_transformation = form in ("CSQ", "T", "I") and transformation != "identity"
        self.transformation = MLP(dim, dim, outputs[transformation]) if has_transformation else None
        self.form = form
        self.block_dim = {"block": head_dim, "full": dim}.get(transformation)

    def forward(
        self,
        embedding: Float[Tensor, "B Q D"],
        *,
        content: Float[Tensor, "B Q D"],
        p_s: Float[Tensor, "B Q D"],
        is_first: bool,
    ) -> Float[Tensor, "B Q D"]:
        """Return p_q from the decoder embedding f, or from the content query in the variant I."""
        if self.form == "C":
            return embedding
        p_s = torch.ones_like(p_s) if self.form == "T" else p_s
        if is_first or self.transformation is None:
            return p_s
        t = self.transformation(content if self.form == "I" else embedding)
        if self.block_dim is None:
            return t * p_s  # type: ignore[no-any-return]
        blocks = t.view(*t.shape[:2], -1, self.block_dim, self.block_dim)
        return torch.einsum("bqmij,bqmj->bqmi", blocks, p_s.view(*t.shape[:2], -1, self.block_dim)).flatten(2)


PROJECTIONS = {
    "self_attention.content_query": "sa_qcontent_proj",
    "self_attention.position_query": "sa_qpos_proj",
    "self_attention.content_key": "sa_kcontent_proj",
    "self_attention.position_key": "sa_kpos_proj",
    "self_attention.value": "sa_v_proj",
    "cross_attention.content_query": "ca_qcontent_proj",
    "cross_attention.position_query": "ca_qpos_proj",
    "cross_attention.content_key": "ca_kcontent_proj",
    "cross_attention.spatial_key": "ca_kpos_proj",
    "cross_attention.spatial_query": "ca_qpos_sine_proj",
    "cross_attention.value": "ca_v_proj",
}
"""Projections of a decoder layer, and their names in the official code and transformers."""

PUBLISHED = Published(
    title="Conditional DETR",
    paper="[Conditional DETR for Fast Training Convergence](https://arxiv.org/abs/2108.06152)",
    mark="transformer.decoder.ref_point_head.layers.0.weight",
    original_names=(
        *family.ORIGINAL_NAMES,
        *((rf"\.{ours}\.", f".{theirs}.") for ours, theirs in PROJECTIONS.items()),
        (r"^reference_points\.head\.", "transformer.decoder.ref_point_head."),
        (r"\.spatial_query\.transformation\.", ".query_scale."),
        (r"\.self_attention\.output\.", ".self_attn.out_proj."),
        (r"\.cross_attention\.output\.", ".cross_attn.out_proj."),
    ),
    read=family.read_settings,
    arguments=family.ARGUMENTS,
    transformers=TransformersModel(
        model_type="conditional_detr",
        class_prefix="ConditionalDetr",
        settings=family.TRANSFORMERS_SETTINGS,
        modules={
            **family.TRANSFORMERS_MODULES,
            **{
                f"transformer.decoder.layers.*.{name}": f"model.decoder.layers.*.{name}"
                for name in PROJECTIONS.values()
            },
            "transformer.decoder.layers.*.cross_attn.out_proj": "model.decoder.layers.*.encoder_attn.out_proj",
            "transformer.decoder.query_scale.layers.*": "model.decoder.query_scale.layers.*",
            "transformer.decoder.ref_point_head.layers.*": "model.decoder.ref_point_head.layers.*",
        },
        fused=family.TRANSFORMERS_FUSED,
        version_5_names=(
            (r"(decoder\.layers\.\d+)\.self_attn\.(q|k)_(content|pos)_proj\.", r"\1.sa_\2\3_proj."),
            (r"(decoder\.layers\.\d+)\.encoder_attn\.(q|k)_(content|pos|pos_sine)_proj\.", r"\1.ca_\2\3_proj."),
            (r"(decoder\.layers\.\d+)\.self_attn\.v_proj\.", r"\1.sa_v_proj."),
            (r"(decoder\.layers\.\d+)\.encoder_attn\.v_proj\.", r"\1.ca_v_proj."),
        ),
        loss_weights={
            "class_cost": 2,
            "cls_loss_coefficient": 2,
            "bbox_loss_coefficient": 5,
            "giou_loss_coefficient": 2,
        },
    ),
)
