"""A table of accuracy: every row's network on the same clips, how sure the figures are, what a frame costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.evaluation.accuracy_settings import FRAME_BY_FRAME, AccuracySettings, ClipSettings, RowSettings
from tdnet_ros.evaluation.bootstrap import draw_frames, interval, resampled_miou
from tdnet_ros.evaluation.clip_scores import (
    ClipScores,
    Masks,
    NetworkMasks,
    ScoreStore,
    describe_clip,
    open_row,
    score_clip,
    true_masks,
)
from tdnet_ros.evaluation.evaluate import Progress
from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.evaluation.provenance import sha256_of
from tdnet_ros.labels import LabelSet
from tdnet_ros.networks.cost import count_cost
from tdnet_ros.streaming import Segmenter


@dataclass(frozen=True)
class Estimate:
    """A value and its 95 % interval over resampled frames; ``blocks`` is that over blocks of a second, None without."""

    value: float
    frames: tuple[float, float]
    blocks: tuple[float, float] | None


@dataclass(frozen=True)
class RowFacts:
    """What a row's network is: ``gmac`` of a frame at ``network_size`` (height, width), ``parameters`` that it uses.

    Where the row has keyframes ``gmac`` is the mean over its interval; ``worst_gmac`` is that of a keyframe.
    """

    model: str
    weights_sha256: str
    device: str
    network_size: tuple[int, int]
    gmac: float
    worst_gmac: float
    keyframe_interval: int
    parameters: int


@dataclass(frozen=True)
class RowAccuracy:
    """A row by clip: scores, mIoU, and its difference to the row that it is compared with (empty without that).

    ``by_distance`` is the mIoU at each distance from the keyframe, [] where it was not asked for.
    """

    row: RowSettings
    facts: RowFacts
    clips: list[ClipScores]
    miou: list[Estimate]
    difference: list[Estimate]
    by_distance: list[list[float]]


@dataclass(frozen=True)
class Accuracy:
    """The whole table. ``clips`` has number of frames and SHA-256 by clip, ``truth`` the labels' own scores by clip."""

    settings: AccuracySettings
    labels: LabelSet
    clips: list[dict[str, Any]]
    rows: list[RowAccuracy]
    untrained: list[RowSettings]
    truth: list[ClipScores]


def measure_accuracy(
    settings: AccuracySettings,
    output: Path,
    device: str = "auto",
    say: Callable[[str], None] = lambda line: None,
    progress: Callable[[], Progress] = lambda: lambda done, total: None,
) -> Accuracy:
    """Score every trained row on every clip; what an earlier run has left in ``output``/scored is taken from there.

    ``progress`` makes what is told of one clip's frames. Raises ConfigurationError, CheckpointError and SourceError
    before anything is scored; and ConfigurationError when no row is trained or rows have different classes.
    """
    trained = [row for row in settings.rows if row.is_trained]
    if not trained:
        raise ConfigurationError(
            f"rows have the weights {[row.weights for row in settings.rows]}, none of which exists"
        )
    segmenters = [open_row(row, device) for row in trained]
    labels = _common_labels(trained, segmenters)
    clips = [describe_clip(clip) for clip in settings.clips]
    store = ScoreStore(output / "scored")

    def scored(what: dict[str, Any], name: str, masks: Callable[[], Masks]) -> list[ClipScores]:
        found = []
        for clip, facts in zip(settings.clips, clips, strict=True):
            described = {**what, "labels": list(labels.names), "clip": facts}
            kept = store.find(described)
            if kept is None:
                say(f"{name}: {clip.name}")
                tell, made = _counted(progress(), facts["frames"]), masks()
                scores, confusion = score_clip(clip, labels, made, tell)
                distances = made.distances if isinstance(made, NetworkMasks) else [0] * facts["frames"]
                kept = store.keep(described, scores, confusion, distances)
            found.append(kept)
        return found

    measured = []
    for row, segmenter in zip(trained, segmenters, strict=True):
        facts = _facts(row, segmenter, settings.timing.size)
        what = {
            "model": facts.model,
            "weights": facts.weights_sha256,
            "device": facts.device,
            "runs": row.runs,
            "input_height": row.input_height,
            "score_memory": row.score_memory,
            "stream": asdict(row.stream_settings),
        }
        runs = [
            scored({**what, "keyframe": first}, row.name, partial(NetworkMasks, segmenter, row.runs, first))
            for first in range(facts.keyframe_interval if row.by_distance else 1)
        ]
        measured.append((row, facts, runs))
    truth = scored({"model": "labels"}, "the labels themselves", lambda: true_masks)
    return Accuracy(
        settings,
        labels,
        clips,
        _with_intervals(settings, measured),
        [row for row in settings.rows if not row.is_trained],
        truth,
    )


def _common_labels(rows: Sequence[RowSettings], segmenters: Sequence[Segmenter]) -> LabelSet:
    labels = segmenters[0].labels
    for row, segmenter in zip(rows, segmenters, strict=True):
        if segmenter.labels.names != labels.names:
            raise ConfigurationError(
                f"row '{row.name}' has the classes of '{segmenter.labels.name}', expected those of '{labels.name}' "
                f"as row '{rows[0].name}'"
            )
    return labels


def _facts(row: RowSettings, segmenter: Segmenter, size: tuple[int, int]) -> RowFacts:
    info, single = segmenter.network.info, row.runs == FRAME_BY_FRAME
    network_size = segmenter.network_size(*size)
    interval = 1 if single else row.stream_settings.interval(info)
    cost = count_cost(info, network_size, row.stream_settings.scale(info) if interval > 1 else None)
    worst = cost.warm_up_gmac if single else cost.steady_gmac
    return RowFacts(
        info.name,
        sha256_of(row.weight_file),
        f"{segmenter.runtime.device.type}, {segmenter.runtime.precision}, {segmenter.runtime.engine}",
        network_size,
        cost.mean_gmac(interval) if interval > 1 else worst,
        worst,
        interval,
        cost.parameters_used if single else cost.parameters,
    )


def miou_by_distance(runs: Sequence[ClipScores], interval: int) -> list[float]:
    """mIoU at each distance 0..interval-1 from the keyframe, over runs of one clip with other keyframes; NaN at none.

    Distances that only some frames have, near the clip's beginning or where motion broke, count with those frames.
    """
    values = []
    for distance in range(interval):
        matrix = ConfusionMatrix(runs[0].confusion.shape[1])
        for run in runs:
            matrix.counts += run.confusion[run.distances == distance].sum(0)
        values.append(matrix.miou() if matrix.counts.any() else math.nan)
    return values


def _with_intervals(
    settings: AccuracySettings, measured: Sequence[tuple[RowSettings, RowFacts, list[list[ClipScores]]]]
) -> list[RowAccuracy]:
    miou: dict[str, list[Estimate]] = {row.name: [] for row, _, _ in measured}
    difference: dict[str, list[Estimate]] = {row.name: [] for row, _, _ in measured}
    for index, clip in enumerate(settings.clips):
        scores = {row.name: runs[0][index] for row, _, runs in measured}
        draws = _draws(settings, clip, len(next(iter(scores.values())).confusion))
        resampled = {name: [resampled_miou(score.confusion, draw) for draw in draws] for name, score in scores.items()}
        for row, _, _ in measured:
            own, other = row.name, settings.compared_with(row)
            miou[own].append(_estimate(scores[own].scores.miou, resampled[own]))
            if other in scores and other != own:
                pairs = zip(resampled[own], resampled[other], strict=True)
                gain = scores[own].scores.miou - scores[other].scores.miou
                difference[own].append(_estimate(gain, [mine - theirs for mine, theirs in pairs]))
    found = []
    for row, facts, runs in measured:
        by_distance = [
            miou_by_distance([run[index] for run in runs], facts.keyframe_interval)
            for index in range(len(settings.clips) if row.by_distance else 0)
        ]
        found.append(RowAccuracy(row, facts, runs[0], miou[row.name], difference[row.name], by_distance))
    return found


def _draws(settings: AccuracySettings, clip: ClipSettings, frames: int) -> list[npt.NDArray[np.int64]]:
    """The draws that all rows share: of single frames, and of blocks where the clip has such."""
    bootstrap = settings.bootstrap
    blocks = [1] if clip.block_frames == 1 else [1, clip.block_frames]
    return [draw_frames(frames, bootstrap.resamples, bootstrap.seed, block) for block in blocks]


def _estimate(value: float, resampled: Sequence[npt.NDArray[np.float64]]) -> Estimate:
    intervals = [interval(values) for values in resampled]
    return Estimate(value, intervals[0], intervals[1] if len(intervals) > 1 else None)


def _counted(progress: Progress, total: int) -> Callable[[], None]:
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        progress(done, total)

    return tell
