"""When keyframes are due, which sub-network they are of, and what a latency budget gives up and takes back."""

from __future__ import annotations

import itertools
from collections import Counter

import numpy as np
import pytest

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.streaming.alternation import AlternationSchedule
from tdnet_ros.streaming.latency_budget import LatencyBudget
from tdnet_ros.streaming.schedule import Plan
from tdnet_ros.video.frame import Break, MotionField


def motion(frames: int, invalid: float = 0.0) -> MotionField:
    """That of a frame so far from its keyframe, of which that share is a guess."""
    valid = np.ones((10, 10), np.bool_)
    valid.flat[: round(100 * invalid)] = False
    return MotionField(np.zeros((10, 10, 2), np.float32), valid, frames)


def broken(reason: Break) -> MotionField:
    return MotionField.without_path(80, 80, reason)


def follow(schedule: AlternationSchedule, count: int) -> list[Plan]:
    """Plans of so many frames of a stream that goes on undisturbed."""
    plans: list[Plan] = []
    for _ in range(count):
        distance = plans[-1].keyframe_distance + 1 if plans else 0
        plans.append(schedule.plan(motion(distance) if plans else broken(Break.START)))
        schedule.advance(plans[-1])
    return plans


@pytest.mark.parametrize("count", [1, 2, 4])
def test_over_48_frames_every_subnetwork_is_keyframe_equally_often(count: int) -> None:
    plans = follow(AlternationSchedule(count, keyframe_interval=12), 48)
    keyframes = [index for index, plan in enumerate(plans) if plan.keyframe]
    assert keyframes == [0, 12, 24, 36]
    assert Counter(plans[index].subnetwork for index in keyframes) == dict.fromkeys(range(count), 4 // count)
    for before, after in itertools.pairwise(plans):
        if not after.keyframe:
            assert after.subnetwork == (before.subnetwork + 1) % count, "the rotation goes on from the keyframe"
    assert [plan.keyframe_distance for plan in plans] == [index % 12 for index in range(48)]
    assert {plan.scale for plan in plans if plan.keyframe} == {1.0}
    assert {plan.scale for plan in plans if not plan.keyframe} == {0.5}


@pytest.mark.parametrize(
    ("field", "reason"),
    [
        (broken(Break.INTRA), "I-frame"),
        (broken(Break.LOSS), "lost packet"),
        (broken(Break.CUT), "cut"),
        (broken(Break.START), "motion starts anew"),
        (motion(12), "keyframe interval"),
        (motion(30), "keyframe interval"),
        (motion(3, invalid=0.9), "motion is unusable in 90%"),
        (None, "keyframe interval"),
    ],
)
def test_a_keyframe_says_why_it_is_due(field: MotionField | None, reason: str) -> None:
    schedule = AlternationSchedule(2)
    assert follow(schedule, 3)[0].reason == "first frame"
    assert schedule.plan(motion(3)) == Plan(1, 0.5, False, 3, "between keyframes")
    plan = schedule.plan(field)
    assert (plan.keyframe, plan.reason, plan.scale, plan.keyframe_distance) == (True, reason, 1.0, 0)
    assert schedule.plan(field) == plan, "asking does not advance"


def test_a_keyframe_that_nobody_segmented_is_due_on_the_next_frame() -> None:
    schedule = AlternationSchedule(2)
    follow(schedule, 11)
    assert schedule.plan(motion(15)).keyframe  # frames 11 to 14 were skipped, the twelfth among them
    schedule.request_keyframe()
    assert schedule.plan(motion(11)).reason == "requested"
    assert schedule.plan(motion(11)).keyframe, "until one is segmented"
    schedule.advance(schedule.plan(motion(11)))
    assert not schedule.plan(motion(1)).keyframe


def test_interval_and_scale_may_change_between_two_frames() -> None:
    schedule = AlternationSchedule(2)
    follow(schedule, 6)
    schedule.keyframe_interval, schedule.low_resolution = 6, 0.3
    assert schedule.plan(motion(5)).scale == 0.3
    assert schedule.plan(motion(6)).reason == "keyframe interval"


def test_after_a_reset_the_first_subnetwork_begins() -> None:
    schedule = AlternationSchedule(4)
    follow(schedule, 14)
    schedule.reset()
    assert schedule.plan(motion(2)) == Plan(0, 1.0, True, 0, "first frame")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"keyframe_interval": 0}, "keyframe_interval is 0, expected at least 1"),
        ({"low_resolution": 1.5}, r"low_resolution is 1\.5, expected more than 0 and at most 1"),
        ({"unusable_share": 0}, "unusable_share is 0, expected more than 0 and at most 1"),
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        AlternationSchedule(2, **arguments)  # type: ignore[arg-type]


# The budget. What frames take is made up: nothing here looks at a clock.


def spend(budget: LatencyBudget, milliseconds: float, frames: int, keyframe: bool = False) -> tuple[float, int]:
    for _ in range(frames):
        budget.observe(keyframe, milliseconds)
    return budget.ease(0.5, 12)


def test_late_frames_lower_the_scale_step_by_step_and_then_lengthen_the_interval() -> None:
    budget = LatencyBudget(50)
    assert spend(budget, 49, 100) == (0.5, 12)
    assert spend(budget, 60, 2) == (0.5, 12), "one or two late frames are an accident"
    assert spend(budget, 60, 1) == (0.4, 12)
    assert spend(budget, 60, 3) == (0.3, 12)
    assert spend(budget, 60, 3) == (0.3, 18)
    assert spend(budget, 60, 3) == (0.3, 24)
    assert spend(budget, 60, 30) == (0.3, 24), "there is nothing left to give up"


def test_it_recovers_with_hysteresis() -> None:
    budget = LatencyBudget(50)
    assert spend(budget, 60, 3) == (0.4, 12)
    assert spend(budget, 45, 500) == (0.4, 12), "just below the budget is no reason to go back"
    assert spend(budget, 30, 23) == (0.4, 12)
    assert spend(budget, 30, 1) == (0.5, 12)
    assert spend(budget, 60, 3) == (0.4, 12)
    assert spend(budget, 30, 24) == (0.4, 12), "a step back that did not hold is not tried again so soon"
    assert spend(budget, 30, 24) == (0.5, 12)


def test_keyframes_that_are_late_become_rarer_and_cost_no_resolution() -> None:
    budget = LatencyBudget(50)
    for _ in range(2):
        spend(budget, 40, 11)
        budget.observe(True, 90)
    assert budget.ease(0.5, 12) == (0.5, 18)
    assert budget.ease(0.3, 6) == (0.3, 9), "whatever is set"
    assert spend(budget, 20, 4, keyframe=True) == (0.5, 12)


def test_frames_that_nobody_measured_say_nothing() -> None:
    budget = LatencyBudget(50)
    assert spend(budget, float("nan"), 100) == (0.5, 12)


def test_an_eased_plan_says_so_and_no_keyframe_is_put_off_for_it() -> None:
    schedule = AlternationSchedule(2, budget=LatencyBudget(50))
    follow(schedule, 5)
    assert schedule.budget is not None
    spend(schedule.budget, 80, 9)
    plan = schedule.plan(motion(13))
    assert (plan.keyframe, plan.scale) == (False, 0.3) and plan.reason.endswith("eased to keep the latency budget")
    assert schedule.plan(motion(18)).keyframe
    for reason in Break:
        assert schedule.plan(broken(reason)).keyframe


def test_a_budget_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="latency_budget_ms is -1, expected more than 0 ms"):
        LatencyBudget(-1)
    with pytest.raises(ConfigurationError, match=r"scales are \(0.5, 2\), expected more than 0 and at most 1 each"):
        LatencyBudget(50, (0.5, 2))
