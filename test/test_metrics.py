"""Accuracy against cases worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tdnet_ros.evaluation.metrics import ConfusionMatrix


def picture(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


def test_iou_of_a_case_by_hand() -> None:
    matrix = ConfusionMatrix(3)
    # class 0: 2 right, 1 taken for 1; class 1: 1 right; the void pixel does not count.
    matrix.add(picture([0, 0, 0], [1, 255, 1]), picture([0, 0, 1], [1, 2, 0]))
    np.testing.assert_allclose(matrix.iou(), [2 / 4, 1 / 3, np.nan])
    assert matrix.miou() == pytest.approx((2 / 4 + 1 / 3) / 2)


def test_unlabelled_prediction_counts_as_wrong() -> None:
    matrix = ConfusionMatrix(2)
    matrix.add(picture([0, 0, 1, 1]), picture([0, 255, 1, 1]))
    np.testing.assert_allclose(matrix.iou(), [1 / 2, 1.0])


def test_pictures_add_up_before_the_division() -> None:
    matrix = ConfusionMatrix(2)
    matrix.add(picture([0, 0, 0, 0]), picture([0, 0, 0, 0]))
    matrix.add(picture([0, 1]), picture([1, 1]))
    np.testing.assert_allclose(matrix.iou(), [4 / 5, 1 / 2])


def test_sizes_must_agree() -> None:
    with pytest.raises(ValueError, match="labels are"):
        ConfusionMatrix(2).add(picture([0, 0]), picture([0], [0]))
