"""Which of a network's parameters are trained, and at what rate."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import SegmentationNetwork
from tdnet_ros.networks.mobilenet import MobileNetV2
from tdnet_ros.training.configuration import OptimiserSettings


def first_blocks(network: SegmentationNetwork, count: int) -> list[nn.Module]:
    """The stem and the first ``count`` blocks of each MobileNetV2; nothing for 0.

    Raises ConfigurationError for a network without one.
    """
    backbones = [module for module in network.modules() if isinstance(module, MobileNetV2)] if count else []
    if count and not backbones:
        raise ConfigurationError(
            f"optimiser.frozen_blocks is {count}, expected 0: '{network.info.name}' has no MobileNetV2"
        )
    return [part for backbone in backbones for part in (backbone.stem, *backbone.blocks[:count])]


def parameter_groups(modules: Sequence[nn.Module], settings: OptimiserSettings, factor: float) -> list[dict[str, Any]]:
    """Backbones and the rest at their own rates times ``factor``; no weight decay on norms and biases."""
    groups = []
    named = [pair for module in modules for pair in module.named_parameters()]
    for in_backbone, rate in ((True, settings.backbone_rate), (False, settings.head_rate)):
        for decayed in (True, False):
            chosen = [
                parameter
                for name, parameter in named
                if ("backbone" in name) == in_backbone and (parameter.dim() > 1) == decayed and parameter.requires_grad
            ]
            decay = settings.weight_decay if decayed else 0.0
            if chosen:
                rates = {"lr": rate * factor, "base_rate": rate * factor}
                groups.append({"params": chosen, "weight_decay": decay, **rates})
    return groups
