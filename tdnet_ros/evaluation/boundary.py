"""How well class boundaries lie: the boundary F score (Csurka et al., BMVC 2013, section 3; DAVIS, CVPR 2016)."""

from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.labels import UNLABELLED

#: Tolerance as a share of the image's diagonal (Csurka et al. use 0.75 %).
_TOLERANCE = 0.0075


class BoundaryF:
    """Harmonic mean of boundary precision and recall, by class, over all pictures that were added.

    The boundary of class c are the pixels of c with a 4-neighbour of another class. A boundary pixel of the mask is
    right when one of the labels of the same class lies within the tolerance, 0.75 % of the diagonal, and the other
    way round for recall. Where either neighbour is unlabelled nothing is known: such pixels count neither way.
    Pixels are summed over pictures before the division, so that a picture counts by how much boundary it has.
    """

    def __init__(self, classes: int) -> None:
        self.classes = classes
        self._right_mask, self._all_mask, self._right_labels, self._all_labels = np.zeros((4, classes), np.int64)

    def add(self, labels: npt.NDArray[np.uint8], mask: npt.NDArray[np.uint8]) -> None:
        """Count one picture: labels and mask (H, W), ids below ``classes`` or UNLABELLED."""
        if labels.shape != mask.shape:
            raise ValueError(f"labels are {labels.shape}, the mask is {mask.shape}")
        radius = max(1, math.ceil(_TOLERANCE * math.hypot(*labels.shape)))
        size = 2 * radius + 1
        disc = np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)), np.uint8)
        known = _away_from(labels == UNLABELLED)
        label_edges, mask_edges = _edges(labels), _edges(mask)
        for label in range(self.classes):
            true, found = label_edges & (labels == label), mask_edges & (mask == label)
            # What is near is asked of all edges: those on unlabelled ground may well be where they should.
            near_true, near_found = (cv2.dilate(edge.view(np.uint8), disc).astype(bool) for edge in (true, found))
            true, found = true & known, found & known
            self._right_mask[label] += np.count_nonzero(found & near_true)
            self._all_mask[label] += np.count_nonzero(found)
            self._right_labels[label] += np.count_nonzero(true & near_found)
            self._all_labels[label] += np.count_nonzero(true)

    def by_class(self) -> npt.NDArray[np.float64]:
        """F by class (C,); NaN for a class that has no boundary in labels or masks."""
        with np.errstate(invalid="ignore", divide="ignore"):
            precision = np.where(self._all_mask > 0, self._right_mask / self._all_mask, 0.0)
            recall = np.where(self._all_labels > 0, self._right_labels / self._all_labels, 0.0)
            score = np.where(precision + recall > 0, 2 * precision * recall / (precision + recall), 0.0)
        return np.where(self._all_mask + self._all_labels > 0, score, np.nan)

    def mean(self) -> float:
        """Mean over the classes that have a boundary; NaN when none has."""
        values = self.by_class()
        return float(np.nanmean(values)) if np.isfinite(values).any() else math.nan


def _edges(ids: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Pixels with a 4-neighbour of another id (H, W)."""
    edges = np.zeros(ids.shape, bool)
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    edges[:, 1:] |= across
    edges[:, :-1] |= across
    edges[1:] |= down
    edges[:-1] |= down
    return edges


def _away_from(region: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Pixels that neither are nor touch the region (H, W)."""
    cross = np.asarray(cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3)), np.uint8)
    touched: npt.NDArray[np.uint8] = np.asarray(cv2.dilate(region.view(np.uint8), cross), np.uint8)
    return np.asarray(touched == 0)
