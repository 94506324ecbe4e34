"""From what the engine makes of a frame to what is published: where nothing is known, and the size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ConfigurationError, ImageError
from tdnet_ros.labels import UNLABELLED
from tdnet_ros.node.parameters import SegmentationParameters

_CAMERA = "{camera}"
Plane = npt.NDArray[np.uint8]


class Finishing:
    """The last steps of one camera's masks; the engine knows nothing of them.

    Pixels that ``ignore_mask`` marks, and those below ``min_confidence``, become unlabelled; then mask and confidence
    are sampled to ``output_scale`` of the image's size. Raises ConfigurationError for a file that is no picture.
    """

    def __init__(self, parameters: SegmentationParameters, camera: str) -> None:
        self._scale = parameters.output_scale
        self._path = parameters.ignore_mask.replace(_CAMERA, camera)
        self._ignored = _read_ignored(self._path) if self._path else None

    def check(self, height: int, width: int) -> None:
        """Raises ImageError for a size that the ignore mask does not have."""
        if self._ignored is not None and self._ignored.shape != (height, width):
            rows, columns = self._ignored.shape
            raise ImageError(
                f"image is {width}x{height}, expected {columns}x{rows}, the size of ignore_mask '{self._path}'"
            )

    def size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the mask of an H x W image."""
        return max(1, round(height * self._scale)), max(1, round(width * self._scale))

    def finish(self, mask: Plane, confidence: Plane | None, min_confidence: float) -> tuple[Plane, Plane | None]:
        """Mask and confidence (H, W) as they are published, of ``size``; may write to what it is given.

        ``min_confidence``: share of 1 below which a pixel is unlabelled; without a confidence all are taken. Where the
        ignore mask lies the confidence is 0: nothing is known there.
        """
        if confidence is not None and min_confidence > 0:
            mask = np.bitwise_or(mask, _below(confidence, min_confidence), out=mask)
        if self._ignored is not None:
            mask = np.bitwise_or(mask, self._ignored, out=mask)
            if confidence is not None:
                confidence = np.bitwise_and(confidence, ~self._ignored, out=confidence)
        return self._sampled(mask), None if confidence is None else self._sampled(confidence)

    def _sampled(self, plane: Plane) -> Plane:
        height, width = self.size(*plane.shape)
        if plane.shape == (height, width):
            return plane
        # Pixel x of the result is pixel floor(x / scale): as the camera matrix is scaled, see camera_info.
        return np.asarray(cv2.resize(plane, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _below(confidence: Plane, minimum: float) -> Plane:
    """UNLABELLED, all bits of a byte, where the confidence is below the minimum; else 0."""
    return np.asarray(cv2.compare(confidence, round(UNLABELLED * minimum), cv2.CMP_LT), np.uint8)


def _read_ignored(path: str) -> Plane:
    """UNLABELLED where the picture is not black, else 0: (H, W)."""
    picture = cv2.imread(str(Path(path).expanduser()), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise ConfigurationError(f"ignore_mask is '{path}', expected a picture (PNG) of the image's size")
    return np.where(picture > 0, UNLABELLED, 0).astype(np.uint8)
