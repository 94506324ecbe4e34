"""From scores at feature resolution to a mask, without a full-resolution float tensor over the classes.

Dense: the bilinearly upsampled scores, strip by strip, and their argmax. At boundaries (on a CPU, when no confidence is
asked for): where the same class wins at all four scores around a pixel, it wins in every blend of them, so only the
other pixels are blended. Both give the same mask but where two classes are equal to the last bits of a float.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

#: Floats of one strip of upsampled scores: small enough for a CPU's cache, large enough to keep a GPU busy.
_STRIP_FLOATS = {"cpu": 1 << 18, "cuda": 1 << 24}


#: Pixels that are blended at a time, one by one; and the share of mixed cells above which all pixels are blended.
_BLENDED_PIXELS = 1 << 13
_MOSTLY_MIXED = 1 / 4


class Decoded(NamedTuple):
    """Class ids (B, H, W) uint8 and, if asked for, the winning class's softmax x 255 (B, H, W) uint8."""

    mask: Tensor
    confidence: Tensor | None


def decode_mask(scores: Tensor, size: tuple[int, int], align_corners: bool, confidence: bool = False) -> Decoded:
    """Scores (B, C, h, w) -> mask of ``size`` (H, W): argmax of the bilinearly upsampled scores."""
    if scores.device.type == "cpu" and not confidence:
        masks = [_decode_boundaries(picture, size, align_corners) for picture in scores]
        return Decoded(torch.stack(masks), None)
    return _decode_densely(scores, size, align_corners, confidence)


def _decode_densely(scores: Tensor, size: tuple[int, int], align_corners: bool, confidence: bool) -> Decoded:
    batch, classes, rows, _ = scores.shape
    height, width = size
    mask = torch.empty((batch, height, width), dtype=torch.uint8, device=scores.device)
    certainty = torch.empty_like(mask) if confidence else None
    upper, lower, weight = _source_lines(rows, height, align_corners, scores)
    strip = max(1, _STRIP_FLOATS.get(scores.device.type, 1 << 20) // (batch * classes * width))
    for top in range(0, height, strip):
        part = slice(top, top + strip)
        blend = torch.lerp(scores[:, :, upper[part]], scores[:, :, lower[part]], weight[part, None].to(scores.dtype))
        wide = F.interpolate(blend, (blend.shape[2], width), mode="bilinear", align_corners=align_corners)
        best = _argmax(wide, mask[:, part])
        if certainty is not None:
            odds = (wide - best[:, None]).exp_().sum(1)  # the softmax of the winner is one over this
            certainty[:, part] = torch.round(255.0 / odds).to(torch.uint8)
    return Decoded(mask, certainty)


def _decode_boundaries(scores: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Scores (C, h, w) -> mask (H, W)."""
    classes, rows, columns = scores.shape
    labels = torch.empty((1, rows, columns), dtype=torch.uint8)
    _argmax(scores[None], labels)
    # A cell is what lies between a score and its neighbours below and to the right.
    mixed = _mixed_cells(labels[0])
    if mixed.float().mean() > _MOSTLY_MIXED:
        return _decode_densely(scores[None], size, align_corners, confidence=False).mask[0]
    upper, lower, down = _source_lines(rows, size[0], align_corners, scores)
    left, right, across = _source_lines(columns, size[1], align_corners, scores)
    mask = labels[0, upper][:, left]
    pixels = mixed[upper][:, left].flatten().nonzero()[:, 0]
    points = scores.permute(1, 2, 0).reshape(rows * columns, classes).float()
    flat = mask.view(-1)
    for some in torch.split(pixels, _BLENDED_PIXELS):
        y, x = some // size[1], some % size[1]
        above, below, to_left, to_right = upper[y] * columns, lower[y] * columns, left[x], right[x]
        v, h = down[y, None], across[x, None]
        blend = points[above + to_left] * ((1 - v) * (1 - h))
        blend.addcmul_(points[above + to_right], (1 - v) * h)
        blend.addcmul_(points[below + to_left], v * (1 - h))
        blend.addcmul_(points[below + to_right], v * h)
        best = torch.empty((1, len(some)), dtype=torch.uint8)
        _argmax(blend.t()[None].contiguous(), best)
        flat[some] = best[0]
    return mask


def _mixed_cells(labels: Tensor) -> Tensor:
    """Labels (h, w) -> whether the cell behind each has corners of several classes, (h, w)."""
    mixed = torch.zeros(labels.shape, dtype=torch.bool)
    down = labels[1:] != labels[:-1]
    across = labels[:, 1:] != labels[:, :-1]
    mixed[:-1] |= down
    mixed[:-1, :-1] |= down[:, 1:]
    mixed[:, :-1] |= across
    mixed[:-1, :-1] |= across[1:]
    return mixed


def _argmax(scores: Tensor, out: Tensor) -> Tensor:
    """Writes the class of (B, C, h, w) into ``out`` (B, h, w) uint8 and returns the maxima (B, h, w).

    On a CPU by a running maximum over class planes, which reads memory in order; torch's argmax over a strided
    dimension takes three times as long there, and makes int64 ids.
    """
    if scores.device.type != "cpu":
        highest, ids = scores.max(dim=1)
        out.copy_(ids)
        return highest
    best = scores[:, 0].clone()
    out.zero_()
    for index in range(1, scores.shape[1]):
        out.masked_fill_(scores[:, index] > best, index)
        torch.maximum(best, scores[:, index], out=best)
    return best


def _source_lines(lines: int, length: int, align_corners: bool, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """For each output row (or column) the two source ones and the weight of the second, as F.interpolate has them."""
    y = torch.arange(length, device=like.device, dtype=torch.float32)
    corners, centres = y * ((lines - 1) / max(length - 1, 1)), ((y + 0.5) * (lines / length) - 0.5).clamp(min=0)
    y = corners if align_corners else centres
    upper = y.long().clamp(max=lines - 1)
    return upper, (upper + 1).clamp(max=lines - 1), y - upper
