"""Images stored in a rosbag2. Pictures are handed on as the messages that they are; a video's packets are decoded."""

from __future__ import annotations

import contextlib
import logging
import statistics
import struct
from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, cast

from tdnet_ros.errors import DecodeError, SourceError
from tdnet_ros.video.bag_reader import BagReader, Topic
from tdnet_ros.video.codecs import codec_of
from tdnet_ros.video.image_source import ImageSource, Pixels, SourceImage, StoredMessage, picture_size
from tdnet_ros.video.messages.packets import read_packet
from tdnet_ros.video.messages.types import COMPRESSED_TYPE, IMAGE_TYPE, PACKET_TYPES, typestore
from tdnet_ros.video.packet_decoder import DecodedPicture, PacketDecoder, VideoPacket

_IMAGE_TYPES = (IMAGE_TYPE, COMPRESSED_TYPE, *PACKET_TYPES)
#: Messages from which rate and size are learnt.
_HEAD = 32

_log = logging.getLogger(__name__)


def open_bag(path: Path, rate_hz: float | None = None, topic: str | None = None) -> ImageSource:
    """One image topic of a rosbag2, mcap or sqlite3: pictures, or a video's packets.

    A damaged bag is read as far as it goes, and says so in ``damage``. Raises SourceError when there is no such
    topic, or several and none is named, or nothing that can be decoded.
    """
    bag = BagReader(path)
    name = _choose_topic(bag, topic)
    if bag.topics[name].type_name in PACKET_TYPES or _is_video(bag, name):
        return PacketBagSource(bag, name, rate_hz)
    return BagSource(bag, name, rate_hz)


class BagTopicSource(ImageSource):
    """Messages of one topic at the times of their recording."""

    has_clock = True

    def __init__(self, bag: BagReader, topic: str, rate_hz: float | None = None) -> None:
        self.bag, self.topic = bag, topic
        self.type_name, self.frame_count = bag.topics[topic].type_name, bag.topics[topic].count
        self.name = f"{bag.path.name}:{topic}"
        self._steady_rate_hz = rate_hz
        # Enough for a rate: reading a whole bag to learn it could take minutes.
        head = list(islice(bag.messages(topic), _HEAD))
        if not head:
            raise SourceError(
                "; ".join([f"topic '{topic}' of {bag.path} holds no message, expected at least one", *bag.damage])
            )
        intervals = [later - earlier for (earlier, _), (later, _) in pairwise(head)]
        median_ns = statistics.median(intervals) if intervals else 0
        self.rate_hz = rate_hz or (1e9 / median_ns if median_ns > 0 else 1.0)
        self.size = self._size([cdr for _, cdr in head])

    @property
    def damage(self) -> list[str]:
        return self.bag.damage

    def stamps_ns(self) -> Iterator[int]:
        """The stamp of every image, without decoding any; of a video also those of packets that give none."""
        return (stamp_of(cdr) or received_ns for received_ns, cdr in self.bag.messages(self.topic))

    def _size(self, head: list[bytes]) -> tuple[int, int]:
        """(width, height) of the first image, for which there are the first messages."""
        raise NotImplementedError

    def _time_ns(self, index: int, since_start_ns: int) -> int:
        return round(index * 1e9 / self._steady_rate_hz) if self._steady_rate_hz else since_start_ns


class BagSource(BagTopicSource):
    """Pictures, raw or compressed, handed on as the messages that they are stored in."""

    def __init__(self, bag: BagReader, topic: str, rate_hz: float | None = None) -> None:
        self.compressed = bag.topics[topic].type_name == COMPRESSED_TYPE
        super().__init__(bag, topic, rate_hz)

    def _size(self, head: list[bytes]) -> tuple[int, int]:
        # A recording may well begin with a picture that is broken.
        first_error: SourceError | None = None
        for cdr in head:
            try:
                return self._size_of(cdr)
            except SourceError as error:
                first_error = first_error or error
        assert first_error is not None
        raise first_error

    def _size_of(self, cdr: bytes) -> tuple[int, int]:
        name = f"first message of '{self.topic}' in {self.bag.path}"
        try:
            message: Any = typestore().deserialize_cdr(cdr, self.type_name)
        except Exception as error:  # rosbags raises whatever its generated parser trips over
            raise SourceError(f"{name} is damaged: {error!r}") from error
        if self.type_name == COMPRESSED_TYPE:
            return picture_size(message.data.tobytes(), name)
        if not message.width or not message.height:
            raise SourceError(f"{name} is {message.width}x{message.height}, expected at least 1x1")
        return int(message.width), int(message.height)

    def __iter__(self) -> Iterator[SourceImage]:
        start_ns = 0
        for index, (received_ns, cdr) in enumerate(self.bag.messages(self.topic)):
            start_ns = start_ns or received_ns
            time_ns = self._time_ns(index, received_ns - start_ns)
            yield SourceImage(index, time_ns, stamp_of(cdr) or received_ns, StoredMessage(cdr, self.type_name))


class PacketBagSource(BagTopicSource):
    """Images decoded from a video's packets.

    Packets before the first keyframe, and damaged ones, give no image; ``damage`` says how many there were.
    """

    def __init__(self, bag: BagReader, topic: str, rate_hz: float | None = None) -> None:
        self._without_image = 0
        super().__init__(bag, topic, rate_hz)

    @property
    def damage(self) -> list[str]:
        lost = [f"{self._without_image} packets of '{self.topic}' gave no image"] if self._without_image else []
        return [*self.bag.damage, *lost]

    def packets(self) -> Iterator[VideoPacket]:
        """The packets as they are stored; messages without one are left out."""
        for received_ns, cdr in self.bag.messages(self.topic):
            with contextlib.suppress(DecodeError):
                yield read_packet(cdr, self.type_name, received_ns)

    def _size(self, head: list[bytes]) -> tuple[int, int]:
        first = next(self._images(), None)
        if first is None:
            raise SourceError(f"topic '{self.topic}' of {self.bag.path} holds no packet that can be decoded")
        return first.picture.width, first.picture.height

    def _images(self) -> Iterator[DecodedPicture]:
        decoder, damaged = PacketDecoder(), 0
        for received_ns, cdr in self.bag.messages(self.topic):
            try:
                packet = read_packet(cdr, self.type_name, received_ns)
            except DecodeError:
                damaged += 1
                continue
            yield from decoder.decode(packet)
        yield from decoder.flush()
        self._without_image = damaged + decoder.damaged + decoder.waited
        if self._without_image:
            _log.warning("%s: %d packets gave no image", self.name, self._without_image)

    def __iter__(self) -> Iterator[SourceImage]:
        start_ns = 0
        for index, decoded in enumerate(self._images()):
            packet = decoded.packet
            start_ns = start_ns or packet.received_ns
            time_ns = self._time_ns(index, packet.received_ns - start_ns)
            yield SourceImage(index, time_ns, packet.stamp_ns or packet.received_ns, Pixels(decoded.rgb(), "rgb8"))


def _is_video(bag: BagReader, topic: str) -> bool:
    """Whether the first CompressedImage of a topic names a video codec as its format."""
    if bag.topics[topic].type_name != COMPRESSED_TYPE:
        return False
    for _, cdr in bag.messages(topic):
        try:
            return codec_of(str(cast(Any, typestore().deserialize_cdr(cdr, COMPRESSED_TYPE)).format)) is not None
        except Exception:  # rosbags raises whatever its generated parser trips over; BagSource then says what is wrong
            return False
    return False


def image_topics(bag: BagReader) -> dict[str, Topic]:
    """The image topics of a bag, by name."""
    return {name: topic for name, topic in bag.topics.items() if topic.type_name in _IMAGE_TYPES}


def _choose_topic(bag: BagReader, topic: str | None) -> str:
    """The asked image topic, or the only one there is."""
    images = image_topics(bag)
    if topic is None and len(images) == 1:
        topic = next(iter(images))
    if topic is None:
        raise SourceError(f"{bag.path} has {len(images)} image topics: name one. Topics there are: {bag.listing()}")
    if topic not in images:
        raise SourceError(
            f"topic is '{topic}', expected an image topic of {bag.path}. Topics there are: {bag.listing()}"
        )
    return topic


def stamp_of(cdr: bytes) -> int:
    """header.stamp in ns of a serialised message that begins with a std_msgs/Header, of either byte order.

    0, which ROS reads as unset, for bytes that are too few to have one.
    """
    if len(cdr) < 12:
        return 0
    seconds, nanoseconds = struct.unpack_from("<iI" if cdr[1] & 1 else ">iI", cdr, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)
