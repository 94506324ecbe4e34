"""Every step that a stream of a network can come to ask for, whenever its keyframes are due."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tdnet_ros.networks.network import SegmentationNetwork, StepPlan, image_size

#: Side of a cell of the motion that streams hand on, in px of the image.
_CELL_PX = 8
Compute = Callable[..., tuple[Tensor, ...]]
#: What a step reads behind the image, and what it gives.
Met = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


@dataclass(frozen=True)
class _Place:
    """Where a stream can be: its state, and whose turn it is, between keyframes and as keyframe."""

    state: Any
    next_subnetwork: int
    next_keyframe: int
    begun: bool = False


def walk_plans(
    network: SegmentationNetwork,
    image: Tensor,
    scales: Sequence[float] | None,
    compute: Compute | None = None,
    kind: Callable[[StepPlan], object] = lambda plan: plan,
    firsts: Sequence[int] = (0,),
) -> dict[StepPlan, Met]:
    """By plan what a step reads and gives, for images like this (B, 3, H, W); each is run once.

    ``scales``: those of the frames between keyframes; None where there are no keyframes and the sub-networks rotate.
    ``compute``: in the place of the network's own, ``compute(plan, image, *read)``. Of plans that ``kind`` calls the
    same the first stands for all. ``firsts``: the sub-networks that a stream may begin with.
    """
    run = network.compute if compute is None else compute
    rows, columns = (-(-side // _CELL_PX) for side in image.shape[2:])
    motion = torch.zeros((image.shape[0], 3, rows, columns), dtype=image.dtype, device=image.device)
    met: dict[StepPlan, Met] = {}
    kept: dict[object, tuple[Tensor, ...]] = {}
    known: set[object] = set()
    # What a stream that begins with the first one meets, then what others meet besides.
    waiting = [_Place(network.initial_state(), first, first) for first in reversed(firsts)]
    places: deque[_Place] = deque()
    while places or waiting:
        place = places.popleft() if places else waiting.pop()
        signature = _signature(network, place)
        if signature in known:
            continue
        known.add(signature)
        for keyframe, scale in _choices(place, scales):
            subnetwork = place.next_keyframe if keyframe else place.next_subnetwork
            plan = network.plan(place.state, subnetwork, keyframe, scale)
            if kind(plan) not in kept:
                read = (*network.cached(place.state, plan), *([motion] if plan.fused else []))
                met[plan] = read, run(plan, image, *read)
                kept[kind(plan)] = met[plan][1][1:]
            state = network.remember(place.state, plan, image_size(image), kept[kind(plan)])
            turn = (subnetwork + 1) % network.info.subnetworks
            places.append(_Place(state, turn, turn if keyframe else place.next_keyframe, True))
    return met


def _choices(place: _Place, scales: Sequence[float] | None) -> Iterator[tuple[bool, float]]:
    """(keyframe, scale) of what can come next."""
    if scales is None:
        yield False, 1.0
        return
    yield True, 1.0
    if place.begun:
        yield from ((False, scale) for scale in scales)


def _signature(network: SegmentationNetwork, place: _Place) -> object:
    """Two places with the same one lead to the same plans."""
    windows = tuple(network.plan(place.state, index).sources for index in range(network.info.subnetworks))
    return windows, place.next_subnetwork, place.next_keyframe, place.begun
