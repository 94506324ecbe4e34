"""Every step that a stream can come to ask for, met before the first frame."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdnet_ros.networks.network import SegmentationNetwork, StepPlan, image_size
from tdnet_ros.streaming.engines import Engine
from tdnet_ros.video.frame import grid_size


@dataclass(frozen=True)
class _Place:
    """Where a stream can be: its state, and whose turn it is, between keyframes and as keyframe."""

    state: Any
    next_subnetwork: int = 0
    next_keyframe: int = 0
    begun: bool = False


def meet_every_plan(engine: Engine, image: Tensor, scales: Sequence[float], alternating: bool) -> list[StepPlan]:
    """Run each step once that streams of images like this (B, 3, H, W) can meet, whenever a keyframe is due.

    ``scales``: those of the frames between keyframes; ``alternating``: whether there are keyframes, else the
    sub-networks rotate. Steps that an engine need not prepare are met once for all orders of their window. Returns the
    plans that were run, with the tensors that each gave where the next ones read them.
    """
    network = engine.network
    rows, columns = grid_size(image.shape[2], image.shape[3])
    motion = torch.zeros((image.shape[0], 3, rows, columns), dtype=image.dtype, device=image.device)
    kept: dict[tuple[object, ...], tuple[Tensor, ...]] = {}
    met: list[StepPlan] = []
    start = _Place(network.initial_state())
    places, known = deque([start]), {_signature(network, start)}
    while places:
        place = places.popleft()
        for keyframe, scale in _choices(place, scales, alternating):
            subnetwork = place.next_keyframe if keyframe else place.next_subnetwork
            plan = network.plan(place.state, subnetwork, keyframe, scale)
            kind = plan if engine.prepares else plan._replace(sources=(len(plan.sources),))
            if kind not in kept:
                read = (*network.cached(place.state, plan), *([motion] if plan.fused else []))
                kept[kind] = engine.compute(plan, image, *read)[1:]
                met.append(plan)
            state = network.remember(place.state, plan, image_size(image), kept[kind])
            turn = (subnetwork + 1) % network.info.subnetworks
            following = _Place(state, turn, turn if keyframe else place.next_keyframe, True)
            signature = _signature(network, following)
            if signature not in known:
                known.add(signature)
                places.append(following)
    return met


def _choices(place: _Place, scales: Sequence[float], alternating: bool) -> Iterator[tuple[bool, float]]:
    """(keyframe, scale) of what can come next."""
    if not alternating:
        yield False, 1.0
        return
    yield True, 1.0
    if place.begun:
        yield from ((False, scale) for scale in scales)


def _signature(network: SegmentationNetwork, place: _Place) -> tuple[object, ...]:
    """Two places with the same one lead to the same plans."""
    windows = tuple(network.plan(place.state, index).sources for index in range(network.info.subnetworks))
    return windows, place.next_subnetwork, place.next_keyframe, place.begun
