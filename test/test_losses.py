"""TDNet's losses: against cases by hand, against the published formulas in plain numpy, and where those give out."""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import UNLABELLED
from tdnet_ros.training.distillation import distillation
from tdnet_ros.training.losses import hard_pixel_cross_entropy, lovasz_softmax

Array = npt.NDArray[np.float64]


def scores_of(probabilities: list[float], height: int) -> Tensor:
    """Scores (1, 2, height, w) whose softmax gives class 0 those probabilities, row by row."""
    p = torch.tensor(probabilities, dtype=torch.float64).view(1, 1, height, -1)
    return torch.cat((p.log(), (1 - p).log()), dim=1)


def random_case(seed: int, batch: int = 2, classes: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scores = 2 * torch.randn(batch, classes, 5, 7, generator=generator, dtype=torch.float64)
    return scores, torch.randint(0, classes, (batch, 33, 49), generator=generator)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def published_ohem(logits: Array, labels: npt.NDArray[np.int64], least: int) -> float:
    """The published rule, word by word: sort; all above the threshold if there are enough of them, else the top."""
    batch, rows, columns = np.indices(labels.shape)
    losses = np.sort(-np.log(softmax(logits)[batch, labels, rows, columns]).ravel())[::-1]
    return float(losses[losses > -np.log(0.7)].mean() if losses[least] > -np.log(0.7) else losses[:least].mean())


def published_kl(scores: Array, teacher: Array) -> float:
    p, q = softmax(teacher) + 1e-8, softmax(scores) + 1e-8
    return float((p * np.log(p / q)).sum(1).mean())


def test_the_hard_pixels_count_when_there_are_enough_of_them() -> None:
    # 32 pixels, at least 2: three lie below a probability of 0.7, the other 29 must not matter.
    for easy in (0.71, 0.99):
        scores = scores_of([0.5, 0.25, 0.125, *[easy] * 29], 4)
        loss = hard_pixel_cross_entropy(scores, torch.zeros(1, 4, 8, dtype=torch.long), True)
        assert float(loss) == pytest.approx((1 + 2 + 3) / 3 * np.log(2))


def test_the_hardest_pixels_count_when_too_few_are_hard() -> None:
    # 48 pixels, at least 3: one is hard, so the three hardest count.
    scores = scores_of([0.9, 0.5, 0.8, *[0.95] * 45], 6)
    loss = hard_pixel_cross_entropy(scores, torch.zeros(1, 6, 8, dtype=torch.long), True)
    assert float(loss) == pytest.approx(-np.log([0.5, 0.8, 0.9]).mean())


def test_exactly_enough_hard_pixels_are_all_that_count() -> None:
    scores = scores_of([0.5, 0.25, *[0.9] * 30], 4)
    loss = hard_pixel_cross_entropy(scores, torch.zeros(1, 4, 8, dtype=torch.long), True)
    assert float(loss) == pytest.approx(1.5 * np.log(2))


@pytest.mark.parametrize("scale", [0.1, 1.0, 20.0])
def test_hard_pixels_as_published(scale: float) -> None:
    scores, labels = random_case(1)
    scores = scale * scores
    if scale > 1:  # nearly all right: the network's own answer is the truth but for a few pixels
        upsampled = torch.nn.functional.interpolate(scores, (33, 49), mode="bilinear", align_corners=True)
        labels[:] = upsampled.argmax(1)
        labels[0, :2, :3] = 0
    for align_corners in (True, False):
        logits = torch.nn.functional.interpolate(scores, (33, 49), mode="bilinear", align_corners=align_corners)
        expected = published_ohem(logits.numpy(), labels.numpy(), labels.numel() // 16)
        loss = hard_pixel_cross_entropy(scores, labels, align_corners)
        assert float(loss) == pytest.approx(expected, rel=1e-9)


def test_unlabelled_pixels_neither_count_nor_get_a_gradient() -> None:
    scores = scores_of([0.5, 0.01, 0.8, *[0.95] * 29], 4).requires_grad_()
    labels = torch.zeros(1, 4, 8, dtype=torch.uint8)
    labels[0, 0, 1] = UNLABELLED
    loss = hard_pixel_cross_entropy(scores, labels, True)
    assert float(loss.detach()) == pytest.approx(-np.log([0.5, 0.8]).mean())
    loss.backward()
    assert scores.grad is not None
    moved = scores.grad.abs().sum(1)[0].flatten().nonzero().flatten().tolist()
    assert moved == [0, 2]


def test_with_fewer_labels_than_wanted_all_of_them_count_alone() -> None:
    scores = scores_of([0.9, 0.8, *[0.5] * 62], 8)
    labels = torch.full((1, 8, 8), UNLABELLED)
    labels[0, 0, :2] = 0  # two labelled, four wanted
    assert float(hard_pixel_cross_entropy(scores, labels, True)) == pytest.approx(-np.log([0.9, 0.8]).mean())


def test_a_batch_without_labels_has_no_loss_and_no_gradient() -> None:
    scores = random_case(2)[0].requires_grad_()
    loss = hard_pixel_cross_entropy(scores, torch.full((2, 33, 49), UNLABELLED), True)
    loss.backward()
    assert float(loss.detach()) == 0
    assert scores.grad is not None and torch.equal(scores.grad, torch.zeros_like(scores))


def test_too_few_pixels_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"labels have shape \(1, 3, 5\), expected at least 16 pixels"):
        hard_pixel_cross_entropy(torch.zeros(1, 2, 3, 5), torch.zeros(1, 3, 5), True)


def test_divergence_of_two_known_distributions() -> None:
    teacher, student = scores_of([0.75, 0.5], 1), scores_of([0.5, 0.5], 1)
    by_hand = (0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)) / 2  # the other position agrees
    assert float(distillation(student, teacher)) == pytest.approx(by_hand)
    assert float(distillation(teacher, student)) == pytest.approx((0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(2)) / 2)
    assert float(distillation(teacher + 7, teacher)) == pytest.approx(0, abs=1e-12)


def test_divergence_as_published() -> None:
    scores, teacher = random_case(3)[0], random_case(4)[0]
    assert float(distillation(scores, teacher)) == pytest.approx(
        published_kl(scores.numpy(), teacher.numpy()), abs=1e-6
    )


def test_the_gradient_of_the_divergence_is_the_difference_of_the_probabilities() -> None:
    scores, teacher = random_case(5)[0].requires_grad_(), random_case(6)[0].requires_grad_()
    distillation(scores, teacher).backward()
    positions = scores.numel() / scores.shape[1]
    assert teacher.grad is None
    torch.testing.assert_close(scores.grad, (scores.softmax(1) - teacher.softmax(1)).detach() / positions)


def test_a_class_that_the_student_has_given_up_still_pulls() -> None:
    student = torch.tensor([40.0, -40.0]).view(1, 2, 1, 1).requires_grad_()
    teacher = torch.tensor([-40.0, 40.0]).view(1, 2, 1, 1)
    distillation(student, teacher).backward()
    torch.testing.assert_close(student.grad, torch.tensor([1.0, -1.0]).view(1, 2, 1, 1))


def test_scores_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"shape \(1, 5, 5, 7\), expected \(2, 5, 5, 7\)"):
        distillation(random_case(7)[0], random_case(8)[0][:1])


@pytest.mark.parametrize("scale", [1e3, 1e6])
def test_extreme_scores_give_finite_losses_and_gradients(scale: float) -> None:
    made = [(scale * random_case(seed)[0].float()).requires_grad_() for seed in (9, 10)]
    labels = random_case(9)[1]
    labels[:, ::3] = UNLABELLED
    teacher = scale * random_case(11)[0].float()
    loss = sum(hard_pixel_cross_entropy(scores, labels, True) + distillation(scores, teacher) for scores in made)
    assert isinstance(loss, Tensor)
    loss.backward()
    assert torch.isfinite(loss)
    for scores in made:
        assert scores.grad is not None and torch.isfinite(scores.grad).all() and scores.grad.abs().sum() > 0


def jaccard_loss(wrong: set[int], is_it: Array) -> float:
    """1 - intersection / union of a class when the pixels ``wrong`` are mistaken (Berman et al., equation 6)."""
    mistaken = np.isin(np.arange(is_it.size), list(wrong))
    return 1 - float((is_it & ~mistaken).sum()) / float((is_it | mistaken).sum())


def test_lovasz_by_hand() -> None:
    # Pixels of class 0, 0, 1 with probabilities 0.9, 0.4, 0.2 of class 0. Errors of class 0: 0.1, 0.6, 0.2; sorted
    # 0.6 (a miss: 1 - 1/2), 0.2 (false alarm: 1 - 1/3), 0.1 (miss: 1 - 0). Class 1 has the same errors, of which 0.6
    # and 0.1 are now false alarms: 1 - 1/2, then the miss of 0.2: 1 - 0, then nothing more.
    loss = lovasz_softmax(scores_of([0.9, 0.4, 0.2], 1), torch.tensor([[[0, 0, 1]]]))
    first = 0.6 * 1 / 2 + 0.2 * (2 / 3 - 1 / 2) + 0.1 * (1 - 2 / 3)
    second = 0.6 * 1 / 2 + 0.2 * (1 - 1 / 2)
    assert float(loss) == pytest.approx((first + second) / 2)


def test_lovasz_is_the_extension_of_the_jaccard_loss() -> None:
    """The integral over thresholds of the Jaccard loss of the pixels whose error is above: Lovász's definition."""
    scores, labels = random_case(3)
    rows, columns = (np.floor((np.arange(n) + 0.5) * size / n).astype(int) for n, size in ((5, 33), (7, 49)))
    labels[0, rows[1] : rows[2]] = UNLABELLED
    truth = labels.numpy()[:, rows][:, :, columns].ravel()
    known = truth != UNLABELLED
    probabilities = softmax(scores.numpy()).transpose(0, 2, 3, 1).reshape(-1, 5)[known]
    expected = []
    for label in range(5):
        is_it = truth[known] == label
        errors = np.abs(is_it - probabilities[:, label])
        steps = itertools.pairwise([0.0, *np.sort(errors)])
        wrong = ((high - low, set(np.flatnonzero(errors > low))) for low, high in steps)
        expected.append(sum(step * jaccard_loss(pixels, is_it) for step, pixels in wrong))
    assert float(lovasz_softmax(scores, labels)) == pytest.approx(np.mean(expected))
    with torch.autocast("cpu", torch.bfloat16):
        assert float(lovasz_softmax(scores.float(), labels)) == pytest.approx(np.mean(expected), rel=1e-5)
