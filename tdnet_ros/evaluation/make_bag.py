"""Builds a rosbag2 of images and labels: what ``tdnet-ros evaluate`` reads and a ROS graph replays."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.bags import BagWriter, typestore
from tdnet_ros.evaluation.label_tracks import FolderLabels
from tdnet_ros.video.image_source import CompressedPicture, ImageSource, SourceImage, picture_size
from tdnet_ros.video.messages.types import COMPRESSED_TYPE, IMAGE_TYPE
from tdnet_ros.video.source_frames import frame_of

Ids = npt.NDArray[np.uint8]
_FORMATS = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg"}
#: Recordings begin here on ROS's clock: a stamp of 0 means "no time".
_EPOCH_NS = 1_000_000_000_000_000_000


@dataclass(frozen=True)
class LabelledImage:
    """An image of a recording with its labels (H, W), None where it has none."""

    image: SourceImage
    labels: Ids | None


@dataclass(frozen=True)
class BagLayout:
    """Topics and header of the bag. With ``raw`` pixels are stored decoded (rgb8), else as JPEG or PNG files are."""

    image_topic: str = "/camera/image"
    label_topic: str = "/camera/labels"
    frame_id: str = "camera"
    raw: bool = False
    storage: str = "mcap"


def from_index(index: Path, split: str = "", sequence: str = "") -> Iterator[LabelledImage]:
    """Images and labels that a ``sequences.csv`` lists (columns split, sequence, timestamp_s, image, label).

    ``split`` and ``sequence`` choose rows; those left must be of one sequence, since a bag is one recording. Raises
    SourceError when the index or a file is missing, or when no row is left.
    """
    if not index.is_file():
        raise SourceError(f"index is '{index}', expected an existing sequences.csv")
    with index.open(newline="", encoding="utf-8") as file:
        rows = [
            row for row in csv.DictReader(file) if split in ("", row["split"]) and sequence in ("", row["sequence"])
        ]
    sequences = sorted({row["sequence"] for row in rows})
    if len(sequences) != 1:
        raise SourceError(f"{index}: split '{split}' and sequence '{sequence}' give {sequences}, expected one sequence")
    rows.sort(key=lambda row: float(row["timestamp_s"]))
    start_s = float(rows[0]["timestamp_s"])
    for position, row in enumerate(rows):
        picture, label = index.parent / row["image"], index.parent / row["label"]
        time_ns = round((float(row["timestamp_s"]) - start_s) * 1e9)
        try:
            content = CompressedPicture(picture.read_bytes(), _FORMATS[picture.suffix.lower()])
        except (OSError, KeyError) as error:
            raise SourceError(f"{index}: {picture} cannot be read as PNG or JPEG: {error}") from error
        yield LabelledImage(SourceImage(position, time_ns, time_ns, content), _read_ids(label))


def from_source(source: ImageSource, labels: Path | None) -> Iterator[LabelledImage]:
    """Images of a video, a folder or a bag, with the label images of a folder beside them."""
    track = FolderLabels(labels, source) if labels is not None else None
    for image in source:
        yield LabelledImage(image, track.of(image) if track is not None else None)


def make_bag(
    images: Iterator[LabelledImage],
    output: Path,
    layout: BagLayout | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda done: None,
) -> dict[str, int]:
    """Write the images, and mono8 labels with the same stamps; the number of messages by topic.

    Label ids are stored as they are. ``progress`` is told the number of images after each. Raises BagWriteError and
    SourceError.
    """
    layout = layout or BagLayout()
    with BagWriter(output, layout.storage, overwrite) as bag:
        topic = layout.image_topic if layout.raw else f"{layout.image_topic}/compressed"
        bag.add_topic(topic, IMAGE_TYPE if layout.raw else COMPRESSED_TYPE)
        bag.add_topic(layout.label_topic, IMAGE_TYPE)
        for done, labelled in enumerate(images, start=1):
            stamp_ns = _EPOCH_NS + labelled.image.time_ns
            bag.write(topic, stamp_ns, _image(labelled.image, stamp_ns, layout))
            if labelled.labels is not None:
                bag.write(layout.label_topic, stamp_ns, _raw(labelled.labels, "mono8", stamp_ns, layout.frame_id))
            progress(done)
        return dict(bag.counts)


def _image(image: SourceImage, stamp_ns: int, layout: BagLayout) -> bytes:
    content = image.content
    if isinstance(content, CompressedPicture) and not layout.raw:
        picture_size(content.data, f"image {image.index}")  # what cannot be decoded does not belong into a bag
        return _compressed(content.data, content.format, stamp_ns, layout.frame_id)
    frame = frame_of(image)
    code = {"bgr8": cv2.COLOR_BGR2RGB, "mono8": cv2.COLOR_GRAY2RGB}.get(frame.encoding)
    rgb = frame.image if code is None else np.asarray(cv2.cvtColor(frame.image, code), np.uint8)
    if layout.raw:
        return _raw(rgb, "rgb8", stamp_ns, layout.frame_id)
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    return _compressed(cv2.imencode(".png", bgr)[1].tobytes(), "png", stamp_ns, layout.frame_id)


def _raw(pixels: Ids, encoding: str, stamp_ns: int, frame_id: str) -> bytes:
    types = typestore().types
    message = types[IMAGE_TYPE](
        header=_header(stamp_ns, frame_id),
        height=pixels.shape[0],
        width=pixels.shape[1],
        encoding=encoding,
        is_bigendian=0,
        step=pixels.shape[1] * (pixels.shape[2] if pixels.ndim == 3 else 1),
        data=np.ascontiguousarray(pixels).reshape(-1),
    )
    return bytes(typestore().serialize_cdr(message, IMAGE_TYPE))


def _compressed(data: bytes, picture_format: str, stamp_ns: int, frame_id: str) -> bytes:
    message = typestore().types[COMPRESSED_TYPE](
        header=_header(stamp_ns, frame_id), format=picture_format, data=np.frombuffer(data, np.uint8)
    )
    return bytes(typestore().serialize_cdr(message, COMPRESSED_TYPE))


def _header(stamp_ns: int, frame_id: str) -> Any:
    types = typestore().types
    stamp = types["builtin_interfaces/msg/Time"](sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000)
    return types["std_msgs/msg/Header"](stamp=stamp, frame_id=frame_id)


def _read_ids(path: Path) -> Ids:
    labels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
        raise SourceError(f"label image '{path}' cannot be read, expected 8-bit ids of one channel")
    return np.asarray(labels, np.uint8)
