"""Where each part of a picture was in the picture before, for cameras whose stream carries no motion vectors."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.video.frame import Frame

Grey = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

#: Flow is found on pictures of this height: for 480x360 a sixth of the time of the full size, which would bring 0.25
#: points of mIoU more (``python -m benchmarks.steadiness``).
_HEIGHT = 180
#: Side, in px of the small picture, of the square over which a mismatch is averaged.
_PATCH = 5
#: A mismatch of so many grey levels of 255 takes trust to 1 / e.
_MISMATCH = 16.0
#: A place with less trust than this is not the one that was looked for.
TRUSTED = 0.5


class Correspondence(NamedTuple):
    """``motion`` (h, w, 2) px of the small picture, (dx, dy): a pixel was at its place plus its motion.

    ``trust`` (h, w) is 1 where the two pictures look alike there, falls to 0 where they differ, and is 0 where the
    place lies outside the picture before.
    """

    motion: Floats
    trust: Floats

    @property
    def unusable_share(self) -> float:
        """Share of the picture, 0 to 1, of which nobody knows where it was."""
        return 1.0 - float(np.count_nonzero(self.trust >= TRUSTED)) / self.trust.size


class Measured(NamedTuple):
    """A frame's small picture, and the flow from the one before; None where there is none before."""

    current: Grey
    previous: Grey | None = None
    flow: Correspondence | None = None


class DenseFlow:
    """Dense inverse search optical flow (Kroeger et al., ECCV 2016) between small grey pictures of one stream."""

    def __init__(self, height: int = _HEIGHT) -> None:
        """``height``: that of the small pictures, px; a picture that is not as high stays as it is."""
        self._height = height
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._motion = np.empty((0, 0, 2), np.float32)
        self._columns = self._rows = np.empty((0, 0), np.float32)

    def shrink(self, frame: Frame) -> Grey:
        """The small grey picture (h, w) of a frame."""
        height = min(self._height, frame.height)
        width = max(1, round(frame.width * height / frame.height))
        small = np.asarray(cv2.resize(frame.image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        if frame.encoding == "mono8":
            return small
        code = cv2.COLOR_BGR2GRAY if frame.encoding == "bgr8" else cv2.COLOR_RGB2GRAY
        return np.asarray(cv2.cvtColor(small, code), np.uint8)

    def between(self, previous: Grey, current: Grey) -> Correspondence:
        """From two small pictures (h, w) of the same size, at least 16 px per side. Valid until the next call."""
        height, width = current.shape
        if self._rows.shape != current.shape:
            self._motion = np.empty((height, width, 2), np.float32)
            self._rows, self._columns = (lines.astype(np.float32) for lines in np.indices((height, width)))
        self._motion.fill(0)  # what is in it is where the search begins
        motion = np.asarray(self._flow.calc(current, previous, self._motion), np.float32)
        x, y = self._columns + motion[..., 0], self._rows + motion[..., 1]
        moved = cv2.remap(previous, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        difference = np.subtract(current, moved, dtype=np.float32)
        difference -= difference.mean()  # a change of exposure is no mismatch
        mismatch = cv2.blur(np.abs(difference), (_PATCH, _PATCH))
        trust = np.asarray(np.exp(-np.square(mismatch / _MISMATCH)), np.float32)
        trust *= (x >= 0) & (y >= 0) & (x <= width - 1) & (y <= height - 1)
        return Correspondence(motion, trust)
