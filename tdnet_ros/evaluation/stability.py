"""How steady masks are from frame to frame: temporal consistency, video consistency, flicker.

All three look good for masks that never change. They mean something only beside the accuracy, and beside the controls
of ``tdnet_ros.evaluation.controls``.
"""

from __future__ import annotations

import math
from collections import deque

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.labels import UNLABELLED

Ids = npt.NDArray[np.uint8]
#: A flow vector is trusted when following it there and back ends within so many pixels.
_ROUND_TRIP_PX = 1.0


class Motion:
    """Where each pixel of a frame was in the frame before, by dense inverse search flow (Kroeger et al., ECCV 2016).

    ``trusted`` (H, W) is False where the way there and back does not meet (forward-backward check) or leaves the
    picture: occlusions, mostly.
    """

    def __init__(self, previous: Ids, current: Ids) -> None:
        """From two grey pictures (H, W) uint8 of the same size."""
        flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        empty = np.zeros((*current.shape, 2), np.float32)
        back = np.asarray(flow.calc(current, previous, empty.copy()), np.float32)  # (H, W, 2): to the frame before, px
        forth = np.asarray(flow.calc(previous, current, empty), np.float32)
        rows, columns = np.indices(current.shape, np.float32)
        x, y = columns + back[..., 0], rows + back[..., 1]
        returned = back + cv2.remap(forth, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = (x >= 0) & (y >= 0) & (x <= current.shape[1] - 1) & (y <= current.shape[0] - 1)
        self.trusted: npt.NDArray[np.bool_] = inside & (np.hypot(returned[..., 0], returned[..., 1]) <= _ROUND_TRIP_PX)
        self._x, self._y = x, y

    def carry(self, previous: Ids) -> Ids:
        """Ids of the frame before (H, W), moved to where their pixels are now; UNLABELLED where not trusted."""
        moved = np.asarray(cv2.remap(previous, self._x, self._y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REPLICATE))
        return np.where(self.trusted, moved, UNLABELLED).astype(np.uint8)


class TemporalConsistency:
    """TC: mIoU between the flow-warped previous mask and this one (Liu et al., ECCV 2020, section 4.1).

    One confusion matrix over all pairs of consecutive frames; pixels whose flow is not trusted do not count.
    """

    def __init__(self, classes: int) -> None:
        self._matrix = ConfusionMatrix(classes)
        self.pairs = 0

    def add(self, carried: Ids, mask: Ids) -> None:
        """Count one pair: the previous mask as ``Motion.carry`` gives it and this one, both (H, W)."""
        self._matrix.add(carried, mask)
        self.pairs += 1

    def value(self) -> float:
        """0 to 1; NaN without a pair."""
        return self._matrix.miou() if self.pairs else math.nan


class Flicker:
    """Share of the pixels whose label is the same as that of their place in the frame before, whose class is not.

    Counted over all pairs of consecutive labelled frames, at pixels with trusted flow and known labels.
    """

    def __init__(self) -> None:
        self._steady = self._changed = 0

    def add(self, carried_labels: Ids, labels: Ids, carried_mask: Ids, mask: Ids) -> None:
        """Count one pair; the first of each two is of the frame before, as ``Motion.carry`` gives it."""
        steady = (carried_labels == labels) & (labels != UNLABELLED) & (carried_mask != UNLABELLED)
        self._steady += int(np.count_nonzero(steady))
        self._changed += int(np.count_nonzero(steady & (carried_mask != mask)))

    def value(self) -> float:
        """0 to 1, less is better; NaN without a steady pixel."""
        return self._changed / self._steady if self._steady else math.nan


class VideoConsistency:
    """VC_n (Miao et al., VSPW, CVPR 2021, section 5.1): over n frames that follow one another and have labels,

    VC_n = |pixels whose label stays the same and whose mask is that label in all n| / |pixels whose label stays the
    same|, averaged over all such runs of n. Pixels are compared at the same place of the picture, without flow.
    """

    def __init__(self, frames: int) -> None:
        self.frames = frames
        self._labels: deque[Ids] = deque(maxlen=frames)
        self._right: deque[npt.NDArray[np.bool_]] = deque(maxlen=frames)
        self._values: list[float] = []

    def interrupt(self) -> None:
        """A frame without labels, or a break in the video: runs begin anew."""
        self._labels.clear()
        self._right.clear()

    def add(self, labels: Ids, mask: Ids) -> None:
        """Count the next frame: labels and mask (H, W)."""
        if self._labels and self._labels[0].shape != labels.shape:
            self.interrupt()
        self._labels.append(labels)
        self._right.append(labels == mask)
        if len(self._labels) < self.frames:
            return
        steady = (labels != UNLABELLED) & np.logical_and.reduce([labels == other for other in self._labels])
        count = int(np.count_nonzero(steady))
        if count:
            self._values.append(int(np.count_nonzero(steady & np.logical_and.reduce(self._right))) / count)

    def value(self) -> float:
        """0 to 1; NaN when there never were so many labelled frames in a row."""
        return float(np.mean(self._values)) if self._values else math.nan
