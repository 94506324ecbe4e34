"""The network as it stands, operation by operation."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from tdnet_ros.networks.acceleration import accelerate_for_cpu
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan
from tdnet_ros.streaming.engines.engine import Engine, PreparedStep


class EagerEngine(Engine):
    """Runs everywhere, and needs no preparation. On a CPU some layers are replaced by faster ones."""

    prepares = False
    any_order = True

    def __init__(self, network: SegmentationNetwork, device: torch.device) -> None:
        super().__init__(accelerate_for_cpu(network) if device.type == "cpu" else network, device)

    def prepare(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> PreparedStep:
        return partial(self.network.compute, plan)
