"""Labels of a recording: which label image belongs to which frame."""

from __future__ import annotations

import bisect
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import SourceError
from tdnet_ros.video.bag_reader import BagReader
from tdnet_ros.video.bag_source import BagTopicSource, image_topics, stamp_of
from tdnet_ros.video.image_source import ImageSource, SourceImage
from tdnet_ros.video.messages.types import IMAGE_TYPE, typestore
from tdnet_ros.video.sources import ImageFolder

Ids = npt.NDArray[np.uint8]
#: What holds one byte a pixel; OpenCV's name for it is common, too.
_LABEL_ENCODINGS = ("mono8", "8UC1")


class LabelTrack(ABC):
    """Labels by frame. ``name`` is for people, ``count`` the number of label images.

    ``damage`` says in words which labels could not be read, as far as has turned up.
    """

    name: str
    count: int

    @property
    def damage(self) -> list[str]:
        return []

    @abstractmethod
    def of(self, image: SourceImage) -> Ids | None:
        """The labels (H, W) of that frame, ids as the label image has them, None for a frame without."""


class FolderLabels(LabelTrack):
    """A folder of single-channel PNGs.

    Beside an image folder they are paired by file name without ending; beside a video or a bag the number at the end
    of the name is the frame's, from 0, unless there is exactly one for every frame: then they are paired in order.
    """

    def __init__(self, path: Path, source: ImageSource) -> None:
        self.name = str(path)
        files = {file.stem: file for file in sorted(path.glob("*.png"))}
        if not files:
            raise SourceError(f"labels are '{path}', expected a folder with PNG label images")
        if isinstance(source, ImageFolder):
            self._files = {index: files[name] for index, name in enumerate(source.picture_names) if name in files}
        elif len(files) == source.frame_count:
            self._files = dict(enumerate(files[name] for name in sorted(files, key=_number)))
        else:
            self._files = {_number(name): file for name, file in files.items()}
        if not self._files:
            raise SourceError(f"labels are '{path}', none of whose {len(files)} names is that of a picture")
        self.count = len(self._files)

    def of(self, image: SourceImage) -> Ids | None:
        file = self._files.get(image.index)
        return None if file is None else _read(file)


class BagLabels(LabelTrack):
    """A topic of mono8 label images, paired with frames by header stamp: equal, or nearest within a tolerance.

    The topic is read along with the images, so that a long recording's labels need not fit into memory; asked in
    another order, it is read again.
    """

    def __init__(self, bag: BagReader, topic: str, image_stamps_ns: Iterable[int], tolerance_ns: int = 0) -> None:
        self.name = f"{bag.path.name}:{topic}"
        self._bag, self._topic = bag, topic
        found = bag.topics.get(topic)
        if found is None or found.type_name != IMAGE_TYPE:
            raise SourceError(
                f"labels are '{topic}', expected a topic of type {IMAGE_TYPE} of {bag.path}, or a folder. "
                f"Topics there are: {bag.listing()}"
            )
        stamps = [stamp_of(cdr) or received_ns for received_ns, cdr in bag.messages(topic)]
        self.count = len(stamps)
        self._positions = pair_by_stamp(sorted(set(image_stamps_ns)), stamps, tolerance_ns)
        if not self._positions:
            raise SourceError(
                f"{bag.path}: none of the {self.count} labels of '{topic}' has the stamp of an image "
                f"(tolerance {tolerance_ns / 1e6:g} ms)"
            )
        self._wanted = set(self._positions.values())
        self._damaged: set[int] = set()
        self._current: Ids | None = None
        self._at = self._at_message = -1
        self._read_from_start()

    @property
    def damage(self) -> list[str]:
        count = len(self._damaged)
        return [f"{count} labels of '{self._topic}' are damaged, their frames are not scored"] if count else []

    def of(self, image: SourceImage) -> Ids | None:
        position = self._positions.get(image.stamp_ns)
        if position is None:
            return None
        if position != self._at:
            self._current, self._at = self._find(position), position
        return self._current

    def _find(self, position: int) -> Ids | None:
        if position in self._passed:
            return np.asarray(cv2.imdecode(self._passed.pop(position), cv2.IMREAD_UNCHANGED), np.uint8)
        if position <= self._at_message:
            self._read_from_start()
        for found, (_, cdr) in self._coming:
            self._at_message = found
            if found == position:
                return self._ids(cdr)
            if found in self._wanted and (ids := self._ids(cdr)) is not None:
                self._passed[found] = _pack(ids)
        return None

    def _read_from_start(self) -> None:
        self._coming, self._at_message = enumerate(self._bag.messages(self._topic)), -1
        #: Labels whose frames come later, by position: packed, which makes a fiftieth of them.
        self._passed: dict[int, npt.NDArray[np.uint8]] = {}

    def _ids(self, cdr: bytes) -> Ids | None:
        """The ids (H, W) of a label message; None, and counted, when it is damaged."""
        try:
            message: Any = typestore().deserialize_cdr(cdr, IMAGE_TYPE)
            encoding, height, width, step = message.encoding, message.height, message.width, message.step
            whole = width and height and step >= width and len(message.data) >= step * height
        except Exception:  # rosbags raises whatever its generated parser trips over
            encoding, whole = _LABEL_ENCODINGS[0], False
        if encoding not in _LABEL_ENCODINGS:
            raise SourceError(
                f"labels '{self._topic}' of {self._bag.path} are {encoding}, expected mono8: ids of classes"
            )
        if not whole:
            self._damaged.add(self._at_message)
            return None
        rows = np.asarray(message.data, np.uint8)[: step * height].reshape(height, step)
        return rows[:, :width]


def pair_by_stamp(images_ns: Sequence[int], labels_ns: Sequence[int], tolerance_ns: int) -> dict[int, int]:
    """Image stamp -> position of its label: the image nearest to each label, within the tolerance.

    ``images_ns`` ascend. When two labels want one image, the nearer one has it.
    """
    pairs: dict[int, int] = {}
    for position, stamp in enumerate(labels_ns):
        around = bisect.bisect_left(images_ns, stamp)
        near = min(images_ns[max(0, around - 1) : around + 1], key=lambda image: abs(image - stamp), default=None)
        if near is None or abs(near - stamp) > tolerance_ns:
            continue
        holder = pairs.get(near)
        if holder is None or abs(near - stamp) < abs(near - labels_ns[holder]):
            pairs[near] = position
    return pairs


def open_labels(source: ImageSource, source_path: Path, labels: str, tolerance_ns: int = 0) -> LabelTrack:
    """Labels of a recording: a folder, or the name of a topic in the same bag.

    Raises SourceError when there is no such folder or topic, or when no label belongs to any frame.
    """
    if Path(labels).is_dir():
        return FolderLabels(Path(labels), source)
    if not isinstance(source, BagTopicSource):
        raise SourceError(f"labels are '{labels}', expected an existing folder: {source_path} is not a bag")
    return BagLabels(source.bag, labels, source.stamps_ns(), tolerance_ns)


def image_topic_beside(recording: Path, labels: str) -> str:
    """The image topic of a bag whose only other one holds the labels; empty where that leaves a choice, or none."""
    if not labels.startswith("/") or Path(labels).is_dir():
        return ""
    others = [topic for topic in image_topics(BagReader(recording)) if topic != labels]
    return others[0] if len(others) == 1 else ""


def _number(name: str) -> int:
    found = re.findall(r"\d+", name)
    if not found:
        raise SourceError(f"label image is '{name}.png', expected a name that ends in the frame's number")
    return int(found[-1])


def _read(file: Path) -> Ids:
    labels: Any = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
    if labels is None or labels.ndim != 2 or labels.dtype != np.uint8:
        shape = "nothing readable" if labels is None else f"{labels.dtype} {labels.shape}"
        raise SourceError(f"label image '{file}' is {shape}, expected 8-bit ids of one channel")
    return np.asarray(labels, np.uint8)


def _pack(ids: Ids) -> npt.NDArray[np.uint8]:
    return np.asarray(cv2.imencode(".png", ids, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1], np.uint8)
