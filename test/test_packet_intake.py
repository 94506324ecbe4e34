"""Packets on their way into the node: all of them decoded, the newest picture handed on, nothing invented shown."""

from __future__ import annotations

import contextlib
import logging
import struct
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from video_packets import packet_message

from benchmarks.analytic_clip import DriveClip
from tdnet_ros.errors import DecodeError, TdnetRosError
from tdnet_ros.node.packet_intake import WAITING, PacketIntake
from tdnet_ros.video.encoding import encode_packets
from tdnet_ros.video.frame import Break, Frame
from tdnet_ros.video.messages.cdr import view_compressed, view_compressed_video, view_ffmpeg_packet
from tdnet_ros.video.messages.packets import compressed_packet, ffmpeg_packet, foxglove_packet, read_packet
from tdnet_ros.video.messages.types import COMPRESSED_TYPE, FFMPEG_TYPE, FOXGLOVE_TYPE
from tdnet_ros.video.packet_decoder import VideoPacket

CLIP, GOP, COUNT = DriveClip(96, 128, seed=1), 6, 15
PERIOD_NS = 10**8


@cache
def bitstream() -> list[bytes]:
    return list(encode_packets((CLIP.picture(index) for index in range(COUNT)), gop=GOP))


def messages(encoding: str = "h264;yuv420p;bgr8;bgr8") -> list[bytes]:
    """FFMPEGPackets, stamped from 1 s on and counted."""
    return [
        packet_message(FFMPEG_TYPE, data, 10**9 + index * PERIOD_NS, encoding, pts=index)
        for index, data in enumerate(bitstream())
    ]


def taken(intake: PacketIntake) -> tuple[int, Frame]:
    """(number, frame) of the newest picture, which then counts as segmented."""
    newest = intake.newest()
    assert newest is not None
    header, frame = newest
    assert header.sec * 10**9 + header.nanosec == frame.stamp_ns and header.frame_id == frame.source == "front"
    intake.segmented()
    return (frame.stamp_ns - 10**9) // PERIOD_NS, frame


READERS = [(FFMPEG_TYPE, ffmpeg_packet), (FOXGLOVE_TYPE, foxglove_packet)]


@pytest.mark.parametrize("little_endian", [True, False])
@pytest.mark.parametrize(("type_name", "read"), READERS)
@pytest.mark.parametrize("encoding", ["h264", "libx264", "hevc_nvenc", "h264;yuv420p;mono8;bayer_rggb8"])
def test_messages_read_as_another_parser_reads_them(type_name: str, read, encoding: str, little_endian: bool) -> None:  # type: ignore[no-untyped-def]
    for size in range(4):
        message = packet_message(type_name, bytes(range(size)), 5 * 10**9 + 7, encoding, 2**40 + 1, little_endian)
        assert read(message) == read_packet(message, type_name)


def test_compressed_image_with_video_is_a_packet() -> None:
    message = packet_message(COMPRESSED_TYPE, b"\0\0\1", 3 * 10**9)
    packet = compressed_packet(view_compressed(message))
    assert (packet.codec, packet.stamp_ns, packet.frame_id, packet.data) == ("h264", 3 * 10**9, "front", b"\0\0\1")


@pytest.mark.parametrize(
    ("type_name", "view"), [(FFMPEG_TYPE, view_ffmpeg_packet), (FOXGLOVE_TYPE, view_compressed_video)]
)
def test_every_cut_is_noticed(type_name: str, view) -> None:  # type: ignore[no-untyped-def]
    message = packet_message(type_name, b"abc", encoding="h264")
    for length in range(len(message)):
        with pytest.raises(DecodeError, match="expected"):
            view(message[:length])


@settings(max_examples=80, derandomize=True, deadline=None)
@given(data=st.data())
def test_no_bytes_raise_anything_but_our_errors(data: st.DataObject) -> None:
    type_name, read = data.draw(st.sampled_from(READERS))
    message = bytearray(packet_message(type_name, b"abcdef"))
    for _ in range(data.draw(st.integers(1, 4))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(TdnetRosError):
        read(bytes(message[: data.draw(st.integers(0, len(message)))]))


def test_motion_of_skipped_pictures_is_carried_along() -> None:
    """From the picture handed on to the one before that was: as long as the sum of the steps between."""
    single, skipping = PacketIntake(ffmpeg_packet), PacketIntake(ffmpeg_packet)
    summed = np.zeros(2)
    for index, message in enumerate(messages()[:GOP]):
        assert single.feed(message) and skipping.feed(message)
        number, frame = taken(single)
        assert number == index and frame.motion is not None
        if index in (0, GOP - 1):
            number, far = taken(skipping)
            assert number == index and far.motion is not None
            np.testing.assert_array_equal(far.image, frame.image)
        if index:
            assert frame.motion.frames == 1
            summed += frame.motion.displacement_px[5:7, 7:9].mean((0, 1))
    assert far.motion.broken is None and far.motion.frames == GOP - 1
    np.testing.assert_allclose(far.motion.displacement_px[5:7, 7:9].mean((0, 1)), summed, atol=0.7)


def test_nothing_new_is_handed_on_twice() -> None:
    intake = PacketIntake(ffmpeg_packet)
    assert intake.newest() is None and intake.feed(messages()[0])
    assert intake.newest() is not None and intake.newest() is None


@pytest.mark.parametrize("how", ["lost", "thrown away", "damaged", "no packet"])
def test_after_a_loss_nothing_is_shown_until_the_next_keyframe(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """What the decoder shows after a loss is partly invented; the keyframe then says why motion starts anew."""
    intake, shown, errors = PacketIntake(foxglove_packet), [], 0
    sent = [packet_message(FOXGLOVE_TYPE, data, 10**9 + i * PERIOD_NS) for i, data in enumerate(bitstream())]
    if how == "damaged":
        sent[3] = packet_message(FOXGLOVE_TYPE, bitstream()[3][:40], 10**9 + 3 * PERIOD_NS)
    if how == "no packet":
        sent[3] = sent[3][:9]
    with caplog.at_level(logging.WARNING):
        for index, message in enumerate(sent[: GOP + 2]):
            if index == 3 and how in ("lost", "thrown away"):
                continue
            try:
                came = intake.feed(message, after_gap=how == "thrown away" and index == 4)
            except DecodeError:
                errors += 1
                continue
            if came:
                shown.append(taken(intake))
    assert [number for number, _ in shown] == [0, 1, 2, 6, 7]
    assert shown[3][1].motion.broken is Break.LOSS and shown[4][1].motion.broken is None
    assert errors == (how in ("damaged", "no packet"))
    assert caplog.text.count("no mask until the next keyframe") == 1
    assert intake.withheld == 2 and intake.lost == (how == "lost"), "what was thrown away has come"


def test_another_size_after_a_loss_is_handed_on_at_its_keyframe() -> None:
    """With vectors that cannot be followed nothing tells the later pictures' sizes but these themselves."""
    options = {"preset": "medium", "tune": "zerolatency", "bf": "0", "refs": "3"}
    larger = DriveClip(128, 160, seed=1)
    small = list(encode_packets((CLIP.picture(index) for index in range(COUNT)), gop=COUNT, options=options))[:8]
    large = list(encode_packets((larger.picture(index) for index in range(5)), gop=GOP, options=options))
    intake, shown = PacketIntake(), []
    for index, data in enumerate([*small[:4], *small[5:], *large]):
        if intake.decode(VideoPacket(10**9 + index * PERIOD_NS, 0, "front", "h264", data)):
            number, frame = taken(intake)
            shown.append((number, frame.height, frame.motion and frame.motion.broken))
    assert shown[4:] == [(7, 128, Break.LOSS), *((number, 128, None) for number in (8, 9, 10, 11))]


def test_damaged_pictures_are_shown_to_those_who_want_them() -> None:
    intake = PacketIntake(ffmpeg_packet, accept_damaged=True)
    sent = messages()[:5]
    del sent[2]
    for message in sent:
        intake.feed(message)
    number, frame = taken(intake)
    assert number == 4 and frame.motion.broken is Break.START, "the first reason stays"
    assert intake.facts["packets lost"] == "1" and intake.withheld == 0


def test_joining_between_keyframes_waits(caplog: pytest.LogCaptureFixture) -> None:
    intake = PacketIntake(ffmpeg_packet)
    with caplog.at_level(logging.WARNING):
        came = [intake.feed(message) for message in messages()[2:]]
    assert came == [False] * 4 + [True] * (COUNT - GOP)
    assert taken(intake)[0] == COUNT - 1
    assert caplog.text.count("joined between keyframes") == 1
    assert intake.facts["packets before the first keyframe"] == "4"
    assert intake.facts[WAITING] == ""
    intake.feed(messages()[2])
    assert intake.facts[WAITING] == "the stream was joined between keyframes", "the sender began again"


def test_a_mono_image_is_the_brightness_plane_itself() -> None:
    """Not the grey that the plane stands for in a colour picture, whose black is 16."""
    colour, mono = PacketIntake(ffmpeg_packet), PacketIntake(ffmpeg_packet)
    colour.feed(messages()[0])
    mono.feed(messages("h264;yuv420p;mono8;mono8")[0])
    rgb, plane = taken(colour)[1], taken(mono)[1]
    assert plane.encoding == "mono8" and plane.image.shape == (96, 128)
    assert plane.motion is not None and plane.received_encoding == "mono8"
    expected = 16 + rgb.image.astype(float) @ [0.257, 0.504, 0.098]
    assert np.abs(plane.image - expected).mean() < 2
    bayer = PacketIntake(ffmpeg_packet)
    bayer.feed(messages("h264;yuv420p;mono8;bayer_rggb8")[0])
    assert taken(bayer)[1].image.shape == (96, 128, 3)


def test_what_is_no_video_is_refused() -> None:
    with pytest.raises(DecodeError, match="encoding 'mjpeg', expected one of"):
        ffmpeg_packet(packet_message(FFMPEG_TYPE, b"x", encoding="mjpeg"))
    header = struct.pack("<4sIII", b"\0\7\0\0", 0, 0, 0)
    with pytest.raises(DecodeError):
        foxglove_packet(header)
