"""When a frame continues its stream, begins a new one, or comes too late."""

from __future__ import annotations

import numpy as np
import pytest

from tdnet_ros.errors import ConfigurationError, StaleFrame
from tdnet_ros.streaming.continuity import Continuity, ContinuityLimits
from tdnet_ros.video.frame import Frame

MS = 1_000_000


def frame(stamp_ms: float | None, size: tuple[int, int] = (4, 6), **fields: str) -> Frame:
    stamp_ns = None if stamp_ms is None else round(stamp_ms * MS)
    return Frame(np.zeros((*size, 3), np.uint8), stamp_ns, source=fields.pop("source", "front"), **fields)


@pytest.fixture
def continuity() -> Continuity:
    watch = Continuity(ContinuityLimits(max_gap_s=1.0, max_back_s=0.5))
    assert watch.check(frame(10_000)) is None
    return watch


def test_steady_stream_never_resets(continuity: Continuity) -> None:
    assert [continuity.check(frame(10_000 + 66.7 * i)) for i in range(1, 50)] == [None] * 49


@pytest.mark.parametrize(
    ("following", "reason"),
    [
        (frame(10_066, size=(4, 8)), "size changed from 6x4 to 8x4"),
        (frame(10_066, source="rear"), "frame_id changed from front to rear"),
        (frame(10_066, received_encoding="yuv422"), "encoding changed from rgb8 to yuv422"),
        (frame(10_066, sender="b"), "publisher changed from  to b"),
        (frame(11_001), "gap of 1.001 s between stamps"),
        (frame(9_499), "stamps went back by 0.501 s"),
        (frame(None), "clock changed from stamps to arrival times"),
    ],
)
def test_discontinuity_resets_and_says_why(continuity: Continuity, following: Frame, reason: str) -> None:
    assert continuity.check(following) == reason


def test_limits_themselves_do_not_reset(continuity: Continuity) -> None:
    assert continuity.check(frame(11_000)) is None


@pytest.mark.parametrize("stamp_ms", [10_000, 9_999.9, 9_501])
def test_stamp_that_is_not_newer_is_stale(continuity: Continuity, stamp_ms: float) -> None:
    with pytest.raises(StaleFrame, match="expected a newer one"):
        continuity.check(frame(stamp_ms))
    assert continuity.check(frame(10_066)) is None, "a stale frame leaves the stream as it was"


def test_three_stale_stamps_running_mean_that_the_clock_went_back(continuity: Continuity) -> None:
    for stamp_ms in (9_800, 9_866):
        with pytest.raises(StaleFrame):
            continuity.check(frame(stamp_ms))
    assert continuity.check(frame(9_932)) == "stamps went back 3 times running"
    assert continuity.check(frame(9_998)) is None


def test_good_frame_between_stale_ones_starts_the_count_anew(continuity: Continuity) -> None:
    for stamp_ms in (9_800, 9_866, 10_066, 9_900, 9_966):
        if stamp_ms == 10_066:
            assert continuity.check(frame(stamp_ms)) is None
            continue
        with pytest.raises(StaleFrame):
            continuity.check(frame(stamp_ms))


def test_forget_accepts_anything(continuity: Continuity) -> None:
    continuity.forget()
    assert continuity.check(frame(1, size=(2, 2), source="other")) is None


def test_stream_without_stamps_is_judged_by_arrival() -> None:
    watch = Continuity(ContinuityLimits(max_gap_s=30.0))
    assert [watch.check(frame(None)) for _ in range(5)] == [None] * 5


@pytest.mark.parametrize("limits", [{"max_gap_s": 0.0}, {"max_back_s": -1.0}, {"max_gap_s": float("nan")}])
def test_limits_must_be_positive(limits: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError, match="expected more than 0 s"):
        ContinuityLimits(**limits)
