"""Motion measured from the pictures alone, for cameras whose bitstream says nothing of it."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from tdnet_ros.errors import ImageError
from tdnet_ros.video.dense_flow import TRUSTED, DenseFlow, Floats, Grey, Measured
from tdnet_ros.video.frame import CELL_PX, Break, Frame, MotionField, grid_size
from tdnet_ros.video.motion import CUT_SHARE, MotionSource

#: Height of the pictures that are compared, at most, px; of smaller ones it is half the frame's.
_HEIGHT = 360
_SMALLEST_SIDE = 16
# In the place of cv2.remap's second map, when the first holds both coordinates; its stubs ask for an array.
_ONE_MAP: Any = None


class FlowMotion(MotionSource):
    """Dense inverse search flow (Kroeger et al., ECCV 2016) between pictures of half the size.

    A cell is valid when its place in the frame before looks as it does.
    """

    def __init__(self, cut_share: float = CUT_SHARE) -> None:
        super().__init__(cut_share)
        self._measured: Measured | None = None
        self._size: tuple[int, int] | None = None
        self._previous: Grey | None = None
        self._seen: Frame | None = None
        self._cells: Floats | None = None

    @property
    def measured(self) -> Measured | None:
        return self._measured

    def step(self, frame: Frame) -> MotionField:
        """Motion to the frame of the call before; raises ImageError for pictures under 32 px a side."""
        size = (frame.height, frame.width)
        if size != self._size:
            self._begin(*size)
        if self._seen is not None:
            self._previous, self._seen = self._flow.shrink(self._seen), None
        current, previous = self._flow.shrink(frame), self._previous
        self._previous, self._measured = current, Measured(current)
        if previous is None:
            return MotionField.without_path(*size, Break.START)
        flow = self._flow.between(previous, current)
        self._measured = Measured(current, previous, flow)
        cells = self._find_cells(size, current.shape)
        displacement_px = cv2.remap(flow.motion, cells, _ONE_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        trusted = cv2.remap(flow.trust, cells, _ONE_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        field = MotionField(np.asarray(displacement_px * self._enlargement, np.float32), trusted >= TRUSTED)
        return MotionField.without_path(*size, Break.CUT) if field.unusable_share > self.cut_share else field

    def see(self, frame: Frame) -> None:
        if (frame.height, frame.width) != self._size:
            self._begin(frame.height, frame.width)
        self._seen, self._measured = frame, None  # made small when it is needed: mostly it is not

    def forget(self) -> None:
        self._previous = self._seen = self._measured = None

    def _begin(self, height: int, width: int) -> None:
        if min(height, width) < 2 * _SMALLEST_SIDE:
            raise ImageError(f"image size is {width}x{height}, expected at least 32x32 to measure motion")
        self._flow = DenseFlow(min(height // 2, _HEIGHT))
        self._size, self._cells = (height, width), None
        self.forget()

    def _find_cells(self, size: tuple[int, int], small: tuple[int, ...]) -> Floats:
        """Where the centres of a frame's cells lie in the small picture, in its px (rows, columns, 2)."""
        if self._cells is None:
            rows, columns = grid_size(*size)
            self._enlargement = np.array((size[1] / small[1], size[0] / small[0]), np.float32)
            centres = CELL_PX * np.dstack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5))
            # Whole numbers are centres of px, so the corner of the picture is at -0.5.
            self._cells = (centres / self._enlargement - 0.5).astype(np.float32)
        return self._cells
