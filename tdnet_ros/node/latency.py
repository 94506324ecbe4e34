"""Where a frame's time went, per mask, and over the last masks in percentiles."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from std_msgs.msg import Header

from tdnet_ros.msg import FrameLatency
from tdnet_ros.streaming import Segmentation

_NAN = float("nan")


@dataclass
class FrameTimes:
    """Steady times, in s, of one frame's way through the node."""

    arrived_s: float
    taken_s: float
    decoded_s: float = _NAN
    segmented_s: float = _NAN
    published_s: float = _NAN

    @property
    def node_ms(self) -> float:
        """From arrival until the mask was handed to the middleware."""
        return 1e3 * (self.published_s - self.arrived_s)


def latency_message(header: Header, result: Segmentation, times: FrameTimes, age_ms: float) -> FrameLatency:
    """The message of one mask; the counters are the caller's to fill in.

    The stages add up to ``node_ms``: what the stream does around them (checks, plan, memory) counts as preprocessing.
    """
    message = FrameLatency()
    step_ms = 1e3 * (times.segmented_s - times.decoded_s)
    message.header = header
    message.subnetwork = result.plan.subnetwork
    message.scale = result.plan.scale
    message.keyframe = result.plan.keyframe
    message.keyframe_distance = result.plan.keyframe_distance
    message.reason = f"reset: {result.reset_reason}" if result.reset_reason else result.plan.reason
    message.warm = result.warm
    message.resets = result.resets
    message.receive_ms = 1e3 * (times.taken_s - times.arrived_s)
    message.decode_ms = 1e3 * (times.decoded_s - times.taken_s)
    message.motion_ms = result.times.motion_ms
    message.preprocess_ms = step_ms - result.times.total_ms + result.times.preprocess_ms
    message.network_ms = result.times.network_ms
    message.postprocess_ms = result.times.postprocess_ms
    message.publish_ms = 1e3 * (times.published_s - times.segmented_s)
    message.node_ms = times.node_ms
    message.age_ms = age_ms
    return message


@dataclass
class Window:
    """Values of the last ``span_s`` seconds."""

    span_s: float = 5.0
    _values: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=4096))

    def add(self, value: float) -> None:
        """A value of now."""
        self._values.append((time.perf_counter(), value))

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()

    def recent(self) -> np.ndarray:
        """Values that are not older than the span and are numbers."""
        oldest = time.perf_counter() - self.span_s
        return np.array([value for when, value in list(self._values) if when >= oldest and value == value])

    def rate_hz(self) -> float:
        """Values per second over the span; the span is shorter while it fills."""
        now = time.perf_counter()
        times = [when for when, _ in list(self._values) if when >= now - self.span_s]
        if len(times) < 2:
            return 0.0
        return (len(times) - 1) / max(now - times[0], 1e-9)

    def percentiles(self) -> dict[str, float]:
        """p50, p95, p99 and max; NaN while there are no values."""
        values = self.recent()
        if not len(values):
            return dict.fromkeys(("p50", "p95", "p99", "max"), _NAN)
        p50, p95, p99 = np.percentile(values, (50, 95, 99))
        return {"p50": float(p50), "p95": float(p95), "p99": float(p99), "max": float(values.max())}
