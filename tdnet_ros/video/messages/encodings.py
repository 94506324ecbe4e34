"""What the encodings of sensor_msgs/Image mean, and OpenCV's way from each to one that the engine takes.

Where several readings exist we follow cv_bridge, so that a node sees the same picture with and without it: 16
bits become 8 by ``v * 255 / 65535``, rounded (a 12-bit sensor that does not fill mono16 gives a dark
picture); YUV is BT.601 with the narrow range (16 .. 235); Bayer patterns are interpolated linearly, at their
own depth. Beyond cv_bridge, 8UC1, 8UC3 and 8UC4 are taken as mono8, bgr8 and bgra8, which is what OpenCV
programs put there. 16UC1 and all other numeric encodings are refused, as by cv_bridge: they carry depth or
other measurements.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ImageError
from tdnet_ros.video.messages.cdr import ImageView

#: Encodings that are viewed as they are, and the native encoding (of tdnet_ros.video.frame) that they mean.
VIEWED = {"rgb8": "rgb8", "bgr8": "bgr8", "mono8": "mono8", "8UC1": "mono8", "8UC3": "bgr8"}


@dataclass(frozen=True)
class Layout:
    """How an encoding lies in memory and how it becomes ``result``.

    ``rows`` is the number of buffer rows per image row (planar formats append their chroma as further rows),
    ``even`` how many of width and height must be even, ``least`` the smallest side that can be converted.
    """

    result: str
    channels: int
    code: int | None = None
    dtype: type[np.generic] = np.uint8
    rows: Fraction | int = 1
    even: int = 0
    least: int = 1

    @property
    def pixel_bytes(self) -> int:
        return self.channels * np.dtype(self.dtype).itemsize


def _bayer(pattern: str, opencv_code: int) -> dict[str, Layout]:
    # OpenCV writes black, not an error, into pictures without an inner pixel: hence least=3.
    return {
        f"bayer_{pattern}8": Layout("rgb8", 1, opencv_code, least=3),
        f"bayer_{pattern}16": Layout("rgb8", 1, opencv_code, np.uint16, least=3),
    }


_UYVY = Layout("rgb8", 2, cv2.COLOR_YUV2RGB_UYVY, even=1)
_YUYV = Layout("rgb8", 2, cv2.COLOR_YUV2RGB_YUY2, even=1)

#: Encodings that OpenCV converts. sensor_msgs names a Bayer pattern by the first two pixels of the first two
#: rows, OpenCV by the second and third pixel of the second row: rggb is BayerBG there.
CONVERTED = {
    "rgba8": Layout("rgb8", 4, cv2.COLOR_RGBA2RGB),
    "bgra8": Layout("bgr8", 4, cv2.COLOR_BGRA2BGR),
    "8UC4": Layout("bgr8", 4, cv2.COLOR_BGRA2BGR),
    "mono16": Layout("mono8", 1, dtype=np.uint16),
    "rgb16": Layout("rgb8", 3, dtype=np.uint16),
    "bgr16": Layout("bgr8", 3, dtype=np.uint16),
    "rgba16": Layout("rgb8", 4, cv2.COLOR_RGBA2RGB, np.uint16),
    "bgra16": Layout("bgr8", 4, cv2.COLOR_BGRA2BGR, np.uint16),
    **_bayer("rggb", cv2.COLOR_BayerBG2RGB),
    **_bayer("bggr", cv2.COLOR_BayerRG2RGB),
    **_bayer("gbrg", cv2.COLOR_BayerGR2RGB),
    **_bayer("grbg", cv2.COLOR_BayerGB2RGB),
    "yuv422": _UYVY,
    "uyvy": _UYVY,
    "yuv422_yuy2": _YUYV,
    "yuyv": _YUYV,
    "nv12": Layout("rgb8", 1, cv2.COLOR_YUV2RGB_NV12, rows=Fraction(3, 2), even=2),
    "nv21": Layout("rgb8", 1, cv2.COLOR_YUV2RGB_NV21, rows=Fraction(3, 2), even=2),
    "nv24": Layout("rgb8", 1, rows=3),
}

#: Floating and integer matrices without a colour meaning; VIEWED and CONVERTED name the exceptions.
MEASUREMENT = re.compile(r"(8|16|32|64)[USF]C?[0-9]*")

_SHOWN = 60  # characters of an encoding in an error: it comes from the network
# Rows R, G, B; columns Y, U, V and the constant of the narrow range.
_BT601_TO_RGB = np.array(
    [[1.164, 0, 1.596, -222.912], [1.164, -0.391, -0.813, 135.488], [1.164, 2.018, 0, -276.928]], np.float32
)


def require_size(view: ImageView, pixel_bytes: int, rows: Fraction | int = 1) -> None:
    """Raise ImageError unless size, step and data of the image fit each other; ``rows`` as in Layout."""
    height, width, step = view.height, view.width, view.step
    if height == 0 or width == 0:
        raise ImageError(f"{view.encoding[:_SHOWN]} image has size {width}x{height}, expected at least 1x1")
    if step < width * pixel_bytes:
        least = f"width * bytes per pixel = {width} * {pixel_bytes} = {width * pixel_bytes}"
        raise ImageError(f"{view.encoding[:_SHOWN]} image has step {step}, expected at least {least}")
    if len(view.data) != step * height * rows:
        factors = f"{step} * {height}" if rows == 1 else f"{step} * {height} * {rows}"
        formula = "step * height" if rows == 1 else f"step * height * {rows}"
        data_bytes = len(view.data)
        name = view.encoding[:_SHOWN]
        raise ImageError(f"{name} image has {data_bytes} bytes of data, expected {formula} = {factors}")


def native_samples(view: ImageView, layout: Layout) -> npt.NDArray[Any]:
    """The samples (rows, W) or (H, W, C) in this machine's byte order, without copying 8-bit ones.

    Raises ImageError when size, step and data don't fit each other or the encoding.
    """
    require_size(view, layout.pixel_bytes, layout.rows)
    sides = (view.width, view.height)
    if any(side % 2 for side in sides[: layout.even]) or min(sides) < layout.least:
        even = ("", ", width even", ", width and height even")[layout.even]
        raise ImageError(
            f"{view.encoding} image has size {view.width}x{view.height}, "
            f"expected at least {layout.least}x{layout.least}{even}"
        )
    dtype = np.dtype(layout.dtype).newbyteorder(">" if view.is_bigendian else "<")
    shape = (int(view.height * layout.rows), view.width, layout.channels)
    strides = (view.step, layout.pixel_bytes, dtype.itemsize)
    samples: npt.NDArray[Any] = np.ndarray(shape, dtype, view.data, strides=strides)
    if layout.channels == 1:
        samples = samples[..., 0]
    # OpenCV wants 16-bit samples aligned and rows a whole number of them apart.
    return samples if dtype.itemsize == 1 else np.require(samples, layout.dtype, ["C", "A"])


def convert(view: ImageView) -> tuple[npt.NDArray[np.uint8], str]:
    """(pixels, encoding): uint8 (H, W, 3) rgb8 or bgr8, or (H, W) mono8, by OpenCV. Raises ImageError."""
    layout = CONVERTED.get(view.encoding)
    if layout is None:
        raise refusal(view.encoding)
    samples = native_samples(view, layout)
    try:
        if view.encoding == "nv24":
            return _convert_nv24(view), layout.result
        if layout.code is not None:
            samples = cv2.cvtColor(samples, layout.code)
        if samples.dtype == np.uint16:
            samples = cv2.convertScaleAbs(samples, alpha=255 / 65535)
    except cv2.error as error:
        size = f"{view.width}x{view.height}"
        raise ImageError(f"{view.encoding} image of {size} fails in OpenCV: {error.err}") from error
    return samples, layout.result


def refusal(encoding: str) -> ImageError:
    """The error for an encoding that is neither viewed nor converted."""
    known = ", ".join((*VIEWED, *CONVERTED))
    reason = ", which holds measurements and no picture" if MEASUREMENT.fullmatch(encoding) else ""
    return ImageError(f"encoding is {encoding[:_SHOWN]!r}{reason}, expected one of {known}")


def _convert_nv24(view: ImageView) -> npt.NDArray[np.uint8]:
    """Luma, then interleaved chroma at full resolution in rows twice as long; OpenCV has no code for it."""
    height, width, step = view.height, view.width, view.step
    luma = np.ndarray((height, width, 1), np.uint8, view.data, strides=(step, 1, 1))
    chroma = np.ndarray((height, width, 2), np.uint8, view.data, step * height, strides=(2 * step, 2, 1))
    return np.asarray(cv2.transform(np.concatenate((luma, chroma), axis=2), _BT601_TO_RGB), np.uint8)
