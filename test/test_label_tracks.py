"""Which label image belongs to which frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import write_folder, write_video

from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.bags import BagWriter
from tdnet_ros.evaluation.label_tracks import open_labels, pair_by_stamp
from tdnet_ros.video.messages.cdr import serialize_image
from tdnet_ros.video.messages.types import IMAGE_TYPE
from tdnet_ros.video.sources import open_source

MS = 1_000_000


def write_labels(folder: Path, names: list[str]) -> Path:
    folder.mkdir()
    for value, name in enumerate(names):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((4, 6), value, np.uint8))
    return folder


def found(source_path: Path, labels: str, tolerance_ns: int = 0) -> list[int | None]:
    """By frame the value of its label image."""
    source = open_source(source_path)
    track = open_labels(source, source_path, labels, tolerance_ns)
    ids = [track.of(image) for image in source]
    return [None if each is None else int(each[0, 0]) for each in ids]


def test_exact_stamps_pair_and_others_do_not() -> None:
    assert pair_by_stamp([10, 20, 30], [20, 31], 0) == {20: 0}


def test_within_a_tolerance_the_nearest_image_is_taken() -> None:
    assert pair_by_stamp([10, 20, 30], [12, 26, 99], 5) == {10: 0, 30: 1}


def test_the_nearer_of_two_labels_has_the_image() -> None:
    assert pair_by_stamp([10, 50], [13, 11, 14], 5) == {10: 1}


def test_folder_labels_go_by_name_beside_pictures(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", 4)
    labels = write_labels(tmp_path / "labels", ["1", "3", "unrelated"])
    assert found(tmp_path / "images", str(labels)) == [None, 0, None, 1]


def test_folder_labels_go_by_number_beside_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", count=5)
    labels = write_labels(tmp_path / "labels", ["frame_0001", "frame_0004"])
    assert found(tmp_path / "video.mp4", str(labels)) == [None, 0, None, None, 1]


def test_one_label_for_every_frame_goes_in_order(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", count=3)
    labels = write_labels(tmp_path / "labels", ["seq_07959", "seq_07961", "seq_07963"])
    assert found(tmp_path / "video.mp4", str(labels)) == [0, 1, 2]


def bag(path: Path, label_stamps: list[int]) -> Path:
    with BagWriter(path) as writer:
        for topic in ("/image", "/labels"):
            writer.add_topic(topic, IMAGE_TYPE)
        for index in range(3):
            stamp = (1 + index) * 100 * MS
            writer.write("/image", stamp, bytes(serialize_image(0, stamp, "camera", 4, 6, "rgb8", 18, bytes(72))))
        for value, stamp in enumerate(label_stamps):
            ids = bytes([value]) * 24
            writer.write("/labels", stamp, bytes(serialize_image(0, stamp, "camera", 4, 6, "mono8", 6, ids)))
    return path


@pytest.mark.parametrize(("tolerance_ns", "expected"), [(0, [0, None, None]), (10 * MS, [0, 1, None])])
def test_labels_of_a_topic_go_by_stamp(tmp_path: Path, tolerance_ns: int, expected: list[int | None]) -> None:
    path = bag(tmp_path / "bag", [100 * MS, 208 * MS, 350 * MS])
    source = open_source(path, topic="/image")
    track = open_labels(source, path, "/labels", tolerance_ns)
    assert track.count == 3
    ids = [track.of(image) for image in source]
    assert [None if each is None else int(each[0, 0]) for each in ids] == expected


def test_labels_that_belong_to_no_frame_are_an_error(tmp_path: Path) -> None:
    path = bag(tmp_path / "bag", [777])
    source = open_source(path, topic="/image")
    with pytest.raises(SourceError, match=r"none of the 1 labels of '/labels' has the stamp of an image"):
        open_labels(source, path, "/labels")
    write_folder(tmp_path / "images", 2)
    with pytest.raises(SourceError, match="none of whose 1 names is that of a picture"):
        found(tmp_path / "images", str(write_labels(tmp_path / "labels", ["other"])))
    with pytest.raises(SourceError, match="expected an existing folder"):
        found(tmp_path / "images", "/labels")


def test_a_label_image_in_colour_is_refused(tmp_path: Path) -> None:
    write_folder(tmp_path / "images", 1)
    (tmp_path / "labels").mkdir()
    cv2.imwrite(str(tmp_path / "labels" / "0.png"), np.zeros((4, 6, 3), np.uint8))
    with pytest.raises(SourceError, match=r"uint8 \(4, 6, 3\), expected 8-bit ids of one channel"):
        found(tmp_path / "images", str(tmp_path / "labels"))
