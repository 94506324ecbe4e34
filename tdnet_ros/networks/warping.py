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

    def forward(self, feature: Tensor, motion: Tensor, picture: tuple[int, int]) -> Tensor:
        """Feature (B, C, H', W') of the keyframe, motion, size (H, W) of the picture -> warped (B, C, H', W')."""
        # Coordinates do not fit half precision: of 480 columns it tells only quarters apart.
        wide = torch.promote_types(feature.dtype, torch.float32)
        size = (feature.shape[2], feature.shape[3])
        field = upsample(motion[:, :2].to(wide), size, self.align_corners)
        warped = self.sample(feature.to(wide), field, picture).to(feature.dtype)
        if motion.shape[1] > 2:
            warped = warped * F.interpolate(motion[:, 2:].to(feature.dtype), size, mode="nearest")
        return warped

    def sample(self, feature: Tensor, field: Tensor, picture: tuple[int, int]) -> Tensor:
        """Feature (B, C, H', W') and displacement (B, 2, H', W') in pixels of the picture, both of one precision."""
        rows, columns = feature.shape[2:]
        x, y = _positions(feature)
        x = (2 * (x + field[:, 0] * (columns / picture[1])) + 1) / columns - 1
        y = (2 * (y + field[:, 1] * (rows / picture[0])) + 1) / rows - 1
        return F.grid_sample(feature, torch.stack((x, y), dim=3), padding_mode="border", align_corners=False)


class StretchedWarp(Warp):
    """The sampling that official AR-Seg weights were trained with: a quirk that they depend on.

    Coordinates are normalised for samples whose first and last lie on the border (x -> 2 x / (W - 1) - 1) and then read
    as if the border lay half a sample further out. So the position x is sampled at x W / (W - 1) - 1/2: zero motion
    stretches the feature by half a sample on each side, and the outermost rows and columns are dimmed by the zeros
    beyond. Both components of the motion are scaled by the ratio of the heights, and the field is resized with its
    corners aligned.
    """

    align_corners = True

    def sample(self, feature: Tensor, field: Tensor, picture: tuple[int, int]) -> Tensor:
        rows, columns = feature.shape[2:]
        x, y = _positions(feature)
        scale = rows / picture[0]
        x = 2 * (x + field[:, 0] * scale) / max(columns - 1, 1) - 1
        y = 2 * (y + field[:, 1] * scale) / max(rows - 1, 1) - 1
        return F.grid_sample(feature, torch.stack((x, y), dim=3), padding_mode="zeros", align_corners=False)


def _positions(feature: Tensor) -> tuple[Tensor, Tensor]:
    """Column (1, 1, W) and row (1, H, 1) of each position."""
    rows, columns = feature.shape[2:]
    x = torch.arange(columns, dtype=feature.dtype, device=feature.device)
    y = torch.arange(rows, dtype=feature.dtype, device=feature.device)
    return x[None, None, :], y[None, :, None]
