"""Video packets of every transport through the node as a process: joined in the middle, and with losses."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from recordings import ros_arguments
from running_process import RunningProcess
from video_packets import write_encoded

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")
pytest.importorskip("ffmpeg_image_transport_msgs.msg", reason="interface packages are not installed: make does that")
pytest.importorskip("foxglove_msgs.msg", reason="interface packages are not installed: make does that")

import sys

from ffmpeg_image_transport_msgs.msg import FFMPEGPacket
from foxglove_msgs.msg import CompressedVideo
from rclpy.qos import ReliabilityPolicy
from segmentation_graph import Graph, segmentation_graph, stamp_of, wait_for
from sensor_msgs.msg import CompressedImage
from std_srvs.srv import SetBool

from benchmarks.analytic_clip import DriveClip
from tdnet_ros.errors import ConfigurationError
from tdnet_ros.node.inputs import INPUTS
from tdnet_ros.video.encoding import encode_packets

GOP, COUNT = 4, 16
BEST_EFFORT, RELIABLE = ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE


@cache
def bitstream() -> list[bytes]:
    clip = DriveClip(96, 128, seed=1)  # no cuts, at which encoders set keyframes of their own
    return list(encode_packets((clip.picture(index) for index in range(COUNT)), gop=GOP))


def message(transport: str, number: int) -> Any:
    data = bitstream()[number % COUNT]
    if transport == "ffmpeg":
        key = int(number % GOP == 0)
        return FFMPEGPacket(width=128, height=96, encoding="h264;yuv420p;bgr8;bgr8", pts=number, flags=key, data=data)
    if transport == "foxglove":
        return CompressedVideo(format="h264", data=data)
    return CompressedImage(format="h264", data=data)


class Sender:
    """Sends the packets of an endless stream, from its second picture on."""

    def __init__(self) -> None:
        self.number = 1

    def join(self, graph: Graph) -> None:
        """Send until a first mask comes, which can only be that of a keyframe, and end before the next keyframe."""
        keyframes = set()

        def answered() -> bool:
            stamp_ns = self.send(graph)
            if (self.number - 1) % GOP == 0:
                keyframes.add(stamp_ns)
            time.sleep(0.1)
            return bool(graph.masks)

        wait_for(answered, "the first mask", graph)
        assert stamp_of(graph.masks[0]) in keyframes
        while self.number % GOP:
            self.send(graph)

    def send(self, graph: Graph) -> int:
        """The next packet; its stamp."""
        self.number += 1
        return graph.send(message(graph.transport, self.number - 1))

    def mask(self, graph: Graph) -> Any:
        """That of the next packet."""
        self.number += 1
        return graph.mask_of(message(graph.transport, self.number - 1))


@pytest.mark.parametrize(
    ("transport", "reliability"), [("ffmpeg", RELIABLE), ("foxglove", BEST_EFFORT), ("compressed", RELIABLE)]
)
def test_every_packet_gives_its_mask_and_a_lost_one_none_until_the_next_keyframe(
    transport: str, reliability: ReliabilityPolicy
) -> None:
    sender = Sender()
    with segmentation_graph(transport=transport, reliability=reliability, greeting=sender.join) as graph:
        if reliability == BEST_EFFORT and transport != "compressed":
            graph.process.wait_for("offers best effort only")
        else:
            assert "offers best effort only" not in graph.process.output
        for _ in range(GOP):
            mask = sender.mask(graph)
            assert (mask.encoding, mask.height, mask.width, mask.step) == ("mono8", 96, 128, 128)
            assert mask.header.frame_id == "camera_optical"
            latency = graph.latency_of(stamp_of(mask))
            assert latency.decode_ms > 0
        lost_before = latency.lost_upstream_total
        sender.mask(graph)
        sender.number += 1  # lost
        withheld = [sender.send(graph) for _ in range(GOP - 2)]
        mask = sender.mask(graph)
        assert graph.latency_of(stamp_of(mask)).lost_upstream_total == lost_before + 1
        assert not {stamp_of(found) for found in graph.masks} & set(withheld)
        status = graph.status(lambda status: "packets lost" in status, "diagnostics of the video")
        assert int(status["pictures withheld until a keyframe"]) >= GOP - 2
        assert int(status["packets before the first keyframe"]) >= 1 and int(status["packets damaged"]) == 0
        for enabled in (False, True):
            assert graph.call(SetBool, "segmentation_node/enable", SetBool.Request(data=enabled)).success
            paused = [sender.send(graph) for _ in range(1 if enabled else GOP)]  # a whole group is missed
        sender.number += -sender.number % GOP
        sender.mask(graph)
        assert not {stamp_of(found) for found in graph.masks} & set(paused)


def test_player_sends_a_videos_own_packets_to_the_node(
    start_process: Callable[..., RunningProcess], ros_domain: dict[str, str], tmp_path: Path
) -> None:
    """A real drive where there is one; the node starts first, and hears of the first packet, a keyframe."""
    data = os.environ.get("TDNET_ROS_DATA")
    if data:
        source = Path(data, "video", "solidWhiteRight.mp4")
    else:
        clip = DriveClip(96, 128, seed=1)
        source = write_encoded(tmp_path / "drive.mp4", map(clip.picture, range(COUNT)), GOP, 10, bf="0")
    node = start_process(
        "tdnet_ros.node.segmentation_node",
        *ros_arguments(input_transport="ffmpeg", input_height=96, timeout_s=1000.0),
    )
    node.wait_for("segmenting /image/ffmpeg")
    graph = Graph(node, int(ros_domain["ROS_DOMAIN_ID"]))
    try:
        log = tmp_path / "sent.json"
        player = start_process(
            "tdnet_ros.node.player_node",
            *ros_arguments(source=str(source), transport="ffmpeg", rate=0.25, duration_s=0.9, sent_log=str(log)),
        )
        assert player.wait() == 0, player.output
        stamps = [frame["stamp_ns"] for frame in json.loads(log.read_text())["frames"]]
        assert len(stamps) >= 9
        wait_for(lambda: stamp_of(graph.masks[-1]) == stamps[-1] if graph.masks else False, "the last mask", graph)
        found = [stamp_of(mask) for mask in graph.masks]
        assert set(found) <= set(stamps) and stamps[0] in found
        last = graph.latency_of(stamps[-1])
        assert last.lost_upstream_total == 0 and last.dropped_total == len(stamps) - len(found)
        assert {mask.header.frame_id for mask in graph.masks} == {"camera"}
    finally:
        graph.close()


def test_a_missing_interface_package_is_said_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    monkeypatch.setitem(sys.modules, "foxglove_msgs.msg", None)
    with pytest.raises(
        ConfigurationError, match=r"foxglove_msgs/CompressedVideo is not installed.*apt install ros-kil"
    ):
        INPUTS["foxglove"].load_type()
    assert INPUTS["ffmpeg"].load_type() is FFMPEGPacket
