"""The figures of an evaluation that come first, as rows for a page and as a table for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tdnet_ros.evaluation.result import Evaluation


def headline(evaluations: Sequence[Evaluation]) -> list[tuple[str, str, list[str]]]:
    """Rows of (name, what it means, a value for each evaluation)."""

    def row(name: str, meaning: str, values: Sequence[str]) -> tuple[str, str, list[str]]:
        return name, meaning, list(values)

    scores = [evaluation.scores for evaluation in evaluations]
    steady = [each.stability for each in scores]
    delivery = [evaluation.delivery for evaluation in evaluations]
    whole = [evaluation.latency_ms.get("age" if evaluation.mode == "graph" else "step") for evaluation in evaluations]
    return [
        row("mIoU", "mean over classes of intersection over union", [percent(s.miou) for s in scores]),
        row(
            "latency-aware mIoU",
            "scored with the newest mask that was out by the frame's time; in the graph only",
            [percent(evaluation.latency_aware_miou) for evaluation in evaluations],
        ),
        row("boundary F", "boundaries within 0.75 % of the diagonal", [percent(s.boundary_f) for s in scores]),
        row("TC", "mIoU of flow-warped previous mask and this one", [percent(s.temporal_consistency) for s in steady]),
        row("VC8", "steady labels that are steady and right over 8 frames", [percent(s.vc8) for s in steady]),
        row("VC16", "the same over 16 frames", [percent(s.vc16) for s in steady]),
        row("flicker", "class changes where the label does not; less is better", [percent(s.flicker) for s in steady]),
        row("latency p50, ms", "capture to mask in the graph, the step offline", [_time(w, "p50") for w in whole]),
        row("latency p95, ms", "", [_time(w, "p95") for w in whole]),
        row("latency p99, ms", "", [_time(w, "p99") for w in whole]),
        row("latency max, ms", "", [_time(w, "max") for w in whole]),
        row("age jitter, ms", "standard deviation of the age", [_number(e.age_jitter_ms) for e in evaluations]),
        row("frames", "labelled ones in brackets", [f"{s.frames} ({s.labelled_frames})" for s in scores]),
        row("dropped", "gave way to a newer frame", [f"{d.dropped} of {d.frames}" for d in delivery]),
        row("rejected, lost", "unusable; lost by the transport", [f"{d.rejected}, {d.lost}" for d in delivery]),
        row("resets", "how often the window was emptied", [str(d.resets) for d in delivery]),
    ]


def stability(evaluation: Evaluation) -> list[tuple[str, list[str]]]:
    """Rows of (kind of mask, TC, VC8, VC16, flicker): the network's and the controls'."""
    kinds = {"this model": evaluation.scores.stability, **evaluation.scores.controls}
    return [
        (name, [percent(value) for value in (s.temporal_consistency, s.vc8, s.vc16, s.flicker)])
        for name, s in kinds.items()
    ]


def headline_table(evaluation: Evaluation) -> str:
    """The headline as text."""
    return comparison_table([evaluation], [""])


def comparison_table(evaluations: Sequence[Evaluation], names: Sequence[str]) -> str:
    """The headlines of several evaluations side by side, as text."""
    widths = [max(12, len(name)) + 2 for name in names]
    lines = [f"{'':<20}" + "".join(f"{name:>{width}}" for name, width in zip(names, widths, strict=True))]
    for name, _, values in headline(evaluations):
        lines.append(f"{name:<20}" + "".join(f"{value:>{width}}" for value, width in zip(values, widths, strict=True)))
    return "\n".join(line for line in lines if line.strip())


def percent(value: float) -> str:
    """A share as text."""
    return "n/a" if math.isnan(value) else f"{100 * value:.2f} %"


def _number(value: float) -> str:
    return "n/a" if math.isnan(value) else f"{value:.1f}"


def _time(stage: Mapping[str, float] | None, quantile: str) -> str:
    return "n/a" if stage is None else _number(stage[quantile])
