"""What the node says of its health, by what it went through; times are set, nothing waits."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

from diagnostic_msgs.msg import DiagnosticStatus

from tdnet_ros.node.diagnostics import Health, Report, diagnose
from tdnet_ros.node.parameters import SegmentationParameters

REPORT = Report(
    received=0,
    dropped=0,
    resets=0,
    input_rate_hz=10.0,
    publishers=("/driver",),
    topic="/image",
    troubles=(),
    has_time=True,
    facts={"device": "cpu"},
)


def health(activated_s_ago: float = 60.0, input_s_ago: float | None = 0.0, masks: int = 50) -> Health:
    """Of a node that has given so many masks within the last seconds."""
    now = time.perf_counter()
    found = Health(activated_s=now - activated_s_ago)
    found.last_input_s = None if input_s_ago is None else now - input_s_ago
    for index in range(masks):
        found.node_ms._values.append((now - 4.9 * (masks - index) / masks, 20.0))
    return found


def judged(found: Health, report: Report = REPORT, enabled: bool = True) -> tuple[bytes, str]:
    status = diagnose("node", found, report, SegmentationParameters(), enabled)
    return status.level, status.message


def test_masks_at_the_cameras_rate_are_fine() -> None:
    level, message = judged(health())
    assert level == DiagnosticStatus.OK and message.endswith("masks per second")


def test_trouble_with_some_frames_is_a_warning_and_with_all_of_them_an_error() -> None:
    for masks, expected in ((50, DiagnosticStatus.WARN), (0, DiagnosticStatus.ERROR)):
        found = health(masks=masks)
        found.trouble("encoding is 'x'")
        assert judged(found) == (expected, "encoding is 'x'")
    starting = health(activated_s_ago=1.0, masks=0)
    starting.trouble("encoding is 'x'")
    assert judged(starting)[0] == DiagnosticStatus.WARN


@pytest.mark.parametrize(
    ("masks", "level"), [(50, DiagnosticStatus.OK), (20, DiagnosticStatus.WARN), (3, DiagnosticStatus.ERROR)]
)
def test_low_rates_are_told(masks: int, level: bytes) -> None:
    assert judged(health(masks=masks))[0] == level


def test_images_that_were_sent_and_lost_are_told_from_those_that_never_were() -> None:
    found = health()
    found.lost_upstream, found.last_lost_s = 3, time.perf_counter()
    level, message = judged(found)
    assert level == DiagnosticStatus.WARN and message.startswith("3 images are missing by their stamps")
    found.last_undelivered_s = time.perf_counter()
    assert "3 images were lost before they arrived: give the camera driver the shared-memory" in judged(found)[1]
    found.last_undelivered_s -= 6.0
    assert "missing by their stamps" in judged(found)[1]


def test_a_camera_that_falls_silent_is_stale_and_one_that_never_spoke_a_warning() -> None:
    level, message = judged(health(input_s_ago=4.0))
    assert level == DiagnosticStatus.STALE and "no image on /image for 4.0 s (/driver)" in message
    level, message = judged(health(input_s_ago=None), replace(REPORT, publishers=()))
    assert level == DiagnosticStatus.WARN and "(no publisher)" in message
    assert judged(health(input_s_ago=4.0), enabled=False) == (DiagnosticStatus.OK, "disabled by ~/enable")
