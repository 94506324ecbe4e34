"""One camera's stream: its window, its place in the rotation, and what empties the window."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tdnet_ros.errors import StaleFrame
from tdnet_ros.streaming.continuity import Continuity, ContinuityLimits
from tdnet_ros.streaming.runtime import Preprocessor
from tdnet_ros.streaming.schedule import Plan, Rotation
from tdnet_ros.streaming.score_memory import Remembered, ScoreMemory
from tdnet_ros.video.frame import Frame

if TYPE_CHECKING:
    from tdnet_ros.streaming.segmenter import Segmenter


@dataclass(frozen=True)
class StageTimes:
    """Milliseconds on the steady clock. Frames that are segmented together share the time of what they share.

    ``motion_ms`` is NaN where nothing wanted motion.
    """

    preprocess_ms: float
    motion_ms: float
    network_ms: float
    postprocess_ms: float

    @property
    def total_ms(self) -> float:
        """All stages."""
        stages = (self.preprocess_ms, self.motion_ms, self.network_ms, self.postprocess_ms)
        return math.fsum(stage for stage in stages if not math.isnan(stage))


@dataclass(frozen=True)
class Segmentation:
    """What became of one frame.

    ``mask`` and ``confidence`` are (H, W) uint8 at the frame's size and belong to the caller; confidence is the
    softmax of the winning class x 255, None unless asked for. ``warm`` tells whether the whole window took part,
    ``reset_reason`` why the window was emptied before this frame, if it was; ``resets`` counts how often so far.
    """

    mask: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8] | None
    plan: Plan
    warm: bool
    resets: int
    reset_reason: str | None
    times: StageTimes


class SegmentationStream:
    """One camera's state. Not for use by two threads at once; streams of one segmenter may be in a thread each.

    The window holds the newest entry of every sub-network and nothing older. The first frames after a reset are
    segmented by their own sub-network alone, and say so: ``Segmentation.warm`` is False.
    """

    def __init__(self, segmenter: Segmenter, limits: ContinuityLimits) -> None:
        self.segmenter = segmenter
        self.state: Any = segmenter.network.initial_state()
        self._preprocess = Preprocessor(segmenter.network.info, segmenter.runtime)
        self._continuity = Continuity(limits)
        self._schedule = Rotation(segmenter.network.info.subnetworks)
        self.memory = ScoreMemory(segmenter.score_memory)
        self._fresh = True
        self._pending_reason: str | None = None
        self.resets = 0

    @property
    def limits(self) -> ContinuityLimits:
        """When a gap or a step back in time empties the window; may be replaced at any time."""
        return self._continuity.limits

    @limits.setter
    def limits(self, limits: ContinuityLimits) -> None:
        self._continuity.limits = limits

    def reset(self, reason: str = "asked for by the caller") -> None:
        """Empty the window: the next frame is the first of a new stream, and sub-network 0 segments it.

        Counted, unless the window is empty already.
        """
        if self._fresh:
            return
        self._continuity.forget()
        self._empty(reason)

    def step(self, frame: Frame, confidence: bool = False) -> Segmentation:
        """Segment one frame. Raises StaleFrame, and leaves the window as it was, when the frame is not newer.

        A frame that does not continue the stream empties the window first. When the network fails, the window
        stays as it was before the frame.
        """
        (result,) = self.segmenter.step_together([(self, frame)], confidence)
        if isinstance(result, StaleFrame):
            raise result
        return result

    # What Segmenter.step_together does with a stream, in this order.

    def begin(self, frame: Frame) -> Plan:
        """How the frame is to be segmented, the window emptied if need be. Raises StaleFrame."""
        reason = self._continuity.check(frame)
        if reason is not None:
            self._empty(reason)
        return self._schedule.plan()

    def preprocess(self, frame: Frame, size: tuple[int, int]) -> Tensor:
        """Frame -> (1, 3, h, w) of ``size`` (h, w), valid until the stream's next frame."""
        return self._preprocess(frame, size)

    def finish(self, state: Any, remembered: Remembered | None) -> str | None:
        """Take over the state after the planned frame; the reason of the reset that was due before it."""
        self.state, self.memory.last, self._fresh = state, remembered, False
        self._schedule.advance()
        reason, self._pending_reason = self._pending_reason, None
        return reason

    def _empty(self, reason: str) -> None:
        self.state, self.memory.last = self.segmenter.network.initial_state(), None
        self._schedule.reset()
        self._fresh = True
        self._pending_reason = reason
        self.resets += 1
