"""The figures of a report, drawn by Plotly from evaluations."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import plotly.graph_objects as go

from tdnet_ros.evaluation.result import Evaluation

#: Colours of the evaluations that stand side by side.
_SERIES = ("#2b6cb0", "#dd6b20", "#2f855a", "#b83280", "#6b46c1", "#718096")
#: The stage whose time is shown where a single one is: from capture to mask in the graph, the step offline.
_WHOLE = {"graph": "age", "offline": "step"}


def whole_stage(evaluation: Evaluation) -> str:
    """Name of the stage that a frame took as a whole."""
    return _WHOLE[evaluation.mode]


def class_bars(evaluations: Sequence[Evaluation], names: Sequence[str]) -> go.Figure:
    """IoU by class, a group of bars for each evaluation."""
    figure = go.Figure()
    for evaluation, name, colour in zip(evaluations, names, _colours(evaluations), strict=True):
        values = [None if math.isnan(iou) else 100 * iou for iou in evaluation.scores.iou]
        own = [f"rgb({red},{green},{blue})" for red, green, blue in evaluation.colours]
        shown = own if len(evaluations) == 1 else colour
        figure.add_bar(x=evaluation.classes, y=values, name=name, marker_color=shown, marker_line_width=0.5)
    return _finish(figure, "IoU by class", "", "IoU, %", y_range=(0, 100))


def latency_histogram(evaluations: Sequence[Evaluation], names: Sequence[str]) -> go.Figure:
    """How often a frame took how long."""
    figure = go.Figure()
    for evaluation, name, colour in zip(evaluations, names, _colours(evaluations), strict=True):
        stage = whole_stage(evaluation)
        times = [frame.times_ms[stage] for frame in evaluation.frames]
        figure.add_histogram(x=_known(times), name=f"{name}, {stage}", marker_color=colour, nbinsx=60, opacity=0.75)
    figure.update_layout(barmode="overlay")
    return _finish(figure, f"Latency ({' / '.join(sorted({whole_stage(e) for e in evaluations}))})", "ms", "frames")


def latency_timeline(evaluation: Evaluation) -> go.Figure:
    """Latency over the recording; keyframes, and frames without the whole window, are marked."""
    stage = whole_stage(evaluation)
    figure = go.Figure()
    indices = [frame.index for frame in evaluation.frames]
    times = [frame.times_ms[stage] for frame in evaluation.frames]
    figure.add_scatter(x=indices, y=times, mode="lines", name=stage, line_color=_SERIES[0])
    marked = (("keyframe", "#dd6b20", lambda frame: frame.keyframe), ("not warm", "#c53030", lambda f: not f.warm))
    for name, colour, chosen in marked:
        frames = [frame for frame in evaluation.frames if chosen(frame)]
        if frames:
            figure.add_scatter(
                x=[frame.index for frame in frames],
                y=[frame.times_ms[stage] for frame in frames],
                mode="markers",
                name=name,
                marker_color=colour,
            )
    return _finish(figure, f"Latency over time ({stage})", "frame", "ms", y_range=(0, None))


def accuracy_timeline(evaluation: Evaluation) -> go.Figure:
    """mIoU of each labelled frame over the recording."""
    labelled = [frame for frame in evaluation.frames if not math.isnan(frame.miou)]
    figure = go.Figure()
    figure.add_scatter(
        x=[frame.index for frame in labelled],
        y=[100 * frame.miou for frame in labelled],
        mode="lines+markers",
        line_color=_SERIES[0],
        name="mIoU",
    )
    return _finish(figure, "mIoU of each labelled frame", "frame", "mIoU, %")


def distance_curve(evaluations: Sequence[Evaluation], names: Sequence[str]) -> go.Figure:
    """mIoU by the frame's distance from its keyframe: does it drift?"""
    figure = go.Figure()
    for evaluation, name, colour in zip(evaluations, names, _colours(evaluations), strict=True):
        distances = evaluation.scores.by_distance
        figure.add_scatter(
            x=[each.distance for each in distances],
            y=[100 * each.miou for each in distances],
            text=[f"{each.frames} frames" for each in distances],
            mode="lines+markers",
            name=name,
            line_color=colour,
        )
    figure.update_xaxes(dtick=1)
    return _finish(figure, "mIoU by distance from the keyframe", "frames since the keyframe", "mIoU, %")


def confusion_heatmap(evaluation: Evaluation) -> go.Figure:
    """Share of each true class's pixels by what they were taken for."""
    counts = np.asarray(evaluation.scores.confusion, float)
    totals = counts.sum(1, keepdims=True)
    shares = np.divide(100 * counts, totals, out=np.full_like(counts, np.nan), where=totals > 0)
    figure = go.Figure(
        go.Heatmap(
            z=[[None if math.isnan(share) else round(share, 2) for share in row] for row in shares],
            x=evaluation.classes,
            y=evaluation.classes,
            colorscale="Blues",
            zmin=0,
            zmax=100,
            colorbar_title="%",
            hovertemplate="%{y} taken for %{x}: %{z:.1f} %<extra></extra>",
        )
    )
    figure.update_yaxes(autorange="reversed")
    return _finish(figure, "Confusion", "predicted", "labelled", height=480)


def _colours(evaluations: Sequence[Evaluation]) -> list[str]:
    return [_SERIES[index % len(_SERIES)] for index in range(len(evaluations))]


def _known(values: Sequence[float]) -> list[float]:
    return [value for value in values if not math.isnan(value)]


def _finish(
    figure: go.Figure,
    title: str,
    x: str,
    y: str,
    y_range: tuple[float, float | None] | None = None,
    height: int = 340,
) -> go.Figure:
    figure.update_layout(
        title=title,
        xaxis_title=x,
        yaxis_title=y,
        height=height,
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        template="plotly_white",
        legend={"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right"},
    )
    if y_range is not None:
        figure.update_yaxes(range=list(y_range) if y_range[1] is not None else None, rangemode="tozero")
    return figure
