"""The node's health as a diagnostic_msgs/DiagnosticStatus: one line for people, values for machines."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

from tdnet_ros.node.latency import Window
from tdnet_ros.node.packet_intake import WAITING
from tdnet_ros.node.parameters import SegmentationParameters

#: For so long a lost frame, a rejected image or an exception keeps the status at a warning.
_MEMORY_S = 5.0


@dataclass
class Health:
    """Counters and the latest troubles since activation. Each is written by one thread only."""

    published: int = 0
    skipped: int = 0
    rejected: int = 0
    stale: int = 0
    failures: int = 0
    lost_upstream: int = 0
    node_ms: Window = field(default_factory=Window)
    age_ms: Window = field(default_factory=Window)
    activated_s: float = field(default_factory=time.perf_counter)
    last_input_s: float | None = None
    last_lost_s: float | None = None
    last_undelivered_s: float | None = None  # of those the last that was sent, for all that is known
    last_error: str = ""
    last_error_s: float | None = None

    def trouble(self, text: str) -> None:
        """Remember why a frame gave no mask."""
        self.last_error, self.last_error_s = text, time.perf_counter()


@dataclass(frozen=True)
class Report:
    """What the status tells beside Health: the stream's counters and facts of the node.

    ``publishers`` names the nodes that publish on the input; ``troubles`` says who gets nothing because of its quality
    of service. ``has_time``: the ROS clock has been set.
    """

    received: int
    dropped: int
    resets: int
    input_rate_hz: float
    publishers: tuple[str, ...]
    topic: str
    troubles: tuple[str, ...]
    has_time: bool
    facts: dict[str, str]


def diagnose(
    name: str, health: Health, report: Report, parameters: SegmentationParameters, enabled: bool
) -> DiagnosticStatus:
    """The status to publish. Levels: OK, WARN (low rate, trouble of late), ERROR (very low rate), STALE (timeout)."""
    level, message = _judge(health, report, parameters, enabled)
    values = {
        "input rate (Hz)": f"{report.input_rate_hz:.2f}",
        "mask rate (Hz)": f"{health.node_ms.rate_hz():.2f}",
        **{f"age {key} (ms)": f"{value:.2f}" for key, value in health.age_ms.percentiles().items()},
        **{f"node {key} (ms)": f"{value:.2f}" for key, value in health.node_ms.percentiles().items()},
        "images received": str(report.received),
        "masks published": str(health.published),
        "dropped for a newer image": str(report.dropped),
        "lost before arrival": str(health.lost_upstream),
        "stale stamps": str(health.stale),
        "images rejected": str(health.rejected),
        "failures": str(health.failures),
        "resets": str(report.resets),
        "publishers": str(len(report.publishers)),
        "quality of service": "; ".join(report.troubles) or "agreed",
        "last error": health.last_error,
        **report.facts,
    }
    return DiagnosticStatus(
        level=level,
        name=name,
        message=message,
        hardware_id=report.facts.get("device", ""),
        values=[KeyValue(key=key, value=value) for key, value in values.items()],
    )


def _judge(health: Health, report: Report, parameters: SegmentationParameters, enabled: bool) -> tuple[bytes, str]:
    now = time.perf_counter()
    if not enabled:
        return DiagnosticStatus.OK, "disabled by ~/enable"
    if not report.has_time:
        return DiagnosticStatus.WARN, "no clock: use_sim_time is true and nothing has come on /clock"
    since_input_s = now - (health.last_input_s if health.last_input_s is not None else health.activated_s)
    if since_input_s > parameters.timeout_s:
        source = "; ".join((*report.troubles, ", ".join(report.publishers))) or "no publisher"
        text = f"no image on {report.topic} for {since_input_s:.1f} s ({source})"
        return DiagnosticStatus.STALE if health.last_input_s is not None else DiagnosticStatus.WARN, text
    if health.last_input_s is None:
        return DiagnosticStatus.OK, f"waiting for the first image on {report.topic}"
    if health.last_error_s is not None and now - health.last_error_s < _MEMORY_S:
        # Trouble with some frames is a warning; with all of them, nobody has seen a mask for as long as we remember.
        blind = now - health.activated_s > _MEMORY_S and not len(health.node_ms.recent())
        return DiagnosticStatus.ERROR if blind else DiagnosticStatus.WARN, health.last_error
    if len(report.publishers) > 1:
        names = ", ".join(report.publishers)
        return DiagnosticStatus.WARN, f"{len(report.publishers)} publishers on {report.topic} ({names}), expected one"
    if report.troubles:
        return DiagnosticStatus.WARN, "; ".join(report.troubles)
    if health.last_lost_s is not None and now - health.last_lost_s < _MEMORY_S:
        if health.last_undelivered_s is not None and now - health.last_undelivered_s < _MEMORY_S:
            return DiagnosticStatus.WARN, (
                f"{health.lost_upstream} images were lost before they arrived: give the camera driver the "
                "shared-memory profile config/fastdds_shm.xml, or this node more of the processor"
            )
        return DiagnosticStatus.WARN, (
            f"{health.lost_upstream} images are missing by their stamps, though all that were sent have come: the "
            "camera left them out, or was late"
        )
    rate_hz = health.node_ms.rate_hz()
    if now - health.activated_s > _MEMORY_S and rate_hz < parameters.warn_rate_hz:
        level = DiagnosticStatus.ERROR if rate_hz < parameters.error_rate_hz else DiagnosticStatus.WARN
        text = f"{rate_hz:.1f} masks per second, expected at least {parameters.warn_rate_hz:.1f}"
        why = report.facts.get(WAITING)
        return level, f"{text}; {WAITING}: {why}" if why else text
    return DiagnosticStatus.OK, f"{rate_hz:.1f} masks per second"
