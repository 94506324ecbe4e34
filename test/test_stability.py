"""Stability, boundary and timeliness measures against cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tdnet_ros.evaluation.boundary import BoundaryF
from tdnet_ros.evaluation.controls import ConstantMask, FrozenMask
from tdnet_ros.evaluation.stability import Flicker, Motion, TemporalConsistency, VideoConsistency
from tdnet_ros.evaluation.timeliness import TimedMask, latency_aware_matrix

VOID = 255


def ids(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.uint8)


def texture(shift: int, height: int = 96, width: int = 128) -> np.ndarray:
    """A smooth random picture that moves to the right by ``shift`` px."""
    coarse = np.random.default_rng(3).random((14, 24))
    rows, columns = np.linspace(0, 12, height), np.linspace(0, 16, width) - shift * 16 / (width - 1) + 5
    y, x = rows.astype(int), columns.astype(int)
    fy, fx = (rows - y)[:, None], (columns - x)[None]
    corners = [coarse[y + dy][:, x + dx] for dy in (0, 1) for dx in (0, 1)]
    top, bottom = (left * (1 - fx) + right * fx for left, right in (corners[:2], corners[2:]))
    return (255 * (top * (1 - fy) + bottom * fy)).astype(np.uint8)


def test_motion_carries_a_mask_along_with_the_picture() -> None:
    shift = 4
    motion = Motion(texture(0), texture(shift))
    stripe = np.zeros((96, 128), np.uint8)
    stripe[:, 60:70] = 1
    carried = motion.carry(stripe)
    inner = carried[10:-10, 20:-20]
    expected = np.roll(stripe, shift, 1)[10:-10, 20:-20]
    assert motion.trusted[10:-10, 20:-20].mean() > 0.9
    assert (inner == expected)[inner != VOID].mean() > 0.97


def test_what_was_outside_the_picture_is_not_trusted() -> None:
    assert not Motion(texture(0), texture(12)).trusted[:, :4].any()


def test_temporal_consistency_is_the_iou_of_carried_and_current_mask() -> None:
    consistency = TemporalConsistency(2)
    assert math.isnan(consistency.value())
    consistency.add(ids([0, 0, 1, VOID]), ids([0, 1, 1, 1]))
    assert consistency.value() == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_flicker_counts_changes_where_the_labels_stay() -> None:
    flicker = Flicker()
    assert math.isnan(flicker.value())
    # In order: steady and kept; steady and changed; the label changes; void; flow not trusted.
    flicker.add(
        carried_labels=ids([0, 0, 1, VOID, VOID]),
        labels=ids([0, 0, 0, 0, 0]),
        carried_mask=ids([1, 0, 1, 0, VOID]),
        mask=ids([1, 1, 0, 1, 0]),
    )
    assert flicker.value() == pytest.approx(1 / 2)


def test_video_consistency_of_three_frames_by_hand() -> None:
    consistency = VideoConsistency(3)
    labels = [ids([0, 0, 1, 1]), ids([0, 0, 1, VOID]), ids([0, 0, 0, 1]), ids([0, 0, 0, 0])]
    masks = [ids([0, 1, 1, 1]), ids([0, 0, 1, 1]), ids([0, 0, 1, 1]), ids([0, 0, 0, 0])]
    for truth, mask in zip(labels[:2], masks[:2], strict=True):
        consistency.add(truth, mask)
    assert math.isnan(consistency.value())
    # Pixels 0 and 1 keep their label over the first three frames; the mask has pixel 0 right in all of them.
    consistency.add(labels[2], masks[2])
    assert consistency.value() == pytest.approx(1 / 2)
    # Over the last three, pixels 0 and 1 keep theirs and are right.
    consistency.add(labels[3], masks[3])
    assert consistency.value() == pytest.approx((1 / 2 + 1) / 2)


def test_video_consistency_never_reaches_across_a_break() -> None:
    consistency = VideoConsistency(2)
    consistency.add(ids([0]), ids([0]))
    consistency.interrupt()
    consistency.add(ids([0]), ids([0]))
    assert math.isnan(consistency.value())


def square(left: int) -> np.ndarray:
    picture = np.zeros((100, 100), np.uint8)  # tolerance: ceil(0.0075 * 141.4) = 2 px
    picture[30:60, left : left + 30] = 1
    return picture


@pytest.mark.parametrize(("shift", "full"), [(0, True), (2, True), (5, False)])
def test_boundaries_within_the_tolerance_are_right(shift: int, full: bool) -> None:
    score = BoundaryF(2)
    score.add(square(30), square(30 + shift))
    assert (score.mean() == 1.0) == full
    assert score.mean() > 0.4  # the horizontal edges still lie on each other


def test_boundary_f_by_hand() -> None:
    """Class 1's edge of the mask: 4 x 29 pixels of a square too many, none of the labels' own is found."""
    labels, mask = np.zeros((2, 100, 100), np.uint8)
    labels[10:40, 10:40] = 1
    mask[10:40, 10:40] = 1
    mask[60:90, 60:90] = 1
    score = BoundaryF(2)
    score.add(labels, mask)
    precision, recall = 1 / 2, 1.0
    assert score.by_class()[1] == pytest.approx(2 * precision * recall / (precision + recall))


def test_boundaries_at_unlabelled_pixels_do_not_count() -> None:
    labels = square(30)
    labels[:, :20] = VOID
    score = BoundaryF(2)
    score.add(labels, square(30))
    assert score.mean() == 1.0
    assert math.isnan(BoundaryF(2).mean())


def test_before_the_first_mask_all_pixels_are_wrong_and_later_the_newest_one_counts() -> None:
    labelled = [(10, ids([0, 1])), (20, ids([0, 1])), (30, ids([1, 1]))]
    masks = [TimedMask(15, ids([0, 1])), TimedMask(30, ids([1, 1])), TimedMask(31, ids([0, 0]))]
    matrix = latency_aware_matrix(labelled, masks, 2)
    # Frame 10: nothing is out. Frame 20: right. Frame 30: the mask that is out at that very time, right.
    np.testing.assert_allclose(matrix.iou(), [1 / 2, 3 / 4])


def test_dropping_masks_never_raises_latency_aware_miou_on_a_moving_pattern() -> None:
    period_ns, latency_ns = 100, 130
    labels = []
    for frame in range(40):
        picture = np.zeros((20, 160), np.uint8)
        picture[5:15, 3 * frame : 3 * frame + 30] = 1
        labels.append(picture)
    labelled = [(frame * period_ns, picture) for frame, picture in enumerate(labels)]
    random = np.random.default_rng(5)
    kept = list(range(40))
    before = 1.0
    for _ in range(12):
        masks = [TimedMask(frame * period_ns + latency_ns, labels[frame]) for frame in kept]
        score = latency_aware_matrix(labelled, masks, 2).miou()
        assert score <= before
        before = score
        kept.pop(int(random.integers(len(kept))))
    assert before < 0.9


def test_controls_say_the_same_whatever_the_mask() -> None:
    constant, frozen = ConstantMask(), FrozenMask()
    first, second = ids([2, 2, 1]), ids([0, 0, 0])
    np.testing.assert_array_equal(constant(first), [[2, 2, 2]])
    np.testing.assert_array_equal(constant(second), [[2, 2, 2]])
    np.testing.assert_array_equal(frozen(first), first)
    np.testing.assert_array_equal(frozen(second), first)
    np.testing.assert_array_equal(frozen(ids([1, 1])), [[1, 1]])
