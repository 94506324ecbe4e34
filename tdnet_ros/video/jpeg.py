"""Whether a JPEG is whole, read from its markers before any decoder touches it.

Decoders are lenient: libjpeg paints grey what a truncated file lacks, and OpenCV 4.10 leaves there what the
memory held before, which is the previous picture. A camera's picture is whole or it is not used, so the
structure is walked first. The entropy-coded data itself is not decoded here; tdnet_ros.video.decoding looks
at its result.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from tdnet_ros.errors import DecodeError

SIGNATURE = b"\xff\xd8\xff"

_BASELINE, _EXTENDED, _PROGRESSIVE = 0xC0, 0xC1, 0xC2
# Lossless, hierarchical and arithmetically coded pictures.
_OTHER_FRAMES = {0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF}
_COEFFICIENTS = 64
_START_OF_SCAN, _RESTART_INTERVAL, _START, _END = 0xDA, 0xDD, 0xD8, 0xD9

# In a scan, ff 00 stands for a data byte ff and ff d0 .. ff d7 are restarts: any other marker ends the scan.
_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_RESTART = re.compile(rb"\xff([\xd0-\xd7])")


@dataclass(frozen=True)
class JpegLayout:
    """What a whole JPEG declares; ``size`` is where it ends in the buffer (drivers pad behind it)."""

    width: int
    height: int
    progressive: bool
    size: int


@dataclass(frozen=True)
class _FrameHeader:
    width: int
    height: int
    progressive: bool
    samplings: dict[int, tuple[int, int]]  # (horizontal, vertical) factor by component id

    def units(self) -> int:
        """Number of minimum coded units of a scan over all components."""
        factors = [(1, 1)] if len(self.samplings) == 1 else self.samplings.values()
        columns, rows = 8 * max(h for h, _ in factors), 8 * max(v for _, v in factors)
        return -(-self.width // columns) * -(-self.height // rows)


def read_layout(data: bytes | memoryview, max_side: int, max_pixels: int) -> JpegLayout:
    """Walk all segments from SOI to EOI; raises DecodeError when one is missing, cut off or out of bounds."""
    position = len(SIGNATURE) - 1
    frame: _FrameHeader | None = None
    restart_interval = scan_bytes = 0
    complete: set[tuple[int, int]] = set()  # (component, coefficient) of which every bit was sent
    while True:
        match = _MARKER.search(data, position)
        if match is None:
            raise DecodeError(f"JPEG of {len(data)} bytes has no end marker, expected ff d9: it is truncated")
        marker, position = data[match.start() + 1], match.end()
        if marker == _END:
            break
        payload = _payload(data, position, marker)
        position += 2 + len(payload)
        if marker in (_BASELINE, _EXTENDED, _PROGRESSIVE):
            frame = _frame_header(payload, marker == _PROGRESSIVE, max_side, max_pixels)
        elif marker == _RESTART_INTERVAL and len(payload) >= 2:
            restart_interval = int.from_bytes(payload[:2], "big")
        elif marker == _START_OF_SCAN:
            if frame is None:
                raise DecodeError("JPEG has a scan header before the frame header, expected it behind")
            components, sent = _scan_content(payload, frame)
            complete |= sent
            end = _MARKER.search(data, position)
            scan = data[position : end.start() if end else len(data)]
            position += len(scan)
            scan_bytes += len(scan)
            if restart_interval and len(components) == len(frame.samplings) and not frame.progressive:
                _check_restarts(scan, -(-frame.units() // restart_interval) - 1)
    if frame is None:
        raise DecodeError(f"JPEG of {len(data)} bytes has no frame header, expected one before its end marker")
    if len(complete) < len(frame.samplings) * _COEFFICIENTS:
        wanted = f"{_COEFFICIENTS} for each of {len(frame.samplings)} components"
        raise DecodeError(f"JPEG has scans for {len(complete)} coefficients, expected {wanted}: it is truncated")
    # No encoder gets by with a bit per 8x8 block: a size that needs less was declared to make us allocate it.
    least = frame.width * frame.height // 512
    if scan_bytes < least:
        size = f"{frame.width}x{frame.height}"
        raise DecodeError(f"JPEG of {size} has {scan_bytes} bytes of scans, expected at least {least}")
    return JpegLayout(frame.width, frame.height, frame.progressive, position)


def _payload(data: bytes | memoryview, position: int, marker: int) -> bytes:
    """The segment behind the marker at ``position``, without its length."""
    if marker == _START or marker in _OTHER_FRAMES:
        raise DecodeError(f"JPEG has marker ff {marker:02x}, expected a Huffman-coded picture (ff c0 to ff c2)")
    length = int.from_bytes(data[position : position + 2], "big")
    if length < 2 or position + length > len(data):
        limits = f"2 to the {len(data) - position} that are left"
        raise DecodeError(f"JPEG segment ff {marker:02x} has length {length}, expected {limits}")
    return bytes(data[position + 2 : position + length])


def _frame_header(payload: bytes, progressive: bool, max_side: int, max_pixels: int) -> _FrameHeader:
    if len(payload) < 6 or len(payload) < 6 + 3 * payload[5]:
        raise DecodeError(f"JPEG frame header has {len(payload)} bytes, expected 6 and 3 per component")
    precision, height, width, count = struct.unpack_from(">BHHB", payload)
    if precision != 8 or count not in (1, 3):
        raise DecodeError(f"JPEG has {count} components of {precision} bits, expected 1 or 3 of 8 bits")
    check_size("JPEG", width, height, max_side, max_pixels)
    end = 6 + 3 * count
    samplings = {
        identity: (factor >> 4, factor & 15)
        for identity, factor in zip(payload[6:end:3], payload[7:end:3], strict=True)
    }
    if len(samplings) != count or not all(1 <= h <= 4 and 1 <= v <= 4 for h, v in samplings.values()):
        raise DecodeError(f"JPEG has sampling factors {samplings}, expected 1 to 4 for {count} components")
    return _FrameHeader(width, height, progressive, samplings)


def check_size(kind: str, width: int, height: int, max_side: int, max_pixels: int) -> None:
    """Raise DecodeError unless the declared size lies within the limits, before a decoder allocates it."""
    if not (0 < width <= max_side and 0 < height <= max_side and width * height <= max_pixels):
        limits = f"1x1 to {max_side}x{max_side} and at most {max_pixels} pixels"
        raise DecodeError(f"{kind} declares {width}x{height}, expected {limits}")


def _scan_content(payload: bytes, frame: _FrameHeader) -> tuple[set[int], set[tuple[int, int]]]:
    """(components, (component, coefficient) pairs complete after it) of the scan behind this header."""
    count = payload[0] if payload else 0
    components = set(payload[1 : 1 + 2 * count : 2])
    if len(payload) < 4 + 2 * count or not components <= frame.samplings.keys():
        raise DecodeError(f"JPEG scan header has {len(payload)} bytes for {count} components, expected the frame's")
    if not frame.progressive:
        first, last, missing_bits = 0, _COEFFICIENTS - 1, 0
    else:
        first, last, missing_bits = payload[-3], min(payload[-2], _COEFFICIENTS - 1), payload[-1] & 15
    if missing_bits:
        return components, set()
    return components, {(component, index) for component in components for index in range(first, last + 1)}


def _check_restarts(scan: bytes | memoryview, expected: int) -> None:
    """Restart markers are numbered: a missing one means that a piece of the picture was lost on the way."""
    found = b"".join(_RESTART.findall(scan))
    wanted = bytes(0xD0 + number % 8 for number in range(expected))
    # Some encoders write one more behind the last unit, which harms nothing.
    if found[:expected] != wanted or len(found) > expected + 1:
        raise DecodeError(f"JPEG scan has {len(found)} restart markers, expected {expected} in order")
