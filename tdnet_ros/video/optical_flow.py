"""Motion measured from the pictures alone, for cameras whose bitstream says nothing of it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ImageError
from tdnet_ros.video.dense_flow import DenseFlow
from tdnet_ros.video.frame import CELL_PX, Break, Frame, MotionField, grid_size
from tdnet_ros.video.motion import CUT_SHARE, MotionSource

#: Height of the pictures that are compared, at most, px; of smaller ones it is half the frame's.
_HEIGHT = 360
#: A cell is valid with at least this much trust (DenseFlow).
_TRUST = 0.5
_SMALLEST_SIDE = 16
# In the place of cv2.remap's second map, when the first holds both coordinates; its stubs ask for an array.
_ONE_MAP: Any = None


class FlowMotion(MotionSource):
    """Dense inverse search flow (Kroeger et al., ECCV 2016) between pictures of half the size.

    A cell is valid when its place in the frame before looks as it does. After a cut none is.
    """

    def __init__(self, cut_share: float = CUT_SHARE) -> None:
        super().__init__(cut_share)
        self._size: tuple[int, int] | None = None
        self._previous: npt.NDArray[np.uint8] | None = None

    def step(self, frame: Frame) -> MotionField:
        """Motion to the frame of the call before; raises ImageError for pictures under 32 px a side."""
        size = (frame.height, frame.width)
        if size != self._size:
            self._begin(*size)
        current, previous = self._flow.shrink(frame), self._previous
        self._previous = current
        if previous is None:
            return MotionField.without_path(*size, Break.START)
        motion, trust = self._flow.between(previous, current)
        height, width = current.shape
        centres = self._centres * np.array((width / size[1], height / size[0]), np.float32) - np.float32(0.5)
        displacement_px = cv2.remap(motion, centres, _ONE_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        displacement_px *= np.array((size[1] / width, size[0] / height), np.float32)
        trusted = cv2.remap(trust, centres, _ONE_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return MotionField(np.asarray(displacement_px, np.float32), trusted >= _TRUST)

    def forget(self) -> None:
        self._previous = None

    def _begin(self, height: int, width: int) -> None:
        if min(height, width) < 2 * _SMALLEST_SIDE:
            raise ImageError(f"image size is {width}x{height}, expected at least 32x32 to measure motion")
        self._flow = DenseFlow(min(height // 2, _HEIGHT))
        rows, columns = grid_size(height, width)
        # Of the cells, in the frame's px from its upper left corner.
        centres = np.dstack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5))
        self._centres = (CELL_PX * centres).astype(np.float32)
        self._size, self._previous = (height, width), None
