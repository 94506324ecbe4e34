"""The player as a real process: what it sends over DDS is what the source holds."""

from __future__ import annotations

import json
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import (
    HEIGHT,
    WIDTH,
    Recording,
    brightness_of,
    read_decoded,
    read_raw,
    ros_arguments,
    write_bag,
    write_folder,
    write_video,
)
from running_process import PATIENCE_S, RunningProcess

from tdnet_ros.evaluation.bags import BagWriter
from tdnet_ros.video.bag_source import stamp_of
from tdnet_ros.video.messages.types import COMPRESSED_TYPE

PLAYER = "tdnet_ros.node.player_node"
Start = Callable[..., RunningProcess]


def play(start: Start, source: Path, **parameters: object) -> RunningProcess:
    return start(PLAYER, *ros_arguments(source=str(source), **parameters))


def elapsed_s(sent: list[dict[str, float]]) -> float:
    """From the moment at which the first frame was due to the last one's way out."""
    return (sent[-1]["steady_ns"] - sent[0]["steady_ns"]) / 1e9 + sent[0]["late_ms"] / 1e3 + 0.001


def test_raw_pixels_arrive_as_they_were(start_process: Start, tmp_path: Path) -> None:
    pictures, started_ns = write_folder(tmp_path / "007", 6), time.time_ns()
    recording = Recording(start_process, tmp_path, topics=["image"])
    player = play(start_process, tmp_path / "007", rate_hz=10.0, sent_log=str(tmp_path / "sent.json"), encoding="bgr8")
    assert player.wait() == 0, player.output
    assert "sent 6 frames" in player.output
    recording.wait_until("/image", 6)
    assert recording.process.stop() == 0
    sent = json.loads((tmp_path / "sent.json").read_text())["frames"]
    received = read_decoded(recording.bag, "/image")
    for index, (message, entry) in enumerate(zip(received, sent, strict=True)):
        assert (message.height, message.width, message.step) == (HEIGHT, WIDTH, 3 * WIDTH)
        assert (message.encoding, message.header.frame_id) == ("bgr8", "camera")
        np.testing.assert_array_equal(message.data.reshape(HEIGHT, WIDTH, 3), pictures[index])
        stamp = message.header.stamp
        assert (entry["index"], entry["stamp_ns"]) == (index, stamp.sec * 1_000_000_000 + stamp.nanosec)
        assert started_ns <= entry["stamp_ns"] <= time.time_ns()
    assert elapsed_s(sent) >= 0.5, "six frames at 10 Hz take half a second, never less"


def test_bag_is_replayed_byte_for_byte(start_process: Start, tmp_path: Path) -> None:
    messages = write_bag(tmp_path / "bag", storage="sqlite3")
    recording = Recording(start_process, tmp_path, topics=["image"])
    assert play(start_process, tmp_path / "bag", stamps="original").wait() == 0
    recording.wait_until("/image", 3)
    assert recording.process.stop() == 0
    assert read_raw(recording.bag, "/image") == messages


def test_bag_can_get_new_stamps_and_nothing_else_new(start_process: Start, tmp_path: Path) -> None:
    messages, started_ns = write_bag(tmp_path / "bag"), time.time_ns()
    recording = Recording(start_process, tmp_path, topics=["image"])
    assert play(start_process, tmp_path / "bag").wait() == 0
    recording.wait_until("/image", 3)
    assert recording.process.stop() == 0
    replayed = read_raw(recording.bag, "/image")
    assert [cdr[12:] for cdr in replayed] == [cdr[12:] for cdr in messages]
    stamps = [stamp_of(cdr) for cdr in replayed]
    assert stamps == sorted(stamps) and started_ns <= stamps[0] and stamps[-1] <= time.time_ns()


def test_compressed_pictures_are_sent_as_the_files_are(start_process: Start, tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures", 3, ".jpg")
    recording = Recording(start_process, tmp_path, topics=["image/compressed"])
    assert play(start_process, tmp_path / "pictures", transport="compressed").wait() == 0
    recording.wait_until("/image/compressed", 3)
    assert recording.process.stop() == 0
    for index, message in enumerate(read_decoded(recording.bag, "/image/compressed")):
        assert message.format == "jpeg"
        assert message.data.tobytes() == (tmp_path / "pictures" / f"{index}.jpg").read_bytes()


def test_video_can_be_compressed_and_a_compressed_bag_sent_raw(start_process: Start, tmp_path: Path) -> None:
    write_video(tmp_path / "drive.mp4", count=3)
    (tmp_path / "first").mkdir()
    first = Recording(start_process, tmp_path / "first", topics=["image/compressed"])
    assert play(start_process, tmp_path / "drive.mp4", transport="compressed", frame_id="front").wait() == 0
    first.wait_until("/image/compressed", 3)
    assert first.process.stop() == 0

    (tmp_path / "second").mkdir()
    second = Recording(start_process, tmp_path / "second", topics=["image"])
    assert play(start_process, first.bag, transport="raw", stamps="original").wait() == 0
    second.wait_until("/image", 3)
    assert second.process.stop() == 0
    for index, message in enumerate(read_decoded(second.bag, "/image")):
        assert (message.encoding, message.header.frame_id) == ("rgb8", "front")
        assert abs(message.data.mean() - brightness_of(index)) < 5
    stamps = [
        [stamp_of(cdr) for cdr in read_raw(*stored)]
        for stored in ((first.bag, "/image/compressed"), (second.bag, "/image"))
    ]
    assert stamps[0] == stamps[1], "original stamps survive the change of transport"


def test_loop_goes_on_until_told_to_stop(start_process: Start, tmp_path: Path) -> None:
    pictures = write_folder(tmp_path / "pictures", 3)
    recording = Recording(start_process, tmp_path, topics=["image"])
    player = play(start_process, tmp_path / "pictures", loop=True, rate_hz=50.0)
    recording.wait_until("/image", 10)
    assert player.stop(signal.SIGINT) == 0, player.output
    assert "Traceback" not in player.output
    recording.process.stop()
    rgb = [cv2.cvtColor(picture, cv2.COLOR_BGR2RGB) for picture in pictures]
    for index, message in enumerate(read_decoded(recording.bag, "/image")[:10]):
        np.testing.assert_array_equal(message.data.reshape(HEIGHT, WIDTH, 3), rgb[index % 3])


def test_only_the_asked_duration_is_played_at_the_asked_rate(start_process: Start, tmp_path: Path) -> None:
    write_video(tmp_path / "drive.mp4", count=8, rate=10)
    log = tmp_path / "sent.json"
    player = play(
        start_process,
        tmp_path / "drive.mp4",
        duration_s=0.5,
        rate=0.5,
        stamps="original",
        wait_for_subscribers=0,
        sent_log=str(log),
    )
    assert player.wait() == 0, player.output
    frames = json.loads(log.read_text())["frames"]
    assert len(frames) == 5
    stamps = [frame["stamp_ns"] for frame in frames]
    assert np.diff(stamps).tolist() == [100_000_000] * 4, "original stamps have the source's own spacing"
    assert elapsed_s(frames) >= 0.8, "half the speed takes twice the time"


def test_clock_tells_the_time_of_the_recording(start_process: Start, tmp_path: Path) -> None:
    import rclpy
    from rosgraph_msgs.msg import Clock
    from sensor_msgs.msg import CompressedImage

    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/image/compressed", COMPRESSED_TYPE)
        jpeg = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
        for index in range(6):
            header = b"\0\1\0\0" + struct.pack("<iII", 500, index * 100_000_000, 1) + b"\0\0\0\0"
            payload = struct.pack("<I5s3xI", 5, b"jpeg\0", len(jpeg)) + jpeg
            bag.write("/image/compressed", 900_000_000_000 + index * 100_000_000, header + payload)
    times: list[int] = []
    last_ns = 500_500_000_000
    rclpy.init()
    try:
        node = rclpy.create_node("watch")
        node.create_subscription(
            Clock, "/clock", lambda message: times.append(message.clock.sec * 10**9 + message.clock.nanosec), 100
        )
        node.create_subscription(CompressedImage, "image/compressed", lambda message: None, 1)
        player = play(start_process, tmp_path / "bag", stamps="original", clock_hz=50.0)
        give_up_s = time.monotonic() + PATIENCE_S
        # What it sent last may come when it has ended.
        while (player.running or last_ns not in times) and time.monotonic() < give_up_s:
            rclpy.spin_once(node, timeout_sec=0.1)
        assert player.wait() == 0, player.output
    finally:
        rclpy.shutdown()
    assert any(time_ns % 100_000_000 for time_ns in times), "between the images, too"
    assert times == sorted(times)
    assert times[0] >= 500_000_000_000 and times[-1] == last_ns


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"source": "nowhere.mp4"}, "nowhere.mp4 does not exist"),
        ({}, "parameter 'source' is empty"),
        ({"source": "x", "rate": "fast"}, "parameter 'rate' has the wrong type"),
    ],
)
def test_wrong_settings_end_it_with_one_clear_line(
    start_process: Start, parameters: dict[str, object], message: str
) -> None:
    player = start_process(PLAYER, *ros_arguments(**parameters))
    assert player.wait() == 1
    assert message in player.output
    assert "Traceback" not in player.output


def test_source_that_breaks_in_the_middle_ends_it_after_what_is_whole(start_process: Start, tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures", 3)
    whole = (tmp_path / "pictures" / "2.png").read_bytes()
    (tmp_path / "pictures" / "2.png").write_bytes(whole[:100])
    log = tmp_path / "sent.json"
    player = play(start_process, tmp_path / "pictures", wait_for_subscribers=0, sent_log=str(log))
    assert player.wait() == 1
    assert "image 2: PNG" in player.output and "Traceback" not in player.output
    assert len(json.loads(log.read_text())["frames"]) == 2


def test_waiting_for_a_subscriber_can_end_in_both_ways(start_process: Start, tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures", 1)
    impatient = play(start_process, tmp_path / "pictures", wait_timeout_s=0.3)
    patient = play(start_process, tmp_path / "pictures")
    assert impatient.wait() == 1
    assert "0 subscribers on /image after 0.3 s, expected 1" in impatient.output
    patient.wait_for("waiting for 1 subscriber")
    assert patient.stop(signal.SIGTERM) == 0
    assert "Traceback" not in patient.output
