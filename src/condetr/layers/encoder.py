"""The transformer encoder of DETR (DETR, section 3.2), post-norm, and one that normalises first."""

from collections.abc import Iterable

from jaxtyping import Bool, Float
from torch import Tensor, nn

from condetr.layers.attention import MultiHeadAttention
from condetr.layers.mlp import FeedForward


class Encoder(nn.Module):
    """A stack of self-attention layers over the cells of a feature map."""

    def __init__(self, layers: Iterable["EncoderLayer"]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(
        self,
        features: Float[Tensor, "B S D"],
        *,
        positions: Float[Tensor, "B S D"],
        is_padding: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B S D"]:
        """Return the memory that the decoder reads."""
        for layer in self.layers:
            features = layer(features, positions=positions, is_padding=is_padding)
        return features


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network, each added and normalised."""

    def __init__(self, dim: int, *, num_heads: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(dim, num_heads=num_heads, dropout=dropout)
        self.self_attention_norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, hidden_dim=hidden_dim, dropout=dropout)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        *,
        positions: Float[Tensor, "B S D"],
        is_padding: Bool[Tensor, "B S"],
    ) -> Float[Tensor, "B S D"]:
        """Add positions to queries and keys, never to values."""
        placed = x + positions
        attended = self.self_attention(query=placed, key=placed, value=x, key_is_padding=is_padding)
        x = self.self_attention_norm(x + self.dropout(attended))
        x = self.feedforward_norm(x + self.feedforward(x))
        return x


class NormFirstEncoder(nn.Module):
    """Layers that add to their input what they make of its normalised form, and a norm after the last one."""

    def __init__(self, layers: Iterable["NormFirstEncoderLayer"], *, dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = nn.LayerNorm(dim)

    def forward(
        self,
        features: Float[Tensor, "B S D"],
        *,
        positions: Float[Tensor, "B S D"],
        is_padding: Bool[Tensor, "B S"] | None,
    ) -> Float[Tensor, "B S D"]:
        """Return what the features say of one another; without a mask all of them do."""
        for layer in self.layers:
            features = layer(features, positions=positions, is_padding=is_padding)
        encoded: Tensor = self.norm(features)
        return encoded


class NormFirstEncoderLayer(nn.Module):
    """The parts of `EncoderLayer`, each of which reads the normalised sum so far and is added to it."""

    def __init__(self, dim: int, *, num_heads: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(dim, num_heads=num_heads, dropout=dropout)
        self.self_attention_norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, hidden_dim=hidden_dim, dropout=dropout)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "B S D"],
        *,
        positions: Float[Tensor, "B S D"],
        is_padding: Bool[Tensor, "B S"] | None,
    ) -> Float[Tensor, "B S D"]:
        """Add positions to queries and keys, never to values."""
        normed = self.self_attention_norm(x)
        placed = normed + positions
        attended = self.self_attention(query=placed, key=placed, value=normed, key_is_padding=is_padding)
        x = x + self.dropout(attended)
        x = x + self.feedforward(self.feedforward_norm(x))
        return x
