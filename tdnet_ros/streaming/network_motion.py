"""Motion of a frame as a network takes it: in pixels of the image that goes through it, on that image's grid."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.video.frame import CELL_PX, MotionField, grid_size

# In the place of cv2.remap's second map, when the first holds both coordinates; its stubs ask for an array.
_ONE_MAP: Any = None


class NetworkMotion:
    """From frames of one size to images of another; what depends on the sizes alone is kept.

    The grid has ceil(h/8) x ceil(w/8) cells for an image (h, w), whatever the frame's size: so steps are the same for
    all cameras. Its cells divide the image evenly, where those of a field reach over the edge of the picture.
    """

    def __init__(self) -> None:
        self._sizes: tuple[int, ...] = ()
        self._cells = np.empty((0, 0, 2), np.float32)
        self._scale = np.ones(2, np.float32)

    def __call__(self, field: MotionField, frame: tuple[int, int], image: tuple[int, int]) -> npt.NDArray[np.float32]:
        """Field of a frame of size (H, W) -> (1, 3, rows, columns): dx and dy in px of the image (h, w), 1 if valid."""
        if self._sizes != (*frame, *image):
            self._sizes = (*frame, *image)
            self._scale = np.array((image[1] / frame[1], image[0] / frame[0]), np.float32)
            rows, columns = grid_size(*image)
            x = (np.arange(columns) + 0.5) * (frame[1] / columns) / CELL_PX - 0.5
            y = (np.arange(rows) + 0.5) * (frame[0] / rows) / CELL_PX - 0.5
            self._cells = np.dstack(np.meshgrid(x, y)).astype(np.float32)
        known = np.dstack((field.displacement_px, field.valid.astype(np.float32)))
        sampled = cv2.remap(known, self._cells, _ONE_MAP, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        found = np.asarray(sampled, np.float32)
        found[..., :2] *= self._scale
        found[..., 2] = found[..., 2] >= 0.5
        return np.ascontiguousarray(found.transpose(2, 0, 1)[None], np.float32)
