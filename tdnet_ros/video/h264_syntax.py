"""The headers of an H.264 bitstream (ITU-T H.264, clause 7.3): as much as tells whether its vectors can be followed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tdnet_ros.errors import DecodeError

SLICE, IDR_SLICE, SUPPLEMENTAL, SEQUENCE_PARAMETERS, PICTURE_PARAMETERS = 1, 5, 6, 7, 8
P_SLICE, B_SLICE, I_SLICE, SP_SLICE, SI_SLICE = range(5)
_RECOVERY_POINT = 6
#: A slice header's fields before and with the reference list flag fit in this many bytes, by a wide margin.
_HEADER_BYTES = 64
#: So many parameter sets there can be (7.4.2.1, 7.4.2.2), and blocks of 16 px along a side, far beyond any level (A.3).
_MOST_SEQUENCES, _MOST_PICTURES, _MOST_BLOCKS = 32, 256, 1024
#: Profiles whose sequence parameters have chroma and scaling fields (7.3.2.1.1).
_HIGH_PROFILES = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}


@dataclass(frozen=True)
class NalUnit:
    """One unit of an access unit: its kind, whether other pictures may refer to it, and its payload as it stands."""

    kind: int
    is_reference: bool
    payload: memoryview


@dataclass(frozen=True)
class SequenceParameters:
    """What a sequence parameter set says. Sizes are those of the coded picture, crops are in luma samples."""

    number: int
    frame_number_bits: int
    order_kind: int
    order_bits: int
    order_delta_always_zero: bool
    reference_frames: int
    separate_planes: bool
    frames_only: bool
    coded_width: int
    coded_height: int
    crop_left: int
    crop_top: int


@dataclass(frozen=True)
class PictureParameters:
    """What a picture parameter set says."""

    number: int
    sequence: int
    has_order_delta: bool
    default_references: int
    has_redundant_pictures: bool


@dataclass(frozen=True)
class SliceHeader:
    """The beginning of a slice header. ``references`` counts the active entries of list 0, 0 in an I slice."""

    kind: int
    is_idr: bool
    is_reference: bool
    frame_number: int
    references: int
    reorders_references: bool
    sequence: SequenceParameters


class _Bits:
    """Reads the fields of a payload whose emulation prevention bytes are taken out."""

    def __init__(self, payload: memoryview) -> None:
        raw = bytes(payload).replace(b"\x00\x00\x03", b"\x00\x00")
        self._left = 8 * len(raw)
        self._value = int.from_bytes(raw, "big")

    def take(self, count: int) -> int:
        """A field of so many bits; raises DecodeError when they are not there."""
        self._left -= count
        if self._left < 0:
            raise DecodeError("H.264 header ends within a field, expected more bytes: it is truncated")
        return (self._value >> self._left) & ((1 << count) - 1)

    def flag(self) -> bool:
        return bool(self.take(1))

    def unsigned(self) -> int:
        """An unsigned Exp-Golomb code, clause 9.1."""
        zeros = 0
        while not self.take(1):
            zeros += 1
            if zeros > 32:
                raise DecodeError("H.264 header has an Exp-Golomb code of more than 32 zeros, expected at most 32")
        return (1 << zeros) - 1 + self.take(zeros)

    def signed(self) -> int:
        """A signed Exp-Golomb code, clause 9.1.1."""
        code = self.unsigned()
        return (code + 1) // 2 if code & 1 else -(code // 2)


def nal_units(data: bytes) -> Iterator[NalUnit]:
    """The units of an access unit in Annex B form (start codes), in order."""
    view = memoryview(data)
    start = data.find(b"\x00\x00\x01")
    while start >= 0 and start + 3 < len(data):
        end = data.find(b"\x00\x00\x01", start + 3)
        header = data[start + 3]
        yield NalUnit(header & 31, bool(header & 96), view[start + 4 : end if end >= 0 else len(data)])
        start = end


def read_sequence_parameters(unit: NalUnit) -> SequenceParameters:
    """Clause 7.3.2.1.1, up to the cropping; raises DecodeError when it is cut off."""
    bits = _Bits(unit.payload[:512])
    profile = bits.take(8)
    bits.take(16)
    number = _below(bits.unsigned(), _MOST_SEQUENCES, "sequence parameter set's id")
    chroma, separate_planes = 1, False
    if profile in _HIGH_PROFILES:
        chroma = bits.unsigned()
        separate_planes = chroma == 3 and bits.flag()
        bits.unsigned()
        bits.unsigned()
        bits.take(1)
        if bits.flag():
            _skip_scaling_lists(bits, 12 if chroma == 3 else 8)
    frame_number_bits = bits.unsigned() + 4
    order_kind, order_bits, order_delta_always_zero = bits.unsigned(), 0, False
    if order_kind == 0:
        order_bits = bits.unsigned() + 4
    elif order_kind == 1:
        order_delta_always_zero = bits.flag()
        bits.signed()
        bits.signed()
        for _ in range(bits.unsigned()):
            bits.signed()
    reference_frames = bits.unsigned()
    bits.take(1)
    width, map_height = (16 * (_below(bits.unsigned(), _MOST_BLOCKS, "size in blocks") + 1) for _ in range(2))
    frames_only = bits.flag()
    if not frames_only:
        bits.take(1)
    bits.take(1)
    crop_left = crop_top = 0
    if bits.flag():
        crop_left, _, crop_top = bits.unsigned(), bits.unsigned(), bits.unsigned()
    across, down = (2 if chroma in (1, 2) else 1), (2 if chroma == 1 else 1) * (1 if frames_only else 2)
    return SequenceParameters(
        number,
        frame_number_bits,
        order_kind,
        order_bits,
        order_delta_always_zero,
        reference_frames,
        separate_planes,
        frames_only,
        width,
        map_height * (1 if frames_only else 2),
        crop_left * across,
        crop_top * down,
    )


def _below(value: int, limit: int, name: str) -> int:
    """A value that memory is taken for; raises DecodeError when the standard has no such one."""
    if value >= limit:
        raise DecodeError(f"H.264 {name} is {value}, expected less than {limit}")
    return value


def _skip_scaling_lists(bits: _Bits, count: int) -> None:
    for index in range(count):
        if not bits.flag():
            continue
        scale = following = 8
        for _ in range(16 if index < 6 else 64):
            if following:
                following = (scale + bits.signed()) % 256
            scale = following or scale


def read_picture_parameters(unit: NalUnit) -> PictureParameters:
    """Clause 7.3.2.2; raises DecodeError when it is cut off, or divides pictures into slice groups."""
    bits = _Bits(unit.payload[:_HEADER_BYTES])
    number = _below(bits.unsigned(), _MOST_PICTURES, "picture parameter set's id")
    sequence = bits.unsigned()
    bits.take(1)
    has_order_delta = bits.flag()
    groups = bits.unsigned() + 1
    if groups > 1:
        raise DecodeError(f"H.264 picture parameter set {number} has {groups} slice groups, expected 1")
    default_references = bits.unsigned() + 1
    bits.unsigned()
    bits.take(3)
    for _ in range(3):
        bits.signed()
    bits.take(2)
    return PictureParameters(number, sequence, has_order_delta, default_references, bits.flag())


def read_slice_header(
    unit: NalUnit, sequences: dict[int, SequenceParameters], pictures: dict[int, PictureParameters]
) -> SliceHeader:
    """Clause 7.3.3, up to the reference list; raises DecodeError for parameter sets that have not come."""
    bits = _Bits(unit.payload[:_HEADER_BYTES])
    bits.unsigned()
    kind = bits.unsigned() % 5
    picture = pictures.get(bits.unsigned())
    sequence = sequences.get(picture.sequence) if picture else None
    if picture is None or sequence is None:
        raise DecodeError("H.264 slice names a parameter set that has not come, expected it before the slice")
    if sequence.separate_planes:
        bits.take(2)
    frame_number = bits.take(sequence.frame_number_bits)
    is_field = not sequence.frames_only and bits.flag()
    if is_field:
        bits.take(1)
    is_idr = unit.kind == IDR_SLICE
    if is_idr:
        bits.unsigned()
    with_delta = picture.has_order_delta and not is_field
    if sequence.order_kind == 0:
        bits.take(sequence.order_bits)
        if with_delta:
            bits.signed()
    elif sequence.order_kind == 1 and not sequence.order_delta_always_zero:
        bits.signed()
        if with_delta:
            bits.signed()
    if picture.has_redundant_pictures:
        bits.unsigned()
    references, reorders = 0, False
    if kind == B_SLICE:
        bits.take(1)
    if kind in (P_SLICE, SP_SLICE, B_SLICE):
        references = picture.default_references
        if bits.flag():
            references = bits.unsigned() + 1
            if kind == B_SLICE:
                bits.unsigned()
        reorders = bits.flag()
    return SliceHeader(kind, is_idr, unit.is_reference, frame_number, references, reorders, sequence)


def recovery_frames(unit: NalUnit) -> int | None:
    """After how many pictures all is right when decoding starts here without an IDR picture (D.1.8).

    None for a supplemental unit without a recovery point.
    """
    payload, position = unit.payload, 0
    while position + 1 < len(payload) and payload[position] != 0x80:
        kind = size = 0
        while position < len(payload) and payload[position] == 255:
            kind, position = kind + 255, position + 1
        kind, position = kind + (payload[position] if position < len(payload) else 0), position + 1
        while position < len(payload) and payload[position] == 255:
            size, position = size + 255, position + 1
        size, position = size + (payload[position] if position < len(payload) else 0), position + 1
        if kind == _RECOVERY_POINT:
            return _Bits(payload[position:]).unsigned()
        position += size
    return None
