"""The recorder as a real process: what arrives is in the bag, byte for byte, however the recording ends."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import Recording, read_raw, ros_arguments
from running_process import PATIENCE_S, RunningProcess

pytest.importorskip("rclpy", reason="rclpy is not installed")

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image

from tdnet_ros.evaluation.bags import BagWriter, read_latencies, read_masks
from tdnet_ros.msg import FrameLatency
from tdnet_ros.video.bag_reader import BagReader
from tdnet_ros.video.messages.cdr import serialize_image
from tdnet_ros.video.messages.types import IMAGE_TYPE

RELIABLE = QoSProfile(depth=50, reliability=ReliabilityPolicy.RELIABLE)
RECORDER = "tdnet_ros.node.recorder_node"
Start = Callable[..., RunningProcess]


@pytest.fixture
def segmentation(ros_domain: dict[str, str]) -> Iterator[Node]:
    """The test itself in the role of the segmentation node."""
    rclpy.init()
    yield rclpy.create_node("segmentation_node")
    rclpy.shutdown()


def wait_for_subscribers(*publishers: Any) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while not all(publisher.get_subscription_count() for publisher in publishers):
        assert time.monotonic() < give_up_s, "the recorder did not subscribe"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_any_usual_end_leaves_a_whole_bag(
    segmentation: Node, start_process: Start, tmp_path: Path, number: signal.Signals
) -> None:
    recording, started_ns = Recording(start_process, tmp_path), time.time_ns()
    masks = segmentation.create_publisher(Image, "mask", RELIABLE)
    latencies = segmentation.create_publisher(FrameLatency, "latency", RELIABLE)
    wait_for_subscribers(masks, latencies)
    sent_masks, sent_latencies = [], []
    for index in range(20):
        pixels = np.full((48, 64), index, np.uint8)
        sent_masks.append(serialize_image(1_000 + index, 5, "front", 48, 64, "mono8", 64, pixels))
        message = FrameLatency(sequence=index, reason="rotation", node_ms=float(index))
        message.header.stamp.sec = 1_000 + index
        sent_latencies.append(bytes(serialize_message(message)))
        masks.publish(sent_masks[-1])
        latencies.publish(sent_latencies[-1])
        time.sleep(0.01)
    recording.wait_until("/latency", 20)
    recording.wait_until("/mask", 20)
    assert recording.process.stop(number) == 0, recording.process.output
    assert "recorded 20 on /mask, 20 on /latency; dropped for want of queue space: 0" in recording.process.output
    assert "Traceback" not in recording.process.output
    assert (recording.bag / "metadata.yaml").exists()
    assert read_raw(recording.bag, "/mask") == sent_masks
    assert read_raw(recording.bag, "/latency") == sent_latencies
    assert [mask.ids[0, 0] for mask in read_masks(recording.bag, "/mask")] == list(range(20))
    latency = read_latencies(recording.bag)[7]
    assert (latency.sequence, latency.reason, latency.node_ms) == (7, "rotation", 7.0)
    assert started_ns <= latency.received_ns <= time.time_ns()


def test_nothing_received_is_a_readable_bag_too(start_process: Start, tmp_path: Path) -> None:
    recording = Recording(start_process, tmp_path, storage="sqlite3")
    assert recording.process.stop(signal.SIGTERM) == 0, recording.process.output
    assert list(read_masks(recording.bag, "/mask")) == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({}, "parameter 'bag' is empty"),
        ({"bag": "there"}, "there exists already"),
        ({"bag": "file/bag"}, "file/bag cannot be written"),
        ({"bag": "x", "topics": ["tf"]}, "parameter 'topics' names 'tf', expected a name ending in"),
    ],
)
def test_what_cannot_be_recorded_is_said_in_one_line(
    start_process: Start, tmp_path: Path, parameters: dict[str, object], message: str
) -> None:
    (tmp_path / "file").touch()
    with BagWriter(tmp_path / "there") as bag:
        bag.add_topic("/mask", IMAGE_TYPE)
    recorder = start_process(RECORDER, *ros_arguments(**parameters))
    assert recorder.wait() == 1
    assert message in recorder.output
    assert "Traceback" not in recorder.output


def test_full_disk_ends_the_recording_with_an_error(segmentation: Node, start_process: Start, tmp_path: Path) -> None:
    recording = Recording(start_process, tmp_path, topics=["mask"])
    masks = segmentation.create_publisher(Image, "mask", RELIABLE)
    wait_for_subscribers(masks)
    # To the process, a file that may not grow is a disk that is full.
    resource.prlimit(recording.process.pid, resource.RLIMIT_FSIZE, (2_000_000, 2_000_000))
    message = serialize_image(1, 0, "", 1000, 1000, "mono8", 1000, bytes(1_000_000))
    give_up_s = time.monotonic() + PATIENCE_S
    while recording.process.running and time.monotonic() < give_up_s:
        masks.publish(message)
        time.sleep(0.05)
    assert recording.process.wait() == 1
    assert "recorded cannot be written" in recording.process.output


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 3 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True)
    if mount.returncode != 0:
        pytest.skip("no right to mount a file system")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_disk_that_fills_up_ends_the_recording_and_what_fitted_can_be_read(
    segmentation: Node, start_process: Start, small_disk: Path
) -> None:
    recording = Recording(start_process, small_disk, topics=["mask"])
    masks = segmentation.create_publisher(Image, "mask", RELIABLE)
    wait_for_subscribers(masks)
    messages = [serialize_image(index, 0, "", 500, 500, "mono8", 500, bytes(250_000)) for index in range(1, 200)]
    for message in messages:
        masks.publish(message)
        time.sleep(0.05)
        if not recording.process.running:
            break
    assert recording.process.wait() == 1
    assert "cannot be written" in recording.process.output and "No space left" in recording.process.output
    assert "Traceback" not in recording.process.output, recording.process.output
    read = [cdr for _, cdr in BagReader(recording.bag).messages("/mask")]
    assert len(read) >= 4 and read == messages[: len(read)]


def test_other_settings_during_the_recording_are_refused(start_process: Start, tmp_path: Path) -> None:
    recording = Recording(start_process, tmp_path)
    script = (
        "import rclpy; from rcl_interfaces.srv import SetParameters; from rclpy.parameter import Parameter\n"
        "rclpy.init(); node = rclpy.create_node('user')\n"
        "client = node.create_client(SetParameters, '/recorder/set_parameters'); client.wait_for_service()\n"
        "parameter = Parameter('storage', value='sqlite3').to_parameter_msg()\n"
        "answer = client.call_async(SetParameters.Request(parameters=[parameter]))\n"
        "rclpy.spin_until_future_complete(node, answer)\n"
        "print(answer.result().results[0].successful, answer.result().results[0].reason)\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=os.environ)
    assert said.stdout.startswith("False parameter 'storage' is fixed")
    assert recording.process.stop() == 0
