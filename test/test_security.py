"""Files and settings from strangers: data, never code, and never more than a memory or a patience holds."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
import zstandard
from recordings import write_bag
from running_process import python_environment

from tdnet_ros.errors import CheckpointError, SourceError
from tdnet_ros.evaluation.bags import BagWriter
from tdnet_ros.networks.checkpoints import read_checkpoint
from tdnet_ros.networks.export import MANIFEST, read_manifest
from tdnet_ros.video import bag_reader, packet_decoder
from tdnet_ros.video.bag_reader import BagReader
from tdnet_ros.video.encoding import encode_packets
from tdnet_ros.video.messages.types import IMAGE_TYPE
from tdnet_ros.video.packet_decoder import PacketDecoder, VideoPacket


def test_compressed_weight_file_is_not_unpacked(tmp_path: Path) -> None:
    plain, packed = tmp_path / "plain.pth", tmp_path / "packed.pth"
    torch.save({"weight": torch.zeros(4 << 20)}, plain)
    with zipfile.ZipFile(plain) as read, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as write:
        for entry in read.namelist():
            write.writestr(entry, read.read(entry))
    assert packed.stat().st_size < plain.stat().st_size / 100
    assert read_checkpoint(plain).weights["weight"].numel() == 4 << 20
    with pytest.raises(CheckpointError, match="is compressed, expected tensors as they are"):
        read_checkpoint(packed)


def test_manifest_cannot_name_files_elsewhere(tmp_path: Path) -> None:
    (tmp_path / MANIFEST).write_text(manifest("step.onnx"))
    assert read_manifest(tmp_path).steps[0].file == "step.onnx"
    (tmp_path / MANIFEST).write_text(manifest("../secret.onnx"))
    with pytest.raises(CheckpointError, match="expected a name without a folder"):
        read_manifest(tmp_path)


def manifest(file: str) -> str:
    """As an export of one step writes it."""
    plan = {"subnetwork": 0, "sources": [], "file": file, "inputs": [], "outputs": []}
    return json.dumps(
        {
            "format": 1,
            "tdnet_ros": "0.1.0",
            "model": "td2_mnv2",
            "weights": {"name": "w", "sha256": "0"},
            "opset": 18,
            "precision": "fp32",
            "input": {"batch": 1, "height": 64, "width": 64},
            "normalisation": {"mean": [0, 0, 0], "std": [1, 1, 1], "colour_order": "rgb"},
            "scores": {"stride": 8, "align_corners": False},
            "labels": {"name": "one", "classes": [{"id": 0, "name": "road", "colour": [0, 0, 0]}]},
            "plans": [plan],
        }
    )


def test_video_that_declares_more_pixels_than_are_decoded_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    picture = np.zeros((48, 64, 3), np.uint8)
    packets = [VideoPacket(0, 0, "", "h264", data) for data in encode_packets([picture] * 2)]
    for limit, count in ((48 * 64, 2), (48 * 64 - 1, 0)):
        monkeypatch.setattr(packet_decoder, "MAX_PIXELS", limit)
        decoder = PacketDecoder()
        pictures = [image for packet in packets for image in decoder.decode(packet)]
        assert (len([*pictures, *decoder.flush()]), decoder.damaged) == (count, 2 - count)


def test_message_that_unpacks_to_more_than_a_picture_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bag_reader, "_MOST_MESSAGE_BYTES", 1000)
    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/image", IMAGE_TYPE)
        for index, size in enumerate((1000, 1001)):
            bag.write("/image", index, zstandard.compress(bytes(size)))
    assert [len(cdr) for _, cdr in BagReader(tmp_path / "bag").messages("/image")] == [1000, 0]


@pytest.mark.timeout(60)
def test_bag_whose_topics_are_a_query_without_end_is_refused(tmp_path: Path) -> None:
    write_bag(tmp_path / "bag", storage="sqlite3")
    (file,) = (tmp_path / "bag").glob("*.db3")
    with sqlite3.connect(file) as database:
        database.executescript(
            "DROP TABLE topics; CREATE VIEW topics AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
            "SELECT i AS id, 'a' AS name, 'b' AS type, 'cdr' AS serialization_format, '' AS offered_qos_profiles FROM n"
        )
    database.close()
    with pytest.raises(SourceError, match="'topics' is a view by"):
        BagReader(tmp_path / "bag")


def test_security_that_the_middleware_lacks_is_said_in_one_line(ros_domain: dict[str, str], tmp_path: Path) -> None:
    """With plugins in it the middleware misses the enclave's keys instead; either way the node does not start."""
    (tmp_path / "enclaves").mkdir()
    environment = {
        **python_environment(ros_domain),
        "ROS_SECURITY_ENABLE": "true",
        "ROS_SECURITY_STRATEGY": "Enforce",
        "ROS_SECURITY_KEYSTORE": str(tmp_path),
        "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path(__file__).parents[1])),
    }
    command = [sys.executable, "-m", "tdnet_ros.node.recorder_node", "--ros-args", "-p", f"bag:={tmp_path / 'bag'}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert "recorder: error: " in done.stderr and "ecurity" in done.stderr
