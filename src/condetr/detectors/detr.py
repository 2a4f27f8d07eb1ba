"""End-to-End Object Detection with Transformers (Carion et al., ECCV 2020), the baseline.

A query is one vector, added to the decoder's content. Cross-attention has no separate spatial and content parts, and
the box is predicted without a reference point.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
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
from condetr.detectors.published import Published, TransformersModel
from condetr.detectors.scores import RANKINGS, Scores, build_set_criterion
from condetr.layers.attention import MultiHeadAttention
from condetr.layers.encoder import Encoder, EncoderLayer
from condetr.layers.features import FeatureMap
from condetr.layers.heads import PredictionHeads, layer_sets, xavier_init
from condetr.layers.mlp import FeedForward
from condetr.layers.queries import ReferencePoints
from condetr.losses.criterion import CriterionConfig, MatcherConfig, SetCriterion
from condetr.shapes import DetectorOutput, Found, Targets


@settings
class DetrConfig(DetectorSettings):
    """Settings of DETR; the defaults are the paper's with ResNet-50."""

    kind: Literal["detr"] = "detr"
    backbone: BackboneConfig = ResNetConfig()
    num_queries: Queries = 100
    dim: Width = 256
    num_heads: Heads = 8
    feedforward_dim: Width = 2048
    encoder_layers: EncoderLayers = 6
    decoder_layers: DecoderLayers = 6
    dropout: Dropout = 0.1
    scores: Scores = "softmax"
    """`softmax` is trained with cross-entropy, `sigmoid` with the focal loss (Conditional DETR, table 4: FL)."""
    criterion: CriterionConfig = CriterionConfig(classification=1.0, matcher=MatcherConfig(classification=1.0))
    offset_regression: bool = False
    """Predict the box centre as an offset from a reference point (Conditional DETR, table 4: OR)."""

    def build(self, *, num_classes: int, pretrained: bool = True) -> "Detr":
        """Build the detector; without `pretrained` the backbone's weights are neither read nor downloaded."""
        dim = self.dim
        require_divisible(dim, num_heads=self.num_heads)
        sizes: dict[str, Any] = {
            "num_heads": self.num_heads,
            "hidden_dim": self.feedforward_dim,
            "dropout": self.dropout,
        }
        return Detr(
            FeatureMap(self.backbone.build(pretrained=pretrained), dim=dim),
            query_embedding=nn.Embedding(self.num_queries, dim),
            encoder=Encoder(EncoderLayer(dim, **sizes) for _ in range(self.encoder_layers)),
            decoder=Decoder([DecoderLayer(dim, **sizes) for _ in range(self.decoder_layers)], norm=nn.LayerNorm(dim)),
            reference_points=ReferencePoints(dim, num_queries=self.num_queries, source="query")
            if self.offset_regression
            else None,
            heads=PredictionHeads(
                dim,
                num_classes=num_classes,
                has_no_object=self.scores == "softmax",
                start_at_reference=self.offset_regression,
            ),
            scores=self.scores,
        )

    def build_criterion(self) -> SetCriterion:
        """Build the criterion for training."""
        return build_set_criterion(self.criterion, scores=self.scores)


class Detr(Detector):
    """Backbone, encoder, decoder and heads (section 3.2)."""

    looks_at = "cells"

    def __init__(
        self,
        features: FeatureMap,
        *,
        query_embedding: nn.Embedding,
        encoder: Encoder,
        decoder: "Decoder",
        reference_points: ReferencePoints | None,
        heads: PredictionHeads,
        scores: Scores,
    ) -> None:
        super().__init__()
        self.features = features
        self.query_embedding = query_embedding
        self.encoder = encoder
        self.decoder = decoder
        self.reference_points = reference_points
        self.heads = heads
        self.rank, self.score_function = RANKINGS[scores], scores
        self.strides = (features.stride,)
        self.most_objects = query_embedding.num_embeddings
        xavier_init(self.encoder)
        xavier_init(self.decoder)

    def forward(
        self,
        images: Float[Tensor, "B 3 H W"],
        is_padding: Bool[Tensor, "B H W"],
        targets: Targets | None = None,
    ) -> DetectorOutput:
        """Predict class logits and a box for every query, from each decoder layer; `targets` are not used."""
        features, positions, cell_is_padding = self.features(images, is_padding)
        memory = self.encoder(features, positions=positions, is_padding=cell_is_padding)
        queries = self.query_embedding.weight.expand(images.shape[0], -1, -1)
        embeddings = self.decoder(queries, memory, positions=positions, memory_is_padding=cell_is_padding)
        reference_xy = None if self.reference_points is None else self.reference_points(queries)
        return DetectorOutput(layer_sets(self.heads(embeddings, reference_xy=reference_xy)))

    def found(self, output: DetectorOutput, *, limit: int) -> list[Found]:
        """Return the detections of the last layer."""
        return self.rank(output.final, limit)

    def keep_classes(self, rows: Sequence[int]) -> None:
        """Restrict the detector to the classes of the given rows of the class head, numbered in their order."""
        self.heads.keep_classes(rows)


class Decoder(nn.Module):
    """Decoder layers with one output norm."""

    def __init__(self, layers: Iterable["DecoderLayer"], *, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = norm

    def forward(
        self,
        queries: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B S D"],
        *,
        positions: Float[Tensor, "B S D"],
        memory_is_padding: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "L B Q D"]:
        """Return the normalised decoder embedding of every layer; the next layer reads it without the norm."""
        embedding, outputs = torch.zeros_like(queries), []
        placed_memory = memory + positions
        for layer in self.layers:
            embedding = layer(
                embedding,
                queries=queries,
                memory=memory,
                placed_memory=placed_memory,
                memory_is_padding=memory_is_padding,
            )
            outputs.append(self.norm(embedding))
        return torch.stack(outputs)


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention and a feed-forward network, each added and normalised."""

    def __init__(self, dim: int, *, num_heads: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(dim, num_heads=num_heads, dropout=dropout)
        self.self_attention_norm = nn.LayerNorm(dim)
        self.cross_attention = MultiHeadAttention(dim, num_heads=num_heads, dropout=dropout)
        self.cross_attention_norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, hidden_dim=hidden_dim, dropout=dropout)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B Q D"],
        *,
        queries: Float[Tensor, "B Q D"],
        memory: Float[Tensor, "B S D"],
        placed_memory: Float[Tensor, "B S D"],
        memory_is_padding: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B Q D"]:
        """Add the queries to the content before every projection to query or key."""
        placed = x + queries
        x = self.self_attention_norm(x + self.dropout(self.self_attention(query=placed, key=placed, value=x)))
        attended = self.cross_attention(
            query=x + queries, key=placed_memory, value=memory, key_is_padding=memory_is_padding
        )
        x = self.cross_attention_norm(x + self.dropout(attended))
        x = self.feedforward_norm(x + self.feedforward(x))
        return x


PUBLISHED = Published(
    title="DETR",
    paper="[End-to-End Object Detection with Transformers](https://arxiv.org/abs/2005.12872)",
    mark="transformer.decoder.layers.0.multihead_attn.out_proj.weight",
    original_names=(*family.ORIGINAL_NAMES, (r"\.cross_attention\.", ".multihead_attn.")),
    read=family.read_settings,
    arguments=family.ARGUMENTS,
    transformers=TransformersModel(
        model_type="detr",
        class_prefix="Detr",
        settings=family.TRANSFORMERS_SETTINGS,
        modules={
            **family.TRANSFORMERS_MODULES,
            "transformer.decoder.layers.*.multihead_attn.out_proj": "model.decoder.layers.*.encoder_attn.out_proj",
        },
        fused={
            **family.TRANSFORMERS_FUSED,
            "transformer.decoder.layers.*.self_attn": "model.decoder.layers.*.self_attn",
            "transformer.decoder.layers.*.multihead_attn": "model.decoder.layers.*.encoder_attn",
        },
        loss_weights={"class_cost": 1, "bbox_loss_coefficient": 5, "giou_loss_coefficient": 2, "eos_coefficient": 0.1},
    ),
)
