"""One step of several cameras: frames that ask for the same computation go through the network as one batch."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from tdnet_ros.networks.masks import Decoded
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan, image_size
from tdnet_ros.streaming.engines import Engine
from tdnet_ros.streaming.runtime import Runtime
from tdnet_ros.streaming.score_memory import Remembered, mean_of_views
from tdnet_ros.streaming.stream import Begun, SegmentationStream, StageTimes
from tdnet_ros.video.frame import Frame


@dataclass(frozen=True)
class Turn:
    """A stream's frame that is due; ``size`` (h, w) is that at which it goes through the network."""

    stream: SegmentationStream
    frame: Frame
    begun: Begun
    step: StepPlan
    size: tuple[int, int]

    @classmethod
    def of(cls, stream: SegmentationStream, frame: Frame, begun: Begun) -> Turn:
        """The turn of a frame that the stream has begun. Raises StateError when its plan is none for the state."""
        segmenter, plan = stream.segmenter, begun.plan
        step = segmenter.network.plan(stream.state, plan.subnetwork, plan.keyframe, plan.scale)
        return cls(stream, frame, begun, step, segmenter.network_size(frame.height, frame.width))

    def become(self, begun: Begun) -> Turn:
        """The same frame, segmented in another way."""
        return Turn.of(self.stream, self.frame, begun)

    @property
    def picture(self) -> tuple[object, ...]:
        """Turns that differ in this can never be one batch."""
        return self.size, self.frame.height, self.frame.width

    @property
    def computation(self) -> tuple[object, ...]:
        """Turns that agree in this can be one batch."""
        return self.step, self.picture

    @property
    def warm(self) -> bool:
        """Whether the whole window takes part."""
        return self.stream.segmenter.network.is_warm(self.stream.state, self.step.subnetwork)


@dataclass(frozen=True)
class Outcome:
    """What the network made of a turn: mask and confidence (H, W) uint8, and the stream's next state."""

    turn: Turn
    mask: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8] | None
    warm: bool
    state: Any
    remembered: Remembered | None
    times: StageTimes


class Retreat:
    """For how many steps frames go one by one after a batch was too much for the device."""

    _FIRST, _LONGEST = 16, 4096

    def __init__(self) -> None:
        self._steps, self._next = 0, self._FIRST

    def begin(self) -> None:
        """A batch failed, and none of its frames did. Should the next one fail, too, it is left for twice as long."""
        self._steps, self._next = self._next, min(2 * self._next, self._LONGEST)

    def end(self) -> None:
        """A batch went well."""
        self._next = self._FIRST

    def divided(self, found: list[list[Turn]]) -> list[list[Turn]]:
        """The batches of the next step: those that were found, or each of their turns by itself."""
        if not self._steps:
            return found
        self._steps -= 1
        return [[turn] for batch in found for turn in batch]


def batches(turns: Iterable[Turn]) -> list[list[Turn]]:
    """The turns by computation, each in the order in which they came."""
    groups: dict[tuple[object, ...], list[Turn]] = {}
    for turn in turns:
        groups.setdefault(turn.computation, []).append(turn)
    return list(groups.values())


def segment_batch(turns: Sequence[Turn], engine: Engine, runtime: Runtime, confidence: bool) -> list[Outcome]:
    """Segment turns of one computation, in their order. No stream is changed.

    Raises StateError when a frame cannot be segmented from the state of its stream.
    """
    network = engine.network
    started = time.perf_counter()
    images = [turn.stream.preprocess(turn.frame, turn.size) for turn in turns]
    runtime.synchronise()
    preprocessed = time.perf_counter()
    for turn, image in zip(turns, images, strict=True):
        network.check(image, turn.stream.state, turn.step.subnetwork)
    motions = [_motion(turn, image) for turn, image in zip(turns, images, strict=True)]
    for turn, image, motion in zip(turns, images, motions, strict=True):
        network.check_plan(turn.step, image, motion)
    moved = time.perf_counter()
    past = _read(network, turns, motions)
    scores, *kept = engine.compute(turns[0].step, _stacked(images), *past)
    views = list(torch.split(scores, 1))
    alone = [i for i, turn in enumerate(turns) if not past and turn.stream.memory.wants_second_look(turn.begun.look)]
    if alone:
        mirrored = _mirrored_scores(engine, turns[0].step, _stacked([images[i] for i in alone]))
        for i, second in zip(alone, torch.split(mirrored, 1), strict=True):
            views[i] = mean_of_views(views[i], second)
    runtime.synchronise()
    inferred = time.perf_counter()
    blended = [turn.stream.memory.blend(own, turn.begun.look) for turn, own in zip(turns, views, strict=True)]
    size = (turns[0].frame.height, turns[0].frame.width)
    decoded = network.decode_mask(_stacked([own for own, _ in blended]), size, confidence)
    pictures = list(_pictures(decoded))
    finished = time.perf_counter()
    times = StageTimes(
        preprocess_ms=1e3 * (preprocessed - started),
        motion_ms=_total([turn.begun.motion_ms for turn in turns]) + 1e3 * (moved - preprocessed),
        network_ms=1e3 * (inferred - moved),
        postprocess_ms=1e3 * (finished - inferred),
    )
    outcomes = []
    for index, (turn, image, (mask, certainty), (_, remembered)) in enumerate(
        zip(turns, images, pictures, blended, strict=True)
    ):
        state = turn.stream.state
        own = tuple(x[index : index + 1] for x in kept)
        outcomes.append(
            Outcome(
                turn,
                mask,
                certainty,
                turn.warm,
                network.remember(state, turn.step, image_size(image), own),
                remembered,
                times,
            )
        )
    return outcomes


def _mirrored_scores(engine: Engine, step: StepPlan, images: Tensor) -> Tensor:
    """Scores (B, classes, h, w) of images without a past (B, 3, H, W), seen in a mirror and turned back."""
    mirrored = images.flip(3).contiguous(memory_format=torch.channels_last)
    return engine.compute(step, mirrored)[0].flip(3)


def _motion(turn: Turn, image: Tensor) -> Tensor | None:
    """Motion to the keyframe (1, 3, h, w) as the network takes it; None for a step that takes none."""
    field = turn.begun.motion
    if not turn.step.fused or field is None:
        return None
    sampled = turn.stream.network_motion(field, (turn.frame.height, turn.frame.width), turn.size)
    return torch.from_numpy(sampled).to(image.device, image.dtype)


def _read(network: SegmentationNetwork, turns: Sequence[Turn], motions: Sequence[Tensor | None]) -> list[Tensor]:
    """What the step reads of every turn's state, and its motion, stacked."""
    read = [
        (*network.cached(turn.stream.state, turn.step), *([] if motion is None else [motion]))
        for turn, motion in zip(turns, motions, strict=True)
    ]
    return [_stacked(tensors) for tensors in zip(*read, strict=True)]


def _total(stages_ms: Sequence[float]) -> float:
    """The sum of those that are numbers; NaN where none is."""
    known = [stage for stage in stages_ms if not math.isnan(stage)]
    return math.fsum(known) if known else math.nan


def _stacked(tensors: Sequence[Tensor]) -> Tensor:
    return tensors[0] if len(tensors) == 1 else torch.cat(list(tensors))


def _pictures(decoded: Decoded) -> Iterator[tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8] | None]]:
    """Mask and confidence (H, W) of every picture of the batch."""
    masks = decoded.mask.cpu().numpy()
    confidences = decoded.confidence.cpu().numpy() if decoded.confidence is not None else [None] * len(masks)
    yield from zip(masks, confidences, strict=True)
