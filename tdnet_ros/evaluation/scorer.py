"""Every measure of a stream of masks in one place: frames go in, one after another, scores come out."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.evaluation.boundary import BoundaryF
from tdnet_ros.evaluation.controls import ConstantMask, Control, FrozenMask
from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.evaluation.stability import Flicker, Motion, TemporalConsistency, VideoConsistency
from tdnet_ros.labels import UNLABELLED

Ids = npt.NDArray[np.uint8]
#: Runs of labelled frames over which video consistency is measured, as VSPW does: the fields vc8 and vc16.
_VC_FRAMES = (8, 16)


@dataclass(frozen=True)
class StabilityScores:
    """Measures of ``tdnet_ros.evaluation.stability``, 0 to 1; NaN where the labels do not suffice."""

    temporal_consistency: float
    vc8: float
    vc16: float
    flicker: float


@dataclass(frozen=True)
class DistanceScore:
    """mIoU of the labelled frames at one distance from their keyframe."""

    distance: int
    miou: float
    frames: int


@dataclass(frozen=True)
class Scores:
    """What a whole stream scored: shares between 0 and 1, NaN where there is nothing to measure.

    ``iou`` and ``boundary_f_by_class`` are by class (C,); ``confusion`` (C, C) counts pixels by (true, predicted);
    ``controls`` holds the stability of masks that say nothing (``constant``) or never change (``frozen``).
    """

    frames: int
    labelled_frames: int
    miou: float
    iou: list[float]
    boundary_f: float
    boundary_f_by_class: list[float]
    by_distance: list[DistanceScore]
    stability: StabilityScores
    controls: dict[str, StabilityScores]
    confusion: list[list[int]]


@dataclass
class _Stability:
    """The measures of stability of one kind of mask: the network's own or a control's."""

    consistency: TemporalConsistency
    control: Control | None = None
    flicker: Flicker = field(default_factory=Flicker)
    video: list[VideoConsistency] = field(default_factory=lambda: [VideoConsistency(frames) for frames in _VC_FRAMES])
    previous: Ids | None = None

    def add(self, motion: Motion | None, carried_labels: Ids | None, labels: Ids | None, mask: Ids) -> None:
        if self.control is not None:
            mask = self.control(mask)
        if motion is not None and self.previous is not None:
            carried = motion.carry(self.previous)
            self.consistency.add(carried, mask)
            if carried_labels is not None and labels is not None:
                self.flicker.add(carried_labels, labels, carried, mask)
        for video in self.video:
            if motion is None or labels is None:
                video.interrupt()
            if labels is not None:
                video.add(labels, mask)
        self.previous = mask

    def scores(self) -> StabilityScores:
        vc8, vc16 = (video.value() for video in self.video)
        return StabilityScores(self.consistency.value(), vc8, vc16, self.flicker.value())

    def skip(self) -> None:
        for video in self.video:
            video.interrupt()


class Scorer:
    """Scores one stream of masks of ``classes`` classes."""

    def __init__(self, classes: int) -> None:
        self._classes = classes
        self._matrix = ConfusionMatrix(classes)
        self._boundary = BoundaryF(classes)
        self._by_distance: dict[int, tuple[ConfusionMatrix, int]] = {}
        self._stability = _Stability(TemporalConsistency(classes))
        self._controls = {
            "constant": _Stability(TemporalConsistency(classes), ConstantMask()),
            "frozen": _Stability(TemporalConsistency(classes), FrozenMask()),
        }
        self._previous: tuple[Ids, Ids | None] | None = None
        self._frames = self._labelled = 0

    def add(self, picture: Ids, mask: Ids, labels: Ids | None, distance: int = 0) -> float:
        """Count the next frame; its own mIoU, NaN without labels.

        ``picture`` is the frame in grey (H, W), of any size; ``mask`` and ``labels`` (H, W) have one size. ``distance``
        is that from the keyframe, negative where it is not known. When frames without a mask lie before it: call
        ``skip`` first; after a cut or another break of the video: ``interrupt``.
        """
        size = (mask.shape[1], mask.shape[0])
        grey = picture if picture.shape == mask.shape else np.asarray(cv2.resize(picture, size), np.uint8)
        motion, carried_labels = None, None
        if self._previous is not None and self._previous[0].shape == grey.shape:
            motion = Motion(self._previous[0], grey)
            if self._previous[1] is not None:
                carried_labels = motion.carry(self._previous[1])
        for stability in (self._stability, *self._controls.values()):
            stability.add(motion, carried_labels, labels, mask)
        self._previous = grey, labels
        self._frames += 1
        return math.nan if labels is None else self._score_labels(labels, mask, distance)

    def skip(self) -> None:
        """Frames without a mask: the next one is compared with the last mask, but runs of frames begin anew."""
        for stability in (self._stability, *self._controls.values()):
            stability.skip()

    def interrupt(self) -> None:
        """A break in the video: nothing is compared across it."""
        self._previous = None

    def _score_labels(self, labels: Ids, mask: Ids, distance: int) -> float:
        own = ConfusionMatrix(self._classes)
        own.add(labels, mask)
        self._matrix.merge(own)
        self._boundary.add(labels, mask)
        self._labelled += 1
        if distance >= 0:
            matrix, frames = self._by_distance.get(distance, (ConfusionMatrix(self._classes), 0))
            matrix.merge(own)
            self._by_distance[distance] = matrix, frames + 1
        return own.miou() if (labels != UNLABELLED).any() else math.nan

    def scores(self) -> Scores:
        """Everything measured so far."""
        return Scores(
            frames=self._frames,
            labelled_frames=self._labelled,
            miou=self._matrix.miou() if self._labelled else math.nan,
            iou=self._matrix.iou().tolist(),
            boundary_f=self._boundary.mean(),
            boundary_f_by_class=self._boundary.by_class().tolist(),
            by_distance=[
                DistanceScore(distance, matrix.miou(), frames)
                for distance, (matrix, frames) in sorted(self._by_distance.items())
            ],
            stability=self._stability.scores(),
            controls={name: control.scores() for name, control in self._controls.items()},
            confusion=self._matrix.counts.tolist(),
        )
