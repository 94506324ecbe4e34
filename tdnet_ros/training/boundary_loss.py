"""What the boundary-aware stream learns: where the classes of a label map meet, and the loss of a boundary map."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import UNLABELLED


def boundary_labels(labels: Tensor, width_px: int = 1) -> Tensor:
    """Labels (B, H, W) -> (B, H, W) uint8: 1 on a boundary, 0 elsewhere, UNLABELLED where nobody can say.

    A boundary pixel has a 4-neighbour of another class; it is then grown by ``width_px`` in all eight directions (a
    square of 2 width_px + 1). Gated-SCNN (Takikawa et al., ICCV 2019) derives its ground truth from masks as well.
    Where a class meets void, nothing is known of the boundary that void hides: all that lies within the same distance
    of an unlabelled pixel is ignored, unless a boundary of two known classes reaches there.
    """
    known = labels != UNLABELLED
    boundary = torch.zeros_like(known)
    for axis in (1, 2):
        length = labels.shape[axis] - 1
        near, far = labels.narrow(axis, 0, length), labels.narrow(axis, 1, length)
        differs = (near != far) & known.narrow(axis, 0, length) & known.narrow(axis, 1, length)
        boundary.narrow(axis, 0, length).logical_or_(differs)
        boundary.narrow(axis, 1, length).logical_or_(differs)
    grown = _grow(boundary, width_px)
    ignored = _grow(~known, width_px + 1) & ~grown | ~known
    return torch.where(ignored, UNLABELLED, grown.to(torch.uint8)).to(torch.uint8)


def class_balanced_loss(logits: Tensor, boundary: Tensor) -> Tensor:
    """Logits (B, 1, h, w) of a boundary map and ``boundary_labels`` (B, H, W) -> loss, a mean over known pixels.

    L = (-beta sum_{e=1} ln p - (1 - beta) sum_{e=0} ln(1 - p)) / n with beta = |e=0| / n over the n known pixels of the
    batch and p = sigmoid of the logits, upsampled to the labels' size. Source: HED (Xie and Tu, ICCV 2015, equation 2),
    which Gated-SCNN takes as well. 0, with gradients of 0, where nothing is known.
    """
    if logits.dim() != 4 or logits.shape[1] != 1:
        raise ConfigurationError(f"boundary logits have shape {tuple(logits.shape)}, expected (B, 1, h, w)")
    size = (boundary.shape[1], boundary.shape[2])
    logits = F.interpolate(logits.float(), size, mode="bilinear", align_corners=False)[:, 0]
    known = (boundary != UNLABELLED).float()
    edge = (boundary == 1).float()
    count = known.sum().clamp(min=1)
    beta = (known - edge).sum() / count
    weights = beta * edge + (1 - beta) * (known - edge)
    return F.binary_cross_entropy_with_logits(logits, edge, weights, reduction="sum") / count


def _grow(mask: Tensor, radius: int) -> Tensor:
    """Mask (B, H, W), True also within a square of 2 radius + 1 around what is True."""
    if radius < 1:
        return mask
    return F.max_pool2d(mask[:, None].float(), 2 * radius + 1, 1, radius)[:, 0] > 0
