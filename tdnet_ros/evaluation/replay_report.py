"""What a replay leaves behind: a table, the same as latency.json, an overlay video and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tdnet_ros import __version__
from tdnet_ros.evaluation.bags import Latency, Mask, read_latencies, read_masks
from tdnet_ros.evaluation.latency_table import (
    account_frames,
    format_kinds,
    format_table,
    keyframe_percentiles,
    read_counters,
    stage_percentiles,
)
from tdnet_ros.evaluation.overlay_video import (
    OverlayVideo,
    RgbPicture,
    annotate,
    as_rgb,
    blend,
    write_contact_sheet,
)
from tdnet_ros.evaluation.replay import DIAGNOSTICS_TOPIC, LATENCY_TOPIC, MASK_TOPIC, ReplayResult
from tdnet_ros.labels import LabelSet
from tdnet_ros.video.image_source import ImageSource
from tdnet_ros.video.source_frames import frame_of

_SHEET_PICTURES = 6


def write_report(result: ReplayResult, output: Path, facts: dict[str, Any]) -> str:
    """Write latency.json into the output folder; the same as a table for people."""
    latencies = read_latencies(result.bag, LATENCY_TOPIC)
    arrivals = {mask.stamp_ns: mask.received_ns for mask in read_masks(result.bag, MASK_TOPIC)}
    sent_stamps = [frame["stamp_ns"] for frame in result.sent]
    account = account_frames(sent_stamps, arrivals, read_counters(result.bag, DIAGNOSTICS_TOPIC))
    stages = stage_percentiles(latencies, [(arrived - stamp) / 1e6 for stamp, arrived in arrivals.items()])
    kinds = keyframe_percentiles(latencies)
    report = {
        **facts,
        "version": __version__,
        "frames": {**asdict(account), "consistent": account.consistent},
        "dropped_by_recorder": result.recorder_dropped,
        "camera_rate_hz": _rate_hz(sent_stamps),
        "mask_rate_hz": _rate_hz(list(arrivals.values())),
        "latency_ms": stages,
        **({"latency_ms_by_kind": kinds} if kinds else {}),
    }
    (output / "latency.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    rates = f"camera {report['camera_rate_hz']:.2f} Hz, masks {report['mask_rate_hz']:.2f} Hz"
    return "\n\n".join(filter(None, (format_table(account, stages), format_kinds(kinds), rates)))


def _rate_hz(times_ns: list[int]) -> float:
    span_ns = max(times_ns) - min(times_ns) if times_ns else 0
    return (len(times_ns) - 1) * 1e9 / span_ns if span_ns else 0.0


def write_overlay(source: ImageSource, result: ReplayResult, labels: LabelSet, output: Path) -> int:
    """Write overlay.mp4 and overlay.png; the number of frames in the video.

    A frame without a mask of its own shows the newest one of an earlier frame, and says how old that is.
    """
    latencies = {latency.stamp_ns: latency for latency in read_latencies(result.bag, LATENCY_TOPIC)}
    wanted = {round(k * (len(result.sent) - 1) / (_SHEET_PICTURES - 1)) for k in range(_SHEET_PICTURES)}
    sheet = []
    with OverlayVideo(output / "overlay.mp4", source.rate_hz) as video:
        masks = _newest_masks(result)
        for image, (mask, age) in zip(source, masks, strict=False):
            picture = _picture(as_rgb(frame_of(image)), mask, age, labels, latencies, image.index)
            video.add(picture)
            if image.index in wanted:
                sheet.append(picture)
    if sheet:
        write_contact_sheet(output / "overlay.png", sheet)
    return video.count


def _newest_masks(result: ReplayResult) -> Iterator[tuple[Mask | None, int]]:
    """For every sent frame its mask, or the newest of an earlier one, and how many frames old that is."""
    masks = read_masks(result.bag, MASK_TOPIC)
    following, newest, age = next(masks, None), None, 0
    # A video's packets may be sent in another order than their pictures are shown in.
    for frame in sorted(result.sent, key=lambda frame: int(frame["stamp_ns"])):
        age += 1
        while following is not None and following.stamp_ns <= frame["stamp_ns"]:
            newest, age, following = following, 0, next(masks, None)
        yield newest, age


def _picture(
    image: RgbPicture,
    mask: Mask | None,
    age: int,
    labels: LabelSet,
    latencies: dict[int, Latency],
    index: int,
) -> RgbPicture:
    if mask is None:
        return annotate(image, labels, f"frame {index}   no mask yet")
    text = f"frame {index}"
    if age:
        text += f"   mask {age} frame(s) old"
    elif latency := latencies.get(mask.stamp_ns):
        text += f"   sub-network {latency.subnetwork}   node {latency.node_ms:.1f} ms"
    return annotate(blend(image, mask.ids, labels), labels, text)
