"""The bootstrap over frames: draws, resampled mIoU and intervals, computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tdnet_ros.evaluation.bootstrap import draw_frames, interval, resampled_miou

#: Two frames of 10 pixels: by hand, IoU (5/6, 4/5) and (2/6, 4/8).
FRAMES = np.array([[[5, 1], [0, 4]], [[2, 4], [0, 4]]])


def test_resampled_miou_by_hand() -> None:
    draws = np.array([[0, 0], [1, 1], [0, 1]])
    both = (7 / 12 + 8 / 13) / 2
    expected = [(5 / 6 + 4 / 5) / 2, (2 / 6 + 4 / 8) / 2, both]
    np.testing.assert_allclose(resampled_miou(FRAMES, draws), expected, rtol=0, atol=1e-12)


def test_a_class_that_a_draw_lacks_does_not_count() -> None:
    lacking = np.array([[[8, 0], [0, 0]], [[4, 2], [0, 2]]])
    found = resampled_miou(lacking, np.array([[0, 0], [1, 1]]))
    np.testing.assert_allclose(found, [1.0, (4 / 6 + 2 / 4) / 2], rtol=0, atol=1e-12)


def test_interval_by_hand() -> None:
    assert interval(np.arange(1001.0)) == (25.0, 975.0)


def test_draws_are_the_same_by_seed_and_cover_all_frames() -> None:
    draws = draw_frames(7, 500, seed=3)
    assert draws.shape == (500, 7)
    assert np.array_equal(draws, draw_frames(7, 500, seed=3))
    assert not np.array_equal(draws, draw_frames(7, 500, seed=4))
    shares = np.bincount(draws.ravel(), minlength=7) / draws.size
    np.testing.assert_allclose(shares, 1 / 7, atol=0.02)


def test_blocks_are_consecutive_frames_of_the_clip() -> None:
    draws = draw_frames(10, 200, seed=1, block=4)
    assert draws.shape == (200, 10) and draws.min() == 0 and draws.max() == 9
    steps = np.diff(draws, axis=1)
    assert (steps[:, [0, 1, 2, 4, 5, 6, 8]] == 1).all() and (steps[:, 3] != 1).any()


def test_a_block_as_long_as_the_clip_is_the_clip() -> None:
    assert (draw_frames(5, 3, seed=1, block=9) == np.arange(5)).all()


def test_differences_are_of_the_same_frames() -> None:
    """Frames differ much from one another and the networks little: pairs show it, independent draws would not."""
    random = np.random.default_rng(0)
    right = random.integers(10, 90, 40)
    first = np.stack([np.array([[50, 100 - r], [100 - r, 50]]) for r in right])
    second = first + np.array([[2, 0], [0, 2]])
    own, other, independent = (draw_frames(40, 400, seed) for seed in (1, 1, 2))
    low, high = interval(resampled_miou(second, own) - resampled_miou(first, other))
    assert 0 < low < high
    assert interval(resampled_miou(second, independent) - resampled_miou(first, own))[0] < 0


@pytest.mark.parametrize("block", [1, 3])
def test_equal_networks_differ_by_nothing(block: int) -> None:
    draws = draw_frames(2, 50, seed=1, block=block)
    assert interval(resampled_miou(FRAMES, draws) - resampled_miou(FRAMES, draws)) == (0.0, 0.0)
