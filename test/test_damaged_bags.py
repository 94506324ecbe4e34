"""Bags as they really come: cut off, without metadata, with damage in the middle, compressed in every way."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.bags import typestore
from tdnet_ros.video.bag_reader import BagReader
from tdnet_ros.video.messages.cdr import serialize_image
from tdnet_ros.video.messages.types import IMAGE_TYPE
from tdnet_ros.video.sources import open_source

COUNT = 12
STORAGES = {"mcap": StoragePlugin.MCAP, "sqlite3": StoragePlugin.SQLITE3}


def write(path: Path, storage: str, mode: CompressionMode | None = None) -> list[tuple[int, bytes]]:
    """Twelve noisy 400x300 images on two topics; time and bytes of those on /image. Each second image is a chunk."""
    random = np.random.default_rng(0)
    writer = Writer(path, version=9, storage_plugin=STORAGES[storage])
    if mode is not None:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    written = []
    with writer:
        image, other = (writer.add_connection(name, IMAGE_TYPE, typestore=typestore()) for name in ("/image", "/other"))
        for index in range(COUNT):
            stamp = 1000 + index
            pixels = random.integers(0, 256, (300, 1200), np.uint8)
            cdr = bytes(serialize_image(0, stamp, "camera", 300, 400, "rgb8", 1200, pixels))
            writer.write(image, stamp, cdr)
            writer.write(other, stamp, cdr[:100])
            written.append((stamp, cdr))
    return written


def storage_file(bag: Path) -> Path:
    (file,) = (file for file in bag.iterdir() if file.name != "metadata.yaml")
    return file


def cut(bag: Path, share: float) -> None:
    file = storage_file(bag)
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])


MODES = [
    ("mcap", None),
    ("mcap", CompressionMode.STORAGE),
    ("mcap", CompressionMode.MESSAGE),
    ("mcap", CompressionMode.FILE),
    ("sqlite3", None),
    ("sqlite3", CompressionMode.MESSAGE),
    ("sqlite3", CompressionMode.FILE),
]


@pytest.mark.parametrize(("storage", "mode"), MODES)
def test_every_compression_is_read(tmp_path: Path, storage: str, mode: CompressionMode | None) -> None:
    written = write(tmp_path / "bag", storage, mode)
    source = open_source(tmp_path / "bag", topic="/image")
    assert [image.content.cdr for image in source] == [cdr for _, cdr in written]
    assert [image.stamp_ns for image in source] == [stamp for stamp, _ in written]
    assert (source.damage, source.frame_count) == ([], COUNT)


@pytest.mark.parametrize(("storage", "mode"), MODES)
@pytest.mark.parametrize("metadata", [True, False])
def test_a_cut_bag_is_read_up_to_the_cut(
    tmp_path: Path, storage: str, mode: CompressionMode | None, metadata: bool
) -> None:
    bag = tmp_path / "bag"
    written = write(bag, storage, mode)
    cut(bag, 0.6)
    if not metadata:
        (bag / "metadata.yaml").unlink()
    reader = BagReader(bag)
    read = list(reader.messages("/image"))
    assert read == written[: len(read)], "whole messages in their order and no others"
    assert 5 <= len(read) <= 7
    said = "\n".join(reader.damage)
    assert f"{len(read)} of 12 messages" in said if metadata else f"{len(read)} messages" in said
    assert ("metadata.yaml cannot be read (there is none)" in said) != metadata
    assert "is damaged" in said
    assert list(reader.messages("/image")) == read and "\n".join(reader.damage) == said, "said once"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_without_metadata_a_whole_file_is_read(tmp_path: Path, storage: str) -> None:
    written = write(tmp_path / "bag", storage)
    (tmp_path / "bag" / "metadata.yaml").unlink()
    reader = BagReader(tmp_path / "bag")
    assert list(reader.messages("/image")) == written
    assert "was the recorder killed?" in reader.damage[0]


def test_a_chunk_that_cannot_be_unpacked_costs_its_own_messages_only(tmp_path: Path) -> None:
    written = write(tmp_path / "bag", "mcap", CompressionMode.STORAGE)
    file = storage_file(tmp_path / "bag")
    data = bytearray(file.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 64] = bytes(64)
    # Noise does not compress: zstd stores it, and only a broken frame header is noticed.
    start = data.rfind(b"\x28\xb5\x2f\xfd", 0, len(data) // 2)
    data[start : start + 4] = b"none"
    file.write_bytes(data)
    reader = BagReader(tmp_path / "bag")
    read = list(reader.messages("/image"))
    assert COUNT // 2 <= len(read) < COUNT and set(read) < set(written)
    assert read[0] == written[0] and read[-1] == written[-1]
    assert any("chunk at byte" in text for text in reader.damage)
    assert f"{len(read)} of 12 messages of '/image' could be read" in reader.damage


def test_files_of_a_split_bag_follow_each_other_and_a_missing_one_is_named(tmp_path: Path) -> None:
    parts = [write(tmp_path / f"part_{number}", "mcap") for number in (2, 10)]
    whole = tmp_path / "whole"
    whole.mkdir()
    for number in (2, 10):
        shutil.copy(tmp_path / f"part_{number}" / f"part_{number}.mcap", whole)
    read = list(BagReader(whole).messages("/image"))
    assert read == parts[0] + parts[1], "part_2 before part_10"
    metadata = (tmp_path / "part_2" / "metadata.yaml").read_text()
    (whole / "metadata.yaml").write_text(metadata.replace("- part_2.mcap", "- part_2.mcap\n  - part_3.mcap"))
    reader = BagReader(whole)
    assert list(reader.messages("/image")) == parts[0]
    assert "part_3.mcap is missing" in reader.damage


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("content", [b"", b"\x89MCAP0\r\n", b"SQLite format 3\x00", b"plain text" * 100])
def test_what_holds_nothing_is_an_error(tmp_path: Path, storage: str, content: bytes) -> None:
    write(tmp_path / "bag", storage)
    storage_file(tmp_path / "bag").write_bytes(content)
    with pytest.raises(SourceError, match=r"bag cannot be opened as a rosbag2: .*is damaged"):
        open_source(tmp_path / "bag", topic="/image")
