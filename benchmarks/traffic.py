"""Camera, receiver and, where it is wanted, the node as processes of their own: what was sent and what arrived."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tdnet_ros.evaluation.latency_table import FrameAccount, NodeCounters, account_frames, counters_of
from tdnet_ros.evaluation.processes import NodeProcess, NodeProcessError, free_domain

_REPOSITORY = Path(__file__).resolve().parents[1]
_NODE_TIMEOUT_S = 120.0
_NODE_IS_READY = "segmenting "


@dataclass(frozen=True)
class Sent:
    """One image that the camera sent. Block -1 is the warm-up, which does not count; times are CLOCK_MONOTONIC."""

    topic: str
    block: int
    index: int
    stamp_ns: int
    sent_ns: int
    publish_ms: float


@dataclass(frozen=True)
class Traffic:
    """The logs of one run; ``arrived_ns`` is by topic and stamp."""

    sent: list[Sent]
    arrived_ns: dict[str, dict[int, int]]
    latencies: list[dict[str, float]]
    diagnostics: list[dict[str, Any]]

    def sent_to(self, topic: str) -> list[Sent]:
        """The images of that topic that count."""
        return [image for image in self.sent if image.topic == topic and image.block >= 0]

    def transit_ms(self, topic: str, arrival_topic: str) -> np.ndarray:
        """From the camera's call to the arrival, for every image of which something arrived."""
        arrived_ns = self.arrived_ns[arrival_topic]
        both = [image for image in self.sent_to(topic) if image.stamp_ns in arrived_ns]
        return np.array([(arrived_ns[image.stamp_ns] - image.sent_ns) / 1e6 for image in both])

    def missing(self, topic: str, arrival_topic: str) -> list[Sent]:
        """The images of which nothing arrived."""
        return [image for image in self.sent_to(topic) if image.stamp_ns not in self.arrived_ns[arrival_topic]]

    def stages(self, topic: str, names: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Milliseconds by stage, as the node's latency messages have them."""
        stamps = {image.stamp_ns for image in self.sent_to(topic)}
        counted = [latency for latency in self.latencies if latency["stamp_ns"] in stamps]
        return {name: np.array([latency[name] for latency in counted]) for name in names}

    def account(self, topic: str) -> FrameAccount:
        """Where every image went, by the node's own diagnostics before and after the ones that count."""
        images = self.sent_to(topic)
        before = [item for item in self.diagnostics if item["arrived_ns"] < images[0].sent_ns]
        if not before or self.diagnostics[-1]["arrived_ns"] < images[-1].sent_ns:
            raise NodeProcessError("the node sent no diagnostics before or after the images that count")
        first, last = counters_of(before[-1]["values"]), counters_of(self.diagnostics[-1]["values"])
        counters = NodeCounters(
            last.received - first.received,
            last.published - first.published,
            last.dropped - first.dropped,
            last.rejected - first.rejected,
        )
        return account_frames([image.stamp_ns for image in images], self.arrived_ns["mask"], counters)


def run_traffic(
    camera: Mapping[str, Any],
    node: Mapping[str, Any] | None = None,
    node_module: str = "benchmarks.instant_node",
    environment: Mapping[str, str] | None = None,
) -> Traffic:
    """Let a camera with these parameters send, through the node with these, if any, and gather what arrived.

    The receiver takes every topic of the camera but ``image``, which is the node's. Raises NodeProcessError when a
    process fails; none is left running.
    """
    paths = os.pathsep.join(filter(None, (str(_REPOSITORY), os.environ.get("PYTHONPATH"))))
    domain = {"ROS_DOMAIN_ID": str(free_domain()), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "PYTHONPATH": paths}
    everywhere = {**domain, **(environment or {})}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)

        def start(module: str, parameters: Mapping[str, Any]) -> NodeProcess:
            process = NodeProcess(module.rpartition(".")[2], module, folder, "/", parameters, {}, everywhere)
            stack.callback(process.kill)
            return process

        images = [topic for topic in camera["topics"] if topic != "image"]
        arrival_log, sent_log = folder / "arrivals.json", folder / "sent.json"
        receiver = start(
            "benchmarks.receiver", {"images": images, "node": node is not None, "arrival_log": str(arrival_log)}
        )
        others = [receiver]
        if node is not None:
            others.append(start(node_module, node))
            _wait_for(others[-1], _NODE_IS_READY)
        sender = start("benchmarks.camera", {**camera, "sent_log": str(sent_log)})
        while sender.running:
            for process in others:
                process.require_running()
            time.sleep(0.2)
        sender.require_success()
        for process in others:
            process.interrupt()
        sent = [Sent(**image) for image in json.loads(sent_log.read_text(encoding="utf-8"))]
        log = json.loads(arrival_log.read_text(encoding="utf-8"))
    arrived_ns = {topic: dict(arrivals) for topic, arrivals in log["arrivals"].items()}
    return Traffic(sent, arrived_ns, log["latencies"], log["diagnostics"])


def _wait_for(process: NodeProcess, text: str) -> None:
    give_up_s = time.monotonic() + _NODE_TIMEOUT_S
    while text not in process.log.read_text(encoding="utf-8", errors="replace"):
        process.require_running()
        if time.monotonic() > give_up_s:
            raise NodeProcessError(f"the {process.name} did not say '{text}' within {_NODE_TIMEOUT_S:g} s")
        time.sleep(0.1)
