"""Watches the headers of an H.264 stream: where decoding can start, what was lost, whether vectors can be followed."""

from __future__ import annotations

from dataclasses import dataclass

from tdnet_ros.errors import DecodeError
from tdnet_ros.video import h264_syntax as syntax


@dataclass(frozen=True)
class AccessUnit:
    """What the headers of one packet say.

    ``recovers_after``: where decoding may start here, the number of pictures after which all is right: 0 for an IDR
    picture, more at a recovery point of a stream that refreshes pictures part by part; else None. ``is_intra``: all
    slices are I slices. ``lost``: so many reference pictures are missing before this one, by frame_num (clause 7.4.3).
    ``fault`` says why the picture's vectors don't point into the picture before, '' when they do. ``coded_size`` is
    (width, height).
    """

    recovers_after: int | None
    is_intra: bool
    lost: int
    fault: str
    coded_size: tuple[int, int]

    @property
    def is_entry(self) -> bool:
        """Whether decoding may start here."""
        return self.recovers_after is not None


#: A picture that needs others, of a stream that was joined before its parameter sets came.
_BEFORE_PARAMETERS = AccessUnit(recovers_after=None, is_intra=False, lost=0, fault="", coded_size=(0, 0))


class HeaderWatch:
    """Reads the access units of one stream in decoding order.

    Vectors can be followed when each picture's only reference is the picture before: no B slices, one active reference
    (or room for no more than one), no field coding, and every picture a reference. A loss of exactly as many pictures
    as frame_num takes to come round, or of exactly one group of pictures, does not show in the headers.
    """

    def __init__(self) -> None:
        self.has_b_slices = False
        self._sequences: dict[int, syntax.SequenceParameters] = {}
        self._pictures: dict[int, syntax.PictureParameters] = {}
        self._next_frame_number: int | None = None
        self._after_unreferenced = False

    def read(self, data: bytes) -> AccessUnit | None:
        """The next packet's headers; None when it has no picture, only parameter sets and the like.

        Raises DecodeError when a header is cut off or makes no sense.
        """
        slices: list[syntax.SliceHeader] = []
        recovers_after: int | None = None
        units = 0
        for unit in syntax.nal_units(data):
            units += 1
            if unit.kind == syntax.SLICE and not self._pictures:
                return _BEFORE_PARAMETERS
            if unit.kind in (syntax.SLICE, syntax.IDR_SLICE):
                slices.append(syntax.read_slice_header(unit, self._sequences, self._pictures))
            elif unit.kind == syntax.SEQUENCE_PARAMETERS:
                sequence = syntax.read_sequence_parameters(unit)
                self._sequences[sequence.number] = sequence
            elif unit.kind == syntax.PICTURE_PARAMETERS:
                picture = syntax.read_picture_parameters(unit)
                self._pictures[picture.number] = picture
            elif unit.kind == syntax.SUPPLEMENTAL:
                recovers_after = recovers_after if recovers_after is not None else syntax.recovery_frames(unit)
        if not units:
            raise DecodeError(f"H.264 packet of {len(data)} bytes has no start code, expected Annex B (00 00 01)")
        return self._picture(slices, recovers_after) if slices else None

    def _picture(self, slices: list[syntax.SliceHeader], recovers_after: int | None) -> AccessUnit:
        first = slices[0]
        numbers = 1 << first.sequence.frame_number_bits
        lost = 0
        if not first.is_idr and self._next_frame_number is not None:
            lost = (first.frame_number - self._next_frame_number) % numbers
        fault = next((fault for fault in map(_fault, slices) if fault), "")
        if not fault and self._after_unreferenced and not first.is_idr:
            fault = "pictures that are no references"
        self.has_b_slices = self.has_b_slices or any(header.kind == syntax.B_SLICE for header in slices)
        if first.is_reference:
            self._next_frame_number = (first.frame_number + 1) % numbers
        elif lost:
            self._next_frame_number = first.frame_number
        self._after_unreferenced = not first.is_reference
        return AccessUnit(
            recovers_after=0 if first.is_idr else recovers_after,
            is_intra=all(header.kind in (syntax.I_SLICE, syntax.SI_SLICE) for header in slices),
            lost=lost,
            fault=fault,
            coded_size=(first.sequence.coded_width, first.sequence.coded_height),
        )


def _fault(header: syntax.SliceHeader) -> str:
    """Why vectors of a slice don't point into the picture before; '' when they do."""
    sequence = header.sequence
    if header.kind == syntax.B_SLICE:
        return "B-frames"
    if not sequence.frames_only:
        return "interlaced coding"
    if sequence.crop_left or sequence.crop_top:
        return "pictures cropped at the left or top"
    # x264's weighted prediction lists its one reference twice: with room for one, all entries mean the same.
    if sequence.reference_frames > 1 and (header.references > 1 or header.reorders_references):
        return f"{max(2, header.references)} reference frames"
    return ""
