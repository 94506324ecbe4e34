"""One camera's stream: its window, its place in the rotation, and what empties the window."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from tdnet_ros.streaming.alternation import REASONS, AlternationSchedule
from tdnet_ros.streaming.continuity import Continuity, ContinuityLimits
from tdnet_ros.streaming.latency_budget import LatencyBudget
from tdnet_ros.streaming.network_motion import NetworkMotion
from tdnet_ros.streaming.runtime import Preprocessor
from tdnet_ros.streaming.schedule import TOGETHER, Plan, Rotation, Schedule
from tdnet_ros.streaming.score_memory import Look, Remembered, ScoreMemory
from tdnet_ros.streaming.settings import StreamSettings, eased_scales
from tdnet_ros.video.frame import Break, Frame, MotionField
from tdnet_ros.video.motion import MotionSource

if TYPE_CHECKING:
    from tdnet_ros.streaming.segmenter import Segmenter

#: Between two frames whose sub-network is out of turn lie at least so many others.
IN_TURN_FRAMES = 8


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
    ``motion`` leads to the last keyframe, in px of the frame; None where nobody looked.
    """

    mask: npt.NDArray[np.uint8]
    confidence: npt.NDArray[np.uint8] | None
    plan: Plan
    warm: bool
    resets: int
    reset_reason: str | None
    times: StageTimes
    motion: MotionField | None = None


@dataclass(frozen=True)
class Begun:
    """What a stream has settled of a frame: how it is to be segmented, and how it moved.

    ``motion`` leads to the last keyframe; None where nobody looked. ``motion_ms`` is NaN where nothing wanted motion.
    ``in_turn``: the sub-network is the one that the schedule has for the frame.
    """

    plan: Plan
    motion: MotionField | None
    look: Look
    motion_ms: float
    in_turn: bool = True


class SegmentationStream:
    """One camera's state. Not for use by two threads at once; streams of one segmenter may be in a thread each.

    The window holds the newest entry of every sub-network and nothing older. The first frames after a reset are
    segmented by their own sub-network alone, and say so: ``Segmentation.warm`` is False.
    """

    def __init__(self, segmenter: Segmenter, limits: ContinuityLimits, settings: StreamSettings) -> None:
        self.segmenter = segmenter
        self.state: Any = segmenter.network.initial_state()
        self.memory = ScoreMemory(segmenter.score_memory)
        self.network_motion = NetworkMotion()
        self._preprocess = Preprocessor(segmenter.network.info, segmenter.runtime)
        self._continuity = Continuity(limits)
        self._schedule: Schedule = Rotation(segmenter.network.info.subnetworks)
        self._source: MotionSource | None = None
        self._settings: StreamSettings | None = None
        self._measured: tuple[bool, float] | None = None  # keyframe or not, and what it took, of the last frame
        self._fresh = True
        self._pending_reason: str | None = None
        self._in_turn = IN_TURN_FRAMES  # frames since one was out of turn
        self.resets = 0
        self.settings = settings

    @property
    def limits(self) -> ContinuityLimits:
        """When a gap or a step back in time empties the window; may be replaced at any time."""
        return self._continuity.limits

    @limits.setter
    def limits(self, limits: ContinuityLimits) -> None:
        self._continuity.limits = limits

    @property
    def settings(self) -> StreamSettings:
        """Keyframes, resolution, motion, cuts and budget; may be replaced between two frames."""
        assert self._settings is not None, "set by the constructor"
        return self._settings

    @settings.setter
    def settings(self, settings: StreamSettings) -> None:
        network, before = self.segmenter.network.info, self._settings
        if settings == before:
            return
        self._settings = settings
        self.memory.cut_share = settings.cut_threshold
        is_other = before is None or settings.motion != before.motion
        if is_other or (settings.interval(network) == 1) != (self._source is None):
            self._source = settings.motion_source(network)
        if self._source is not None:
            self._source.cut_share = settings.cut_threshold
        if not settings.alternates(network):
            if not isinstance(self._schedule, Rotation):
                self._schedule = Rotation(network.subnetworks, self._schedule.next_subnetwork)
            return
        if not isinstance(self._schedule, AlternationSchedule):
            self._schedule = AlternationSchedule(network.subnetworks, first=self._schedule.next_subnetwork)
        self._schedule.keyframe_interval = settings.interval(network)
        self._schedule.low_resolution = settings.scale(network)
        budget_ms = settings.latency_budget_ms
        if self._schedule.budget is None or self._schedule.budget.budget_ms != budget_ms:
            self._schedule.budget = LatencyBudget(budget_ms, eased_scales(network)) if budget_ms else None

    def reset(self, reason: str = "asked for by the caller") -> None:
        """Empty the window: the next frame is the first of a new stream, and sub-network 0 segments it.

        Counted, unless the window is empty already.
        """
        if self._fresh:
            return
        self._continuity.forget()
        self._empty(reason)
        self._forget_motion()

    def request_keyframe(self, reason: str = "requested") -> None:
        """The next frame that is segmented is a keyframe; in a network without keyframes every frame is as good."""
        self._schedule.request_keyframe(reason)

    def report_latency(self, measured_ms: float) -> None:
        """What the last frame took by a measure of the caller's, such as its age when its mask was out.

        The latency budget goes by that instead of the time of the step. NaN is passed over.
        """
        if self._measured is not None and not math.isnan(measured_ms):
            self._measured = (self._measured[0], measured_ms)

    def step(self, frame: Frame, confidence: bool = False) -> Segmentation:
        """Segment one frame. Raises StaleFrame, and leaves the window as it was, when the frame is not newer.

        A frame that does not continue the stream empties the window first. When the network fails, the window
        stays as it was before the frame.
        """
        (result,) = self.segmenter.step_together([(self, frame)], confidence)
        if isinstance(result, Exception):
            raise result
        return result

    # What Segmenter.step_together does with a stream, in this order.

    def begin(self, frame: Frame) -> Begun:
        """How the frame is to be segmented, the window emptied if need be.

        Raises StaleFrame, and ImageError for a picture too small to measure motion in. A frame that is begun and not
        finished has moved the picture all the same: motion goes on from it.
        """
        reason = self._continuity.check(frame)
        if reason is not None:
            self._empty(reason)
            self._forget_motion()
        self._observe_budget()
        started = time.perf_counter()
        motion = self._source.advance(frame) if self._source is not None else None
        look = self.memory.look(frame, self._source.measured if self._source is not None else None)
        motion_ms = 1e3 * (time.perf_counter() - started)
        if (look.is_cut or (motion is not None and motion.broken is Break.CUT)) and not self._fresh:
            self._empty("cut")
        if frame.motion is not None and frame.motion.broken is not None:
            self._schedule.request_keyframe(REASONS[frame.motion.broken])  # wherever the motion itself is from
        plan = self._schedule.plan(motion)
        idle = motion is None and look.seen is None
        return Begun(plan, motion, look, math.nan if idle else motion_ms)

    def keyframe_early(self, begun: Begun) -> Begun | None:
        """The frame as a keyframe, as those of other cameras' streams are; None where it is one, or cannot be."""
        plan = None if begun.plan.keyframe else self._schedule.plan_keyframe_early(begun.motion)
        return None if plan is None else replace(begun, plan=plan)

    def take_turn(self, begun: Begun, subnetwork: int) -> Begun | None:
        """The frame with that sub-network out of turn, as of other cameras' streams; None where it has it, or cannot.

        That is on a full window only, and not again for IN_TURN_FRAMES frames: the entries of those that are left out
        grow old. With more than two sub-networks the window then is of another order, which the engine has to be
        ready for.
        """
        network, engine = self.segmenter.network, self.segmenter.engine
        is_ready = network.info.subnetworks == 2 or engine.any_order
        if subnetwork == begun.plan.subnetwork or self._in_turn < IN_TURN_FRAMES or not is_ready:
            return None
        if not (network.is_warm(self.state, begun.plan.subnetwork) and network.is_warm(self.state, subnetwork)):
            return None
        said = begun.plan.reason
        reason = said if said.endswith(TOGETHER) else f"{said}, {TOGETHER}"
        return replace(begun, plan=replace(begun.plan, subnetwork=subnetwork, reason=reason), in_turn=False)

    def preprocess(self, frame: Frame, size: tuple[int, int]) -> Tensor:
        """Frame -> (1, 3, h, w) of ``size`` (h, w), valid until the stream's next frame."""
        return self._preprocess(frame, size)

    def finish(self, begun: Begun, state: Any, remembered: Remembered | None, step_ms: float) -> str | None:
        """Take over the state after the frame; the reason of the reset that was due before it."""
        self.state, self.memory.last, self._fresh = state, remembered, False
        plan = begun.plan
        self._schedule.advance(plan)
        self._in_turn = self._in_turn + 1 if begun.in_turn else 0
        if plan.keyframe and self._source is not None:
            self._source.make_keyframe()
        self._measured = (plan.keyframe, step_ms)
        reason, self._pending_reason = self._pending_reason, None
        return reason

    def _observe_budget(self) -> None:
        measured, self._measured = self._measured, None
        if measured is not None and isinstance(self._schedule, AlternationSchedule) and self._schedule.budget:
            self._schedule.budget.observe(*measured)

    def _forget_motion(self) -> None:
        if self._source is not None:
            self._source.reset()

    def _empty(self, reason: str) -> None:
        self.state, self.memory.last = self.segmenter.network.initial_state(), None
        self._schedule.reset()
        self._in_turn = IN_TURN_FRAMES
        self._fresh = True
        self._pending_reason = reason
        self.resets += 1
