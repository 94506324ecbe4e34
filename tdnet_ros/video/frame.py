"""One picture of a stream, as the core sees it: pixels, time and where they came from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ImageError

#: Channel layouts that the engine takes as they are; everything else is converted to one of them first.
NATIVE_ENCODINGS = {"rgb8": 3, "bgr8": 3, "mono8": 1}


@dataclass(frozen=True)
class Frame:
    """One picture.

    ``image`` is uint8, (H, W, 3) for rgb8 and bgr8 and (H, W) for mono8. Rows may be padded (a strided view) and
    the memory may belong to a message: nobody writes to it. ``stamp_ns`` is the capture time in nanoseconds, or
    None when the source has no clock. ``source`` tells streams apart (the ROS frame_id). ``encoding`` is one of
    NATIVE_ENCODINGS; ``received_encoding`` is what the sender called it before conversion. ``sender`` tells
    publishers of the same source apart, as far as that is known.
    """

    image: npt.NDArray[np.uint8]
    stamp_ns: int | None = None
    encoding: str = "rgb8"
    source: str = ""
    received_encoding: str = ""
    sender: str = ""

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

    @property
    def height(self) -> int:
        return int(self.image.shape[0])

    @property
    def width(self) -> int:
        return int(self.image.shape[1])
