"""What became of every frame that was sent, and how long each stage took: numbers, and a table for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.bags import DIAGNOSTICS_TYPE, Latency, read_messages

STAGES = ("receive", "decode", "motion", "preprocess", "network", "postprocess", "publish", "node", "age")
# Keys of the segmentation node's diagnostics.
_RECEIVED, _PUBLISHED, _DROPPED = "images received", "masks published", "dropped for a newer image"
_REJECTED = ("images rejected", "stale stamps", "failures")
# Of a video only.
_WITHHELD = ("pictures withheld until a keyframe", "packets before the first keyframe")
_KINDS = {"keyframes": True, "between": False}
_QUANTILES = {"p50": 50, "p95": 95, "p99": 99, "max": 100}


@dataclass(frozen=True)
class NodeCounters:
    """What the node counted since its activation, in frames; ``rejected`` are all that it could not use."""

    received: int
    published: int
    dropped: int
    rejected: int


@dataclass(frozen=True)
class FrameAccount:
    """Where every sent frame went: ``sent`` is the sum of the six numbers after it.

    ``masks`` arrived in the bag. ``dropped`` were replaced by a newer frame in the node, ``rejected`` were
    unusable to it. ``lost_images`` never reached the node, ``lost_masks`` left it and never reached the bag.
    ``unaccounted`` is 0 unless the counters contradict each other.
    """

    sent: int
    masks: int
    dropped: int
    rejected: int
    lost_images: int
    lost_masks: int
    unaccounted: int

    @property
    def consistent(self) -> bool:
        """False when the numbers don't add up: somebody else was publishing too, or a counter is wrong."""
        return not self.unaccounted and self.lost_images >= 0 and self.lost_masks >= 0


def account_frames(sent_stamps: Iterable[int], mask_stamps: Iterable[int], counters: NodeCounters) -> FrameAccount:
    """Match masks to sent frames by stamp (ns); where the others went, the node's counters tell."""
    sent = set(sent_stamps)
    masks = len(sent.intersection(mask_stamps))
    lost_images = len(sent) - counters.received
    lost_masks = counters.published - masks
    known = masks + counters.dropped + counters.rejected + lost_images + lost_masks
    return FrameAccount(
        len(sent), masks, counters.dropped, counters.rejected, lost_images, lost_masks, len(sent) - known
    )


def read_status(bag: Path, topic: str) -> dict[str, str]:
    """The node's last word in the diagnostics of a bag; raises SourceError when it said nothing."""
    values: dict[str, str] = {}
    for _, message in read_messages(bag, DIAGNOSTICS_TYPE, topic):
        for status in message.status:
            said = {item.key: item.value for item in status.values}
            values = said if _PUBLISHED in said else values
    if not values:
        raise SourceError(
            f"{bag}: no status on '{topic}' has the value '{_PUBLISHED}', expected the node's diagnostics"
        )
    return values


def read_counters(bag: Path, topic: str) -> NodeCounters:
    """The counters in the node's last word; raises SourceError when it said nothing."""
    return counters_of(read_status(bag, topic))


def counters_of(values: Mapping[str, str]) -> NodeCounters:
    """The counters in one of the node's diagnostics, given as its keys and values."""
    rejected = sum(int(values[key]) for key in _REJECTED) + sum(int(values.get(key, 0)) for key in _WITHHELD)
    return NodeCounters(int(values[_RECEIVED]), int(values[_PUBLISHED]), int(values[_DROPPED]), rejected)


def percentiles(values_ms: Iterable[float]) -> dict[str, float] | None:
    """p50, p95, p99 and max of the values that are not NaN; None when there are none."""
    values = np.array([value for value in values_ms if not np.isnan(value)])
    if not values.size:
        return None
    return {name: float(np.percentile(values, q)) for name, q in _QUANTILES.items()}


def stage_percentiles(latencies: Sequence[Latency], mask_ages_ms: Sequence[float]) -> dict[str, Any]:
    """Percentiles in ms by stage; ``arrival`` is from a frame's stamp to its mask's arrival in the bag."""
    stages = {name: percentiles(getattr(latency, f"{name}_ms") for latency in latencies) for name in STAGES}
    return {**stages, "arrival": percentiles(mask_ages_ms)}


def keyframe_percentiles(latencies: Sequence[Latency]) -> dict[str, dict[str, Any]]:
    """stage_percentiles of keyframes and of the frames between them; empty where there are not both."""
    kinds = {name: [each for each in latencies if each.keyframe == key] for name, key in _KINDS.items()}
    if not all(kinds.values()):
        return {}
    return {
        name: {
            "count": len(found),
            **{stage: values for stage, values in stage_percentiles(found, []).items() if values},
        }
        for name, found in kinds.items()
    }


def format_kinds(kinds: Mapping[str, Mapping[str, Any]]) -> str:
    """Keyframes and the frames between side by side, p50 and p95 by stage; '' without them."""
    if not kinds:
        return ""
    quantiles = ("p50", "p95")
    lines = [
        f"{'latency in ms':<14}" + "".join(f"{name} ({found['count']})".rjust(18) for name, found in kinds.items())
    ]
    lines.append(" " * 14 + "".join(f"{quantile:>9}" for _ in kinds for quantile in quantiles))
    for stage in STAGES:
        cells = [found.get(stage) for found in kinds.values()]
        if any(cells):
            texts = (f"{each[quantile]:>9.1f}" if each else f"{'-':>9}" for each in cells for quantile in quantiles)
            lines.append(f"  {stage:<12}" + "".join(texts))
    return "\n".join(lines)


def format_table(account: FrameAccount, stages: Mapping[str, Mapping[str, float] | None]) -> str:
    """Both as text: one line per fate of a frame and one per stage."""
    share = 100 / max(1, account.sent)
    fates = [
        ("sent by the camera", account.sent),
        ("mask received", account.masks),
        ("dropped: a newer frame was there", account.dropped),
        ("rejected as unusable", account.rejected),
        ("lost between camera and node", account.lost_images),
        ("mask lost between node and recorder", account.lost_masks),
    ]
    lines = [f"{'frames':<38}{'':>6}{'%':>9}"]
    lines += [f"  {name:<36}{count:>6}{count * share:>9.1f}" for name, count in fates]
    if not account.consistent:
        lines.append("  These don't add up: does anybody else publish images or masks in this ROS domain?")
    lines += ["", f"{'latency in ms':<14}" + "".join(f"{name:>9}" for name in _QUANTILES)]
    for name, values in stages.items():
        cells = "".join(f"{values[quantile]:>9.1f}" for quantile in _QUANTILES) if values else f"{'-':>9}" * 4
        lines.append(f"  {name:<12}{cells}")
    return "\n".join(lines)
