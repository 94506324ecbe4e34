"""A sender that starts again: nothing is shown that refers to what it sent before, and the count is trusted anew."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from video_packets import LOW_DELAY, breaks, decode_all, packets_of

from benchmarks.analytic_clip import DriveClip, encode
from tdnet_ros.video.frame import Break
from tdnet_ros.video.packet_decoder import PacketDecoder, VideoPacket

CLIP, GOP, COUNT = DriveClip(96, 128, seed=1), 6, 15


@cache
def packets_with(codec: str) -> list[VideoPacket]:
    encoder, options = LOW_DELAY[codec]
    return packets_of(encode([CLIP.picture(index) for index in range(COUNT)], encoder, GOP, **options), codec)


@pytest.mark.parametrize("count_before", [0, 1000], ids=["a little back", "far back"])
@pytest.mark.parametrize("codec", LOW_DELAY)
def test_a_sender_that_starts_again_is_waited_for_in_every_codec(codec: str, count_before: int) -> None:
    """Nothing refers to pictures of before, and what is lost later is still found by the count."""
    packets = packets_with(codec)
    first = [replace(packet, pts=count_before + packet.stamp_ns // 10**8) for packet in packets[:5]]
    again = [replace(packet, stamp_ns=packet.stamp_ns + 10**10) for packet in [*packets[2:11], *packets[12:]]]
    decoder, pictures = PacketDecoder(), []
    for packet in [*first, *again]:
        if packet is again[0]:
            decoder.note_loss()  # as the node does where it has missed the sender's first packets
        pictures += decoder.decode(packet)
    assert breaks([*pictures, *decoder.flush()]) == {0: Break.START, 106: Break.START, 112: Break.LOSS}
    assert (decoder.waited, decoder.lost, decoder.damaged) == (4, 1, 0)
    assert all(picture.intact for picture in pictures)


def test_a_keyframe_that_counts_back_is_a_sender_that_starts_again() -> None:
    """Numbers of B-frames come late: these ones have not come before, and are no B-frame's."""
    packets = packets_with("hevc")
    first = [replace(packet, pts=packet.pts + 20) for packet in packets[:3]]
    again = [replace(packet, stamp_ns=packet.stamp_ns + 10**10) for packet in [*packets[:4], *packets[5:7]]]
    pictures, decoder = decode_all(first + again)
    assert breaks(pictures) == {0: Break.START, 100: Break.START, 106: Break.LOSS} and decoder.lost == 1


def test_a_number_that_comes_twice_is_a_sender_that_starts_again() -> None:
    """In H.264 with B-frames, too, whose numbers go back by themselves."""
    options = {"preset": "medium", "bf": "2", "refs": "1", "b-adapt": "0"}
    data = encode([CLIP.picture(index) for index in range(COUNT)], "libx264", GOP, **options)
    numbers = [0, 3, 1, 2, 5, 4, 6, 9, 7, 8, 11, 10, 12, 14, 13]
    packets = [replace(packet, pts=number) for packet, number in zip(packets_of(data), numbers, strict=True)]
    again = [replace(packet, stamp_ns=packet.stamp_ns + 10**10) for packet in packets[2:]]
    pictures, decoder = decode_all(packets[:12] + again)
    assert {number: reason for number, reason in breaks(pictures).items() if number >= 100} == {106: Break.START}
    assert decoder.waited == GOP - 2 and not decoder.damaged
