"""A video's own packets as messages: the same bitstream in every type, counted, at the video's times, in a loop."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")
pytest.importorskip("ffmpeg_image_transport_msgs.msg", reason="interface packages are not installed: make does that")
pytest.importorskip("foxglove_msgs.msg", reason="interface packages are not installed: make does that")

from rclpy.serialization import serialize_message
from recordings import write_folder
from video_packets import decode_all, packet_message, write_encoded

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.evaluation.bags import BagWriter
from tdnet_ros.evaluation.bags import typestore as bag_types
from tdnet_ros.node.packet_playback import PACKET_TRANSPORTS, PacketCamera
from tdnet_ros.video.codecs import starts_group
from tdnet_ros.video.encoding import encode_packets
from tdnet_ros.video.messages.cdr import view_compressed
from tdnet_ros.video.messages.packets import compressed_packet, ffmpeg_packet, foxglove_packet
from tdnet_ros.video.messages.types import FOXGLOVE_TYPE, typestore
from tdnet_ros.video.packet_decoder import VideoPacket
from tdnet_ros.video.sources import open_source

GOP, COUNT, RATE_HZ, WIDTH, HEIGHT = 4, 6, 10, 64, 48
READERS = {
    "ffmpeg": ffmpeg_packet,
    "foxglove": foxglove_packet,
    "compressed_video": lambda message: compressed_packet(view_compressed(message)),
}


def picture(number: int) -> np.ndarray:
    return np.full((HEIGHT, WIDTH, 3), 40 + 20 * number, np.uint8)


def write_video(path: Path, codec: str = "libx264", **options: str) -> Path:
    """A grey video, brighter from picture to picture."""
    return write_encoded(path, [picture(number) for number in range(COUNT)], GOP, RATE_HZ, codec, **options)


def sent(camera: PacketCamera, count: int, transport: str, **options: Any) -> list[tuple[int, VideoPacket]]:
    """(time_ns, packet) of the first messages, as a node reads them; each is stamped with its time."""
    outgoing = list(islice(camera.images(**options), count))
    messages = [(item.time_ns, serialize_message(item.message(item.time_ns))) for item in outgoing]
    return [(time_ns, READERS[transport](message)) for time_ns, message in messages]


@pytest.mark.parametrize("transport", PACKET_TRANSPORTS)
def test_packets_of_a_file_are_decoded_to_its_pictures(tmp_path: Path, transport: str) -> None:
    source = open_source(write_video(tmp_path / "drive.mp4", tune="zerolatency", **{"sc_threshold": "0"}))
    camera = PacketCamera(source, transport, "front")
    found = sent(camera, 2 * COUNT + 1, transport, loop=True)
    assert [time_ns for time_ns, _ in found] == [index * 10**9 // RATE_HZ for index in range(2 * COUNT + 1)]
    assert all(packet.stamp_ns == time_ns and packet.frame_id == "front" for time_ns, packet in found)
    if transport == "ffmpeg":
        assert [packet.pts for _, packet in found] == list(range(2 * COUNT + 1)), "counted through all rounds"
    pictures, decoder = decode_all(packet for _, packet in found)
    assert decoder.damaged == decoder.lost == decoder.waited == 0
    for number, decoded in enumerate(pictures):
        assert abs(decoded.rgb().mean() - picture(number % COUNT).mean()) < 4


def test_keyframes_and_size_are_marked_for_subscribers_that_wait_for_them(tmp_path: Path) -> None:
    camera = PacketCamera(open_source(write_video(tmp_path / "a.mp4", sc_threshold="0", bf="0")), "ffmpeg", "front")
    messages = [item.message(0) for item in camera.images()]
    assert [message.flags for message in messages] == [1, 0, 0, 0, 1, 0]
    assert {(message.width, message.height, message.encoding) for message in messages} == {(WIDTH, HEIGHT, "h264")}


def test_other_rates_and_shorter_times(tmp_path: Path) -> None:
    source = open_source(write_video(tmp_path / "a.mp4", bf="0"))
    assert len(list(PacketCamera(source, "ffmpeg", "front").images(duration_s=0.25))) == 3
    slow = PacketCamera(source, "ffmpeg", "front", rate_hz=2.0).images()
    assert [item.time_ns for item in slow] == [index * 10**9 // 2 for index in range(COUNT)]


@pytest.mark.parametrize("suffix", ["h264", "ts", "mkv", "avi"])
def test_bare_bitstreams_and_other_containers_keep_the_rate(tmp_path: Path, suffix: str) -> None:
    camera = PacketCamera(open_source(write_video(tmp_path / f"a.{suffix}", bf="0")), "ffmpeg", "front")
    times_ms = [item.time_ns // 10**6 for item in camera.images()]
    period_ms = 40 if suffix == "h264" else 100  # a bare one does not say its rate
    assert np.allclose(np.diff(times_ms), period_ms, atol=1) and len(times_ms) == COUNT


@pytest.mark.parametrize("rate_hz", [0.0, 5.0])
def test_pictures_coded_in_another_order_are_stamped_in_the_order_they_are_shown_in(
    tmp_path: Path, rate_hz: float
) -> None:
    path = write_video(tmp_path / "a.mp4", bf="2", **{"b-adapt": "0"})
    items = list(PacketCamera(open_source(path), "ffmpeg", "front", rate_hz).images())
    period_ns = 10**9 // (rate_hz or RATE_HZ)
    assert [item.time_ns for item in items] == [index * period_ns for index in range(COUNT)]
    messages = [serialize_message(item.message(item.time_ns + item.ahead_ns)) for item in items]
    pictures, decoder = decode_all(map(ffmpeg_packet, messages))
    assert decoder.fault == "B-frames" and decoder.lost == 0
    assert [picture.packet.stamp_ns for picture in pictures] == [index * period_ns for index in range(COUNT)]
    for number, decoded in enumerate(pictures):
        assert abs(decoded.rgb().mean() - picture(number).mean()) < 4


def test_h265_goes_by_the_name_that_the_message_has_for_it(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", "libx265", **{"x265-params": "log-level=none:bframes=0"})
    camera = PacketCamera(open_source(path), "foxglove", "front")
    messages = [item.message(0) for item in camera.images()]
    assert {message.format for message in messages} == {"h265"}
    assert [starts_group("hevc", bytes(message.data)) for message in messages][:2] == [True, False]


def test_packets_of_a_bag_can_be_sent_in_another_type(tmp_path: Path) -> None:
    if FOXGLOVE_TYPE not in bag_types().types:
        bag_types().register({FOXGLOVE_TYPE: typestore().fielddefs[FOXGLOVE_TYPE]})
    data = list(encode_packets((picture(number) for number in range(COUNT)), gop=GOP))
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/image/foxglove", FOXGLOVE_TYPE)
        for number, content in enumerate(data):
            stamp_ns = 10**9 + number * 10**8
            bag.write("/image/foxglove", stamp_ns + 5, packet_message(FOXGLOVE_TYPE, content, stamp_ns))
    camera = PacketCamera(open_source(tmp_path / "bag"), "ffmpeg", "unused")
    items = list(camera.images())
    assert [item.stamp_ns for item in items] == [10**9 + number * 10**8 for number in range(COUNT)]
    messages = [item.message(item.stamp_ns) for item in items]
    assert [bytes(message.data) for message in messages] == data
    assert [message.flags for message in messages] == [1, 0, 0, 0, 1, 0]
    assert {message.header.frame_id for message in messages} == {"front"}


def test_what_has_no_packets_to_send_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures", 1)
    with pytest.raises(ConfigurationError, match=r"'ffmpeg', but pictures holds pictures.*transport raw or compressed"):
        PacketCamera(open_source(tmp_path / "pictures"), "ffmpeg", "front")
    other = write_video(tmp_path / "old.mp4", "mpeg4")
    with pytest.raises(ConfigurationError, match="coded as mpeg4, expected one of"):
        PacketCamera(open_source(other), "compressed_video", "front")
