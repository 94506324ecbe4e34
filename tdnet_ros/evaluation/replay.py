"""Player, segmentation node and recorder as processes over DDS: what a vehicle would see of a recording."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tdnet_ros.evaluation.processes import NodeProcess, NodeProcessError, free_domain
from tdnet_ros.video.sources import open_source

MASK_TOPIC = "/segmentation/mask"
LATENCY_TOPIC = "/segmentation/latency"
DIAGNOSTICS_TOPIC = "/diagnostics"
_CAMERA_TOPIC = "/camera/image"

#: The node's transport where it has another name than the player's.
_INPUTS = {"compressed_video": "compressed"}
_POLL_S = 0.1
#: The node may have to load weights and warm up a network on a slow machine.
_MATCH_TIMEOUT_S = 180.0
_FIRST_MASK_TIMEOUT_S = 60.0
_PROGRESS_PERIOD_S = 2.0
#: Diagnostics come once a second, on a busy machine later: time for the one that counts the last frame.
_DIAGNOSTICS_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class ReplaySettings:
    """What to play, through which model, how. Empty strings and 0 mean: the nodes' own defaults.

    ``transport`` is one of the player's: auto is as a bag has its images, else raw.
    """

    source: Path
    output: Path
    model: str = ""
    weights: str = ""
    device: str = ""
    topic: str = ""
    transport: str = "auto"
    rate: float = 1.0
    rate_hz: float = 0.0
    duration_s: float = 0.0
    node_parameters: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ReplayResult:
    """The bag of results, the frames sent (SentFrame as dictionaries), and what the recorder dropped."""

    bag: Path
    sent: list[dict[str, Any]]
    recorder_dropped: int
    domain: str


def replay(settings: ReplaySettings, say: Callable[[str], None]) -> ReplayResult:
    """Play the source through the node and record; ``say`` is told about progress, a line at a time.

    Raises NodeProcessError when a process ends before its time or badly; no process is left running.
    """
    source = open_source(settings.source, settings.rate_hz or None, settings.topic or None)
    transport = settings.transport
    if transport == "auto":
        transport = "compressed" if source.compressed else "raw"
    lasts_s = (source.frame_count or 0) / source.rate_hz
    lasts_s = min(filter(None, (lasts_s, settings.duration_s)), default=0.0) / settings.rate
    bag, logs = settings.output / "bag", settings.output / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    for stale in logs.glob("*.json"):
        stale.unlink()
    domain = os.environ.get("ROS_DOMAIN_ID") or str(free_domain())
    environment = {"ROS_DOMAIN_ID": domain, "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    with ExitStack() as stack:

        def start(name: str, namespace: str, parameters: dict[str, Any], **remaps: str) -> NodeProcess:
            given = {key: value for key, value in parameters.items() if value not in ("", 0)}
            module = f"tdnet_ros.node.{name}_node"
            node = NodeProcess(name, module, logs, namespace, given, remaps, environment)
            stack.callback(node.kill)
            return node

        say(f"starting segmentation node and recorder in ROS domain {domain}; their output is in {logs}")
        asked = {key: getattr(settings, key) for key in ("model", "weights", "device")}
        segmentation = start(
            "segmentation",
            "/segmentation",
            {**asked, "input_transport": _INPUTS.get(transport, transport), **settings.node_parameters},
            image=_CAMERA_TOPIC,
        )
        topics = ["mask", "latency", DIAGNOSTICS_TOPIC]
        status = _Status(logs / "recorder_status.json")
        recorder = start(
            "recorder",
            "/segmentation",
            {"bag": str(bag), "overwrite": True, "topics": topics, "status_file": str(status.file)},
        )
        _wait_until_matched(status, (segmentation, recorder))
        sent_log = logs / "sent.json"
        playing = {key: getattr(settings, key) for key in ("topic", "rate", "rate_hz", "duration_s")}
        player = start(
            "player",
            "/camera",
            {
                "source": str(settings.source),
                "sent_log": str(sent_log),
                "wait_timeout_s": _MATCH_TIMEOUT_S,
                "transport": transport,
                **playing,
            },
        )
        say("recorder and node have found each other; playing")
        slowest_s = _watch(player, (segmentation, recorder), status, lasts_s, say)
        player.require_success()
        sent = json.loads(sent_log.read_text(encoding="utf-8"))["frames"]
        say(f"{len(sent)} frames sent; waiting for the last mask")
        _wait_for_last_mask(sent, status, (segmentation, recorder), slowest_s)
        segmentation.interrupt()
        recorder.interrupt()
    dropped = sum(topic["dropped"] for topic in status.read().values())
    return ReplayResult(bag, sent, dropped, domain)


class _Status:
    """What the recorder says of itself, by topic."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def read(self) -> dict[str, dict[str, int]]:
        return json.loads(self.file.read_text(encoding="utf-8")) if self.file.exists() else {}

    def value(self, topic: str, key: str) -> int:
        return self.read().get(topic, {}).get(key, 0)


def _wait_until_matched(status: _Status, nodes: tuple[NodeProcess, ...]) -> None:
    give_up_s = time.monotonic() + _MATCH_TIMEOUT_S
    while not ((topics := status.read()) and all(topic["publishers"] for topic in topics.values())):
        for node in nodes:
            node.require_running()
        if time.monotonic() > give_up_s:
            missing = [name for name, topic in topics.items() if not topic["publishers"]] or "any topic"
            raise NodeProcessError(f"no publisher of {missing} after {_MATCH_TIMEOUT_S:g} s")
        time.sleep(_POLL_S)


def _watch(
    player: NodeProcess,
    others: tuple[NodeProcess, ...],
    status: _Status,
    lasts_s: float,
    say: Callable[[str], None],
) -> float:
    """Wait for the player's end, about ``lasts_s`` away unless 0; the longest time in s between two masks."""
    start_s = last_mask_s = last_said_s = time.monotonic()
    masks, slowest_s = 0, 0.0
    while player.running:
        for node in others:
            node.require_running()
        time.sleep(_POLL_S)
        now_s, count = time.monotonic(), status.value(MASK_TOPIC, "written")
        if count > masks:
            slowest_s = max(slowest_s, now_s - last_mask_s) if masks else slowest_s
            masks, last_mask_s = count, now_s
        if now_s - last_said_s >= _PROGRESS_PERIOD_S:
            whole = f" of about {lasts_s:.0f}" if lasts_s else ""
            say(f"{now_s - start_s:5.0f}{whole} s, {masks} masks")
            last_said_s = now_s
    return slowest_s


def _wait_for_last_mask(
    sent: list[dict[str, Any]], status: _Status, nodes: tuple[NodeProcess, ...], slowest_s: float
) -> None:
    """Wait for the last frame's mask, then for the diagnostics that count it; give up when nothing comes.

    The last frame's mask need not come at all (the image may have been lost): the account says so in the end.
    """
    last_stamp_ns = max((frame["stamp_ns"] for frame in sent), default=0)
    patience_s = 3.0 + 3.0 * slowest_s if status.value(MASK_TOPIC, "written") else _FIRST_MASK_TIMEOUT_S
    seen, quiet_since_s = 0, time.monotonic()
    while status.value(MASK_TOPIC, "last_stamp_ns") < last_stamp_ns:
        for node in nodes:
            node.require_running()
        if (written := status.value(MASK_TOPIC, "written")) > seen:
            seen, quiet_since_s = written, time.monotonic()
        if time.monotonic() - quiet_since_s > patience_s:
            break
        time.sleep(_POLL_S)
    before = status.value(DIAGNOSTICS_TOPIC, "written")
    give_up_s = time.monotonic() + _DIAGNOSTICS_TIMEOUT_S
    while status.value(DIAGNOSTICS_TOPIC, "written") == before and time.monotonic() < give_up_s:
        time.sleep(_POLL_S)
