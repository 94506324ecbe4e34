"""A codec's vectors, one record per block, as a motion field on a grid of 8 px."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import DecodeError
from tdnet_ros.video.frame import CELL_PX, MotionField, grid_size

#: The records of a picture that has none, as one of nothing but intra blocks.
NO_VECTORS = np.zeros(
    0, [(name, np.int32) for name in ("w", "h", "dst_x", "dst_y", "motion_x", "motion_y", "motion_scale")]
)


class BlockVectors:
    """Turns FFmpeg's motion vector records of pictures of one size into motion fields.

    ``coded_width`` and ``coded_height`` (px, multiples of 16) are those of the coded picture, which may be larger than
    the H x W that is seen, as 1088 lines are than 1080: what lies outside is left out.
    """

    def __init__(self, height: int, width: int, coded_height: int, coded_width: int) -> None:
        rows, columns = map(max, grid_size(coded_height, coded_width), grid_size(height, width))
        self._seen = tuple(slice(size) for size in grid_size(height, width))
        self._columns = columns
        self._vectors = np.empty((rows, columns, 2), np.float32)
        self._known = np.empty((rows, columns), np.bool_)

    def field(self, records: npt.NDArray[Any]) -> MotionField:
        """The field of one picture, to the picture before; cells without a record take that of the nearest one.

        ``records`` is the structured array of ``MotionVectors.to_ndarray``: blocks of 8 or 16 px a side, whose centre
        dst_x, dst_y was at dst + motion / motion_scale. Raises DecodeError for blocks outside the coded picture.
        """
        width, height = records["w"], records["h"]
        left = (records["dst_x"].astype(np.int32) - (width >> 1)) // CELL_PX
        top = (records["dst_y"].astype(np.int32) - (height >> 1)) // CELL_PX
        is_wide, is_tall = width > CELL_PX, height > CELL_PX
        last = (int((top + is_tall).max(initial=0)), int((left + is_wide).max(initial=0)))
        rows, columns = self._known.shape
        if last[0] >= rows or last[1] >= columns or min(left.min(initial=0), top.min(initial=0)) < 0:
            raise DecodeError(f"motion vectors reach cell {last}, expected them within {(rows, columns)} cells")
        vectors = np.empty((len(records), 2), np.float32)
        np.divide(records["motion_x"], records["motion_scale"], out=vectors[:, 0], casting="same_kind")
        np.divide(records["motion_y"], records["motion_scale"], out=vectors[:, 1], casting="same_kind")
        # One complex number is one vector: half as many elements to scatter.
        pairs, cells = vectors.view(np.complex64)[:, 0], self._vectors.view(np.complex64).reshape(-1)
        known = self._known.reshape(-1)
        self._known.fill(False)
        index = top * columns + left
        for offset, chosen in ((0, None), (1, is_wide), (columns, is_tall), (columns + 1, is_wide & is_tall)):
            at = (index if chosen is None else index[chosen]) + offset
            cells[at] = pairs if chosen is None else pairs[chosen]
            known[at] = True
        valid = self._known[self._seen].copy()
        return MotionField(_filled(self._vectors[self._seen], valid), valid)


def _filled(vectors: npt.NDArray[np.float32], known: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """A copy of (h, w, 2) vectors in which unknown cells have the vector of the nearest known one, or zero."""
    count = np.count_nonzero(known)
    if count == 0:
        return np.zeros_like(vectors)
    if count == known.size:
        return np.array(vectors)
    unknown = (~known).view(np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(unknown, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL)
    place = np.empty(count + 1, np.intp)
    place[nearest[known]] = np.flatnonzero(known)
    cells = np.ascontiguousarray(vectors).view(np.complex64).reshape(-1)
    filled: npt.NDArray[np.float32] = cells[place[nearest]].view(np.float32).reshape(vectors.shape)
    return filled
