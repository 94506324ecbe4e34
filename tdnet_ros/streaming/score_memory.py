"""A stream's memory of its class probabilities: steadier masks for two milliseconds a frame.

A network that sees one picture at a time decides anew on every frame what a pixel is, and masks flicker. Here the
probabilities of the frame before are carried along by the motion between the two pictures, and blended in:

    P_t(x) = (1 - a(x)) p_t(x) + a(x) P_(t-1)(x + m(x)),    a(x) = weight * trust(x),

with p_t the network's own softmax, m the motion and trust how alike the two pictures are at the two places. Where
something new comes into view, trust is low and the network decides alone. Works behind every network and engine.
A frame without a past, the first one after a reset, is segmented twice, the second time mirrored.
Propagating results by optical flow is old (Deep Feature Flow, CVPR 2017, does it with features between keyframes);
that the blend is recurrent is as in a Kalman filter of constant gain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.video.dense_flow import Correspondence, DenseFlow, Measured
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.motion import CUT_SHARE

#: DIS finds nothing in smaller pictures.
_MINIMUM_PX = 16
_SMALLEST_PROBABILITY = 1e-6


@dataclass(frozen=True)
class Remembered:
    """One frame's small grey picture (h, w) and its blended probabilities (1, classes, rows, columns)."""

    picture: npt.NDArray[np.uint8]
    probabilities: Tensor | None = None


class Look(NamedTuple):
    """A frame's picture to remember, None without a memory, and how it moved since the last one that is remembered.

    ``motion`` is None where there is no such frame, and after a cut.
    """

    seen: Remembered | None = None
    motion: Correspondence | None = None
    is_cut: bool = False


class ScoreMemory:
    """``weight`` in 0..0.95 is how much the past counts where it is trusted; 0 switches the memory off.

    Pictures of which a larger share than ``cut_share`` cannot be found in the one before are of another scene. The two
    calls of a frame change nothing: what they return becomes ``last`` when the frame is done.
    Raises ConfigurationError for another weight.
    """

    def __init__(self, weight: float, cut_share: float = CUT_SHARE) -> None:
        if not 0 <= weight <= 0.95:
            raise ConfigurationError(f"score_memory is {weight}, expected 0 to 0.95")
        self.weight = weight
        self.cut_share = cut_share
        self.last: Remembered | None = None
        self.flow = DenseFlow()

    def look(self, frame: Frame, measured: Measured | None = None) -> Look:
        """What there is to see; flow that was ``measured`` already serves when it begins at the frame remembered."""
        if not self.weight or min(frame.height, frame.width) < _MINIMUM_PX:
            return Look()
        picture = self.flow.shrink(frame) if measured is None else measured.current
        last = self.last
        if last is None or last.probabilities is None or last.picture.shape != picture.shape:
            return Look(Remembered(picture))
        motion = measured.flow if measured is not None and measured.previous is last.picture else None
        motion = motion or self.flow.between(last.picture, picture)
        is_cut = motion.unusable_share > self.cut_share
        return Look(Remembered(picture), None if is_cut else motion, is_cut)

    def wants_second_look(self, look: Look) -> bool:
        """Whether there is no past that the frame could be blended with.

        Such a frame is segmented twice, the second time mirrored, and the mean of the two takes the past's place.
        """
        return look.seen is not None and (self.last is None or self.last.probabilities is None)

    def blend(self, scores: Tensor, look: Look) -> tuple[Tensor, Remembered | None]:
        """Scores (1, classes, rows, columns) of the frame that was looked at -> blended ones, and what to remember.

        Scores stay scores: their softmax are the blended probabilities.
        """
        seen, motion = look.seen, look.motion
        if seen is None:
            return scores, None
        now = scores.float().softmax(1)
        last = self.last
        if motion is None or last is None or last.probabilities is None or last.probabilities.shape != now.shape:
            return scores, Remembered(seen.picture, now)
        place, trust = _on_grid(motion, now.shape[2], now.shape[3])
        grid = torch.from_numpy(place)[None].to(now.device, non_blocking=True)
        share = torch.from_numpy(trust)[None, None].to(now.device, non_blocking=True) * self.weight
        past = F.grid_sample(last.probabilities, grid, padding_mode="border", align_corners=False)
        blended = now.lerp_(past, share)
        return blended.clamp(min=_SMALLEST_PROBABILITY).log(), Remembered(seen.picture, blended)


def mean_of_views(scores: Tensor, others: Tensor) -> Tensor:
    """Scores (B, classes, h, w) of two views of the same pictures -> scores whose softmax is the mean of the two's."""
    mean = (scores.float().softmax(1) + others.float().softmax(1)) / 2
    return mean.clamp(min=_SMALLEST_PROBABILITY).log()


def _on_grid(
    motion: Correspondence, rows: int, columns: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Places in the frame before for grid_sample (rows, columns, 2), -1 to 1 at the borders, and trust there."""
    height, width = motion.trust.shape
    moved = cv2.resize(motion.motion, (columns, rows), interpolation=cv2.INTER_AREA)
    trust = cv2.resize(motion.trust, (columns, rows), interpolation=cv2.INTER_AREA)
    place = np.empty((rows, columns, 2), np.float32)
    place[..., 0] = moved[..., 0] * (2 / width) + ((np.arange(columns) * 2 + 1) / columns - 1)
    place[..., 1] = moved[..., 1] * (2 / height) + ((np.arange(rows) * 2 + 1) / rows - 1)[:, None]
    return place, np.asarray(trust, np.float32)
