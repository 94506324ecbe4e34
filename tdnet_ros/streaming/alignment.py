"""Cameras in step: streams whose frames could be one batch take the same sub-network and have keyframes together.

A camera that has lost an image, or has been reset, would else be a sub-network or a keyframe apart from the others for
good, and in a batch of its own. The window holds the newest entry of each sub-network, whichever those were
(TDNet, arXiv 2004.01800): a stream may take any sub-network next. For the others of its window to come in the usual
order again takes as many frames as there are sub-networks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from tdnet_ros.streaming.schedule import INTERVAL
from tdnet_ros.streaming.stream import SegmentationStream
from tdnet_ros.streaming.together import Turn


def in_step(turns: Iterable[Turn]) -> list[Turn]:
    """The turns in their order, those of streams that are apart from the others changed where they may be."""
    placed = {turn.stream: turn for turn in turns}
    for group in _groups(placed, lambda turn: turn.picture):
        placed |= _keyframes_together(group)
    for group in _groups(placed, lambda turn: (turn.picture, turn.warm, turn.begun.plan.keyframe, turn.step.scale)):
        placed |= _at_one_subnetwork(group)
    return list(placed.values())


def _groups(placed: dict[SegmentationStream, Turn], key: Callable[[Turn], object]) -> list[list[Turn]]:
    groups: dict[object, list[Turn]] = {}
    for turn in placed.values():
        groups.setdefault(key(turn), []).append(turn)
    return [group for group in groups.values() if len(group) > 1]


def _keyframes_together(group: Sequence[Turn]) -> dict[SegmentationStream, Turn]:
    """When the interval makes one frame a keyframe, the others become one too, if theirs is not long ago.

    Keyframes for other reasons are a camera's own: encoders that set I-frames at different times stay apart.
    """
    if not any(turn.begun.plan.reason == INTERVAL for turn in group):
        return {}
    early = {turn.stream: (turn, turn.stream.keyframe_early(turn.begun)) for turn in group}
    return {stream: turn.become(begun) for stream, (turn, begun) in early.items() if begun is not None}


def _at_one_subnetwork(group: Sequence[Turn]) -> dict[SegmentationStream, Turn]:
    """The sub-network that brings most streams together; of several such the one that most are at already."""
    wanted = Counter(turn.begun.plan.subnetwork for turn in group)
    best: dict[SegmentationStream, Turn] = {}
    most = (0, 0)
    for subnetwork, count in wanted.items():
        offers = ((turn, turn.stream.take_turn(turn.begun, subnetwork)) for turn in group)
        moved = {turn.stream: turn.become(begun) for turn, begun in offers if begun is not None}
        if (count + len(moved), count) > most:
            best, most = moved, (count + len(moved), count)
    return best
