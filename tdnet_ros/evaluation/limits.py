"""Limits that an evaluation must keep: a regression gate for a user's own tests."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.evaluation.result import Evaluation
from tdnet_ros.yaml_settings import read_yaml

_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_LIMIT = re.compile(r"(>=|<=|>|<)\s*([0-9]*\.?[0-9]+(?:[eE][-+]?[0-9]+)?)\s*(%?)")


@dataclass(frozen=True)
class Limit:
    """One limit: ``measure`` compared with ``bound``; ``text`` is how the file says it."""

    measure: str
    comparison: str
    bound: float
    text: str

    def holds(self, value: float) -> bool:
        """Whether the value keeps the limit; NaN, which was not measured, does not."""
        return _COMPARISONS[self.comparison](value, self.bound)


def read_limits(path: Path) -> list[Limit]:
    """Read a yaml file of measures and limits, such as ``miou: '>= 0.5'``, ``drops: '<= 5 %'``.

    Raises ConfigurationError for a file that is none. Which measures there are only an evaluation tells: see
    ``measures``.
    """
    content = read_yaml(path, "limits")
    if not isinstance(content, dict) or not content:
        raise ConfigurationError(f"{path}: expected measures with their limits, such as miou: '>= 0.5'")
    return [_limit(path, str(measure), str(text)) for measure, text in content.items()]


def shortfalls(evaluation: Evaluation, limits: list[Limit]) -> list[str]:
    """A line for each limit that is not kept. Raises ConfigurationError for a measure that does not exist."""
    values = measures(evaluation)
    unknown = sorted({limit.measure for limit in limits} - set(values))
    if unknown:
        raise ConfigurationError(f"limits name {unknown}, expected some of {sorted(values)}")
    lines = []
    for limit in limits:
        value = values[limit.measure]
        if not limit.holds(value):
            found = "was not measured" if math.isnan(value) else f"is {value:.4g}"
            lines.append(f"{limit.measure} {found}, expected {limit.text}")
    return lines


def measures(evaluation: Evaluation) -> dict[str, float]:
    """Everything that may have a limit, by name: shares from 0 to 1, times in ms, counts; NaN where not measured."""
    scores, steady, delivery = evaluation.scores, evaluation.scores.stability, evaluation.delivery
    of_all = 1 / max(1, delivery.frames)
    return {
        "miou": scores.miou,
        **{f"iou.{name}": value for name, value in zip(evaluation.classes, scores.iou, strict=True)},
        "boundary_f": scores.boundary_f,
        "latency_aware_miou": evaluation.latency_aware_miou,
        "tc": steady.temporal_consistency,
        "vc8": steady.vc8,
        "vc16": steady.vc16,
        "flicker": steady.flicker,
        **{
            f"{stage}_{quantile}_ms": value
            for stage in ("preprocess", "network", "postprocess", "step", "node", "age", "arrival")
            for quantile, value in _quantiles(evaluation, stage).items()
        },
        "age_jitter_ms": evaluation.age_jitter_ms,
        "frames": delivery.frames,
        "labelled_frames": scores.labelled_frames,
        "drops": delivery.dropped * of_all,
        "rejected": delivery.rejected * of_all,
        "lost": delivery.lost * of_all,
        "resets": delivery.resets,
    }


def _quantiles(evaluation: Evaluation, stage: str) -> dict[str, float]:
    return evaluation.latency_ms.get(stage) or dict.fromkeys(("p50", "p95", "p99", "max"), math.nan)


def _limit(path: Path, measure: str, text: str) -> Limit:
    found = _LIMIT.fullmatch(text.strip())
    if found is None:
        raise ConfigurationError(f"{path}: limit of {measure} is '{text}', expected such as '>= 0.5' or '<= 5 %'")
    comparison, number, percent = found.groups()
    return Limit(measure, comparison, float(number) / (100 if percent else 1), text.strip())
