"""A budget of milliseconds per frame: what is given up when frames take longer, and taken back when they don't."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

from tdnet_ros.errors import ConfigurationError

#: Scales to which the frames between keyframes may be lowered, of those below the one that is set.
SCALES = (0.75, 0.5, 0.4, 0.3)
#: By how much the interval of keyframes may be lengthened, step by step.
STRETCHES = (1.5, 2.0)
#: A step back has to keep below this share of the budget for so long. The gap between the two keeps a machine that is
#: just fast enough from going back and forth.
_EASY_SHARE = 0.7
#: After a step back that did not hold the next one waits twice as long, up to so many times as long as at first.
_MOST_PATIENT = 16


class _Governor:
    """A level from 0 to ``levels``: up when ``late`` of the last ``of`` were over the budget, for one is an accident,
    and down when ``easy`` running were well below it."""

    def __init__(self, levels: int, late: int, of: int, easy: int) -> None:
        self.levels = levels
        self.level = 0
        self._late = late
        self._recent: deque[bool] = deque(maxlen=of)
        self._easy, self._easy_run = easy, 0
        self._patience = 1
        self._since_back: int | None = None

    def see(self, share: float) -> bool:
        """Something took that share of the budget; whether one more level is due and there is none."""
        self._recent.append(share > 1)
        self._easy_run = self._easy_run + 1 if share <= _EASY_SHARE else 0
        if self._since_back is not None:
            self._since_back += 1
        if sum(self._recent) >= self._late:
            return not self._up()
        if self.level and self._easy_run >= self._easy * self._patience:
            self.level -= 1
            self._easy_run = self._since_back = 0
        return False

    def _up(self) -> bool:
        self._recent.clear()
        self._easy_run = 0
        if self.level >= self.levels:
            return False
        self.level += 1
        held = self._since_back is None or self._since_back > self._easy * self._patience
        self._patience = 1 if held else min(2 * self._patience, _MOST_PATIENT)
        self._since_back = None
        return True


class LatencyBudget:
    """Lowers the scale of the frames between keyframes, then lengthens the interval, as long as frames are late.

    Frames between keyframes rule over the scale, and over the interval once there is no lower scale; keyframes, which
    no scale makes cheaper, over the interval alone, so that they become rarer. What is measured is the caller's to
    choose: a frame's age at its mask, or the time of its step. No keyframe that is due for another reason is put off.
    Raises ConfigurationError for a budget below 0 ms or a scale outside 0..1.
    """

    def __init__(self, budget_ms: float, scales: Sequence[float] = SCALES) -> None:
        if not budget_ms > 0:
            raise ConfigurationError(f"latency_budget_ms is {budget_ms}, expected more than 0 ms")
        if not all(0 < scale <= 1 for scale in scales):
            raise ConfigurationError(f"scales are {tuple(scales)}, expected more than 0 and at most 1 each")
        self.budget_ms = budget_ms
        self._scales = sorted(scales, reverse=True)
        self._scale = _Governor(len(self._scales), late=3, of=6, easy=24)
        self._interval = _Governor(len(STRETCHES), late=2, of=3, easy=4)

    def observe(self, keyframe: bool, measured_ms: float) -> None:
        """What one frame took, in the order of the frames; NaN says nothing."""
        if math.isnan(measured_ms):
            return
        share = measured_ms / self.budget_ms
        if keyframe:
            self._interval.see(share)
        elif self._scale.see(share):
            self._interval.level = min(self._interval.level + 1, self._interval.levels)

    def ease(self, scale: float, interval: int) -> tuple[float, int]:
        """Scale and interval to take in the place of those that are set."""
        lower = [each for each in self._scales if each < scale]
        self._scale.levels = len(lower)
        level = min(self._scale.level, len(lower))
        eased = lower[level - 1] if level else scale
        longer = math.ceil(interval * STRETCHES[self._interval.level - 1]) if self._interval.level else interval
        return eased, longer
