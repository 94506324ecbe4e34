"""Topics and messages of a rosbag2, mcap or sqlite3, compressed or not; of a damaged one as far as it can be read."""

from __future__ import annotations

import logging
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rosbags.rosbag2 import Reader

from tdnet_ros.errors import ConfigurationError, SourceError
from tdnet_ros.video.decoding import MAX_PIXELS
from tdnet_ros.video.salvage import Stored, require_tables, salvage
from tdnet_ros.yaml_settings import read_yaml

SUFFIXES = (".mcap", ".db3")
_ZSTD = ".zstd"
#: Of a message that is compressed for itself: the largest picture that is decoded, and its header.
_MOST_MESSAGE_BYTES = 3 * MAX_PIXELS + (1 << 16)
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Topic:
    """A topic's message type and how many messages there are, as far as the bag knows."""

    type_name: str
    count: int


class BagReader:
    """A bag's directory, or one of its storage files. Iterations are independent of one another, also in threads.

    ``damage`` says in words what is wrong with the bag, as far as that has turned up: what can be read is read.
    Raises SourceError where nothing can be, or nothing is.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._damage: dict[str, None] = {}  # in order, each once: a bag is read several times
        self._folders: list[TemporaryDirectory[str]] = []  # they go with those who use them
        try:
            self._expected, files = self._listing()
            self._parts = [_Part(self._unpacked(file), self._note) for file in files]
        except OSError as error:
            raise SourceError(f"{path} cannot be opened as a rosbag2: {error}") from error
        self.topics: dict[str, Topic] = {}
        for part in self._parts:
            for name, topic in part.topics.items():
                before = self.topics.get(name, Topic(topic.type_name, 0))
                self.topics[name] = Topic(before.type_name, before.count + topic.count)
        if self._damage and not self.topics:
            raise SourceError(f"{path} cannot be opened as a rosbag2: {'; '.join(self._damage)}")

    def messages(self, topic: str) -> Iterator[tuple[int, bytes]]:
        """Receive time in ns and CDR bytes of every message of a topic, file by file in the order of the times."""
        read, type_name = 0, self.topics[topic].type_name
        try:
            for part in self._parts:
                for received_ns, cdr in part.messages(topic, type_name):
                    read += 1
                    yield received_ns, _plain(cdr)
        except OSError as error:
            raise SourceError(f"{self.path} cannot be read on: {error}") from error
        expected = max(self._expected.get(topic, 0), self.topics[topic].count)
        if read < expected:
            self._note(f"{read} of {expected} messages of '{topic}' could be read")
        elif self._damage:
            self._note(f"{read} messages of '{topic}' could be read")

    @property
    def damage(self) -> list[str]:
        """What is wrong, in words; empty for a sound bag."""
        return list(self._damage)

    def listing(self) -> str:
        """The topics for people."""
        found = (f"{name} [{topic.type_name}] {topic.count}" for name, topic in sorted(self.topics.items()))
        return ", ".join(found) or "none"

    def _note(self, text: str) -> None:
        if text not in self._damage:
            _log.warning("%s: %s", self.path, text)
        self._damage[text] = None

    def _listing(self) -> tuple[dict[str, int], list[Path]]:
        """Number of messages by topic as metadata.yaml has them, and the storage files that are there."""
        if self.path.is_file():
            return {}, [self.path]
        there = sorted((file for file in self.path.iterdir() if _is_storage(file)), key=_natural)
        metadata = self.path / "metadata.yaml"
        try:
            content = read_yaml(metadata, "metadata")["rosbag2_bagfile_information"]
            counts = {
                str(topic["topic_metadata"]["name"]): int(topic["message_count"])
                for topic in content["topics_with_message_count"]
            }
            listed = [self.path / Path(name).name for name in content["relative_file_paths"]]
        except (ConfigurationError, OSError, ValueError, KeyError, TypeError) as error:
            reason = f"{error or repr(error)}" if metadata.exists() else "there is none"
            self._note(f"metadata.yaml cannot be read ({reason}): was the recorder killed?")
            return {}, there
        for file in listed:
            if not file.exists():
                self._note(f"{file.name} is missing")
        return counts, [file for file in listed if file.exists()]

    def _unpacked(self, file: Path) -> Path:
        if file.suffix != _ZSTD:
            return file
        folder, unpacked, trouble = _unpack(file, file.stat().st_mtime_ns)
        self._folders.append(folder)
        if trouble:
            self._note(f"{file.name}: {trouble}")
        return unpacked


class _Part:
    """One storage file."""

    def __init__(self, path: Path, note: Any) -> None:
        self._path, self._note, self._sound = path, note, True
        try:
            if path.suffix == ".db3":
                require_tables(path)
            with Reader(path) as reader:
                counts: Counter[tuple[str, str]] = Counter()
                for connection in reader.connections:
                    counts[connection.topic, connection.msgtype] += connection.msgcount
        except SourceError as error:
            self._sound, counts = False, Counter()
            self._note(str(error))
        except Exception as error:  # rosbags' readers raise whatever a damaged file makes them trip over
            self._sound = False
            self._note(f"{path.name} is damaged: {error or repr(error)}")
            counts = Counter((stored.topic, stored.type_name) for stored in salvage(path, note))
        self.topics = {topic: Topic(type_name, count) for (topic, type_name), count in counts.items()}

    def messages(self, topic: str, type_name: str) -> Iterator[tuple[int, bytes]]:
        last_ns = -1
        if self._sound:
            try:
                with Reader(self._path) as reader:
                    chosen = [c for c in reader.connections if c.topic == topic and c.msgtype == type_name]
                    if not chosen:
                        return
                    for _, received_ns, cdr in reader.messages(chosen):
                        last_ns = received_ns
                        yield received_ns, bytes(cdr)
                return
            except Exception as error:  # as above; what comes behind the damage may still be whole
                self._note(f"{self._path.name} is damaged: {error or repr(error)}")
        for stored in salvage(self._path, self._note):
            if _is_of(stored, topic, type_name) and stored.received_ns > last_ns:
                yield stored.received_ns, stored.cdr


def _is_of(stored: Stored, topic: str, type_name: str) -> bool:
    return stored.topic == topic and stored.type_name == type_name


def _is_storage(file: Path) -> bool:
    name = file.name.removesuffix(_ZSTD)
    return file.is_file() and name.endswith(SUFFIXES)


def _natural(file: Path) -> list[tuple[int, str]]:
    """bag_2 before bag_10."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", file.name)]


def _plain(cdr: bytes) -> bytes:
    """The message, unpacked where the bag compresses each one for itself: no CDR begins like a zstd frame."""
    if cdr[:4] != _ZSTD_MAGIC:
        return cdr
    import zstandard

    try:
        with zstandard.ZstdDecompressor().stream_reader(cdr) as unpacked:
            plain = unpacked.read(_MOST_MESSAGE_BYTES + 1)
            return plain if len(plain) <= _MOST_MESSAGE_BYTES else b""
    except zstandard.ZstdError:
        return b""  # which is no message: whoever takes it says so


@lru_cache(maxsize=32)
def _unpack(file: Path, modified_ns: int) -> tuple[TemporaryDirectory[str], Path, str]:
    """A file that is compressed as a whole, unpacked once for all who read it; what went wrong in words.

    The directory goes when the process ends, or when others have taken its place here and nobody reads it.
    """
    import zstandard

    folder = TemporaryDirectory(prefix="tdnet_ros_bag_")
    unpacked, trouble = Path(folder.name) / file.name.removesuffix(_ZSTD), ""
    with file.open("rb") as packed, unpacked.open("wb") as plain:
        try:
            with zstandard.ZstdDecompressor().stream_reader(packed) as content:
                shutil.copyfileobj(content, plain, 1 << 20)
        except zstandard.ZstdError as error:
            trouble = f"cannot be unpacked to its end: {error}"
    return folder, unpacked, trouble
