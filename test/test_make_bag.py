"""Frames and labels into a bag and back."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import HEIGHT, WIDTH, write_folder, write_video

from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.bags import BagWriteError
from tdnet_ros.evaluation.label_tracks import open_labels
from tdnet_ros.evaluation.make_bag import BagLayout, from_index, from_source, make_bag
from tdnet_ros.video.source_frames import frame_of
from tdnet_ros.video.sources import open_source


def write_labels(folder: Path, count: int) -> list[np.ndarray]:
    folder.mkdir()
    random = np.random.default_rng(1)
    labels = [random.integers(0, 12, (HEIGHT, WIDTH), np.uint8) for _ in range(count)]
    for index, label in enumerate(labels):
        cv2.imwrite(str(folder / f"{index}.png"), label)
    return labels


@pytest.mark.parametrize("raw", [False, True])
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_pictures_and_labels_come_back_as_they_were(tmp_path: Path, raw: bool, storage: str) -> None:
    pictures, labels = write_folder(tmp_path / "images", 4), write_labels(tmp_path / "labels", 3)
    layout = BagLayout(image_topic="/front/image", label_topic="/front/labels", raw=raw, storage=storage)
    source = open_source(tmp_path / "images", 5.0)
    counts = make_bag(from_source(source, tmp_path / "labels"), tmp_path / "bag", layout)
    topic = "/front/image" if raw else "/front/image/compressed"
    assert counts == {topic: 4, "/front/labels": 3}
    back = open_source(tmp_path / "bag", topic=topic)
    track = open_labels(back, tmp_path / "bag", "/front/labels")
    images = list(back)
    assert [image.time_ns for image in images] == [0, 200_000_000, 400_000_000, 600_000_000]
    for image, picture in zip(images, pictures, strict=True):
        frame = frame_of(image)
        expected = picture if frame.encoding == "bgr8" else picture[..., ::-1]
        np.testing.assert_array_equal(frame.image, expected)
    for image, label in zip(images[:3], labels, strict=True):
        np.testing.assert_array_equal(track.of(image), label)
    assert track.of(images[3]) is None


def write_index(folder: Path, rows: list[str]) -> Path:
    write_folder(folder, 2)
    write_labels(folder / "annot", 2)
    index = folder / "sequences.csv"
    index.write_text("\n".join(["split,sequence,frame,timestamp_s,label_rate_hz,image,label", *rows]) + "\n")
    return index


def test_an_index_of_labelled_frames_becomes_a_bag_in_the_order_of_its_times(tmp_path: Path) -> None:
    rows = ["val,A,2,10.5,2,1.png,annot/1.png", "val,A,1,10.0,2,0.png,annot/0.png", "train,B,1,1.0,2,0.png,x.png"]
    index = write_index(tmp_path / "pack", rows)
    assert make_bag(from_index(index, split="val"), tmp_path / "bag")["/camera/labels"] == 2
    source = open_source(tmp_path / "bag", topic="/camera/image/compressed")
    assert [image.time_ns for image in source] == [0, 500_000_000]
    assert source.rate_hz == pytest.approx(2.0)


def test_an_index_that_gives_no_single_recording_is_refused(tmp_path: Path) -> None:
    index = write_index(tmp_path / "pack", ["val,A,1,1,2,0.png,annot/0.png", "val,B,1,1,2,0.png,annot/0.png"])
    with pytest.raises(SourceError, match=r"give \['A', 'B'\], expected one sequence"):
        list(from_index(index, "val"))
    with pytest.raises(SourceError, match=r"give \[\], expected one"):
        list(from_index(index, "test"))
    with pytest.raises(SourceError, match=r"expected an existing sequences\.csv"):
        list(from_index(tmp_path / "none.csv"))
    bad = write_index(tmp_path / "bad", ["val,A,1,1,2,gone.png,annot/0.png"])
    with pytest.raises(SourceError, match=r"gone\.png cannot be read"):
        list(from_index(bad))


def test_a_video_becomes_a_bag_and_an_existing_bag_stays(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", count=3)
    source = open_source(tmp_path / "video.mp4")
    assert make_bag(from_source(source, None), tmp_path / "bag") == {"/camera/image/compressed": 3, "/camera/labels": 0}
    with pytest.raises(BagWriteError, match="exists already"):
        make_bag(from_source(source, None), tmp_path / "bag")
    make_bag(from_source(source, None), tmp_path / "bag", overwrite=True)
    assert len(list(open_source(tmp_path / "bag", topic="/camera/image/compressed"))) == 3
