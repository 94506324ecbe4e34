"""Accuracy at the time when it is needed: a mask that comes late shows a world that has moved on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.labels import UNLABELLED

Ids = npt.NDArray[np.uint8]


class TimedMask(NamedTuple):
    """A mask (H, W) and the time at which it was out, in ns on the clock of the labelled frames' stamps."""

    out_ns: int
    ids: Ids


def latency_aware_matrix(
    labelled: Iterable[tuple[int, Ids]], masks: Iterable[TimedMask], classes: int
) -> ConfusionMatrix:
    """Confusion matrix in which every labelled frame is scored with the newest mask that was out by its time.

    ``labelled`` are (stamp_ns, labels (H, W)) in order of the stamps, ``masks`` in order of ``out_ns``; a mask of
    another size is resized (nearest). Before the first mask all pixels count as wrong. Its mIoU is the latency-aware
    mIoU (after Courdier and Fleuret, ACCV 2020).
    """
    matrix = ConfusionMatrix(classes)
    coming = iter(masks)
    newest, following = None, next(coming, None)
    for stamp_ns, labels in labelled:
        while following is not None and following.out_ns <= stamp_ns:
            newest, following = following, next(coming, None)
        matrix.add(labels, _at_size_of(labels, newest.ids) if newest is not None else np.full_like(labels, UNLABELLED))
    return matrix


def _at_size_of(labels: Ids, mask: Ids) -> Ids:
    if mask.shape == labels.shape:
        return mask
    return np.asarray(cv2.resize(mask, labels.shape[::-1], interpolation=cv2.INTER_NEAREST), np.uint8)
