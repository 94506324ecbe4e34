"""Images stored in a rosbag2, handed on as they are: the bytes of the messages, not what is in them."""

from __future__ import annotations

import statistics
import struct
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from tdnet_ros.errors import SourceError
from tdnet_ros.video.sources import (
    COMPRESSED_TYPE,
    IMAGE_TYPE,
    ImageSource,
    SourceImage,
    StoredMessage,
    picture_size,
)


class BagSource(ImageSource):
    """One image topic, raw or compressed, of a rosbag2, mcap or sqlite3, at the times of its recording."""

    has_clock = True

    def __init__(self, path: Path, rate_hz: float | None = None, topic: str | None = None) -> None:
        self.path = path
        self._steady_rate_hz = rate_hz
        self.topic, self.type_name, self.frame_count = _choose_topic(path, topic)
        self.name = f"{path.name}:{self.topic}"
        self.compressed = self.type_name == COMPRESSED_TYPE
        # Enough for a rate: reading a whole bag to learn it could take minutes.
        head = list(islice(self._messages(), 32))
        if not head:
            raise SourceError(f"topic '{self.topic}' of {path} holds no message, expected at least one")
        intervals = [later - earlier for (earlier, _), (later, _) in pairwise(head)]
        median_ns = statistics.median(intervals) if intervals else 0
        self.rate_hz = rate_hz or (1e9 / median_ns if median_ns > 0 else 1.0)
        self.size = self._size(head[0][1])

    def _size(self, cdr: bytes) -> tuple[int, int]:
        try:
            message: Any = get_typestore(Stores.ROS2_KILTED).deserialize_cdr(cdr, self.type_name)
        except Exception as error:  # rosbags raises whatever its generated parser trips over
            raise SourceError(f"first message of '{self.topic}' in {self.path} is damaged: {error!r}") from error
        if self.type_name == IMAGE_TYPE:
            return int(message.width), int(message.height)
        return picture_size(message.data.tobytes(), f"first message of '{self.topic}' in {self.path}")

    def _messages(self) -> Iterator[tuple[int, bytes]]:
        """Receive time in ns and CDR bytes of every message, in the order of the receive times."""
        try:
            with Reader(self.path) as reader:
                chosen = [c for c in reader.connections if c.topic == self.topic and c.msgtype == self.type_name]
                for _, received_ns, cdr in reader.messages(chosen):
                    yield received_ns, bytes(cdr)
        except Exception as error:  # rosbags' readers raise whatever a damaged file makes them trip over
            raise SourceError(f"{self.path} cannot be read (on): {error or repr(error)}") from error

    def __iter__(self) -> Iterator[SourceImage]:
        start_ns = 0
        for index, (received_ns, cdr) in enumerate(self._messages()):
            start_ns = start_ns or received_ns
            time_ns = round(index * 1e9 / self._steady_rate_hz) if self._steady_rate_hz else received_ns - start_ns
            yield SourceImage(index, time_ns, stamp_of(cdr) or received_ns, StoredMessage(cdr, self.type_name))


def _choose_topic(path: Path, topic: str | None) -> tuple[str, str, int]:
    """Name, type and number of messages of the asked image topic, or of the only one there is."""
    try:
        with Reader(path) as reader:
            topics = {
                (c.topic, c.msgtype): sum(o.msgcount for o in reader.connections if o.topic == c.topic)
                for c in reader.connections
            }
    except Exception as error:  # rosbags' readers raise whatever a damaged file makes them trip over
        raise SourceError(f"{path} cannot be opened as a rosbag2: {error or repr(error)}") from error
    images = {name: (kind, count) for (name, kind), count in topics.items() if kind in (IMAGE_TYPE, COMPRESSED_TYPE)}
    listing = ", ".join(f"{name} [{kind}] {count}" for (name, kind), count in sorted(topics.items())) or "none"
    if topic is None and len(images) == 1:
        topic = next(iter(images))
    if topic is None:
        raise SourceError(f"{path} has {len(images)} image topics: name one. Topics there are: {listing}")
    if topic not in images:
        raise SourceError(f"topic is '{topic}', expected an image topic of {path}. Topics there are: {listing}")
    return topic, *images[topic]


def stamp_of(cdr: bytes) -> int:
    """header.stamp in ns of a serialised message that begins with a std_msgs/Header, of either byte order."""
    seconds, nanoseconds = struct.unpack_from("<iI" if cdr[1] & 1 else ">iI", cdr, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
