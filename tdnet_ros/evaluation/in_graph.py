"""Evaluation in the graph: player, node and recorder as processes over DDS; what a vehicle would have seen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tdnet_ros.evaluation.bags import Latency, Mask, read_latencies, read_masks
from tdnet_ros.evaluation.evaluate import EvaluationSettings, Judge, Progress, Recording, open_recording
from tdnet_ros.evaluation.latency_table import STAGES, account_frames, counters_of, read_status
from tdnet_ros.evaluation.replay import (
    DIAGNOSTICS_TOPIC,
    LATENCY_TOPIC,
    MASK_TOPIC,
    ReplayResult,
    ReplaySettings,
    replay,
)
from tdnet_ros.evaluation.result import Delivery, Evaluation, FrameResult
from tdnet_ros.evaluation.timeliness import TimedMask, latency_aware_matrix
from tdnet_ros.evaluation.worst_frames import WorstFrame
from tdnet_ros.labels import LabelSet
from tdnet_ros.networks import AUTO
from tdnet_ros.streaming import model_info
from tdnet_ros.video.source_frames import frame_of

#: What of the node's diagnostics describes how it was set up.
_CONFIGURATION = ("model", "terms", "precision", "device", "runtime")
_LAST_ERROR = "last error"


def evaluate_in_graph(
    settings: EvaluationSettings,
    output: Path,
    rate: float,
    say: Callable[[str], None],
    progress: Progress = lambda done, total: None,
) -> tuple[Evaluation, list[WorstFrame]]:
    """Replay the recording at ``rate`` times its speed through the real node, and judge what the recorder got.

    The bag of masks and latencies stays in ``output``/bag. ``progress`` is told how many frames have been scored.
    Raises TdnetRosError when something fails on the way.
    """
    predicted = model_info(settings.model or AUTO, settings.weights or None).labels
    recording = open_recording(settings, predicted)
    result = replay(
        ReplaySettings(
            source=settings.recording.resolve(),
            output=output.resolve(),
            model=settings.model,
            weights=settings.weights,
            device=settings.device,
            topic=recording.topic,
            rate=rate,
            rate_hz=settings.rate_hz,
            node_parameters=settings.node_parameters,
        ),
        say,
    )
    say("scoring")
    return judge_replay(settings, recording, result, predicted, rate, progress)


def judge_replay(
    settings: EvaluationSettings,
    recording: Recording,
    result: ReplayResult,
    predicted: LabelSet,
    rate: float,
    progress: Progress = lambda done, total: None,
) -> tuple[Evaluation, list[WorstFrame]]:
    """Score the bag that a replay has left."""
    latencies = {latency.stamp_ns: latency for latency in read_latencies(result.bag, LATENCY_TOPIC)}
    stamps = {frame["index"]: frame["stamp_ns"] for frame in result.sent}
    judge = Judge(recording)
    arrived: list[int] = []
    resets = 0
    for image, mask in _of_each_image(recording, stamps, result.bag):
        latency = latencies.get(mask.stamp_ns)
        resets = latency.resets if latency is not None else resets
        arrived.append(mask.stamp_ns)
        judge.judge(image, frame_of(image), mask.ids, _facts(image.index, mask, latency, resets))
        progress(image.index + 1, recording.source.frame_count)
    status = read_status(result.bag, DIAGNOSTICS_TOPIC)
    account = account_frames(stamps.values(), arrived, counters_of(status))
    resets = max((latency.resets for latency in latencies.values()), default=0)
    lost = account.lost_images + account.lost_masks + account.unaccounted
    delivery = Delivery(account.sent, account.masks, account.dropped, account.rejected, lost, resets)
    configuration: dict[str, Any] = {
        **{key: status[key] for key in _CONFIGURATION if key in status},
        "weights": settings.weights or "shipped",
        "rate": rate,
        **settings.node_parameters,
        "frames": asdict(account),
    }
    timely = _latency_aware_miou(recording, stamps, result.bag)
    warnings = [] if judge.frames else [f"none of the {account.sent} images that were sent got a mask"]
    if status.get(_LAST_ERROR):
        warnings.append(f"the node's last error: {status[_LAST_ERROR]}")
    return (
        judge.conclude("graph", settings, predicted, configuration, delivery, timely, warnings),
        judge.worst.worst(),
    )


def _of_each_image(recording: Recording, stamps: dict[int, int], bag: Path) -> Iterator[tuple[Any, Mask]]:
    """Every image of the recording that got a mask, with that mask: ``stamps`` are those of the images as sent.

    Masks arrive in the order in which images were sent. Of two images with one stamp the first has the mask: the
    second was not newer.
    """
    turns: dict[int, int] = {}
    for index in sorted(stamps):
        turns.setdefault(stamps[index], index)
    masks = ((turns.get(mask.stamp_ns, -1), mask) for mask in read_masks(bag, MASK_TOPIC))
    found = next(masks, None)
    for image in recording.source:
        while found is not None and found[0] < image.index:
            found = next(masks, None)
        if found is None:
            return
        if found[0] == image.index:
            yield image, found[1]


def _latency_aware_miou(recording: Recording, stamps: dict[int, int], bag: Path) -> float:
    if recording.labels is None:
        return math.nan
    first = next(read_masks(bag, MASK_TOPIC), None)
    width, height = recording.source.size
    size = (height, width) if first is None else (first.ids.shape[0], first.ids.shape[1])
    labelled = (
        (stamps[image.index], labels)
        for image in recording.source
        if image.index in stamps and (labels := recording.labels_of(image, size)) is not None
    )
    masks = (
        TimedMask(mask.received_ns, recording.label_map.predictions[mask.ids]) for mask in read_masks(bag, MASK_TOPIC)
    )
    return latency_aware_matrix(labelled, masks, len(recording.label_map.classes)).miou()


def _facts(index: int, mask: Mask, latency: Latency | None, resets: int) -> FrameResult:
    arrival_ms = (mask.received_ns - mask.stamp_ns) / 1e6
    if latency is None:  # its latency message was lost
        times = {**dict.fromkeys(STAGES, math.nan), "arrival": arrival_ms}
        return FrameResult(index, mask.stamp_ns, 0, 1.0, False, -1, True, resets, math.nan, times)
    return FrameResult(
        index=index,
        stamp_ns=mask.stamp_ns,
        subnetwork=latency.subnetwork,
        scale=latency.scale,
        keyframe=latency.keyframe,
        keyframe_distance=latency.keyframe_distance,
        warm=latency.warm,
        resets=resets,
        miou=math.nan,
        times_ms={**{stage: getattr(latency, f"{stage}_ms") for stage in STAGES}, "arrival": arrival_ms},
    )
