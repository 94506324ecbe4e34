"""What a stream can be told while it runs: keyframes, resolution, motion, cuts and the latency that it has to keep."""

from __future__ import annotations

from dataclasses import dataclass

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import NetworkInfo
from tdnet_ros.streaming.latency_budget import SCALES
from tdnet_ros.video.motion import CUT_SHARE, CodecMotion, MotionSource, ZeroMotion
from tdnet_ros.video.optical_flow import FlowMotion

#: Where motion to the keyframe is from: the vectors that frames bring along, else optical flow; flow alone; nowhere.
MOTIONS = ("auto", "flow", "zero")
#: Scale of the frames between keyframes in a network that knows no keyframes.
_HALF = 0.5
_SMALLEST_SCALE = 0.1


@dataclass(frozen=True)
class StreamSettings:
    """All may be replaced between two frames (``SegmentationStream.settings``).

    ``keyframe_interval``: at most so many frames from one keyframe to the next; 0 is the network's own, 1 makes every
    frame one. ``low_resolution``: scale of the frames between keyframes; 0 is the network's own. ``motion``: one of
    MOTIONS. ``cut_threshold``: a frame with a larger share of unusable motion is the first of another scene, and
    empties the window; 1 finds no cuts. It is told where optical flow is measured, for motion or the score memory.
    ``latency_budget_ms``: what a frame may take before the scale of the frames between keyframes is lowered and the
    interval lengthened; 0 lets it take what it takes.
    Raises ConfigurationError for values out of range.
    """

    keyframe_interval: int = 0
    low_resolution: float = 0.0
    motion: str = "auto"
    cut_threshold: float = CUT_SHARE
    latency_budget_ms: float = 0.0

    def __post_init__(self) -> None:
        if self.keyframe_interval < 0:
            raise ConfigurationError(
                f"keyframe_interval is {self.keyframe_interval}, expected at least 1, or 0 for the network's own"
            )
        if self.low_resolution != 0 and not _SMALLEST_SCALE <= self.low_resolution <= 1:
            raise ConfigurationError(
                f"low_resolution is {self.low_resolution}, expected {_SMALLEST_SCALE} to 1, or 0 for the network's own"
            )
        if self.motion not in MOTIONS:
            raise ConfigurationError(f"motion is '{self.motion}', expected one of {list(MOTIONS)}")
        if not 0 < self.cut_threshold <= 1:
            raise ConfigurationError(f"cut_threshold is {self.cut_threshold}, expected more than 0 and at most 1")
        if not self.latency_budget_ms >= 0:
            raise ConfigurationError(f"latency_budget_ms is {self.latency_budget_ms}, expected 0 ms (off) or more")

    def interval(self, network: NetworkInfo) -> int:
        """Longest distance of two keyframes of that network, in frames."""
        return self.keyframe_interval or network.keyframe_interval

    def alternates(self, network: NetworkInfo) -> bool:
        """Whether there are keyframes at all: of a network that has none, not unless they are asked for."""
        return self.interval(network) > 1 or network.keyframe_interval > 1

    def scale(self, network: NetworkInfo) -> float:
        """Scale of that network's frames between keyframes; 1, whatever is set, where they are not encoded."""
        if not network.encodes_between:
            return 1.0
        return self.low_resolution or (network.low_resolution if network.keyframe_interval > 1 else _HALF)

    def scales(self, network: NetworkInfo) -> list[float]:
        """Every scale that frames between keyframes can come to have, the budget's included."""
        if self.interval(network) == 1:
            return []
        scale = self.scale(network)
        lower = [each for each in eased_scales(network) if each < scale] if self.latency_budget_ms else []
        return [scale, *lower]

    def check_scales(self, network: NetworkInfo, there: frozenset[float] | None) -> None:
        """Raise ConfigurationError when frames between keyframes can come to have a scale that is not ``there``.

        ``there`` is what an export of that network has; None where every scale can be made ready.
        """
        if there is None or not self.alternates(network) or set(self.scales(network)) <= there:
            return
        given = f"keyframe_interval is {self.keyframe_interval}, low_resolution {self.low_resolution} and "
        given += f"latency_budget_ms {self.latency_budget_ms}"
        if not there:
            raise ConfigurationError(
                f"{given}, and the export of '{network.name}' has no frames between keyframes, "
                "expected keyframe_interval 0 or 1"
            )
        raise ConfigurationError(
            f"{given}, for scales of {self.scales(network)} between keyframes, of which the export of "
            f"'{network.name}' has {', '.join(map(str, sorted(there)))}, expected low_resolution 0 or one of them, "
            "and latency_budget_ms 0"
        )

    def remarks(self, network: NetworkInfo) -> list[str]:
        """What is set and changes nothing for that network, in words."""
        if not self.latency_budget_ms or self.interval(network) > 1:
            return []
        return [
            f"latency_budget_ms is {self.latency_budget_ms} and changes nothing: '{network.name}' computes every frame "
            "in full, expected keyframe_interval above 1 or a network with keyframes"
        ]

    def motion_source(self, network: NetworkInfo) -> MotionSource | None:
        """A new source of motion; None where every frame is computed in full."""
        if self.interval(network) == 1:
            return None
        if self.motion == "zero":
            return ZeroMotion()
        flow = FlowMotion(self.cut_threshold)
        return flow if self.motion == "flow" else CodecMotion(flow)


def eased_scales(network: NetworkInfo) -> tuple[float, ...]:
    """Those to which a latency budget may lower the frames between keyframes of that network."""
    return SCALES if network.encodes_between else ()
