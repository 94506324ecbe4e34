"""What an evaluation found, as it is written to report.json and read back."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.scorer import DistanceScore, Scores, StabilityScores

#: Version of the layout of report.json; readers refuse others.
SCHEMA = 1

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FrameResult:
    """One segmented frame: how it was planned, what it scored (NaN without labels) and where its time went.

    ``index`` and ``stamp_ns`` are the frame's in the recording; ``times_ms`` is by stage, NaN where one does not apply.
    ``keyframe_distance`` is -1 where it is not known: in the graph a latency message may be lost.
    """

    index: int
    stamp_ns: int
    subnetwork: int
    scale: float
    keyframe: bool
    keyframe_distance: int
    warm: bool
    resets: int
    miou: float
    times_ms: dict[str, float]


@dataclass(frozen=True)
class Delivery:
    """What became of the frames: ``frames`` is the sum of the others but ``resets``.

    ``dropped`` gave way to a newer frame, ``rejected`` could not be used (damaged, stale), ``lost`` are those that the
    transport lost on the way to the node, or whose mask it lost on the way back.
    """

    frames: int
    masks: int
    dropped: int
    rejected: int
    lost: int
    resets: int


@dataclass(frozen=True)
class Evaluation:
    """A whole evaluation. Shares are between 0 and 1, times in ms, NaN where there is nothing to measure.

    ``mode`` is ``offline`` or ``graph``. ``latency_aware_miou`` exists in the graph only. ``latency_ms`` is by stage
    p50, p95, p99 and max; ``age_jitter_ms`` is the standard deviation of the masks' age. ``warnings`` say what of the
    recording and its labels could not be used.
    """

    mode: str
    created: str
    package_version: str
    configuration: dict[str, Any]
    machine: dict[str, Any]
    source: dict[str, Any]
    label_map: dict[str, Any]
    classes: list[str]
    colours: list[list[int]]
    scores: Scores
    latency_aware_miou: float
    latency_ms: dict[str, dict[str, float]]
    age_jitter_ms: float
    delivery: Delivery
    frames: list[FrameResult]
    warnings: list[str] = field(default_factory=list)

    def write(self, path: Path) -> None:
        """As JSON; NaN, which JSON does not have, becomes null. A frame is a line: there may be a million."""
        content = {"schema": SCHEMA, **asdict(replace(self, frames=[]))}
        del content["frames"]
        head = json.dumps(without_nan(content), indent=1, allow_nan=False)
        with path.open("w", encoding="utf-8") as file:
            file.write(head.removesuffix("\n}") + ',\n "frames": [')
            for number, frame in enumerate(self.frames):
                line = json.dumps(without_nan(asdict(frame)), allow_nan=False)
                file.write(f"{',' if number else ''}\n  {line}")
            file.write("\n ]\n}\n")


def read_evaluation(path: Path) -> Evaluation:
    """Read a report.json. Raises SourceError when it is not one of this version's."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SourceError(f"{path} cannot be read as a report: {error}") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, dict) else type(content).__name__
        raise SourceError(f"{path}: schema is {found}, expected {SCHEMA}: written by 'tdnet-ros evaluate'?")
    try:
        scores = scores_from_json(content["scores"])
        parts = {
            "scores": scores,
            "delivery": Delivery(**content["delivery"]),
            "frames": [_frame(frame) for frame in content["frames"]],
            "latency_ms": {stage: _numbers(values) for stage, values in content["latency_ms"].items()},
        }
        return _with_nan(Evaluation, content | parts)
    except (KeyError, TypeError, AttributeError) as error:
        raise SourceError(f"{path} is not a whole report: {error!r}") from error


def scores_to_json(scores: Scores) -> dict[str, Any]:
    """What ``scores_from_json`` reads; NaN becomes null."""
    return dict(without_nan(asdict(scores)))


def scores_from_json(content: Mapping[str, Any]) -> Scores:
    """The scores of a report or of ``scores_to_json``. Raises KeyError or TypeError for what is not whole."""
    return _with_nan(Scores, content)


def _frame(content: Mapping[str, Any]) -> FrameResult:
    return _with_nan(FrameResult, {**content, "times_ms": _numbers(content["times_ms"])})


def _with_nan(kind: type[_T], content: Mapping[str, Any]) -> _T:
    """A dataclass from its dictionary; null becomes NaN."""
    values: dict[str, Any] = {}
    for entry in fields(kind):  # type: ignore[arg-type]
        value = content[entry.name]
        if entry.name == "stability":
            value = StabilityScores(**_numbers(value))
        elif entry.name == "controls":
            value = {name: StabilityScores(**_numbers(control)) for name, control in value.items()}
        elif entry.name == "by_distance":
            value = [DistanceScore(**_numbers(distance)) for distance in value]
        elif entry.name in ("iou", "boundary_f_by_class"):
            value = [math.nan if number is None else number for number in value]
        values[entry.name] = math.nan if value is None else value
    return kind(**values)


def _numbers(content: Mapping[str, Any]) -> dict[str, Any]:
    return {name: math.nan if value is None else value for name, value in content.items()}


def without_nan(value: Any) -> Any:
    """For JSON, which has no NaN: it becomes null, at any depth."""
    if isinstance(value, Mapping):
        return {str(key): without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
