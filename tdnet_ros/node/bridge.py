"""The ROS distribution's cv_bridge, where there is one that works.

The registry's package of the same name is a ROS 1 relic that fails, or is silently wrong, on half of the
encodings; and a distribution's cv_bridge, built against its own OpenCV and numpy, need not get on with the
versions of a virtual environment. So it must be known to the ament index, and for every encoding it must turn
a small picture into what OpenCV makes of it (tdnet_ros.video.messages.encodings) before it gets a camera's.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ImageError
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.messages import encodings, images
from tdnet_ros.video.messages.cdr import ImageView

_PIXEL = ImageView(0, 0, "", 1, 1, "rgba8", 0, 4, memoryview(bytes((1, 2, 3, 4))))
_PROBE_SIDE = 4
_PROBE_TOLERANCE = 1  # two versions of OpenCV may round differently


def to_frame(view: ImageView) -> Frame:
    """The image as a frame, as images.to_frame makes it, but for who converts what cannot be viewed.

    That is the distribution's cv_bridge where it can be trusted with the encoding, else OpenCV. Raises ImageError.
    """
    return images.to_frame(view, _converted)


@functools.lru_cache(maxsize=1)
def distribution_bridge() -> Any | None:
    """An instance of the distribution's CvBridge that passed a known conversion, or None."""
    try:
        from ament_index_python.packages import get_package_prefix
    except ImportError:
        return None
    try:
        prefix = Path(get_package_prefix("cv_bridge")).absolute()
        module = importlib.import_module("cv_bridge")
        if not Path(str(module.__file__)).absolute().is_relative_to(prefix):
            return None  # another package of that name comes first on the path
        bridge = module.CvBridge()
        pixel = bridge.imgmsg_to_cv2(_PIXEL, "bgr8")
    except Exception:
        # It is not in the index, or its binaries don't fit their surroundings and raise what they like.
        return None
    return bridge if np.array_equal(pixel, [[[3, 2, 1]]]) else None


@functools.lru_cache(maxsize=64)
def is_trusted_with(encoding: str) -> bool:
    """Whether the distribution's cv_bridge converts a small picture of this encoding as it should."""
    layout = encodings.CONVERTED.get(encoding)
    if layout is None or distribution_bridge() is None:
        return False
    step = _PROBE_SIDE * layout.pixel_bytes
    content = bytes(73 * number % 256 for number in range(int(step * _PROBE_SIDE * layout.rows)))
    probe = ImageView(0, 0, "", _PROBE_SIDE, _PROBE_SIDE, encoding, 0, step, memoryview(content))
    try:
        difference = convert(probe, layout.result).astype(int) - encodings.convert(probe)[0]
    except (ImageError, ValueError):
        return False
    return bool(np.abs(difference).max() <= _PROBE_TOLERANCE)


def convert(view: ImageView, result: str) -> npt.NDArray[np.uint8]:
    """Convert by cv_bridge to ``result``, uint8 (H, W, 3) or (H, W); raises ImageError when it cannot.

    Only for where distribution_bridge() has found one.
    """
    name = view.encoding[:60]
    layout = encodings.CONVERTED.get(view.encoding)
    if layout is None:
        encodings.require_size(view, 1)
    else:
        view = _packed(view, layout)
    try:
        bridge: Any = distribution_bridge()
        image = np.asarray(bridge.imgmsg_to_cv2(view, result))
    except Exception as error:
        raise ImageError(f"{name} image cannot be converted to {result} by cv_bridge: {error}") from error
    expected = (view.height, view.width) if result == "mono8" else (view.height, view.width, 3)
    if image.dtype != np.uint8 or image.shape != expected:
        raise ImageError(f"cv_bridge made {image.dtype} {image.shape} of {name}, expected uint8 {expected}")
    return image


def _converted(view: ImageView) -> tuple[npt.NDArray[np.uint8], str]:
    layout = encodings.CONVERTED.get(view.encoding)
    if layout is not None and is_trusted_with(view.encoding):
        return convert(view, layout.result), layout.result
    is_unknown = layout is None and encodings.MEASUREMENT.fullmatch(view.encoding) is None
    if is_unknown and distribution_bridge() is not None:  # it may know encodings that we do not
        return convert(view, "rgb8"), "rgb8"
    return encodings.convert(view)


def _packed(view: ImageView, layout: encodings.Layout) -> ImageView:
    """The image in native byte order and without padding.

    cv_bridge for Python skews rows whose padding is no whole number of pixels, and swaps bytes by a method
    that numpy no longer has.
    """
    samples = encodings.native_samples(view, layout)
    step = view.width * layout.pixel_bytes
    return view._replace(is_bigendian=0, step=step, data=memoryview(samples.tobytes()))
