"""Bags of masks and latencies: what is written can be read, by us and by others, and every frame is accounted for."""

from __future__ import annotations

import math
import resource
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rosbags.typesys import Stores, get_typestore

from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.bag_queue import BagQueue
from tdnet_ros.evaluation.bags import (
    DIAGNOSTICS_TYPE,
    LATENCY_TYPE,
    BagWriteError,
    BagWriter,
    Latency,
    message_definition,
    read_latencies,
    read_masks,
    typestore,
)
from tdnet_ros.evaluation.latency_table import (
    NodeCounters,
    account_frames,
    format_kinds,
    format_table,
    keyframe_percentiles,
    percentiles,
    read_counters,
    stage_percentiles,
)
from tdnet_ros.video.messages.cdr import serialize_image
from tdnet_ros.video.messages.types import IMAGE_TYPE

NAN = float("nan")
LATENCY = Latency(
    stamp_ns=12_000_000_034,
    received_ns=12_500_000_000,
    camera="front",
    sequence=7,
    subnetwork=1,
    scale=0.5,
    keyframe=True,
    reason="rotation",
    keyframe_distance=3,
    warm=True,
    resets=2,
    dropped_total=4,
    lost_upstream_total=5,
    receive_ms=1.0,
    decode_ms=2.0,
    motion_ms=NAN,
    preprocess_ms=3.0,
    network_ms=4.0,
    postprocess_ms=5.0,
    publish_ms=6.0,
    node_ms=21.0,
    age_ms=25.0,
)


def latency_cdr(latency: Latency) -> bytes:
    types = typestore().types
    stamp = types["builtin_interfaces/msg/Time"](*divmod(latency.stamp_ns, 1_000_000_000))
    header = types["std_msgs/msg/Header"](stamp, "front")
    values = {key: value for key, value in vars(latency).items() if not key.endswith("_ns")}
    return bytes(typestore().serialize_cdr(types[LATENCY_TYPE](header=header, **values), LATENCY_TYPE))


def diagnostics_cdr(values: dict[str, Any]) -> bytes:
    types = typestore().types
    pairs = [types["diagnostic_msgs/msg/KeyValue"](key, str(value)) for key, value in values.items()]
    status = types["diagnostic_msgs/msg/DiagnosticStatus"](0, "segmentation", "", "", pairs)
    header = types["std_msgs/msg/Header"](types["builtin_interfaces/msg/Time"](0, 0), "")
    return bytes(typestore().serialize_cdr(types[DIAGNOSTICS_TYPE](header, [status]), DIAGNOSTICS_TYPE))


def mask_cdr(stamp_ns: int, pixels: np.ndarray, step: int) -> bytes:
    height, width = pixels.shape
    padded = np.full((height, step), 77, np.uint8)
    padded[:, :width] = pixels
    return serialize_image(*divmod(stamp_ns, 1_000_000_000), "front", height, width, "mono8", step, padded)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_masks_and_latencies_come_back_as_they_were(tmp_path: Path, storage: str) -> None:
    masks = [np.arange(12, dtype=np.uint8).reshape(3, 4) + index for index in range(3)]
    with BagWriter(tmp_path / "bag", storage) as bag:
        bag.add_topic("/mask", IMAGE_TYPE)
        bag.add_topic("/latency", LATENCY_TYPE)
        for index, mask in enumerate(masks):
            bag.write("/mask", 100 + index, mask_cdr(50 + index, mask, step=4 + index))
        bag.write("/latency", LATENCY.received_ns, latency_cdr(LATENCY))
    for index, mask in enumerate(read_masks(tmp_path / "bag", "/mask")):
        assert (mask.stamp_ns, mask.received_ns) == (50 + index, 100 + index)
        np.testing.assert_array_equal(mask.ids, masks[index], "padding is not part of the mask")
    (latency,) = read_latencies(tmp_path / "bag")
    assert math.isnan(latency.motion_ms)
    assert replace(latency, motion_ms=0.0) == replace(LATENCY, motion_ms=0.0)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_bag_explains_its_types_to_programs_that_do_not_know_them(tmp_path: Path, storage: str) -> None:
    with BagWriter(tmp_path / "bag", storage) as bag:
        bag.add_topic("/latency", LATENCY_TYPE)
        bag.write("/latency", 1, latency_cdr(LATENCY))
    script = (
        "import sys; from pathlib import Path; from rosbags.highlevel import AnyReader\n"
        "with AnyReader([Path(sys.argv[1])]) as reader:\n"
        "    for connection, _, cdr in reader.messages():\n"
        "        message = reader.deserialize(cdr, connection.msgtype)\n"
        "        print(connection.msgtype, message.reason, message.network_ms)\n"
    )
    said = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "bag")], capture_output=True, text=True, check=True
    )
    assert said.stdout.strip() == "tdnet_ros/msg/FrameLatency rotation 4.0"


def test_latency_has_the_fields_of_the_message() -> None:
    names = [line.split()[1] for line in message_definition().splitlines() if line.split("#")[0].strip()]
    assert ["stamp_ns", "received_ns", *names[1:]] == list(vars(LATENCY))
    assert LATENCY_TYPE not in get_typestore(Stores.ROS2_KILTED).types


def test_an_existing_bag_is_replaced_only_on_request_and_nothing_else_ever(tmp_path: Path) -> None:
    for overwrite in (False, True):
        with BagWriter(tmp_path / "bag", overwrite=overwrite) as bag:
            bag.add_topic("/mask", IMAGE_TYPE)
        with pytest.raises(BagWriteError, match="exists already"):
            BagWriter(tmp_path / "bag")
    (tmp_path / "bag" / "thesis.tex").write_text("years of work")
    with pytest.raises(BagWriteError, match=r"thesis\.tex"):
        BagWriter(tmp_path / "bag", overwrite=True)
    assert (tmp_path / "bag" / "thesis.tex").exists()


def test_places_and_formats_that_cannot_be_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BagWriteError, match="cannot be written"):
        BagWriter(tmp_path / "file" / "bag")
    with pytest.raises(BagWriteError, match=r"storage is 'zip'.*mcap"):
        BagWriter(tmp_path / "bag", "zip")
    with pytest.raises(BagWriteError, match="file"):
        BagWriter(tmp_path / "file", overwrite=True)
    assert (tmp_path / "file").exists()


def test_reading_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        read_latencies(tmp_path / "nowhere")
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/mask", IMAGE_TYPE)
        bag.write("/mask", 1, serialize_image(0, 1, "", 1, 1, "rgb8", 3, bytes(3)))
    with pytest.raises(SourceError, match=r"exactly one topic of type tdnet_ros/msg/FrameLatency.*/mask"):
        read_latencies(tmp_path / "bag")
    with pytest.raises(SourceError, match=r"topic '/maks'.*/mask"):
        list(read_masks(tmp_path / "bag", "/maks"))
    with pytest.raises(SourceError, match=r"rgb8 image.*expected mono8"):
        list(read_masks(tmp_path / "bag", "/mask"))


def with_mask_topic(writer: BagWriter) -> BagWriter:
    writer.add_topic("/mask", IMAGE_TYPE)
    return writer


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_queue_drops_and_counts_what_the_disk_cannot_take(tmp_path: Path, storage: str) -> None:
    released = threading.Event()

    class SlowDisk(BagWriter):
        def write(self, topic: str, received_ns: int, cdr: bytes) -> None:
            released.wait()
            super().write(topic, received_ns, cdr)

    queue = BagQueue(lambda: with_mask_topic(SlowDisk(tmp_path / "bag", storage)), limit_bytes=300)
    message = mask_cdr(1, np.zeros((8, 8), np.uint8), 8)
    assert 2 * len(message) < 300 < 3 * len(message)
    for stamp in range(10):
        queue.put("/mask", stamp, message)
    released.set()
    queue.close()
    assert queue.written["/mask"] + queue.dropped["/mask"] == 10
    assert 2 <= queue.written["/mask"] <= 3, "two wait, one may be in the writer's hands"
    assert len(list(read_masks(tmp_path / "bag", "/mask"))) == queue.written["/mask"]


@contextmanager
def disk_of(limit_bytes: int) -> Iterator[None]:
    """Writing a file beyond the limit fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_full_disk_ends_the_queue_with_an_error(tmp_path: Path, storage: str) -> None:
    message = mask_cdr(1, np.zeros((1000, 1000), np.uint8), 1000)
    with disk_of(3_000_000):
        queue = BagQueue(lambda: with_mask_topic(BagWriter(tmp_path / "bag", storage)), 50_000_000)
        for stamp in range(20):
            queue.put("/mask", stamp, message)
        with pytest.raises(BagWriteError, match=r"bag cannot be written: (.*File too large|.*disk|.*full)"):
            queue.close()
    assert queue.failure is not None
    with pytest.raises(BagWriteError, match="exists already"):
        BagQueue(lambda: with_mask_topic(BagWriter(tmp_path / "bag", storage)), 50_000_000)


def test_every_frame_sent_is_accounted_for() -> None:
    counters = NodeCounters(received=8, published=6, dropped=1, rejected=1)
    account = account_frames(range(10), [0, 1, 2, 3, 4], counters)
    assert (account.masks, account.lost_images, account.lost_masks, account.dropped) == (5, 2, 1, 1)
    assert account.consistent and account.unaccounted == 0
    assert account.sent == account.masks + account.lost_images + account.lost_masks + 1 + 1

    one_vanished = account_frames(range(10), [0, 1, 2, 3, 4], replace(counters, dropped=0))
    assert one_vanished.unaccounted == 1 and not one_vanished.consistent
    two_cameras = account_frames(range(10), [0, 1], NodeCounters(20, 20, 0, 0))
    assert not two_cameras.consistent
    assert "don't add up" in format_table(two_cameras, {})


def test_node_counters_are_the_last_ones_in_the_diagnostics(tmp_path: Path) -> None:
    counted = {
        "images received": 9,
        "masks published": 4,
        "dropped for a newer image": 2,
        "images rejected": 1,
        "stale stamps": 1,
        "failures": 1,
    }
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/diagnostics", DIAGNOSTICS_TYPE)
        bag.write("/diagnostics", 1, diagnostics_cdr({**counted, "images received": 5}))
        bag.write("/diagnostics", 2, diagnostics_cdr(counted))
        bag.write("/diagnostics", 3, diagnostics_cdr({"temperature": 50}))
    assert read_counters(tmp_path / "bag", "/diagnostics") == NodeCounters(9, 4, 2, 3)
    with BagWriter(tmp_path / "silent") as bag:
        bag.add_topic("/diagnostics", DIAGNOSTICS_TYPE)
    with pytest.raises(SourceError, match="masks published"):
        read_counters(tmp_path / "silent", "/diagnostics")


def test_percentiles_leave_out_what_does_not_apply() -> None:
    values = percentiles([*range(1, 102), NAN])
    assert values == {"p50": 51.0, "p95": 96.0, "p99": 100.0, "max": 101.0}
    assert percentiles([NAN]) is None
    stages = stage_percentiles([LATENCY], [30.0])
    assert stages["motion"] is None and stages["network"]["p50"] == 4.0 and stages["arrival"]["max"] == 30.0
    table = format_table(account_frames([1, 2], [1], NodeCounters(2, 1, 1, 0)), stages)
    assert "sent by the camera                       2    100.0" in table
    assert table.splitlines()[-1].split() == ["arrival", *["30.0"] * 4]


def test_keyframes_and_the_frames_between_stand_side_by_side() -> None:
    between = [replace(LATENCY, keyframe=False, network_ms=value) for value in (1.0, 2.0, 3.0)]
    assert keyframe_percentiles([LATENCY]) == {} and format_kinds({}) == ""
    kinds = keyframe_percentiles([LATENCY, *between])
    assert (kinds["keyframes"]["count"], kinds["between"]["count"]) == (1, 3)
    lines = format_kinds(kinds).splitlines()
    assert lines[0].split() == ["latency", "in", "ms", "keyframes", "(1)", "between", "(3)"]
    assert next(line.split() for line in lines if "network" in line) == ["network", "4.0", "4.0", "2.0", "2.9"]
    assert not any("motion" in line for line in lines), "NaN everywhere"
