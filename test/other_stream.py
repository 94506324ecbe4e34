"""A stream of somebody else, as ``benchmarks.networks --against other_stream:FUNCTION`` wants it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from tdnet_ros.networks import load_network


def faithful(
    name: str, height: int, width: int, weights: Mapping[str, Tensor] | None, device: torch.device
) -> Callable[[Tensor, int], Tensor]:
    """Our own network through its public step, so that it must answer what ours answers."""
    network = load_network(name, weights, device)
    state = network.initial_state()

    def step(image: Tensor, index: int) -> Tensor:
        nonlocal state
        assert image.shape == (1, 3, height, width) and image.dtype == torch.float32 and image.is_contiguous()
        logits, state = network.step(image, state, index % network.info.subnetworks)
        return logits

    return step


def contrary(
    name: str, height: int, width: int, weights: Mapping[str, Tensor] | None, device: torch.device
) -> Callable[[Tensor, int], Tensor]:
    """The same with the opposite opinion on every pixel."""
    step = faithful(name, height, width, weights, device)
    return lambda image, index: -step(image, index)
