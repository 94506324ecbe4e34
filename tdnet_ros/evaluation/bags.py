"""Bags of masks and latency messages: written and read through the rosbags library, without ROS."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from rosbags.highlevel import AnyReader
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from tdnet_ros.errors import SourceError, TdnetRosError
from tdnet_ros.video.messages.types import IMAGE_TYPE

LATENCY_TYPE = "tdnet_ros/msg/FrameLatency"
DIAGNOSTICS_TYPE = "diagnostic_msgs/msg/DiagnosticArray"
STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}

if TYPE_CHECKING:
    from typing_extensions import Self

_FOREVER = QosTime(9223372036, 854775807)
#: What `ros2 bag play` offers when it replays the bag: reliable, so that subscribers of both kinds match.
_REPLAY_QOS = Qos(
    history=QosHistory.KEEP_LAST,
    depth=10,
    reliability=QosReliability.RELIABLE,
    durability=QosDurability.VOLATILE,
    deadline=_FOREVER,
    lifespan=_FOREVER,
    liveliness=QosLiveliness.AUTOMATIC,
    liveliness_lease_duration=_FOREVER,
    avoid_ros_namespace_conventions=False,
)


class BagWriteError(TdnetRosError):
    """A bag cannot be created or written: it exists, the place is not writable, the disk is full."""


@dataclass(frozen=True)
class Latency:
    """One tdnet_ros/FrameLatency: times in ms, NaN where one does not apply; ``received_ns`` is the bag's."""

    stamp_ns: int
    received_ns: int
    camera: str
    sequence: int
    subnetwork: int
    scale: float
    keyframe: bool
    reason: str
    keyframe_distance: int
    warm: bool
    resets: int
    dropped_total: int
    lost_upstream_total: int
    receive_ms: float
    decode_ms: float
    motion_ms: float
    preprocess_ms: float
    network_ms: float
    postprocess_ms: float
    publish_ms: float
    node_ms: float
    age_ms: float


@dataclass(frozen=True)
class Mask:
    """One mask: class ids uint8 (H, W), a read-only view of the message, with stamp and time of arrival."""

    stamp_ns: int
    received_ns: int
    ids: npt.NDArray[np.uint8]


def message_definition() -> str:
    """The text of FrameLatency.msg, from the installed share directory or from the source tree."""
    module = Path(__file__).resolve()
    prefixes = [
        *map(Path, filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep))),
        *module.parents,
    ]
    places = [module.parents[2] / "msg", *(prefix / "share" / "tdnet_ros" / "msg" for prefix in prefixes)]
    for place in places:
        if (place / "FrameLatency.msg").is_file():
            return (place / "FrameLatency.msg").read_text(encoding="utf-8")
    raise SourceError(f"FrameLatency.msg is not in {places[0]} nor in share/tdnet_ros/msg of any prefix: reinstall")


@cache
def typestore() -> Typestore:
    """Every message type that bags of this package hold."""
    store = get_typestore(Stores.ROS2_KILTED)
    store.register(get_types_from_msg(message_definition(), LATENCY_TYPE))
    return store


class BagWriter:
    """Writes serialised messages into a new rosbag2 that carries the definitions of its types.

    Not thread-safe: one thread writes. The bag is complete once closed, also after an exception. Raises
    BagWriteError when the bag exists and ``overwrite`` is not set, or cannot be written.
    """

    def __init__(self, path: Path, storage: str = "mcap", overwrite: bool = False) -> None:
        if storage not in STORAGES:
            raise BagWriteError(f"storage is '{storage}', expected one of {sorted(STORAGES)}")
        if path.exists() and not overwrite:
            raise BagWriteError(f"{path} exists already; name another place or allow overwriting")
        self.path = path
        self.counts: dict[str, int] = {}
        self._connections: dict[str, Connection] = {}
        with self._errors_named():
            if path.exists():
                _remove_bag(path)
            self._writer = Writer(path, version=9, storage_plugin=STORAGES[storage])
            self._writer.open()

    @contextmanager
    def _errors_named(self) -> Iterator[None]:
        try:
            yield
        except TdnetRosError:
            raise
        except Exception as error:  # OSError, and whatever the two storage libraries make of a full disk
            raise BagWriteError(f"{self.path} cannot be written: {error or repr(error)}") from error

    def add_topic(self, topic: str, type_name: str) -> None:
        """Announce a topic (fully resolved) and its type, also when no message will come."""
        with self._errors_named():
            self._connections[topic] = self._writer.add_connection(
                topic, type_name, typestore=typestore(), offered_qos_profiles=[_REPLAY_QOS]
            )
        self.counts[topic] = 0

    def write(self, topic: str, received_ns: int, cdr: bytes) -> None:
        """Append one message to a topic that was announced."""
        with self._errors_named():
            self._writer.write(self._connections[topic], received_ns, cdr)
        self.counts[topic] += 1

    def close(self) -> None:
        """Write the index and metadata.yaml."""
        with self._errors_named():
            self._writer.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _remove_bag(path: Path) -> None:
    """Remove what is certainly a bag and nothing else: overwriting must not delete somebody's directory."""
    foreign = [e.name for e in path.iterdir() if e.name != "metadata.yaml" and e.suffix not in (".mcap", ".db3")]
    if foreign:
        raise BagWriteError(f"{path} holds files that are not a bag's ({sorted(foreign)[:3]}): not overwritten")
    shutil.rmtree(path)


def read_messages(path: Path, type_name: str, topic: str | None = None) -> Iterator[tuple[int, Any]]:
    """(received_ns, message) of one topic, or of the only topic of that type whose name fits.

    Raises SourceError when the bag cannot be read, and lists its topics when the topic is not there or not
    unique.
    """
    try:
        reader = AnyReader([path], default_typestore=typestore())
        reader.open()
    except Exception as error:  # rosbags' readers raise whatever a damaged file makes them trip over
        raise SourceError(f"{path} cannot be opened as a rosbag2: {error or repr(error)}") from error
    try:
        names = sorted({c.topic for c in reader.connections if c.msgtype == type_name})
        chosen = [name for name in names if topic is None or name == topic]
        if len(chosen) != 1:
            listing = ", ".join(sorted(f"{c.topic} [{c.msgtype}] {c.msgcount}" for c in reader.connections))
            asked = f"topic '{topic}'" if topic else f"exactly one topic of type {type_name}"
            raise SourceError(f"{path}: expected {asked}, found {chosen or 'none'}. Topics there are: {listing}")
        connections = [c for c in reader.connections if c.topic == chosen[0] and c.msgtype == type_name]
        for connection, received_ns, cdr in reader.messages(connections):
            yield received_ns, reader.deserialize(cdr, connection.msgtype)
    finally:
        reader.close()


def read_latencies(path: Path, topic: str | None = None) -> list[Latency]:
    """All FrameLatency messages of a bag in the order of arrival."""
    names = [field.name for field in fields(Latency)][2:]
    return [
        Latency(_stamp_ns(message), received_ns, *(getattr(message, name) for name in names))
        for received_ns, message in read_messages(path, LATENCY_TYPE, topic)
    ]


def read_masks(path: Path, topic: str) -> Iterator[Mask]:
    """The masks of a bag in the order of arrival, one at a time in memory."""
    for received_ns, message in read_messages(path, IMAGE_TYPE, topic):
        if message.encoding != "mono8" or len(message.data) < message.step * message.height:
            raise SourceError(
                f"{path}: '{topic}' holds a {message.encoding} image of {len(message.data)} bytes, "
                f"expected mono8 of {message.step} x {message.height}"
            )
        rows = np.asarray(message.data)[: message.step * message.height].reshape(message.height, message.step)
        yield Mask(_stamp_ns(message), received_ns, rows[:, : message.width])


def _stamp_ns(message: Any) -> int:
    return int(message.header.stamp.sec) * 1_000_000_000 + int(message.header.stamp.nanosec)
