"""What the decoder of video packets finds in the bitstream: entry points, losses, vectors, and why there are none."""

from __future__ import annotations

import logging
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from video_packets import LOW_DELAY, breaks, decode_all, packets_of

from benchmarks.analytic_clip import DriveClip, encode
from tdnet_ros.errors import DecodeError, SourceError
from tdnet_ros.video.encoding import FOLLOWABLE
from tdnet_ros.video.file_packets import file_packets
from tdnet_ros.video.frame import Break, Frame
from tdnet_ros.video.h264_stream import HeaderWatch
from tdnet_ros.video.optical_flow import FlowMotion
from tdnet_ros.video.packet_decoder import PacketDecoder

CLIP, GOP, COUNT = DriveClip(96, 128, seed=1), 6, 15


@cache
def encoded(codec: str = "libx264", gop: int = GOP, count: int = COUNT, **options: str) -> list[bytes]:
    pictures = [CLIP.picture(index) for index in range(count)]
    return list(encode(pictures, codec, gop, **(options or (FOLLOWABLE if codec == "libx264" else {}))))


def test_every_picture_between_keyframes_has_motion() -> None:
    pictures, decoder = decode_all(packets_of(encoded()))
    assert breaks(pictures) == {0: Break.START, 6: Break.INTRA, 12: Break.INTRA}
    assert all(picture.motion is not None and picture.intact for picture in pictures)
    assert (decoder.fault, decoder.lost, decoder.damaged, decoder.waited) == ("", 0, 0, 0)
    plain = PacketDecoder()
    without = [picture.motion for packet in packets_of(encoded()) for picture in plain.decode(packet)]
    assert without[0] is not None and not any(without[1:])


@pytest.mark.parametrize("counted", [True, False], ids=["pts", "frame_num"])
def test_a_lost_packet_is_noticed_though_the_decoder_goes_on(counted: bool) -> None:
    packets = packets_of(encoded(), counted=counted)
    del packets[8], packets[2:4]
    pictures, decoder = decode_all(packets)
    assert len(pictures) == COUNT - 3, "the decoder shows something for every packet"
    assert breaks(pictures) == {0: Break.START, 4: Break.LOSS, 6: Break.INTRA, 9: Break.LOSS, 12: Break.INTRA}
    assert (decoder.lost, decoder.damaged) == (3, 0)
    invented = [picture.packet.stamp_ns // 10**8 for picture in pictures if not picture.intact]
    assert invented == [4, 5, 9, 10, 11], "until the next IDR picture"


def test_a_lost_keyframe_and_a_whole_group_are_noticed() -> None:
    packets = packets_of(encoded(), counted=False)
    pictures, _ = decode_all(packets[:6] + packets[7:])
    # The decoder holds back what it takes for pictures of the past; the first that it shows again is marked.
    assert list(breaks(pictures).values()) == [Break.START, Break.LOSS, Break.INTRA]
    # A whole group leaves frame_num as it would have been: only the sender's count tells.
    del packets[4:10]
    assert 10 not in breaks(decode_all(packets)[0])
    counted = packets_of(encoded())
    del counted[4:10]
    assert breaks(decode_all(counted)[0])[10] is Break.LOSS


def test_a_packet_that_cannot_be_decoded_counts_as_lost() -> None:
    packets = packets_of(encoded(), counted=False)
    packets[3] = replace(packets[3], data=packets[3].data[:5])
    packets[8] = replace(packets[8], data=b"no start code")
    pictures, decoder = decode_all(packets)
    assert (decoder.damaged, decoder.lost) == (2, 0)
    assert breaks(pictures) == {0: Break.START, 4: Break.LOSS, 6: Break.INTRA, 9: Break.LOSS, 12: Break.INTRA}


def test_a_packet_that_was_cut_off_is_no_reference_to_trust() -> None:
    packets = packets_of(encoded())
    packets[3] = replace(packets[3], data=packets[3].data[: len(packets[3].data) // 2])
    pictures, decoder = decode_all(packets)
    assert decoder.damaged == 1
    assert breaks(pictures) == {0: Break.START, 3: Break.LOSS, 6: Break.INTRA, 12: Break.INTRA}
    assert [picture.intact for picture in pictures[:7]] == [True, True, True, False, False, False, True]


def test_joining_between_keyframes_waits_for_an_idr_picture() -> None:
    """Even where parameter sets come with every packet, as cameras send them for those who join."""
    parameter_sets = encoded()[0][: encoded()[0].index(b"\x00\x00\x01\x65")]
    packets = packets_of(encoded()[2:])
    packets = [replace(packet, data=parameter_sets + packet.data) for packet in packets]
    pictures, decoder = decode_all(packets)
    assert decoder.waited == 4 and len(pictures) == COUNT - GOP
    assert breaks(pictures) == {4: Break.START, 10: Break.INTRA}
    assert all(picture.intact for picture in pictures)


@pytest.mark.parametrize("codec", LOW_DELAY)
def test_joining_waits_for_a_keyframe_in_every_codec(codec: str) -> None:
    encoder, options = LOW_DELAY[codec]
    packets = packets_of(encoded(encoder, gop=GOP, count=9, **options)[2:], codec)
    pictures, decoder = decode_all(packets)
    assert pictures[0].packet.stamp_ns == (GOP - 2) * 10**8 and len(pictures) == 3
    assert (decoder.waited, decoder.damaged) == (GOP - 2, 0)


def test_a_stream_that_refreshes_its_pictures_part_by_part_recovers_when_all_are() -> None:
    """There is one IDR picture, at its beginning; recovery points say after how many pictures all is right."""
    options = {**FOLLOWABLE, "x264-params": "intra-refresh=1"}
    packets = packets_of(encoded(gop=12, count=30, **options), counted=False)
    whole, _ = decode_all(packets)
    found, decoder = decode_all(packets[:5] + packets[6:])
    errors = [
        float(np.abs(np.subtract(whole[n + (n > 4)].rgb(), found[n].rgb(), dtype=float)).mean()) for n in range(29)
    ]
    first = next(n for n in range(5, 29) if found[n].intact)
    assert errors[5] > 1 and 10 < first < 20 and decoder.lost == 1
    assert all(picture.intact == (error == 0) for picture, error in zip(found, errors, strict=True))
    joined, decoder = decode_all(packets[3:])
    assert decoder.waited == 9 and joined[0].packet == found[first].packet
    assert all(picture.intact for picture in joined)


def test_a_sender_that_starts_again_is_waited_for() -> None:
    first, second = packets_of(encoded())[:9], packets_of(encoded())[2:9]
    again = [replace(packet, stamp_ns=packet.stamp_ns + 10**10) for packet in second]
    pictures, decoder = decode_all(first + again)
    assert breaks(pictures) == {0: Break.START, 6: Break.INTRA, 106: Break.START}
    assert (decoder.waited, decoder.lost) == (4, 0)


def test_what_the_caller_has_left_out_is_no_packet_that_never_came() -> None:
    decoder, packets = PacketDecoder(vectors=True), packets_of(encoded())
    pictures = [picture for packet in packets[:3] for picture in decoder.decode(packet)]
    decoder.note_loss()
    pictures += [picture for packet in [*packets[5:8], *packets[10:]] for picture in decoder.decode(packet)]
    assert breaks(pictures) == {0: Break.START, 5: Break.LOSS, 6: Break.INTRA, 10: Break.LOSS, 12: Break.INTRA}
    assert decoder.lost == 2, "those before packet 10"


def test_parameter_sets_in_a_packet_of_their_own_belong_to_the_next() -> None:
    data = encoded()[0]
    at = data.index(b"\x00\x00\x01\x65")
    pictures, decoder = decode_all(packets_of([data[:at], data[at:], *encoded()[1:4]], counted=False))
    assert len(pictures) == 4 and breaks(pictures) == {1: Break.START}
    assert (decoder.damaged, decoder.waited) == (0, 0)


@pytest.mark.parametrize(
    ("fault", "options"),
    [
        ("3 reference frames", {"preset": "medium", "bf": "0", "refs": "3", "tune": "zerolatency"}),
        ("B-frames", {"preset": "medium", "bf": "2", "refs": "1", "b-adapt": "0"}),
        ("interlaced coding", {"preset": "medium", "bf": "0", "refs": "1", "flags": "+ilme+ildct"}),
    ],
)
def test_vectors_that_lead_elsewhere_are_recognised(
    fault: str, options: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        pictures, decoder = decode_all(packets_of(encoded(**options), counted=fault != "B-frames"))
    assert decoder.fault == fault
    assert caplog.text.count(f"motion has to be measured: {fault}") == 1
    assert len(pictures) == COUNT and decoder.damaged == decoder.lost == 0
    assert all(picture.motion is None for picture in pictures[GOP:])
    stamps = [picture.packet.stamp_ns for picture in pictures]
    assert len(set(stamps)) == COUNT


def test_weighted_prediction_of_one_reference_is_followed() -> None:
    """The encoder then lists its reference twice, plain and weighted; a second entry alone is no second picture."""
    fading = [np.uint8(CLIP.picture(index) * (1 - 0.06 * index)) for index in range(GOP)]
    pictures, decoder = decode_all(packets_of(encode(fading, **FOLLOWABLE, weightp="2")))
    assert decoder.fault == "" and all(picture.motion for picture in pictures)


@pytest.mark.parametrize(("codec", "encoder"), [("hevc", "libx265"), ("vp9", "libvpx-vp9"), ("av1", "libsvtav1")])
def test_other_codecs_are_decoded_but_carry_no_vectors(codec: str, encoder: str) -> None:
    options = {
        "libx265": {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none"},
        "libvpx-vp9": {"deadline": "realtime", "lag-in-frames": "0", "cpu-used": "8"},
        "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
    }[encoder]
    packets = packets_of(encoded(encoder, count=GOP + 2, **options), codec)
    pictures, decoder = decode_all(packets)
    assert len(pictures) == GOP + 2
    assert decoder.fault == f"{codec} carries no motion vectors"
    assert [picture.motion is None for picture in pictures] == [False] + [True] * (GOP + 1)
    lossy, decoder = decode_all(packets[:2] + packets[3:])
    assert list(breaks(lossy).values()) == [Break.START, Break.LOSS] and decoder.lost == 1


def test_b_frames_that_are_counted_in_the_order_of_display_are_not_losses() -> None:
    """Of a codec whose headers are not read, too: once a number has come late, numbers tell nothing any more."""
    options = {"preset": "ultrafast", "tune": "zerolatency", "x265-params": "log-level=none"}
    packets = packets_of(encoded("libx265", gop=20, count=10, **options), "hevc")
    numbers = [0, 3, 1, 2, 6, 4, 5, 9, 7, 8]
    packets = [replace(packet, pts=number) for packet, number in zip(packets, numbers, strict=True)]
    assert breaks(decode_all(packets)[0]) == {0: Break.START, 1: Break.LOSS}


def test_another_size_within_a_stream_is_followed() -> None:
    larger = list(encode([DriveClip(128, 160, seed=1).picture(index) for index in range(3)], **FOLLOWABLE))
    pictures, decoder = decode_all(packets_of([*encoded()[:3], *larger]))
    assert breaks(pictures) == {0: Break.START, 3: Break.INTRA}
    assert [picture.motion.valid.shape for picture in pictures] == [(12, 16)] * 3 + [(16, 20)] * 3
    assert (decoder.fault, decoder.lost, decoder.damaged) == ("", 0, 0)


def test_where_all_pictures_are_keyframes_motion_is_measured() -> None:
    pictures, _ = decode_all(packets_of(encoded(gop=1, count=4)))
    assert [picture.motion is None for picture in pictures] == [False, True, True, True]


def test_lines_that_are_coded_but_not_seen_have_no_motion() -> None:
    rng = np.random.default_rng(4)
    wide = np.repeat(np.kron(rng.integers(0, 256, (136, 12), np.uint8), np.ones((8, 8), np.uint8))[..., None], 3, 2)
    pictures, decoder = decode_all(packets_of(encode([wide[:1080, :64], wide[4:1084, 4:68]], **FOLLOWABLE)))
    assert pictures[0].picture.height == 1080
    motion = pictures[1].motion
    assert motion is not None and motion.displacement_px.shape == (135, 8, 2) and motion.valid.shape == (135, 8)
    assert np.median(motion.displacement_px.reshape(-1, 2)[motion.valid.reshape(-1)], axis=0) == pytest.approx((4, 4))
    assert decoder.fault == ""


def test_damaged_headers_are_errors_of_ours() -> None:
    rng = np.random.default_rng(5)
    good = encoded()[0][:400]
    for _ in range(300):
        data = bytearray(good[: rng.integers(4, 400)])
        for at in rng.integers(0, len(data), 6):
            data[at] = rng.integers(0, 256)
        try:
            HeaderWatch().read(bytes(data))
        except DecodeError:
            continue


@pytest.mark.parametrize(
    ("name", "pictures", "keyframes"),
    [
        ("clip_0016E5_15hz.mp4", 101, 9),
        ("video/solidWhiteRight.mp4", 221, 8),
        ("video/udacity_vehicle_test_video.mp4", 38, 2),
    ],
)
def test_vectors_of_real_cameras_agree_with_measured_motion(
    data_pack: Path, name: str, pictures: int, keyframes: int
) -> None:
    packets = list(file_packets(data_pack / name))
    assert [later.pts - earlier.pts for earlier, later in pairwise(packets)] == [1] * (pictures - 1)
    found, decoder = decode_all(packets)
    assert len(found) == pictures
    assert (decoder.fault, decoder.lost, decoder.damaged, decoder.waited) == ("", 0, 0, 0)
    assert sum(picture.motion.broken is not None for picture in found) == keyframes
    flow, differences_px = FlowMotion(), []
    for picture in found[1:12]:
        measured = flow.step(Frame(picture.rgb()))
        both = measured.valid & picture.motion.valid
        if both.any():
            difference = np.hypot(*(measured.displacement_px - picture.motion.displacement_px)[both].T)
            differences_px.append(np.median(difference))
    assert len(differences_px) == 10 and np.median(differences_px) < 2.5


def test_a_file_that_is_no_video_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.mp4"
    path.write_text("no video")
    with pytest.raises(SourceError, match="cannot be opened as a video"):
        next(file_packets(path))
