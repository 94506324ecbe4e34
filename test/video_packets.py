"""Packets for tests of the decoder: numbered, or not, and decoded all at once."""

from __future__ import annotations

from collections.abc import Iterable

from tdnet_ros.video.packet_decoder import DecodedPicture, PacketDecoder, VideoPacket


def packets_of(data: Iterable[bytes], codec: str = "h264", counted: bool = True) -> list[VideoPacket]:
    """Packets in the order of ``data``; ``counted``: the sender numbers them."""
    return [
        VideoPacket(index * 10**8, index * 10**8, "front", codec, content, index if counted else None)
        for index, content in enumerate(data)
    ]


def decode_all(packets: Iterable[VideoPacket]) -> tuple[list[DecodedPicture], PacketDecoder]:
    """Every picture, with its motion, and the decoder that they came from."""
    decoder = PacketDecoder(vectors=True)
    pictures = [picture for packet in packets for picture in decoder.decode(packet)]
    return [*pictures, *decoder.flush()], decoder
