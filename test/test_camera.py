"""A camera between its topic and the network: which picture is taken, whose it is, and when it arrived."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

import rclpy
from rclpy.lifecycle import LifecycleNode
from video_packets import packet_message

from benchmarks.analytic_clip import DriveClip
from tdnet_ros.labels import CAMVID
from tdnet_ros.node.camera import Camera
from tdnet_ros.node.intake import Waiting
from tdnet_ros.node.parameters import SegmentationParameters
from tdnet_ros.video.encoding import encode_packets
from tdnet_ros.video.messages.types import COMPRESSED_TYPE

CLIP, FIRST, SECOND = DriveClip(96, 128, seed=1), 1, 2


@cache
def bitstream() -> list[bytes]:
    return list(encode_packets((CLIP.picture(index) for index in range(3)), gop=3))


class Inlet:
    """A camera of H.264 packets that nothing but the test sends to."""

    def __init__(self, camera: Camera) -> None:
        self.camera, self.resets = camera, []
        self._numbers = {FIRST: 0, SECOND: 0}
        camera.start(SimpleNamespace(reset=self.resets.append, resets=0), Waiting())  # type: ignore[arg-type]

    def send(self, data: bytes, stamp_s: int, publisher: int = FIRST) -> None:
        """The next message of one of two publishers."""
        self._numbers[publisher] += 1
        info: Any = {
            "publisher_gid": {"data": bytes([publisher])},
            "publication_sequence_number": self._numbers[publisher],
        }
        self.camera._receive(packet_message(COMPRESSED_TYPE, data, stamp_s * 10**9), info)


@pytest.fixture
def inlet() -> Iterator[Inlet]:
    rclpy.init()
    node = LifecycleNode("inlet")
    camera = Camera(node, "", SegmentationParameters(input_transport="compressed"), CAMVID)
    try:
        yield Inlet(camera)
    finally:
        camera.stop()
        camera.destroy()
        node.destroy_node()
        rclpy.try_shutdown()


def test_picture_of_before_a_reset_is_not_the_first_one_after_it(inlet: Inlet) -> None:
    inlet.send(bitstream()[0], 1)
    inlet.camera.ask_for_reset("a test")
    inlet.send(b"no start code", 2)
    assert inlet.camera.take() is None and inlet.resets == ["a test"]
    assert inlet.camera._dropped == 1 and inlet.camera._health.rejected == 1
    inlet.send(bitstream()[0], 3)
    picture = inlet.camera.take()
    assert picture is not None and picture.header.sec == 3


def test_picture_that_comes_with_a_reset_is_taken(inlet: Inlet) -> None:
    inlet.send(bitstream()[0], 1)
    inlet.camera.ask_for_reset("a test")
    inlet.send(bitstream()[1], 2)
    picture = inlet.camera.take()
    assert picture is not None and picture.header.sec == 2 and inlet.resets == ["a test"]
    assert inlet.camera._dropped == 1


def test_arrival_and_publisher_are_those_of_the_picture(inlet: Inlet) -> None:
    """Not of a message after it that shows none, as one with parameter sets alone."""
    data = bitstream()[0]
    inlet.send(data, 1)
    inlet.send(data[: data.index(b"\x00\x00\x01\x65")], 2, SECOND)
    first, second = inlet.camera._mailbox._waiting
    picture = inlet.camera.take()
    assert picture is not None and picture.header.sec == 1
    assert picture.frame.sender == first.sender != second.sender
    assert picture.times.arrived_s == first.arrived_s < second.arrived_s
