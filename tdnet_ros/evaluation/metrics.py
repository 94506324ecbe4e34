"""Accuracy of masks: one confusion matrix, and what is read off it."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from tdnet_ros.labels import UNLABELLED


class ConfusionMatrix:
    """Counts pixels by (true class, predicted class); pixels whose true class is UNLABELLED do not count."""

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self.counts = np.zeros((classes, classes), np.int64)
        self._missed = np.zeros(classes, np.int64)  # labelled pixels that a mask leaves unlabelled

    def add(self, labels: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> None:
        """Count one picture: labels and mask (H, W), ids below ``classes`` or UNLABELLED.

        A labelled pixel that the mask leaves unlabelled counts as wrong: it belongs to the true class's union.
        """
        if labels.shape != mask.shape:
            raise ValueError(f"labels are {labels.shape}, the mask is {mask.shape}")
        labelled = labels != UNLABELLED
        truth, prediction = labels[labelled].astype(np.int64), mask[labelled].astype(np.int64)
        columns = self.classes + 1  # the last one holds pixels that the mask leaves unlabelled
        prediction[prediction == UNLABELLED] = self.classes
        pairs = np.bincount(truth * columns + prediction, minlength=self.classes * columns)
        table = pairs.reshape(self.classes, columns)
        self.counts += table[:, : self.classes]
        self._missed += table[:, self.classes]

    def merge(self, other: ConfusionMatrix) -> None:
        """Add another matrix's counts."""
        self.counts += other.counts
        self._missed += other._missed

    def iou(self) -> npt.NDArray[np.float64]:
        """Intersection over union by class (C,); NaN for a class that neither labels nor masks have."""
        intersection = self.counts.diagonal()
        union = self.counts.sum(0) + self.counts.sum(1) - intersection + self._missed
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(union > 0, intersection / union, np.nan)

    def miou(self) -> float:
        """Mean of the classes' IoU, over the classes that occur; NaN when nothing was counted."""
        values = self.iou()
        return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan
