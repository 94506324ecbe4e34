"""When a stream's keyframes are due, and what the frames between them are computed at.

A keyframe is computed in full, and its feature kept; a frame between keyframes is encoded at low resolution and takes
the rest from the keyframe, along the motion between the two (AR-Seg, CVPR 2023).
"""

from __future__ import annotations

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.streaming.latency_budget import LatencyBudget
from tdnet_ros.streaming.schedule import INTERVAL, TOGETHER, Plan
from tdnet_ros.video.frame import Break, MotionField

#: A frame with a larger share of guessed motion to its keyframe becomes a keyframe. It has to leave room for what
#: cameras' encoders do on flat road and sky: their guesses are mostly right (docs/motion.md).
UNUSABLE_SHARE = 0.8

#: Why there is no motion to the keyframe, as reasons for the next one.
REASONS = {
    Break.START: "motion starts anew",
    Break.INTRA: "I-frame",
    Break.LOSS: "lost packet",
    Break.CUT: "cut",
}


class AlternationSchedule:
    """The sub-networks in turn, and of the frames every so many a keyframe.

    A keyframe is due on the first frame, where no unbroken motion leads to the last keyframe (an I-frame, a lost
    packet, a cut), at the distance ``keyframe_interval``, where more than ``unusable_share`` of that motion is a guess,
    and when the caller asks. One that is due on a frame that nobody segments is due on the next. Keyframes take the
    sub-networks in turn by a counter of their own, and the ordinary rotation continues from there: so each is keyframe
    equally often, whatever the interval. ``keyframe_interval`` and ``low_resolution``, the scale of the frames between,
    may be changed at any time; ``budget`` may lower the one and lengthen the other.
    """

    def __init__(
        self,
        subnetworks: int,
        keyframe_interval: int = 12,
        low_resolution: float = 0.5,
        budget: LatencyBudget | None = None,
        unusable_share: float = UNUSABLE_SHARE,
        first: int = 0,
    ) -> None:
        """Raises ConfigurationError for an interval below 1, or a scale or share outside 0..1."""
        if keyframe_interval < 1:
            raise ConfigurationError(f"keyframe_interval is {keyframe_interval}, expected at least 1")
        for name, value in (("low_resolution", low_resolution), ("unusable_share", unusable_share)):
            if not 0 < value <= 1:
                raise ConfigurationError(f"{name} is {value}, expected more than 0 and at most 1")
        self.keyframe_interval = keyframe_interval
        self.low_resolution = low_resolution
        self.budget = budget
        self.unusable_share = unusable_share
        self._subnetworks = subnetworks
        self._requested = ""
        self.next_subnetwork = self._next_keyframe = first
        self._has_keyframe = False

    def reset(self) -> None:
        """The next frame is the first of a new stream; what the budget has learnt of the machine stays."""
        self.next_subnetwork = self._next_keyframe = 0
        self._has_keyframe = False

    def request_keyframe(self, reason: str = "requested") -> None:
        self._requested = reason

    def plan(self, motion: MotionField | None) -> Plan:
        scale, interval = self._eased()
        eased = (scale, interval) != (self.low_resolution, self.keyframe_interval)
        reason = self._due(motion, interval)
        if reason or motion is None:
            return Plan(self._next_keyframe, 1.0, True, 0, reason)
        between = "between keyframes, eased to keep the latency budget" if eased else "between keyframes"
        return Plan(self.next_subnetwork, scale, False, motion.frames, between)

    def plan_keyframe_early(self, motion: MotionField | None) -> Plan | None:
        """The frame as a keyframe, so that several streams have theirs together; not before half the interval.

        So keyframes are at most twice as frequent; and of two streams that are apart one can join the other.
        """
        _, interval = self._eased()
        if motion is None or 2 * motion.frames < interval:
            return None
        return Plan(self._next_keyframe, 1.0, True, 0, f"keyframe {TOGETHER}")

    def advance(self, plan: Plan) -> None:
        self.next_subnetwork = (plan.subnetwork + 1) % self._subnetworks
        if plan.keyframe:
            self._next_keyframe = self.next_subnetwork
            self._has_keyframe, self._requested = True, ""

    def _eased(self) -> tuple[float, int]:
        """Scale and interval, as the budget has them."""
        if self.budget is None:
            return self.low_resolution, self.keyframe_interval
        return self.budget.ease(self.low_resolution, self.keyframe_interval)

    def _due(self, motion: MotionField | None, interval: int) -> str:
        """Why the frame has to be a keyframe; '' when it hasn't."""
        if not self._has_keyframe:
            return "first frame"
        if motion is not None and motion.broken is not None:
            return REASONS[motion.broken]
        if self._requested:
            return self._requested
        if motion is None or motion.frames >= interval:
            return INTERVAL
        if motion.unusable_share > self.unusable_share:
            return f"motion is unusable in {motion.unusable_share:.0%}"
        return ""
