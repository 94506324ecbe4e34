"""What accuracy costs: the rows of a table against arithmetic and time, as a table and as a chart."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from tdnet_ros.evaluation.accuracy import Accuracy, RowAccuracy
from tdnet_ros.evaluation.accuracy_times import Times
from tdnet_ros.evaluation.scorer import StabilityScores

_COLOURS = ("#2b6cb0", "#dd6b20", "#2f855a", "#b83280", "#6b46c1", "#718096", "#c53030", "#975a16")
_PANEL_PX = (360, 260)
_MARGIN_PX = (56, 30, 46, 16)  # left, top, bottom, right
_TICKS = 5


@dataclass(frozen=True)
class Point:
    """A row in the chart: shares from 0 to 1; times are NaN where they were not measured."""

    name: str
    curve: str
    miou: float
    temporal_consistency: float
    gmac: float
    worst_gmac: float
    mean_ms: float
    p95_ms: float


def frontier(accuracy: Accuracy, times: Times | None) -> list[Point]:
    """The rows that are on a curve, by curve and cost; mIoU and TC are those of the first clip."""
    order = list(dict.fromkeys(row.row.curve for row in accuracy.rows))
    points = [_point(row, times) for row in accuracy.rows if row.row.curve]
    return sorted(points, key=lambda point: (order.index(point.curve), point.gmac))


def frontier_rows(points: Sequence[Point]) -> tuple[list[str], list[list[str]]]:
    """Heading and cells of the table, with how far each row is above the first curve at the same cost."""
    heading = ["", "curve", "mIoU %", "TC", "GMAC, mean", "GMAC, worst", "ms, mean", "ms, p95",
               "points of mIoU above the first curve at its mean GMAC", "at its mean ms", "at its p95 ms"]  # fmt: skip
    first = [point for point in points if point.curve == points[0].curve] if points else []
    costs: tuple[Callable[[Point], float], ...] = (_gmac, _mean_ms, _p95_ms)
    rows = []
    for point in points:
        above = [100 * (point.miou - value_at(first, cost, cost(point))) for cost in costs]
        rows.append(
            [
                point.name,
                point.curve,
                f"{100 * point.miou:.2f}",
                _number(point.temporal_consistency, 3),
                *(_number(value, 2) for value in (point.gmac, point.worst_gmac)),
                *(_number(value, 1) for value in (point.mean_ms, point.p95_ms)),
                *("–" if point in first or math.isnan(value) else f"{value:+.2f}" for value in above),
            ]
        )
    return heading, rows


def value_at(curve: Sequence[Point], cost: Callable[[Point], float], at: float) -> float:
    """mIoU that the upper envelope of a curve has at that cost: of its points that cost no more the best one, or what
    lies on the straight line to the next better one. NaN below its cheapest point or where a cost is not known."""
    known = sorted((cost(point), point.miou) for point in curve if not math.isnan(cost(point)))
    if math.isnan(at) or not known or at < known[0][0]:
        return math.nan
    hull: list[tuple[float, float]] = []
    for point in known:
        if hull and point[1] <= hull[-1][1]:
            continue
        hull.append(point)
    for (low, low_miou), (high, high_miou) in pairwise(hull):
        if low <= at < high:
            return low_miou + (high_miou - low_miou) * (at - low) / (high - low)
    return hull[-1][1]


def draw_frontier(points: Sequence[Point]) -> str:
    """SVG of mIoU against mean GMAC, mean ms and p95 ms, and TC against mean GMAC; panels without figures stay away."""
    panels = [
        panel
        for title, x, y in (
            ("GMAC per frame, mean; mIoU %", _gmac, _miou),
            ("ms per frame, mean; mIoU %", _mean_ms, _miou),
            ("ms per frame, p95; mIoU %", _p95_ms, _miou),
            ("GMAC per frame, mean; TC", _gmac, _tc),
        )
        if (panel := _panel(points, title, x, y))
    ]
    curves = list(dict.fromkeys(point.curve for point in points))
    width, height = _PANEL_PX
    legend = "".join(
        f'<g transform="translate(12,{18 + 16 * index})"><circle r="4" fill="{_colour(index)}"/>'
        f'<text x="9" y="4">{escape(name)}</text></g>'
        for index, name in enumerate(curves)
    )
    top = 16 * len(curves) + 16
    placed = "".join(
        f'<g transform="translate({width * (index % 2)},{top + height * (index // 2)})">{panel}</g>'
        for index, panel in enumerate(panels)
    )
    size = f"{2 * width} {top + height * -(-len(panels) // 2)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{2 * width}" font-family="sans-serif" '
        f'font-size="11"><rect width="100%" height="100%" fill="white"/>{legend}{placed}</svg>\n'
    )


def _panel(points: Sequence[Point], title: str, x: Callable[[Point], float], y: Callable[[Point], float]) -> str:
    shown = [point for point in points if not math.isnan(x(point)) and not math.isnan(y(point))]
    if not shown:
        return ""
    (width, height), (left, top, bottom, right) = _PANEL_PX, _MARGIN_PX
    x_range, y_range = (0.0, 1.08 * max(map(x, shown))), _widened([y(point) for point in shown])

    def place(point: Point) -> tuple[float, float]:
        return (
            left + (width - left - right) * (x(point) - x_range[0]) / (x_range[1] - x_range[0]),
            top + (height - top - bottom) * (1 - (y(point) - y_range[0]) / (y_range[1] - y_range[0])),
        )

    parts = [f'<text x="{left}" y="16" font-weight="bold">{escape(title)}</text>']
    for step in range(_TICKS + 1):
        share = step / _TICKS
        across, up = left + share * (width - left - right), height - bottom - share * (height - top - bottom)
        x_text, y_text = (low + share * (high - low) for low, high in (x_range, y_range))
        parts.append(
            f'<path d="M{left} {up:.1f}H{width - right}M{across:.1f} {top}V{height - bottom}" stroke="#e2e8f0"/>'
            f'<text x="{left - 5}" y="{up + 4:.1f}" text-anchor="end">{_tick(y_text)}</text>'
            f'<text x="{across:.1f}" y="{height - bottom + 15}" text-anchor="middle">{_tick(x_text)}</text>'
        )
    for index, curve in enumerate(dict.fromkeys(point.curve for point in points)):
        placed = [(*place(point), point.name) for point in sorted(shown, key=x) if point.curve == curve]
        line = " ".join(f"{across:.1f},{up:.1f}" for across, up, _ in placed)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{_colour(index)}" stroke-width="1.5"/>')
        parts += [
            f'<circle cx="{across:.1f}" cy="{up:.1f}" r="4" fill="{_colour(index)}"><title>{escape(name)}</title>'
            "</circle>"
            for across, up, name in placed
        ]
    return "".join(parts)


def _point(row: RowAccuracy, times: Times | None) -> Point:
    measured: list[StabilityScores] = [clip.scores.stability for clip in row.clips]
    name = row.row.name
    return Point(
        name,
        row.row.curve,
        row.clips[0].scores.miou,
        measured[0].temporal_consistency,
        row.facts.gmac,
        row.facts.worst_gmac,
        times.mean_ms[name] if times else math.nan,
        times.ms[name][2] if times else math.nan,
    )


def _gmac(point: Point) -> float:
    return point.gmac


def _mean_ms(point: Point) -> float:
    return point.mean_ms


def _p95_ms(point: Point) -> float:
    return point.p95_ms


def _miou(point: Point) -> float:
    return 100 * point.miou


def _tc(point: Point) -> float:
    return point.temporal_consistency


def _widened(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    slack = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - slack, high + slack


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _tick(value: float) -> str:
    return f"{value:.3g}"


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
