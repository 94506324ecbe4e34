"""From scores at feature resolution to a mask, without a full-resolution float tensor over the classes."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Floats of one strip of upsampled scores: small enough for a CPU's cache, large enough to keep a GPU busy.
_STRIP_FLOATS = {"cpu": 1 << 18, "cuda": 1 << 24}


class Decoded(NamedTuple):
    """Class ids (B, H, W) uint8 and, if asked for, the winning class's softmax x 255 (B, H, W) uint8."""

    mask: Tensor
    confidence: Tensor | None


def decode_mask(scores: Tensor, size: tuple[int, int], align_corners: bool, confidence: bool = False) -> Decoded:
    """Scores (B, C, h, w) -> mask of ``size`` (H, W): argmax of the bilinearly upsampled scores, strip by strip."""
    batch, classes, rows, _ = scores.shape
    height, width = size
    mask = torch.empty((batch, height, width), dtype=torch.uint8, device=scores.device)
    certainty = torch.empty_like(mask) if confidence else None
    upper, lower, weight = _source_rows(rows, height, align_corners, scores)
    strip = max(1, _STRIP_FLOATS.get(scores.device.type, 1 << 20) // (batch * classes * width))
    for top in range(0, height, strip):
        part = slice(top, top + strip)
        blend = torch.lerp(scores[:, :, upper[part]], scores[:, :, lower[part]], weight[part, None])
        wide = F.interpolate(blend, (blend.shape[2], width), mode="bilinear", align_corners=align_corners)
        best = _argmax(wide, mask[:, part])
        if certainty is not None:
            odds = (wide - best[:, None]).exp_().sum(1)  # the softmax of the winner is one over this
            certainty[:, part] = torch.round(255.0 / odds).to(torch.uint8)
    return Decoded(mask, certainty)


def _argmax(scores: Tensor, out: Tensor) -> Tensor:
    """Writes the class of (B, C, h, w) into ``out`` (B, h, w) uint8 and returns the maxima (B, h, w).

    A running maximum over class planes reads memory in order; torch's argmax over a strided dimension takes three
    times as long on a CPU, and makes int64 ids.
    """
    best = scores[:, 0].clone()
    out.zero_()
    for index in range(1, scores.shape[1]):
        out.masked_fill_(scores[:, index] > best, index)
        torch.maximum(best, scores[:, index], out=best)
    return best


def _source_rows(rows: int, height: int, align_corners: bool, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each output row the two source rows and the weight of the second, as F.interpolate defines them."""
    y = torch.arange(height, device=like.device, dtype=torch.float32)
    corners, centres = y * ((rows - 1) / max(height - 1, 1)), ((y + 0.5) * (rows / height) - 0.5).clamp(min=0)
    y = corners if align_corners else centres
    upper = y.long().clamp(max=rows - 1)
    return upper, (upper + 1).clamp(max=rows - 1), (y - upper).to(like.dtype)
