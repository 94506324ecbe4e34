"""The frames that a model did worst on, kept as pictures while a recording goes by."""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.labels import UNLABELLED

Ids = npt.NDArray[np.uint8]
#: Frames closer than this to a worse one are left out: neighbours look alike.
_APART = 10
#: Width at which the page shows pictures.
PICTURE_WIDTH = 420


@dataclass(frozen=True, order=True)
class WorstFrame:
    """Picture RGB (h, w, 3), labels and mask (h, w) of one frame; ``index`` is the frame's in the recording.

    ``wrong_share`` is the share of the frame's labelled pixels whose class is wrong.
    """

    miou: float
    index: int
    stamp_ns: int = field(compare=False)
    wrong_share: float = field(compare=False)
    picture: Ids = field(compare=False)
    labels: Ids = field(compare=False)
    mask: Ids = field(compare=False)


def small_pictures(miou: float, index: int, stamp_ns: int, picture: Ids, labels: Ids, mask: Ids) -> WorstFrame:
    """A frame, its picture RGB (H, W, 3), labels and mask (H, W) at most PICTURE_WIDTH wide: many are kept."""
    labelled = labels != UNLABELLED
    wrong = int(np.count_nonzero(labelled & (labels != mask))) / max(1, int(np.count_nonzero(labelled)))
    small = (_small(picture, cv2.INTER_AREA), _small(labels, cv2.INTER_NEAREST), _small(mask, cv2.INTER_NEAREST))
    return WorstFrame(miou, index, stamp_ns, wrong, *small)


def _small(pixels: Ids, way: int) -> Ids:
    height, width = pixels.shape[:2]
    if width <= PICTURE_WIDTH:
        return np.array(pixels)
    size = (PICTURE_WIDTH, max(1, round(height * PICTURE_WIDTH / width)))
    return np.asarray(cv2.resize(pixels, size, interpolation=way), np.uint8)


class WorstFrames:
    """The ``count`` frames of the lowest mIoU, at least ten frames apart."""

    def __init__(self, count: int = 6) -> None:
        self._count = count
        self._kept: list[WorstFrame] = []

    def wants(self, miou: float) -> bool:
        """Whether a frame of that mIoU may belong to the worst: ask before making pictures."""
        if math.isnan(miou):
            return False
        return len(self._kept) < self._room or miou < max(frame.miou for frame in self._kept)

    def add(self, frame: WorstFrame) -> None:
        """Keep it for as long as it belongs to the worst."""
        self._kept = heapq.nsmallest(self._room, [*self._kept, frame])

    @property
    def _room(self) -> int:
        return 4 * self._count  # neighbours of the worst ones are sorted out only when all have been seen

    def worst(self) -> list[WorstFrame]:
        """The worst first."""
        chosen: list[WorstFrame] = []
        for frame in sorted(self._kept):
            if all(abs(frame.index - other.index) >= _APART for other in chosen):
                chosen.append(frame)
        return chosen[: self._count]
