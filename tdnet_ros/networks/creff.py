"""Cross-resolution feature fusion (CReFF) of AR-Seg (CVPR 2023, arXiv 2303.07224), in the form of its released weights.

With the warped feature G of the keyframe and the upsampled feature u of this frame, both (C, H, W), and depthwise 3x3
convolutions Q, K, V: q = Q u, k = K G, v = V G,
s_j(x) = <q(x), k(x + o_j)> for the 49 offsets o_j of a 7x7 window,
y(x) = u(x) + sum_j softmax_j(s(x))_j v(x + o_j).
There is one head, no division by sqrt(C) and no term for the offset. Neighbours outside the picture keep the score 0
and the value 0, and stay in the softmax: near the border the attention is diluted.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.networks.layers import upsample

_REACH = 3
_WINDOW = 2 * _REACH + 1
#: Positions of a tile. It meets _TILE + 6 neighbours in each row where a position needs 7: 10/7 of the products. On a
#: CPU no larger tile is faster; 8x8 tiles of scaled-dot-product attention take 1.5 to 1.9 times as long.
_TILE = 4
_REACHED = _TILE + _WINDOW - 1
#: Floats of one strip of queries on a CPU: its scores, keys and values stay in the cache from one row to the next.
_STRIP_FLOATS = 1 << 18


class CReFF(nn.Module):
    """This frame's low-resolution feature and the keyframe's warped one -> one of high resolution (B, C, H, W).

    ``align_corners``: how the low-resolution feature is brought to the keyframe's size.
    """

    def __init__(self, channels: int, align_corners: bool = True) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.query = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.key = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.value = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)

    def forward(self, low: Tensor, warped: Tensor) -> Tensor:
        """``low`` (B, C, h, w), ``warped`` (B, C, H, W)."""
        raised = upsample(low, (warped.shape[2], warped.shape[3]), self.align_corners)
        return raised + local_attention(self.query(raised), self.key(warped), self.value(warped))


def local_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attention over the 7x7 window around each position: query, key, value (B, C, H, W) -> (B, C, H, W).

    Positions are laid out row by row in one line, with zeros between the rows that serve as the right border of one and
    the left border of the next. Tiles of that line meet, for each of the window's rows, an overlapping piece of the
    line of keys in one matrix product; of its results those out of reach are left out of the softmax.
    """
    batch, channels, height, width = query.shape
    # Each row ends in at least three zeros, and in as many as fill its last tile.
    length = -(-(width + _REACH) // _TILE) * _TILE
    queries = _line(query, length, left=0, above=0, below=0)
    beyond = -(-(_WINDOW - 1) // length)  # rows behind the last one that its last tile still reaches
    keys, values = (_line(x, length, left=_REACH, above=_REACH, below=_REACH + beyond) for x in (key, value))
    tiles = height * length // _TILE
    strip = tiles
    if query.device.type == "cpu":
        strip = max(1, _STRIP_FLOATS // (_TILE * channels))
    parts = [
        _attend(queries[index], keys[index], values[index], length, first, min(strip, tiles - first))
        for index in range(batch)
        for first in range(0, tiles, strip)
    ]
    line = torch.cat(parts) if len(parts) > 1 else parts[0]  # (B * tiles, _TILE, C)
    return line.reshape(batch, height, length, channels)[:, :, :width].permute(0, 3, 1, 2)


def _attend(query: Tensor, key: Tensor, value: Tensor, length: int, first: int, tiles: int) -> Tensor:
    """So many tiles of queries from the first one on, in lines (positions, C) -> (tiles, _TILE, C)."""
    start, span = first * _TILE, tiles * _TILE
    asking = query[start : start + span].reshape(tiles, _TILE, query.shape[1])

    def around(line: Tensor, row: int) -> Tensor:
        """What the tiles meet in one row of their windows: (tiles, C, _TILE + 6)."""
        begin = start + row * length
        return line[begin : begin + span + _WINDOW - 1].unfold(0, _REACHED, _TILE)

    scores = torch.cat([torch.bmm(asking, around(key, row)) for row in range(_WINDOW)], dim=2)
    weights = torch.softmax(scores.add_(_out_of_reach(scores)), dim=2)  # (tiles, _TILE, 7 * (_TILE + 6))
    attended: Tensor | None = None
    for row, some in enumerate(torch.split(weights, _REACHED, dim=2)):
        reached = around(value, row).transpose(1, 2)
        attended = torch.bmm(some, reached) if attended is None else attended.baddbmm_(some, reached)
    assert attended is not None, "the window has rows"
    return attended


def _out_of_reach(like: Tensor) -> Tensor:
    """Minus infinity for what a position of a tile does not reach of what its tile meets, else 0: (_TILE, columns)."""
    column = torch.arange(like.shape[2], device=like.device) % _REACHED
    offset = column - torch.arange(_TILE, device=like.device)[:, None]
    mask = torch.zeros(_TILE, like.shape[2], dtype=like.dtype, device=like.device)
    return mask.masked_fill_((offset < 0) | (offset >= _WINDOW), float("-inf"))


def _line(x: Tensor, length: int, left: int, above: int, below: int) -> Tensor:
    """(B, C, H, W) -> (B, (above + H + below) * length, C), in each row ``left`` zeros, the row, and zeros."""
    batch, channels, height, width = x.shape
    padded = F.pad(x.permute(0, 2, 3, 1), (0, 0, left, length - left - width, above, below))
    return padded.view(batch, (above + height + below) * length, channels)
