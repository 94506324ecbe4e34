"""Knowledge distillation: a network learns the class probabilities of a larger one."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tdnet_ros.errors import ConfigurationError


def distillation(scores: Tensor, teacher_scores: Tensor, inside: Tensor | None = None) -> Tensor:
    """KL(T || S) of the softmax of teacher and student scores, both (B, C, h, w) -> mean over batch and positions.

    ``inside`` (B, h, w): the positions that count, where a crop reaches beyond the frame; None takes all.

    L = 1 / (B h w) sum_i sum_c T_ic (ln T_ic - ln S_ic), with T = softmax(teacher), S = softmax(student), at
    temperature 1 and at feature resolution. For TDNet it is used twice: the recomposed scores against the teacher's
    (overall), the scores of a path's own feature against those of the teacher's feature group that the path stands in
    for (grouped). Source: official ``KLDive_loss`` of Training/ptsemseg/models/td4_psp/td4_psp.py and td2_psp.py.

    As there, no position of a frame is left out: the teacher has an opinion on pixels that nobody labelled. Unlike
    there, ln is taken by log-softmax. The official code adds 1e-8 to both softmaxes, so a class that the student gives
    less than about 1e-8 gets next to no gradient however sure the teacher is of it; ours is (S - T) / (B h w) at any
    scores. Where all S stay well above 1e-8 the two differ by some 1e-8 sum_c T_ic / S_ic.

    No gradient reaches the teacher. Raises ConfigurationError when the shapes differ.
    """
    if scores.shape != teacher_scores.shape:
        raise ConfigurationError(
            f"teacher's scores have shape {tuple(teacher_scores.shape)}, expected {tuple(scores.shape)} as the "
            "student's: resize them, or choose a teacher of the same classes and stride"
        )
    target = F.log_softmax(teacher_scores.detach(), dim=1)
    divergence = F.kl_div(F.log_softmax(scores, dim=1), target, reduction="none", log_target=True)
    each = divergence.sum(1)
    return each.mean() if inside is None else (each * inside).sum() / inside.sum().clamp(min=1)
