"""Tells whether a frame continues its stream, begins a new one, or comes too late.

A TDNet window has no idea of time or place: fed with another camera's frame it would attend to the old scene and
publish a plausible, wrong mask. So every discontinuity empties the window.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from tdnet_ros.errors import ConfigurationError, StaleFrame
from tdnet_ros.video.frame import Frame

_NS = 1_000_000_000
#: So many stale stamps in a row mean that the clock went back, not that a frame came late.
_STALE_RUN = 3


@dataclass(frozen=True)
class ContinuityLimits:
    """``max_gap_s``: a longer gap between stamps resets. ``max_back_s``: stamps further back than this reset.

    The default gap is below a second because features that are a second old do more harm than good: the model card
    scores a 1 Hz drive with and without them.
    """

    max_gap_s: float = 0.9
    max_back_s: float = 0.5

    def __post_init__(self) -> None:
        for name in ("max_gap_s", "max_back_s"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"{name} is {getattr(self, name)}, expected more than 0 s")


class Continuity:
    """Watches one stream's frames."""

    def __init__(self, limits: ContinuityLimits) -> None:
        self.limits = limits
        self.forget()

    def forget(self) -> None:
        """The next frame is the first of its stream."""
        self._format: dict[str, str] = {}
        self._time_ns: int | None = None
        self._stale_run = 0

    def check(self, frame: Frame) -> str | None:
        """None when the frame continues the stream, else why the window has to be emptied before it.

        Raises StaleFrame when the stamp is not newer than the last one's; the frame is then to be dropped. A frame
        without a stamp is judged by the time of this call.
        """
        stamped = frame.stamp_ns is not None
        now_ns = frame.stamp_ns if frame.stamp_ns is not None else time.monotonic_ns()
        described = {
            "size": f"{frame.width}x{frame.height}",
            "encoding": frame.received_encoding or frame.encoding,
            "frame_id": frame.source,
            "publisher": frame.sender,
            "clock": "stamps" if stamped else "arrival times",
        }
        reason = self._changed(described) or self._jumped(now_ns)
        self._format, self._time_ns, self._stale_run = described, now_ns, 0
        return reason

    def _changed(self, described: dict[str, str]) -> str | None:
        for name, value in described.items():
            before = self._format.get(name, value)
            if before != value:
                return f"{name} changed from {before} to {value}"
        return None

    def _jumped(self, now_ns: int) -> str | None:
        if self._time_ns is None:
            return None
        ahead_s = (now_ns - self._time_ns) / _NS
        if ahead_s > self.limits.max_gap_s:
            return f"gap of {ahead_s:.3f} s between stamps"
        if ahead_s > 0:
            return None
        if -ahead_s > self.limits.max_back_s:
            return f"stamps went back by {-ahead_s:.3f} s"
        self._stale_run += 1
        if self._stale_run >= _STALE_RUN:
            return f"stamps went back {_STALE_RUN} times running"
        raise StaleFrame(f"stamp is {-ahead_s * 1e3:.3f} ms older than the last frame's, expected a newer one")
