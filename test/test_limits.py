"""Limits turn an evaluation into pass or fail."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.evaluation.limits import Limit, measures, read_limits, shortfalls
from tdnet_ros.evaluation.result import Delivery, Evaluation
from tdnet_ros.evaluation.scorer import Scores, StabilityScores


def evaluation() -> Evaluation:
    steady = StabilityScores(0.8, math.nan, math.nan, 0.03)
    scores = Scores(100, 50, 0.55, [0.9, 0.2], 0.6, [0.6, 0.6], [], steady, {}, [[1, 0], [0, 1]])
    return Evaluation(
        mode="graph",
        created="",
        package_version="0",
        configuration={},
        machine={},
        source={},
        label_map={},
        classes=["road", "pole"],
        colours=[[0, 0, 0], [1, 1, 1]],
        scores=scores,
        latency_aware_miou=0.5,
        latency_ms={"age": {"p50": 60.0, "p95": 110.0, "p99": 120.0, "max": 200.0}},
        age_jitter_ms=10.0,
        delivery=Delivery(100, 94, 4, 1, 1, 2),
        frames=[],
    )


def read(tmp_path: Path, text: str) -> list[Limit]:
    file = tmp_path / "limits.yaml"
    file.write_text(text)
    return read_limits(file)


def test_limits_that_are_kept_give_no_line(tmp_path: Path) -> None:
    limits = read(tmp_path, "miou: '>= 0.55'\nage_p95_ms: <= 120\ndrops: <= 4 %\nresets: '< 3'\niou.road: '> 0.8'\n")
    assert shortfalls(evaluation(), limits) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("miou: '>= 0.56'", "miou is 0.55, expected >= 0.56"),
        ("drops: <= 3.9 %", "drops is 0.04, expected <= 3.9 %"),
        ("age_p95_ms: <= 109", "age_p95_ms is 110, expected <= 109"),
        ("iou.pole: '>= 25%'", "iou.pole is 0.2, expected >= 25%"),
        ("vc8: '>= 0'", "vc8 was not measured, expected >= 0"),
        ("step_p95_ms: <= 1e3", "step_p95_ms was not measured, expected <= 1e3"),
    ],
)
def test_what_falls_short_is_named_with_its_value(tmp_path: Path, text: str, line: str) -> None:
    assert shortfalls(evaluation(), read(tmp_path, text)) == [line]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("miou: 0.5", "limit of miou is '0.5', expected such as '>= 0.5'"),
        ("- miou", "expected measures with their limits"),
        ("miou: '>= half'", "expected such as"),
        ("{", "cannot be read"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path, text)


def test_an_unknown_measure_lists_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"limits name \['mIoU'\], expected some of \['age_jitter_ms'"):
        shortfalls(evaluation(), read(tmp_path, "mIoU: '>= 0.5'"))
    assert measures(evaluation())["rejected"] == 0.01
