"""Training losses."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import UNLABELLED
from tdnet_ros.networks.layers import upsample


def class_weights(frequency: Tensor, offset: float = 1.10) -> Tensor:
    """Weights 1 / ln(offset + frequency) per class (ENet, section 5.2): (C,) pixel shares -> (C,)."""
    return 1.0 / torch.log(offset + frequency)


def cross_entropy(scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross entropy of scores (B, C, h, w), upsampled to labels (B, H, W); unlabelled pixels are ignored.

    The mean over pixels, each with its class's weight. A batch without labels has loss 0, with gradients of 0.
    """
    size = (labels.shape[1], labels.shape[2])
    logits, labels = upsample(scores, size, align_corners=False), labels.long()
    total = F.cross_entropy(logits, labels, weight=weights, ignore_index=UNLABELLED, reduction="sum")
    labelled = labels != UNLABELLED
    counted = labelled if weights is None else weights[torch.where(labelled, labels, 0)] * labelled
    return total / counted.sum().clamp(min=torch.finfo(total.dtype).tiny)


def lovasz_softmax(scores: Tensor, labels: Tensor) -> Tensor:
    """Lovász-softmax: scores (B, C, h, w) and labels (B, H, W) -> the mean over the classes that are in the batch.

    For each class the Lovász extension of its Jaccard loss at the errors |y_c - p_c|, over all pixels of the batch,
    with labels at the scores' resolution (the nearest pixel of each). Source: Berman et al., CVPR 2018, equations 8
    and 9.
    """
    height, width = scores.shape[2:]
    rows = (torch.arange(height, device=labels.device) * 2 + 1) * labels.shape[1] // (2 * height)
    columns = (torch.arange(width, device=labels.device) * 2 + 1) * labels.shape[2] // (2 * width)
    truth = labels[:, rows][:, :, columns].flatten()
    known = truth != UNLABELLED
    probabilities = scores.softmax(1).permute(0, 2, 3, 1).flatten(0, 2)[known]
    truth = truth[known]
    losses = []
    for label in torch.unique(truth).tolist():
        is_it = (truth == label).float()
        errors, order = (is_it - probabilities[:, label]).abs().sort(descending=True)
        is_it = is_it[order]
        total = is_it.sum()
        jaccard = 1 - (total - is_it.cumsum(0)) / (total + (1 - is_it).cumsum(0))
        steps = torch.cat([jaccard[:1], jaccard[1:] - jaccard[:-1]])
        losses.append((errors * steps).sum())  # not a dot product, which autocast takes in bfloat16
    return torch.stack(losses).mean() if losses else scores.sum() * 0


#: Pixels that the network gives less than this probability to be what they are count as hard.
_HARD_PROBABILITY = 0.7
#: At least one pixel in this many is trained on, hard or not.
_PIXELS_PER_KEPT = 16


def hard_pixel_cross_entropy(scores: Tensor, labels: Tensor, align_corners: bool) -> Tensor:
    """Cross entropy over the hardest pixels alone (OHEM): scores (B, C, h, w), labels (B, H, W) -> mean.

    With l the losses of the labelled pixels of the whole batch, of scores upsampled to the labels' size, and
    n = B H W // 16: the mean over {l > -ln 0.7} if those are at least n, else over the n largest l. Source:
    ``OhemCELoss2D`` of the official Training/ptsemseg/loss/loss.py, with n from loss/__init__.py; ``align_corners``
    is the network's. TDNet's losses on the recomposed scores and on a path's own scores are both this function.

    Unlike there, unlabelled pixels (255; 250 there) never count: there they stand among the n largest with a loss of
    0 as soon as fewer than n pixels are labelled, and pull the mean down. A batch without labels has loss 0, with
    gradients of 0. n follows the labels that are given rather than the configured crop, which is the same number.
    """
    if labels.numel() < _PIXELS_PER_KEPT:
        raise ConfigurationError(
            f"labels have shape {tuple(labels.shape)}, expected at least {_PIXELS_PER_KEPT} pixels (B, H, W)"
        )
    labels = labels.long()
    logits = upsample(scores, (labels.shape[1], labels.shape[2]), align_corners)
    losses = F.cross_entropy(logits, labels, ignore_index=UNLABELLED, reduction="none").flatten()
    # Unlabelled pixels have a loss of exactly 0: they add nothing to either sum, and are left out of both counts.
    # Both sums are always taken, so that a GPU need not wait for the counts.
    at_least = losses.numel() // _PIXELS_PER_KEPT
    hard = losses > -math.log(_HARD_PROBABILITY)
    hardest = losses.topk(at_least, sorted=False).values
    labelled = (labels != UNLABELLED).sum().clamp(min=1, max=at_least)
    return torch.where(
        hard.sum() >= at_least,
        (losses * hard).sum() / hard.sum().clamp(min=1),
        hardest.sum() / labelled,
    )
