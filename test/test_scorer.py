"""The scorer puts every measure together: perfect masks, wrong ones, breaks, sparse labels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tdnet_ros.evaluation.scorer import Scorer

SIZE = (72, 96)


def scene(frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Grey picture and labels (H, W): a textured square moves 2 px a frame over a textured ground; a void border."""
    random = np.random.default_rng(0)
    picture = np.kron(random.integers(0, 120, (18, 24)), np.ones((4, 4))).astype(np.uint8)
    labels = np.zeros(SIZE, np.uint8)
    left = 20 + 2 * frame
    picture[20:50, left : left + 24] = np.kron(random.integers(130, 250, (10, 8)), np.ones((3, 3)))
    labels[20:50, left : left + 24] = 1
    labels[:2] = 255
    return picture, labels


def test_masks_equal_to_the_labels_score_full_marks() -> None:
    scorer = Scorer(3)
    for frame in range(16):
        picture, labels = scene(frame)
        mask = np.where(labels == 255, 0, labels).astype(np.uint8)
        assert scorer.add(picture, mask, labels, distance=frame % 4) == 1.0
    scores = scorer.scores()
    assert (scores.frames, scores.labelled_frames, scores.miou, scores.boundary_f) == (16, 16, 1.0, 1.0)
    assert math.isnan(scores.iou[2])
    assert [(each.distance, each.miou, each.frames) for each in scores.by_distance] == [(d, 1.0, 4) for d in range(4)]
    assert scores.stability.flicker == 0
    assert (scores.stability.vc8, scores.stability.vc16) == (1.0, 1.0)
    assert 0.8 < scores.stability.temporal_consistency <= 1
    assert np.sum(scores.confusion) == 16 * (72 - 2) * 96


def test_controls_look_steady_and_are_wrong() -> None:
    scorer = Scorer(2)
    for frame in range(8):
        picture, labels = scene(frame)
        noisy = np.where(labels == 255, 0, labels).astype(np.uint8)
        noisy[30:40, :10] = frame % 2  # flickers where nothing moves
        scorer.add(picture, noisy, labels)
    scores = scorer.scores()
    assert scores.controls["constant"].temporal_consistency == 1.0
    assert scores.controls["constant"].flicker == 0.0
    assert scores.stability.flicker > 0.005
    # Where the labels never change the first mask stays right: the measure is fooled, hence the control beside it.
    assert scores.controls["frozen"].vc8 == 1.0
    assert scores.stability.temporal_consistency < 1


def test_without_labels_only_consistency_is_measured() -> None:
    scorer = Scorer(2)
    for frame in range(3):
        picture, labels = scene(frame)
        assert math.isnan(scorer.add(picture, (labels == 1).astype(np.uint8), None))
    scores = scorer.scores()
    assert scores.labelled_frames == 0 and math.isnan(scores.miou) and math.isnan(scores.stability.flicker)
    assert math.isnan(scores.stability.vc8)
    assert scores.stability.temporal_consistency > 0.8


def test_sparse_labels_are_scored_and_give_no_video_consistency() -> None:
    scorer = Scorer(2)
    for frame in range(16):
        picture, labels = scene(frame)
        scorer.add(picture, (labels == 1).astype(np.uint8), labels if frame % 2 else None)
    scores = scorer.scores()
    assert scores.labelled_frames == 8 and scores.miou == 1.0
    assert math.isnan(scores.stability.vc8) and math.isnan(scores.stability.flicker)


def test_nothing_is_compared_across_a_break() -> None:
    scorer = Scorer(2)
    for _ in range(4):
        picture, labels = scene(0)
        scorer.interrupt()
        scorer.add(picture, labels * 0, labels)
    assert math.isnan(scorer.scores().stability.temporal_consistency)
    assert math.isnan(scorer.scores().stability.vc8)


@pytest.mark.parametrize("size", [(36, 48), (144, 192)])
def test_the_picture_may_have_another_size_than_the_mask(size: tuple[int, int]) -> None:
    scorer = Scorer(2)
    for frame in range(2):
        _, labels = scene(frame)
        scorer.add(np.full(size, 100, np.uint8), (labels == 1).astype(np.uint8), labels)
    assert scorer.scores().miou == 1.0


def test_frames_without_a_mask_end_a_run_but_not_the_comparison() -> None:
    scorer = Scorer(2)
    for frame in range(9):
        if frame == 4:
            scorer.skip()
        picture, labels = scene(frame)
        scorer.add(picture, (labels == 1).astype(np.uint8), labels)
    assert math.isnan(scorer.scores().stability.vc8)
    assert scorer.scores().stability.flicker == 0
