"""Attention propagation: how TDNet recomposes a full feature from shallow ones (TDNet, section 3.2).

Shapes: N positions of a cached entry, n positions of the current frame, d_k key and d_v value channels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.networks.layers import ConvNorm


@dataclass(frozen=True)
class WindowEntry:
    """What one past frame leaves behind: query, key (B, N, d_k) and value (B, N, d_v)."""

    query: Tensor
    key: Tensor
    value: Tensor


class Encoder(nn.Module):
    """Query, key and value of a path's feature z (B, C, h, w), each by 1x1 convolutions."""

    def __init__(self, channels: int, key_channels: int, value_channels: int) -> None:
        super().__init__()
        self.query = _projection(channels, key_channels)
        self.key = _projection(channels, key_channels)
        self.value = nn.Conv2d(channels, value_channels, 1)


class Attention(nn.Module):
    """softmax(q k^T / sqrt(d_k)) v: query (B, n, d_k), key (B, N, d_k), value (B, N, d_v) -> (B, n, d_v)."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value)


class StripAttention(nn.Module):
    """As ``Attention``, some queries at a time, for inference on a CPU.

    Where d_k and d_v differ, torch's fused attention on a CPU holds the whole affinity (n, N), twice: 2 x 92 MB in fp32
    at 769x1537. Here it is 4 MB, which also stay in the cache between the two products.
    """

    _STRIP_FLOATS = 1 << 20

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        batch, many, channels = query.shape
        result = query.new_empty((batch, many, value.shape[2]))
        step = max(1, self._STRIP_FLOATS // (batch * key.shape[1]))
        keys = (key / math.sqrt(channels)).transpose(1, 2)
        for first in range(0, many, step):
            affinity = torch.softmax(torch.bmm(query[:, first : first + step], keys), dim=2)
            result[:, first : first + step] = torch.bmm(affinity, value)
        return result


class Propagation(nn.Module):
    """The chain that carries the window's values to the current frame, for one current sub-network.

    With entries s_1 .. s_m, oldest first, and the current query Q:
    u_0 = 0,  u_i = softmax(q_(i+1) k_i^T / sqrt(d_k)) F_i(u_(i-1) + v_i),  q_(m+1) = Q,
    where F_i is a linear layer that belongs to (current sub-network, source sub-network). The paper applies F
    after the attention; rows of a softmax sum to one, so F(A x) = A F(x), and F on the cached grid costs a
    sixteenth of F on the full one.
    """

    def __init__(self, current: int, subnetworks: int, channels: int) -> None:
        super().__init__()
        self.transfer = nn.ModuleDict(
            {str(source): nn.Linear(channels, channels) for source in range(subnetworks) if source != current}
        )
        self.attention: nn.Module = Attention()

    def forward(self, query: Tensor, window: Sequence[tuple[int, WindowEntry]]) -> Tensor:
        """Current query (B, n, d_k) and (source, entry) pairs, oldest first -> propagated value (B, n, d_v)."""
        queries = [entry.query for _, entry in window[1:]] + [query]
        propagated: Tensor | None = None
        for (source, entry), asking in zip(window, queries, strict=True):
            content = entry.value if propagated is None else propagated + entry.value
            content = self.transfer[str(source)](content)
            propagated = self.attention(asking, entry.key, content)
        assert propagated is not None, "the window is never empty here"
        return propagated


@dataclass(frozen=True)
class WindowGrid:
    """Where entries are sampled: every ``stride``-th row and column of a whole picture's feature (height, width).

    A reduced picture's feature is sampled where these lie in it, at the nearest index, so that an entry has the same
    positions at every scale: at half the scale every (stride / 2)-th.
    """

    height: int
    width: int
    stride: int

    def sample(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, ceil(height / stride), ceil(width / stride))."""
        return _pick(_pick(x, 2, self.height, self.stride), 3, self.width, self.stride)


def _pick(x: Tensor, dim: int, length: int, stride: int) -> Tensor:
    """Slices of a map along ``dim`` that are nearest to every ``stride``-th of one of that length."""
    own, count = x.shape[dim], -(-length // stride)
    nearest = [min((2 * index * stride * own + length) // (2 * length), own - 1) for index in range(count)]
    step = nearest[1] - nearest[0] if count > 1 else 1
    if nearest == [index * step for index in range(count)] and step > 0:
        return x[(slice(None),) * dim + (slice(0, nearest[-1] + 1, step),)]
    # Computed on the device: a list's way there cannot be captured.
    index = (torch.arange(count, device=x.device) * (2 * stride * own) + length) // (2 * length)
    return x.index_select(dim, index.clamp(max=own - 1))


def positions(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, h * w, C), row by row."""
    return x.flatten(2).transpose(1, 2)


def _projection(channels: int, outputs: int) -> nn.Sequential:
    # The convolution in front of the batch norm has a bias in the official weights; ConvNorm takes it up in the
    # norm's bias at load time, which is the same function.
    return nn.Sequential(ConvNorm(channels, outputs, activation=nn.LeakyReLU(0.01)), nn.Conv2d(outputs, outputs, 1))
