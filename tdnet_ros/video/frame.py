"""One picture of a stream, as the core sees it: pixels, time, where they came from and how they moved."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ImageError

#: Channel layouts that the engine takes as they are; everything else is converted to one of them first.
NATIVE_ENCODINGS = {"rgb8": 3, "bgr8": 3, "mono8": 1}

#: Side of a cell of a motion field, px: H.264's vectors come for blocks of this size and its multiples.
CELL_PX = 8


class Break(Enum):
    """Why there is no motion from a frame to its reference; the values are words for messages."""

    START = "first frame"
    INTRA = "I-frame"
    LOSS = "lost packet"
    CUT = "cut"


@dataclass(frozen=True)
class MotionField:
    """Where each pixel of a frame was in an earlier frame, its reference: the frame before, or the keyframe.

    ``displacement_px`` (ceil(H/8), ceil(W/8), 2) float32 is (dx, dy) in px of the full picture, for cells of 8x8 px
    from the upper left corner: what is seen at (x, y) was at (x + dx, y + dy) in the reference. ``valid``, bool of the
    same grid, is False where the motion is a guess, filled in from around (intra blocks, poor matches), or leads out of
    the reference. ``frames`` counts the frames from the reference to this one. With ``broken`` there is no path to the
    reference: the displacement is zero and nothing is valid.
    """

    displacement_px: npt.NDArray[np.float32]
    valid: npt.NDArray[np.bool_]
    frames: int = 1
    broken: Break | None = None

    @classmethod
    def without_path(cls, height: int, width: int, reason: Break) -> MotionField:
        """That of an H x W picture which has no path to its reference."""
        rows, columns = grid_size(height, width)
        return cls(np.zeros((rows, columns, 2), np.float32), np.zeros((rows, columns), np.bool_), 0, reason)

    @property
    def unusable_share(self) -> float:
        """Share of the picture, 0 to 1, whose motion is not valid."""
        return 1.0 - float(np.count_nonzero(self.valid)) / self.valid.size


def grid_size(height: int, width: int) -> tuple[int, int]:
    """(rows, columns) of the motion field of an H x W picture: ceil(H/8), ceil(W/8)."""
    return -(-height // CELL_PX), -(-width // CELL_PX)


@dataclass(frozen=True)
class Frame:
    """One picture.

    ``image`` is uint8, (H, W, 3) for rgb8 and bgr8 and (H, W) for mono8. Rows may be padded (a strided view) and
    the memory may belong to a message: nobody writes to it. ``stamp_ns`` is the capture time in nanoseconds, or
    None when the source has no clock. ``source`` tells streams apart (the ROS frame_id). ``encoding`` is one of
    NATIVE_ENCODINGS; ``received_encoding`` is what the sender called it before conversion. ``sender`` tells
    publishers of the same source apart, as far as that is known. ``motion`` is what the bitstream says of the motion
    since the frame that was handed on before, None where it says nothing and the motion has to be measured.
    """

    image: npt.NDArray[np.uint8]
    stamp_ns: int | None = None
    encoding: str = "rgb8"
    source: str = ""
    received_encoding: str = ""
    sender: str = ""
    motion: MotionField | None = None

    def __post_init__(self) -> None:
        channels = NATIVE_ENCODINGS.get(self.encoding)
        if channels is None:
            raise ImageError(f"encoding is '{self.encoding}', expected one of {sorted(NATIVE_ENCODINGS)}")
        shape = self.image.shape
        expected = "(H, W)" if channels == 1 else "(H, W, 3)"
        if self.image.dtype != np.uint8 or len(shape) != (2 if channels == 1 else 3) or shape[2:] not in ((), (3,)):
            raise ImageError(f"{self.encoding} image is {self.image.dtype} {shape}, expected uint8 {expected}")
        if 0 in shape:
            raise ImageError(f"image size is {shape[1]}x{shape[0]}, expected at least 1x1")
        cells = grid_size(shape[0], shape[1])
        if self.motion is not None and self.motion.valid.shape != cells:
            raise ImageError(
                f"motion has {self.motion.valid.shape} cells, expected {cells} for an image of {shape[1]}x{shape[0]}"
            )

    @property
    def height(self) -> int:
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        return int(self.image.shape[1])
