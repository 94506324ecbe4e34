"""Pair-wise distillation, D_pw of BDNet: how alike the places of a feature are to each other, as the teacher has it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tdnet_ros.errors import ConfigurationError


def affinity(feature: Tensor, grid: tuple[int, int]) -> Tensor:
    """Feature (B, C, h, w) -> cosine similarities (B, N, N) of the N nodes of a coarse grid (rows, columns).

    a_ij = f_i^T f_j / (||f_i|| ||f_j||), f_i the mean of the feature over node i.
    """
    nodes = F.adaptive_avg_pool2d(feature.float(), grid).flatten(2)
    nodes = nodes / nodes.norm(dim=1, keepdim=True).detach().clamp(min=1e-8)
    similarities: Tensor = nodes.transpose(1, 2) @ nodes
    return similarities


def pairwise_distillation(student: Tensor, teacher: Tensor, nodes: int = 64) -> Tensor:
    """D_pw of features (B, C_s, h, w) and (B, C_t, h', w') of the same view; widths and sizes may differ.

    D_pw = 1/N^2 sum_ij (a^S_ij - a^T_ij)^2, a mean over the batch, over a grid of about ``nodes`` nodes in the shape of
    the student's map and no finer than either map. For BDNet the student's feature is the keyframe's warped to the
    current frame, the teacher's that of the current frame itself. Source: Liu et al., "Structured knowledge
    distillation for semantic segmentation", CVPR 2019, the pair-wise term; that norms take no gradient is
    from their code. No gradient reaches the teacher.
    """
    if student.shape[0] != teacher.shape[0]:
        raise ConfigurationError(
            f"teacher's feature is of {teacher.shape[0]} images, expected {student.shape[0]} as the student's"
        )
    rows, columns = student.shape[2:]
    side = (nodes / (rows * columns)) ** 0.5
    grid = (
        max(1, min(round(rows * side), rows, teacher.shape[2])),
        max(1, min(round(columns * side), columns, teacher.shape[3])),
    )
    return (affinity(student, grid) - affinity(teacher.detach(), grid)).square().mean()
