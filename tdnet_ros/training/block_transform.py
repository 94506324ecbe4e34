"""What an encoder leaves of a picture, as a training needs it: a cosine transform of blocks with its coefficients
rounded. It has a coder's blocks, lost texture and ringing, and neither its prediction nor its loop filter."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK_PX = 8
#: How much coarser the step becomes from one frequency to the next, along either axis.
_COARSER = 0.15


def quantise_blocks(images: Tensor, steps: Tensor) -> Tensor:
    """Images (N, 3, h, w) in 0..1 with the coefficients of their 8x8 blocks rounded; ``steps`` (N,) in 1/255, at DC.

    A step of 0 changes nothing but by rounding errors.
    """
    count, channels, height, width = images.shape
    rows, columns = (-side % _BLOCK_PX for side in (height, width))
    basis = cosine_basis(_BLOCK_PX, images.device)
    frequency = torch.arange(_BLOCK_PX, device=images.device)
    table = 1 + _COARSER * (frequency[:, None] + frequency[None, :])  # (v, u)
    padded = F.pad(images, (0, columns, 0, rows), mode="replicate")
    high, wide = padded.shape[2] // _BLOCK_PX, padded.shape[3] // _BLOCK_PX
    coefficients = basis @ padded.view(count, channels, high, _BLOCK_PX, wide * _BLOCK_PX)
    coefficients = coefficients.view(count, channels, high, _BLOCK_PX, wide, _BLOCK_PX) @ basis.T
    step = (steps.view(-1, 1, 1, 1, 1, 1).clamp(min=1e-3) / 255) * table[:, None, :]
    coefficients = (coefficients / step).round_().mul_(step)
    coded = (coefficients @ basis).view(count, channels, high, _BLOCK_PX, wide * _BLOCK_PX)
    coded = (basis.T @ coded).view(padded.shape)
    return coded[:, :, :height, :width].clamp(0, 1)


def cosine_basis(size: int, device: torch.device) -> Tensor:
    """The orthonormal cosine transform (size, size): row u is the u-th frequency."""
    places = (torch.arange(size, device=device, dtype=torch.float64) + 0.5) * math.pi / size
    basis = torch.cos(torch.arange(size, device=device, dtype=torch.float64)[:, None] * places)
    basis[0] /= math.sqrt(2.0)
    return (basis * math.sqrt(2.0 / size)).float()
