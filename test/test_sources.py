"""Videos, folders and bags as image sources: images, times, and what is said when they are no good."""

from __future__ import annotations

import struct
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from recordings import brightness_of, write_bag, write_video

from tdnet_ros.errors import DecodeError, SourceError
from tdnet_ros.evaluation.bags import BagWriter
from tdnet_ros.video.image_source import CompressedPicture, Pixels, StoredMessage
from tdnet_ros.video.messages.types import COMPRESSED_TYPE, IMAGE_TYPE
from tdnet_ros.video.read_ahead import read_ahead
from tdnet_ros.video.source_frames import frame_of
from tdnet_ros.video.sources import open_source


def test_video_gives_every_frame_at_its_time(tmp_path: Path) -> None:
    write_video(tmp_path / "drive.mp4")
    source = open_source(tmp_path / "drive.mp4")
    images = list(source)
    assert (source.name, source.size, source.rate_hz, source.frame_count) == ("drive.mp4", (64, 48), 10.0, 8)
    assert not source.has_clock
    assert [image.time_ns for image in images] == [index * 100_000_000 for index in range(8)]
    for index, image in enumerate(images):
        assert image.index == index
        assert isinstance(image.content, Pixels)
        assert image.content.encoding == "rgb8"
        assert abs(image.content.image.mean() - brightness_of(index)) < 4
    assert [image.time_ns for image in source] == [image.time_ns for image in images], "a source can be read again"


def test_video_keeps_uneven_times_unless_a_rate_is_given(tmp_path: Path) -> None:
    write_video(tmp_path / "uneven.mkv", count=4, pts=[5, 6, 10, 11])
    times = [round(image.time_ns / 1e6) for image in open_source(tmp_path / "uneven.mkv")]
    assert times == [0, 100, 500, 600]
    steady = open_source(tmp_path / "uneven.mkv", rate_hz=50)
    assert (steady.rate_hz, [image.time_ns for image in steady]) == (
        50,
        [0, 20_000_000, 40_000_000, 60_000_000],
    )


def test_video_held_sideways_comes_out_upright(tmp_path: Path) -> None:
    write_video(tmp_path / "phone.mp4")
    data = bytearray((tmp_path / "phone.mp4").read_bytes())
    # Phones don't turn pixels: they write a matrix into the track's header, here 90 degrees clockwise.
    matrix = data.index(b"tkhd") + 4 + 40
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, 48 << 16, 0, 1 << 30)
    (tmp_path / "phone.mp4").write_bytes(data)
    source = open_source(tmp_path / "phone.mp4")
    assert source.size == (48, 64)
    assert next(iter(source)).content.image.shape == (64, 48, 3)


def test_cut_off_video_is_played_as_far_as_it_goes(tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mkv")
    data = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(data[: int(len(data) * 0.7)])
    assert 1 <= len(list(open_source(tmp_path / "cut.mkv"))) < 8


def test_folder_is_played_in_natural_order_without_touching_the_files(tmp_path: Path) -> None:
    for number in (10, 9, 1):
        cv2.imwrite(str(tmp_path / f"img_{number}.png"), np.full((6, 8, 3), number, np.uint8))
    cv2.imwrite(str(tmp_path / "img_11.JPG"), np.full((6, 8, 3), 11, np.uint8))
    (tmp_path / "notes.txt").write_text("not a picture")
    source = open_source(tmp_path, rate_hz=4)
    images = list(source)
    assert (source.size, source.rate_hz, source.frame_count) == ((8, 6), 4, 4)
    assert [int(frame_of(image).image[0, 0, 0]) for image in images] == [1, 9, 10, 11]
    assert [image.time_ns for image in images] == [0, 250_000_000, 500_000_000, 750_000_000]
    assert images[0].content == CompressedPicture((tmp_path / "img_1.png").read_bytes(), "png")
    assert images[3].content.format == "jpeg"


def test_folder_names_the_picture_that_is_damaged(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((6, 8, 3), np.uint8))
    (tmp_path / "2.png").write_bytes((tmp_path / "1.png").read_bytes()[:40])
    images = list(open_source(tmp_path))
    frame_of(images[0])
    with pytest.raises(DecodeError, match=r"image 1.*truncated"):
        frame_of(images[1])
    (tmp_path / "0.png").write_bytes(b"")
    with pytest.raises(SourceError, match=r"0\.png"):
        open_source(tmp_path)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_bag_hands_on_the_stored_bytes(tmp_path: Path, storage: str) -> None:
    messages = write_bag(tmp_path / "bag", storage=storage)
    source = open_source(tmp_path / "bag")
    images = list(source)
    assert (source.size, source.frame_count, source.has_clock) == ((4, 2), 3, True)
    assert source.rate_hz == pytest.approx(20.0)
    assert [image.content for image in images] == [StoredMessage(message, IMAGE_TYPE) for message in messages]
    assert [image.time_ns for image in images] == [0, 50_000_000, 100_000_000]
    assert [image.stamp_ns for image in images] == [100_000_000_007, 200_000_000_007, 150_000_000_007]
    frame = frame_of(images[1])
    assert (frame.image == 1).all() and frame.encoding == "rgb8" and frame.source == "front"


def test_bag_file_without_its_directory_can_be_played(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag")
    assert len(list(open_source(tmp_path / "bag" / "bag.mcap"))) == 3


def test_bag_with_several_image_topics_asks_which(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", topics=("/left/image", "/right/image"))
    with pytest.raises(SourceError, match=r"2 image topics.*/left/image.*/right/image"):
        open_source(tmp_path / "bag")
    with pytest.raises(SourceError, match=r"'/up/image'.*/left/image"):
        open_source(tmp_path / "bag", topic="/up/image")
    assert open_source(tmp_path / "bag", topic="/right/image").frame_count == 3


def test_bag_without_images_or_messages_says_so(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "none") as bag:
        bag.add_topic("/scan", "sensor_msgs/msg/LaserScan")
    with pytest.raises(SourceError, match=r"0 image topics.*/scan"):
        open_source(tmp_path / "none")
    with BagWriter(tmp_path / "empty") as bag:
        bag.add_topic("/image", COMPRESSED_TYPE)
    with pytest.raises(SourceError, match=r"'/image'.*no message"):
        open_source(tmp_path / "empty")


def test_damaged_bag_is_an_error_of_the_source(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag")
    file = tmp_path / "bag" / "bag.mcap"
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(SourceError, match="bag"):
        open_source(tmp_path / "bag")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "cannot be opened as a video"),
        (b"plain text", "cannot be opened as a video"),
    ],
)
def test_what_cannot_be_played_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "thing.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"thing\.mp4 {message}"):
        open_source(path)


def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(SourceError, match="no video stream"):
        open_source(tmp_path / "sound.wav")


def test_settings_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="holds no picture"):
        open_source(tmp_path)
    with pytest.raises(SourceError, match="rate_hz is -1"):
        open_source(tmp_path, rate_hz=-1)
    (tmp_path / "old.bag").touch()
    with pytest.raises(SourceError, match="ROS 1 bag"):
        open_source(tmp_path / "old.bag")
    write_video(tmp_path / "drive.mp4", count=1)
    with pytest.raises(SourceError, match="only bags have topics"):
        open_source(tmp_path / "drive.mp4", topic="/image")


def test_camera_originals_of_the_data_pack_are_read_in_full(data_pack: Path) -> None:
    source = open_source(data_pack / "video" / "solidWhiteRight.mp4")
    assert (source.size, source.rate_hz, source.frame_count) == ((960, 540), 25.0, 221)
    assert sum(1 for _ in source) == 221


def test_reading_ahead_keeps_order_errors_and_ends() -> None:
    assert list(read_ahead(range(20), depth=3)) == list(range(20))

    def broken() -> object:
        yield 1
        raise SourceError("damaged")

    items = read_ahead(broken())
    assert next(items) == 1
    with pytest.raises(SourceError, match="damaged"):
        next(items)

    endless = read_ahead(iter(int, 1))
    assert next(endless) == 0
    endless.close()
