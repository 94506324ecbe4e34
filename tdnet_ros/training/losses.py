"""Training losses."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from tdnet_ros.labels import UNLABELLED
from tdnet_ros.networks.layers import upsample


def class_weights(frequency: Tensor, offset: float = 1.10) -> Tensor:
    """Weights 1 / ln(offset + frequency) per class (ENet, section 5.2): (C,) pixel shares -> (C,)."""
    return 1.0 / torch.log(offset + frequency)


def correct_prior(state: Mapping[str, Tensor], weights: Tensor, strength: float) -> dict[str, Tensor]:
    """A network's weights with its classifiers' biases lowered by ``strength`` x ln(class weight).

    Training with class weights w makes the softmax estimate p(c) w_c instead of p(c); at strength 1 that is undone,
    at 0 nothing is changed. ``weights``: (C,), as given to the loss.
    """
    shift = strength * torch.log(weights)
    return {
        key: value - shift.to(value.dtype) if key.endswith("head.classifier.bias") else value
        for key, value in state.items()
    }


def cross_entropy(scores: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross entropy of scores (B, C, h, w), upsampled to labels (B, H, W); unlabelled pixels are ignored."""
    size = (labels.shape[1], labels.shape[2])
    logits = upsample(scores, size, align_corners=False)
    return F.cross_entropy(logits, labels.long(), weight=weights, ignore_index=UNLABELLED)
