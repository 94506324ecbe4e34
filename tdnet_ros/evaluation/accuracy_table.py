"""A measured table of accuracy as Markdown and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tdnet_ros import __version__
from tdnet_ros.evaluation.accuracy import Accuracy, Estimate, RowAccuracy
from tdnet_ros.evaluation.accuracy_frontier import draw_frontier, frontier, frontier_rows
from tdnet_ros.evaluation.accuracy_settings import PeerSettings
from tdnet_ros.evaluation.accuracy_times import Times
from tdnet_ros.evaluation.provenance import describe_machine
from tdnet_ros.evaluation.result import scores_to_json, without_nan
from tdnet_ros.evaluation.scorer import StabilityScores

_NOTHING = "–"
_MEASURES = ("temporal_consistency", "vc8", "flicker")


def write_accuracy(accuracy: Accuracy, times: Times | None, output: Path) -> None:
    """Write ``accuracy.md`` and ``accuracy.json`` into that folder, and of rows on a curve the chart ``frontier.svg``.

    ``times`` None: they were not measured.
    """
    output.mkdir(parents=True, exist_ok=True)
    content = json.dumps(without_nan(as_json(accuracy, times)), indent=1, allow_nan=False)
    (output / "accuracy.json").write_text(content + "\n", encoding="utf-8")
    (output / "accuracy.md").write_text(as_markdown(accuracy, times), encoding="utf-8")
    if points := frontier(accuracy, times):
        (output / "frontier.svg").write_text(draw_frontier(points), encoding="utf-8")


def as_json(accuracy: Accuracy, times: Times | None) -> dict[str, Any]:
    """Every figure: shares from 0 to 1, peers as their section has them. ``confusion`` names the files by frame."""
    clips = accuracy.settings.clips
    return {
        "package_version": __version__,
        "machine": describe_machine(),
        "settings": asdict(accuracy.settings),
        "classes": list(accuracy.labels.names),
        "clips": {clip.name: facts for clip, facts in zip(clips, accuracy.clips, strict=True)},
        "rows": {row.row.name: _row_as_json(accuracy, row) for row in accuracy.rows},
        "not_trained_yet": {row.name: row.weights for row in accuracy.untrained},
        "labels_as_masks": {
            clip.name: asdict(truth.scores.stability) for clip, truth in zip(clips, accuracy.truth, strict=True)
        },
        "times": asdict(times) if times else None,
    }


def _row_as_json(accuracy: Accuracy, row: RowAccuracy) -> dict[str, Any]:
    clips = {}
    for index, clip in enumerate(accuracy.settings.clips):
        clips[clip.name] = {
            "miou": asdict(row.miou[index]),
            "difference": asdict(row.difference[index]) if row.difference else None,
            "miou_by_distance": row.by_distance[index] if row.by_distance else None,
            "scores": scores_to_json(row.clips[index].scores),
            "confusion": f"{row.clips[index].file.parent.name}/{row.clips[index].file.name}",
        }
    return {**asdict(row.facts), "compared_with": accuracy.settings.compared_with(row.row), "clips": clips}


def as_markdown(accuracy: Accuracy, times: Times | None) -> str:
    """The tables for a document."""
    return "\n".join(
        [
            *_main_table(accuracy, times),
            "",
            *_conditions(accuracy, times),
            "",
            *_frontier(accuracy, times),
            *_by_distance(accuracy),
            *_differences(accuracy),
            *_stability(accuracy),
            *_by_class(accuracy),
        ]
    )


def _main_table(accuracy: Accuracy, times: Times | None) -> list[str]:
    height, width = accuracy.settings.timing.size
    clips = [clip.name for clip in accuracy.settings.clips]
    rows: list[list[str]] = []
    for setting in accuracy.settings.rows:
        row = next((row for row in accuracy.rows if row.row == setting), None)
        if row is None:
            rows.append([setting.name, f"not trained yet: `{setting.weights}`"])
            continue
        steady = _temporal(row)
        rows.append(
            [
                setting.name + (f" ({setting.note})" if setting.note else ""),
                *(_percent_with_interval(estimate) for estimate in row.miou),
                _share(steady.temporal_consistency),
                _share(steady.vc8),
                _percent(steady.flicker),
                f"{row.facts.gmac:.2f}" + (f" ({row.facts.worst_gmac:.2f})" if row.facts.keyframe_interval > 1 else ""),
                f"{row.facts.parameters / 1e6:.2f}",
                *_milliseconds(times, setting.name),
            ]
        )
    rows += [_peer(peer, len(clips)) for peer in accuracy.settings.peers.rows]
    heading = ["", *(f"mIoU %, {clip}" for clip in clips), "TC", "VC8", "flicker %", "GMAC", "M parameters"]
    return _table([*heading, f"ms, {width}x{height}, 1 thread", "processor ms, least / p50"], rows)


def _peer(peer: PeerSettings, clips: int) -> list[str]:
    """A peer's cells, in brackets what it was trained on."""
    seen = peer.seen or (False,) * clips

    def cell(text: str, bracketed: bool) -> str:
        return f"({text})" if bracketed and text != _NOTHING else text

    miou = [f"{value:.1f}" for value in peer.miou] or [_NOTHING] * clips
    return [
        f"*{peer.name}*" + (f", {peer.trained_on}" if peer.trained_on else ""),
        *(cell(text, was_seen) for text, was_seen in zip(miou, seen, strict=True)),
        *(cell(text, seen[0]) for text in (_share(peer.tc), _share(peer.vc8))),
        cell(_NOTHING if math.isnan(peer.flicker) else f"{peer.flicker:.2f}", seen[0]),
        _NOTHING,
        _NOTHING if math.isnan(peer.parameters_m) else f"{peer.parameters_m:g}",
        _NOTHING,
        peer.ms or _NOTHING,
    ]


def _conditions(accuracy: Accuracy, times: Times | None) -> list[str]:
    """What has to be known to read the table."""
    settings, machine = accuracy.settings, describe_machine()
    lines = ["mIoU with its 95 % interval over resampled frames; TC, VC8 and flicker of the first clip that has them."]
    if any(row.facts.keyframe_interval > 1 for row in accuracy.rows):
        lines.append("GMAC of rows with keyframes: mean over their interval, in brackets that of a keyframe.")
    for clip, facts in zip(settings.clips, accuracy.clips, strict=True):
        lines.append(f"{clip.name}: {facts['frames']} frames, SHA-256 {facts['sha256'][:12]}.")
    devices = sorted({row.facts.device for row in accuracy.rows})
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines.append(f"Masks: {'; '.join(devices)}. tdnet_ros {__version__}, {versions}.")
    if times is None:
        lines.append("Times were not measured.")
    else:
        averages = " ".join(f"{value:.2f}" for value in times.load_average)
        forced = "FORCED on a busy machine, not to be quoted: " if times.forced else ""
        lines.append(
            f"Times: {forced}p50 (p5 to p95) of {settings.timing.rounds} steps of each row in turn, on "
            f"{machine['processor']}, {machine['cores']} cores, load average {averages}; others used "
            f"{times.foreign_share_before:.0%} of the machine before and {times.foreign_share:.0%} meanwhile."
        )
    if settings.peers.rows:
        lines.append(f"In italics: {settings.peers.source} In brackets: it was trained on these frames.")
    return [f"* {line}" for line in lines]


def _frontier(accuracy: Accuracy, times: Times | None) -> list[str]:
    """mIoU against cost, of the rows that are on a curve."""
    points = frontier(accuracy, times)
    return [*_table(*frontier_rows(points)), ""] if points else []


def _by_distance(accuracy: Accuracy) -> list[str]:
    """mIoU at each distance from the keyframe, and the mean over distances."""
    lines: list[str] = []
    rows = [row for row in accuracy.rows if row.by_distance]
    for index, clip in enumerate(accuracy.settings.clips if rows else ()):
        longest = max(len(row.by_distance[index]) for row in rows)
        cells = []
        for row in rows:
            values = row.by_distance[index]
            known = [value for value in values if not math.isnan(value)]
            if len(known) < len(values):
                continue  # a clip that is no stream has keyframes alone
            mean = sum(known) / len(known)
            cells.append([row.row.name, *(_percent(value) for value in (mean, *values))])
        if cells:
            heading = [f"mIoU %, {clip.name}: frames behind the keyframe", "mean", *map(str, range(longest))]
            lines += [*_table(heading, cells), ""]
    return lines


def _differences(accuracy: Accuracy) -> list[str]:
    """mIoU beside that of the row that each is compared with."""
    compared = [row for row in accuracy.rows if row.difference]
    if not compared:
        return []
    heading, columns = ["points of mIoU more", "than"], []
    for index, clip in enumerate(accuracy.settings.clips):
        heading += [clip.name, "95 % over frames"]
        columns += [(index, "value"), (index, "frames")]
        if clip.block_frames > 1:
            heading.append(f"95 % over blocks of {clip.block_frames} frames")
            columns.append((index, "blocks"))
    rows = []
    for row in compared:
        cells = [_points(getattr(row.difference[index], what)) for index, what in columns]
        rows.append([row.row.name, accuracy.settings.compared_with(row.row), *cells])
    return [*_table(heading, rows), ""]


def _stability(accuracy: Accuracy) -> list[str]:
    lines: list[str] = []
    for index, clip in enumerate(accuracy.settings.clips):
        truth = accuracy.truth[index].scores.stability
        if math.isnan(truth.temporal_consistency):
            continue
        heading = [f"{clip.name}: controls"]
        for name in ("TC", "VC8", "flicker %"):
            heading += [name, "constant", "frozen"]
        rows = []
        for row in accuracy.rows:
            scores = row.clips[index].scores
            kinds = [scores.stability, scores.controls["constant"], scores.controls["frozen"]]
            rows.append([row.row.name, *(_measure(kind, name) for name in _MEASURES for kind in kinds)])
        own = [cell for name in _MEASURES for cell in (_measure(truth, name), _NOTHING, _NOTHING)]
        lines += [*_table(heading, [*rows, ["the labels themselves", *own]]), ""]
    return lines


def _by_class(accuracy: Accuracy) -> list[str]:
    lines: list[str] = []
    for index, clip in enumerate(accuracy.settings.clips):
        rows = [[row.row.name, *(_percent(value, 1) for value in row.clips[index].scores.iou)] for row in accuracy.rows]
        lines += [*_table([f"IoU %, {clip.name}", *accuracy.labels.names], rows), ""]
    return lines


def _temporal(row: RowAccuracy) -> StabilityScores:
    """The temporal measures of the first clip that has some."""
    found = [clip.scores.stability for clip in row.clips]
    return next((scores for scores in found if not math.isnan(scores.temporal_consistency)), found[0])


def _measure(scores: StabilityScores, name: str) -> str:
    value = float(getattr(scores, name))
    return _percent(value) if name == "flicker" else _share(value)


def _milliseconds(times: Times | None, name: str) -> tuple[str, str]:
    if times is None:
        return "not measured", "not measured"
    (p50, p5, p95), (least, used) = times.ms[name], times.processor_ms[name]
    return f"{p50:.1f} ({p5:.1f} to {p95:.1f})", f"{least:.0f} / {used:.0f}"


def _percent_with_interval(estimate: Estimate) -> str:
    low, high = estimate.frames
    return f"{_percent(estimate.value)} [{_percent(low)}, {_percent(high)}]"


def _points(value: float | tuple[float, float]) -> str:
    if isinstance(value, tuple):
        return f"[{100 * value[0]:+.2f}, {100 * value[1]:+.2f}]"
    return f"{100 * value:+.2f}"


def _percent(value: float, digits: int = 2) -> str:
    return _NOTHING if math.isnan(value) else f"{100 * value:.{digits}f}"


def _share(value: float) -> str:
    return _NOTHING if math.isnan(value) else f"{value:.3f}"


def _table(heading: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    cells = [heading, ["---"] * len(heading), *([*row, *[""] * (len(heading) - len(row))] for row in rows)]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells]
