"""Normalisation of each channel over its map."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MapNorm(nn.Module):
    """Each channel over its map, with a weight and a bias per channel: (B, C, h, w) -> same, in the same layout.

    It is a group norm of one channel per group. Torch's own takes the variance of a channels-last map on a CPU as the
    mean square less the squared mean: where the mean is ten times the deviation, as behind the attention, half of the
    digits are lost.
    """

    eps = 1e-5

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean((2, 3), keepdim=True)
        variance = centred.square().mean((2, 3), keepdim=True)
        scale = self.weight[:, None, None] * torch.rsqrt(variance + self.eps)
        return torch.addcmul(self.bias[:, None, None], centred, scale)
