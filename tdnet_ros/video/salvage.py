"""What can still be read of a damaged storage file of a rosbag2: message by message, without its index.

A recorder that is killed leaves an MCAP file without index and end; a copy that breaks off leaves half a file. What
lies before the break is whole, and is read here. Memory holds one chunk (MCAP) or one message (sqlite3) at a time.
"""

from __future__ import annotations

import sqlite3
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple
from urllib.parse import quote

from tdnet_ros.errors import SourceError

#: Told in words what is lost.
Say = Callable[[str], None]

_MCAP_MAGIC = b"\x89MCAP0\r\n"
_RECORD_HEAD = struct.Struct("<BQ")  # opcode, length of the content


class Stored(NamedTuple):
    """A message as a bag holds it: receive time in ns and CDR bytes."""

    topic: str
    type_name: str
    received_ns: int
    cdr: bytes


def salvage(path: Path, say: Say) -> Iterator[Stored]:
    """The messages of an .mcap or .db3 file that are there as a whole, in the order of the file.

    An MCAP chunk that cannot be unpacked is left out; where a record's length makes no sense, or the file ends, so
    does the reading. Whatever is wrong ends in words to ``say``, never in an exception, but for OSError.
    """
    return _salvage_sqlite3(path, say) if path.suffix == ".db3" else _McapFile(path, say).messages()


class _McapFile:
    def __init__(self, path: Path, say: Say) -> None:
        self._path, self._say = path, say
        self._types: dict[int, str] = {}  # by schema
        self._topics: dict[int, tuple[str, str]] = {}  # by channel: topic and type

    def messages(self) -> Iterator[Stored]:
        from mcap.opcode import Opcode  # only damaged bags ask for it

        size = self._path.stat().st_size
        with self._path.open("rb") as file:
            if file.read(len(_MCAP_MAGIC)) != _MCAP_MAGIC:
                self._say(f"{self._path.name} ({size} bytes) does not begin as an MCAP file does")
                return
            for position, opcode, content, whole in _records(file, size):
                if not whole:
                    self._say(f"{self._path.name} breaks off within the record at byte {position} of {size}")
                if opcode == Opcode.CHUNK:
                    yield from self._of_chunk(position, content)
                elif opcode == Opcode.DATA_END:
                    return  # what follows is the index
                elif whole and (stored := self._take(opcode, content)) is not None:
                    yield stored

    def _of_chunk(self, position: int, content: bytes) -> list[Stored]:
        """By time, as readers with an index give them."""
        from mcap.data_stream import ReadDataStream
        from mcap.records import Chunk
        from mcap.stream_reader import get_chunk_data_stream

        try:
            chunk = Chunk.read(ReadDataStream(BytesIO(content)))
            cut = not chunk.compression and len(chunk.data) < chunk.uncompressed_size
            _, length = get_chunk_data_stream(chunk, validate_crc=not cut)
            data = get_chunk_data_stream(chunk)[0].read(length)
        except Exception as error:  # the decompressors' own errors, and whatever a wrong length leads to
            self._say(f"{self._path.name}: chunk at byte {position} is left out: {error or repr(error)}")
            return []
        found = [self._take(opcode, inner) for _, opcode, inner, whole in _records(BytesIO(data), len(data)) if whole]
        return sorted((stored for stored in found if stored is not None), key=lambda stored: stored.received_ns)

    def _take(self, opcode: int, content: bytes) -> Stored | None:
        """Learn schemas and channels; a message of CDR."""
        from mcap.data_stream import ReadDataStream
        from mcap.opcode import Opcode
        from mcap.records import Channel, Message, Schema

        stream = ReadDataStream(BytesIO(content))
        try:
            if opcode == Opcode.SCHEMA:
                schema = Schema.read(stream)
                self._types[schema.id] = schema.name
            elif opcode == Opcode.CHANNEL:
                channel = Channel.read(stream)
                if channel.message_encoding == "cdr":
                    self._topics[channel.id] = channel.topic, self._types.get(channel.schema_id, "")
            elif opcode == Opcode.MESSAGE:
                message = Message.read(stream, len(content))
                if message.channel_id in self._topics:
                    return Stored(*self._topics[message.channel_id], message.log_time, message.data)
        except Exception as error:  # a record that contradicts itself; its neighbours may well be whole
            self._say(f"{self._path.name}: a record of kind {opcode} is left out: {error or repr(error)}")
        return None


def _records(file: BinaryIO, end: int) -> Iterator[tuple[int, int, bytes, bool]]:
    """(position, opcode, content, whole) of every record; the last one may be cut."""
    while (position := file.tell()) < end:
        head = file.read(_RECORD_HEAD.size)
        if len(head) < _RECORD_HEAD.size:
            yield position, 0, b"", False
            return
        opcode, length = _RECORD_HEAD.unpack(head)
        left = end - file.tell()
        yield position, opcode, file.read(min(length, left)), length <= left


def require_tables(path: Path) -> None:
    """Raise SourceError when a name in an .db3 file stands for a query or a module's rows instead of a table's.

    A view may be without end, so that whoever counts its rows never comes back. What is damaged is not judged here.
    """
    connection = _connect(path)
    try:
        found = connection.execute(
            "SELECT name, type, sql FROM sqlite_master WHERE type IN ('table', 'view')"
        ).fetchall()
    except (sqlite3.Error, UnicodeDecodeError):
        return
    finally:
        connection.close()
    for name, kind, sql in found:
        if kind != "table" or not str(sql or "").upper().lstrip().startswith("CREATE TABLE"):
            raise SourceError(f"{path.name}: '{name}' is a {kind} by '{str(sql)[:80]}', expected a table")


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro&immutable=1", uri=True, check_same_thread=False)


def _salvage_sqlite3(path: Path, say: Say) -> Iterator[Stored]:
    size = path.stat().st_size
    connection = _connect(path)
    last = 0
    try:
        # Without this SQLite does not even open a file that is shorter than its first page says.
        connection.execute("PRAGMA writable_schema=ON")
        topics: dict[int, tuple[str, str]] = {
            identity: (name, type_name)
            for identity, name, type_name in connection.execute("SELECT id, name, type FROM topics")
        }
        # By id, not by time: the index of times lies anywhere, the messages themselves in the order of recording.
        rows: Any = connection.execute("SELECT id, topic_id, timestamp, data FROM messages ORDER BY id")
        for identity, topic, received_ns, data in rows:
            last = identity
            if topic in topics and isinstance(data, bytes):
                yield Stored(*topics[topic], received_ns, data)
    except (sqlite3.Error, UnicodeDecodeError) as error:
        say(f"{path.name} ({size} bytes) cannot be read beyond its message {last}: {error}")
    finally:
        connection.close()
