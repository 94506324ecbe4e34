"""A keyframe's feature seen from a later frame: sampled where each position was in the keyframe.

Motion is a tensor (B, 2 or 3, h, w) on any grid: displacement (dx, dy) from this frame to the keyframe in pixels of the
full-resolution picture, and, if there is a third channel, 1 where it is known and 0 where it is not. Nothing is
carried over to positions whose motion is not known: their feature is zero, as beyond the border.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.networks.layers import upsample


class Warp(nn.Module):
    """Bilinear sampling at position plus displacement; beyond the border stands the border. Zero motion is identity."""

    align_corners = False
    beyond = "border"

    def forward(self, feature: Tensor, motion: Tensor, picture: tuple[int, int]) -> Tensor:
        """Feature (B, C, H', W') of the keyframe, motion, size (H, W) of the picture -> warped (B, C, H', W')."""
        # Coordinates do not fit half precision: of 480 columns it tells only quarters apart.
        wide = torch.promote_types(feature.dtype, torch.float32)
        size = (feature.shape[2], feature.shape[3])
        field = upsample(motion[:, :2].to(wide), size, self.align_corners)
        x, y = self.places(field, picture)
        warped = self.sample(feature.to(wide), x, y).to(feature.dtype)
        if motion.shape[1] > 2:
            warped = warped * F.interpolate(motion[:, 2:].to(feature.dtype), size, mode="nearest")
        return warped

    def places(self, field: Tensor, picture: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Displacement (B, 2, H', W') in pixels of the picture -> column and row that are sampled, (B, H', W') each."""
        rows, columns = field.shape[2:]
        x, y = _positions(field)
        return x + field[:, 0] * (columns / picture[1]), y + field[:, 1] * (rows / picture[0])

    def sample(self, feature: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Feature (B, C, H', W') at columns and rows (B, H', W'), of the same precision."""
        rows, columns = feature.shape[2:]
        grid = torch.stack(((2 * x + 1) / columns - 1, (2 * y + 1) / rows - 1), dim=3)
        return F.grid_sample(feature, grid, padding_mode=self.beyond, align_corners=False)


class StretchedWarp(Warp):
    """The sampling that official AR-Seg weights were trained with: a quirk that they depend on.

    Coordinates are normalised for samples whose first and last lie on the border (x -> 2 x / (W - 1) - 1) and then read
    as if the border lay half a sample further out. So the position x is sampled at x W / (W - 1) - 1/2: zero motion
    stretches the feature by half a sample on each side, and the outermost rows and columns are dimmed by the zeros
    beyond. Both components of the motion are scaled by the ratio of the heights, and the field is resized with its
    corners aligned.
    """

    align_corners = True
    beyond = "zeros"

    def places(self, field: Tensor, picture: tuple[int, int]) -> tuple[Tensor, Tensor]:
        rows, columns = field.shape[2:]
        x, y = _positions(field)
        scale = rows / picture[0]
        x = (x + field[:, 0] * scale) * (columns / max(columns - 1, 1)) - 0.5
        return x, (y + field[:, 1] * scale) * (rows / max(rows - 1, 1)) - 0.5


class RowWarp(Warp):
    """As the given warp, for inference on a CPU: all channels of a position at a time, which lie in one place there.

    Of one thread at 46x60 positions of 256 channels 0.8 ms in place of 2.0. With few channels the places alone take
    longer than that saves.
    """

    _FEW = 32

    def __init__(self, warp: Warp) -> None:
        super().__init__()
        self.align_corners, self.beyond = warp.align_corners, warp.beyond
        self.places = warp.places  # type: ignore[method-assign]

    def sample(self, feature: Tensor, x: Tensor, y: Tensor) -> Tensor:
        batch, channels, rows, columns = feature.shape
        if channels < self._FEW:
            return super().sample(feature, x, y)
        if self.beyond == "border":
            x, y = x.clamp(0, columns - 1), y.clamp(0, rows - 1)
        left, top = x.floor(), y.floor()
        places, shares = [], []
        for down, right in ((0, 0), (0, 1), (1, 0), (1, 1)):
            column, row = left + right, top + down
            share = (1 - (x - column).abs()) * (1 - (y - row).abs())
            inside = (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
            shares.append(share * inside)
            places.append(row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1))
        where = torch.stack(places, dim=3).long()
        where += torch.arange(batch)[:, None, None, None] * (rows * columns)
        table = feature.permute(0, 2, 3, 1).reshape(-1, channels)
        share = torch.stack(shares, dim=3)
        warped = F.embedding_bag(where.view(-1, 4), table, mode="sum", per_sample_weights=share.view(-1, 4))
        return warped.view(batch, x.shape[1], x.shape[2], channels).permute(0, 3, 1, 2)


def _positions(field: Tensor) -> tuple[Tensor, Tensor]:
    """Column (1, 1, W) and row (1, H, 1) of each position."""
    rows, columns = field.shape[2:]
    x = torch.arange(columns, dtype=field.dtype, device=field.device)
    y = torch.arange(rows, dtype=field.dtype, device=field.device)
    return x[None, None, :], y[None, :, None]
