"""The decoders that meet bytes from outside, each with what it is fed. Only our own errors may come out of them."""

from __future__ import annotations

import contextlib
import io
import json
import pickle
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_seeds import ENCODINGS, compressed_cdr, image_cdrs, jpeg_pictures, png_picture, video_stream
from hostile import ALIASES, DEEP, image_messages, mutated, png_with_right_checksums, traps
from hypothesis import strategies as st
from recordings import write_bag

from tdnet_ros.errors import StaleFrame, TdnetRosError


@dataclass(frozen=True)
class Target:
    """``run`` decodes one example; ``found`` are examples that once came out as another error, or not at all.

    ``share`` of the examples that were asked for is what a slow one gets.
    """

    run: Callable[[Any], object]
    examples: st.SearchStrategy[Any]
    found: tuple[Any, ...] = ()
    share: float = 1.0


def targets() -> dict[str, Callable[[], Target]]:
    """By name; made when they are asked for, as each imports and writes what it needs."""
    found = {
        "image message": _image_message,
        "compressed message": _compressed_message,
        "picture": _picture,
        "h264 headers": _h264_headers,
        "video packets": _video_packets,
        "packet message": _packet_message,
        "stamps": _stamps,
        "bag": _bag,
        "weight file": _weight_file,
        "weight metadata": _weight_metadata,
        "export manifest": _export_manifest,
        "settings": _settings,
    }
    if find_spec("rclpy") is not None:
        import fuzz_graph_targets  # has the Target of this module

        found |= fuzz_graph_targets.targets()
    return found


def _image_message() -> Target:
    from tdnet_ros.video.messages.images import image_view, to_frame

    def run(message: bytes) -> None:
        view = image_view(message)
        frame = to_frame(view)
        assert (frame.height, frame.width) == (view.height, view.width)
        int(frame.image.sum())  # every pixel lies in the message

    return Target(run, mutated(image_cdrs(), 4, 60) | image_messages(ENCODINGS))


def _compressed_message() -> Target:
    from tdnet_ros.video.messages.images import compressed_to_frame, compressed_view

    seeds = [compressed_cdr(data) for data in (*jpeg_pictures(), png_picture())]
    # Found by seed 0: it ended the process in rclpy's deserialiser, to which big-endian messages went then.
    found = (b"\0\0\0I",)
    return Target(lambda message: compressed_to_frame(compressed_view(message)), mutated(seeds, 4, 40), found)


def _picture() -> Target:
    from tdnet_ros.video.decoding import decode_image

    def run(data: bytes) -> None:
        image = decode_image(data)
        assert image.dtype == np.uint8 and image.ndim == 3

    png = png_picture()
    return Target(run, mutated(jpeg_pictures(), 6, 700) | png_with_right_checksums(png) | mutated([png]))


def _h264_headers() -> Target:
    from tdnet_ros.video.h264_stream import HeaderWatch

    def run(packets: list[bytes]) -> None:
        watch = HeaderWatch()
        for packet in packets:
            watch.read(packet)

    packets = video_stream()
    return Target(run, st.lists(mutated(packets, 4, 64), min_size=1, max_size=4))


def _video_packets() -> Target:
    from tdnet_ros.node.packet_intake import PacketIntake
    from tdnet_ros.video.packet_decoder import PacketDecoder, VideoPacket

    def run(packets: list[tuple[str, int | None, bytes]]) -> None:
        decoder, intake = PacketDecoder(vectors=True), PacketIntake()
        for index, (codec, pts, data) in enumerate(packets):
            packet = VideoPacket(index, index, "cam", codec, data, pts)
            for picture in decoder.decode(packet):
                assert picture.rgb().dtype == np.uint8
            with contextlib.suppress(TdnetRosError):
                intake.decode(packet)
                intake.newest()
        list(decoder.flush())

    packets = video_stream()
    codecs = st.sampled_from(["h264"] * 12 + ["hevc", "vp9", "av1"])
    pts = st.none() | st.integers(0, 8) | st.sampled_from([2**31, 2**63, 2**64 - 1])
    some = st.tuples(codecs, pts, mutated(packets, 3, 64))
    whole = st.tuples(st.just("h264"), st.none(), st.sampled_from(packets))
    return Target(
        run, st.lists(some | whole, min_size=1, max_size=8).map(lambda tail: [("h264", 0, packets[0]), *tail])
    )


def _packet_message() -> Target:
    from tdnet_ros.video.messages.packets import ffmpeg_packet, foxglove_packet, read_packet
    from tdnet_ros.video.messages.types import COMPRESSED_TYPE, FFMPEG_TYPE, FOXGLOVE_TYPE, typestore

    store = typestore()
    stamp = store.types["builtin_interfaces/msg/Time"](1, 2)
    header = store.types["std_msgs/msg/Header"](stamp, "cam")
    data = np.frombuffer(video_stream()[0][:64], np.uint8)
    messages = {
        FFMPEG_TYPE: (header, 64, 48, "h264", 1, 0, False, data),
        FOXGLOVE_TYPE: (stamp, "cam", data, "h264"),
        COMPRESSED_TYPE: (header, "h264", data),
    }
    seeds = {name: bytes(store.serialize_cdr(store.types[name](*fields), name)) for name, fields in messages.items()}
    readers = {name: partial(read_packet, type_name=name) for name in messages}
    readers |= {"node ffmpeg": ffmpeg_packet, "node foxglove": foxglove_packet}
    return Target(
        lambda example: readers[example[0]](example[1]),
        st.tuples(st.sampled_from(sorted(readers)), mutated(sorted(seeds.values()), 4)),
    )


def _stamps() -> Target:
    """Whatever stamps and sizes a stream has, it goes on: a frame is taken, or called stale."""
    from tdnet_ros.node.intake import Cadence, Sender
    from tdnet_ros.streaming.continuity import Continuity, ContinuityLimits
    from tdnet_ros.video.frame import Frame

    def run(frames: list[tuple[int, int, int]]) -> None:
        continuity, cadence, sender = Continuity(ContinuityLimits()), Cadence(), Sender()
        stale = 0
        for number, stamp_ns, width in frames:
            info = {"publication_sequence_number": number, "publisher_gid": {"data": bytes([width] * 16)}}
            assert sender.observe(info) >= 0
            assert 0 <= cadence.observe(stamp_ns, 0.9) < 1e9
            try:
                continuity.check(Frame(np.zeros((2, width, 3), np.uint8), stamp_ns or None))
                stale = 0
            except StaleFrame:
                stale += 1
            assert stale < 3, "a stream that comes to nothing but stale frames"

    stamp = st.integers(0, 2**31 * 10**9) | st.integers(0, 40).map(lambda step: 10**18 + step * 33_000_000)
    frame = st.tuples(st.integers(0, 2**64 - 1) | st.integers(0, 50), stamp, st.integers(1, 2))
    return Target(run, st.lists(frame, max_size=40))


def _bag() -> Target:
    from tdnet_ros.video.sources import open_source

    # Kept for the life of the process: every example is written there.
    home = tempfile.TemporaryDirectory(prefix="tdnet_ros_fuzz_")
    folder = Path(home.name)
    seeds: dict[str, bytes] = {}
    for storage, suffix in (("mcap", ".mcap"), ("sqlite3", ".db3")):
        write_bag(folder / storage, storage=storage)
        seeds[suffix] = next((folder / storage).glob(f"*{suffix}")).read_bytes()
    metadata = (folder / "mcap" / "metadata.yaml").read_text()
    broken = folder / "broken"
    broken.mkdir()

    def run(example: tuple[str, bytes, bytes], keep: object = home) -> None:
        suffix, content, listing = example
        for file in broken.iterdir():
            file.unlink()
        (broken / f"mcap{suffix}").write_bytes(content)
        if listing:
            (broken / "metadata.yaml").write_bytes(listing)
        source = open_source(broken, topic="/camera/image")
        for number, _ in enumerate(source):
            assert number < 1000, "more images than bytes"

    storages = st.sampled_from(sorted(seeds)).flatmap(
        lambda suffix: st.tuples(
            st.just(suffix), mutated([seeds[suffix]], 4), st.sampled_from([b"", metadata.encode()])
        )
    )
    listings = traps([metadata]).map(lambda listing: (".mcap", seeds[".mcap"], listing))
    return Target(run, storages | listings, ((".mcap", seeds[".mcap"], DEEP),), share=0.25)


def _weight_file() -> Target:
    import torch
    from safetensors.torch import save

    from tdnet_ros.networks.checkpoints import read_checkpoint

    home = tempfile.TemporaryDirectory(prefix="tdnet_ros_fuzz_")
    tensors = {"head.classifier.weight": torch.ones(3, 2, 1, 1), "head.classifier.bias": torch.ones(3)}
    packed, legacy = io.BytesIO(), io.BytesIO()
    torch.save(tensors, packed)
    torch.save({"model_state": tensors}, legacy, _use_new_zipfile_serialization=False)
    files = {
        ".safetensors": save(tensors, {"model": "td2_mnv2"}),
        ".pth": packed.getvalue(),
        ".pkl": legacy.getvalue(),
    }

    def run(example: tuple[str, bytes], keep: object = home) -> None:
        path = Path(home.name) / f"weights{example[0]}"
        path.write_bytes(example[1])
        assert all(isinstance(value, torch.Tensor) for value in read_checkpoint(path).weights.values())

    kinds = st.sampled_from(sorted(files))
    changed = kinds.flatmap(lambda suffix: st.tuples(st.just(suffix), mutated([files[suffix]], 4, 300)))
    return Target(run, changed, ((".pkl", pickle.dumps(print)), (".pth", b""), (".safetensors", b"\xff" * 16)))


def _weight_metadata() -> Target:
    from tdnet_ros.networks import network_info
    from tdnet_ros.networks.metadata import apply_metadata, to_metadata

    info = network_info("td2_mnv2")
    known = to_metadata(info)
    labels = json.dumps({"name": "own", "names": ["a", "b"], "colours": [[1, 2, 3], [4, 5, 6]]})

    def run(example: tuple[str, bytes]) -> None:
        apply_metadata(info, {**known, example[0]: example[1].decode("utf-8", "replace")}, "example")

    names = st.sampled_from(sorted({*known, "low_resolution"}))
    return Target(run, st.tuples(names, traps([*known.values(), labels])), (("input_size", DEEP),))


def _export_manifest() -> Target:
    from tdnet_ros.networks import network_info
    from tdnet_ros.networks.export import MANIFEST, Manifest, _to_json, read_manifest

    home = tempfile.TemporaryDirectory(prefix="tdnet_ros_fuzz_")
    seed = json.dumps(_to_json(Manifest(network_info("td2_mnv2"), 1, "fp32", 17, "w", "0" * 64, "0.1.0", ())))

    def run(content: bytes, keep: object = home) -> None:
        (Path(home.name) / MANIFEST).write_bytes(content)
        read_manifest(home.name)

    return Target(run, traps([seed]), (DEEP, b"[]"))


def _settings() -> Target:
    from tdnet_ros.evaluation.accuracy_settings import read_accuracy_settings
    from tdnet_ros.evaluation.limits import read_limits
    from tdnet_ros.training.configuration import read_configuration

    home = tempfile.TemporaryDirectory(prefix="tdnet_ros_fuzz_")
    repository = Path(__file__).resolve().parents[1]
    files = ("evaluation_limits.yaml", "train_td2_mnv2.yaml", "accuracy.yaml")
    seeds = [(repository / "config" / name).read_text(encoding="utf-8") for name in files]
    path = Path(home.name) / "settings.yaml"

    def run(content: bytes, keep: object = home) -> None:
        path.write_bytes(content)
        for read in (read_limits, read_configuration, read_accuracy_settings):
            with contextlib.suppress(TdnetRosError):
                read(path)

    return Target(run, traps(seeds), (DEEP, b"2001-99-99", ALIASES), share=0.25)
