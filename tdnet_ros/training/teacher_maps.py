"""What a teacher says of the frames to train on: computed once, then cut out with the same map as the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import load_network
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.paths import PyramidPath
from tdnet_ros.networks.single_frame import SingleFrame
from tdnet_ros.training.configuration import StageSettings
from tdnet_ros.training.datasets import LabelledFrame
from tdnet_ros.training.detail_teacher import DetailTeacher
from tdnet_ros.training.frame_size import resize_image
from tdnet_ros.training.normalisation import normalise
from tdnet_ros.training.teacher import GroupedTeacher, TeacherScores


class TeacherView(NamedTuple):
    """Teacher's scores at the positions of the student's, for a batch of crops.

    ``scores`` (B, K, classes, h, w): [:, 0] overall, [:, 1 + g] of group g alone where groups were asked for;
    ``inside`` (B, h, w): whether the position lies in the frame.
    """

    scores: Tensor
    inside: Tensor


@dataclass(frozen=True)
class TeacherMaps:
    """Scores (N, K, classes, h, w), half precision, of N whole frames that the teacher saw at ``frame_size`` (H, W) px.

    ``align_corners`` says where the teacher's scores lie in its frame, ``student`` where the student's are wanted.
    """

    scores: Tensor
    frame_size: tuple[int, int]
    align_corners: bool
    student: NetworkInfo

    def describe(self) -> str:
        """What was asked of the teacher, and how much memory the answers take."""
        height, width = self.frame_size
        return f"{len(self.scores)} frames of {width}x{height}: {self.scores.nbytes / 2**20:.0f} MiB of scores"

    def view(self, frames: Tensor, theta: Tensor, crop: tuple[int, int]) -> TeacherView:
        """Crops (height, width) px of the frames (B,), by the maps theta (B, 2, 3) from crop to frame.

        Coordinates of both sides of the map run from -1 to 1 at the borders, as with align_corners=False.
        """
        rows, columns = (-(-side // self.student.stride) for side in crop)
        aligned = self.student.align_corners
        if aligned:  # the outermost scores lie half a pixel inside the crop's borders
            inset = [1 - 1 / crop[1], 1 - 1 / crop[0], 1.0]
            theta = theta * torch.tensor(inset, device=theta.device)
        grid = F.affine_grid(theta, [len(frames), 1, rows, columns], align_corners=aligned)
        inside = (grid.abs() <= 1 + 1e-6).all(-1)
        if self.align_corners:
            height, width = self.frame_size
            grid = grid * torch.tensor([width / (width - 1), height / (height - 1)], device=grid.device)
        chosen = self.scores[frames].float()
        flat = F.grid_sample(chosen.flatten(1, 2), grid, padding_mode="border", align_corners=self.align_corners)
        return TeacherView(flat.view(*chosen.shape[:3], rows, columns), inside)


def load_teacher(settings: StageSettings, student: NetworkInfo) -> tuple[GroupedTeacher | DetailTeacher, NetworkInfo]:
    """The stage's teacher on the CPU, and what it wants of an image.

    Raises ConfigurationError for a teacher that is missing, of another kind or other classes, or whose groups do not
    fit, and CheckpointError for weights that do not.
    """
    if not settings.teacher or not settings.teacher_weights:
        raise ConfigurationError(
            f"teacher is '{settings.teacher}' with weights '{settings.teacher_weights}', expected both where a "
            "distillation's weight is above 0"
        )
    if not settings.teacher_scale:
        raise ConfigurationError("teacher_scale is 0.0, expected a number above 0")
    if settings.teacher not in CATALOG:
        raise ConfigurationError(f"teacher is '{settings.teacher}', expected one of {sorted(CATALOG)}")
    network = load_network(settings.teacher, settings.teacher_weights)
    if network.info.labels.names != student.labels.names:
        raise ConfigurationError(
            f"teacher's classes are those of '{network.info.labels.name}', expected '{student.labels.name}' as the "
            "network's"
        )
    groups = settings.teacher_groups if settings.group_distillation else 1
    if isinstance(network, SingleFrame) and isinstance(network.path, PyramidPath):
        return GroupedTeacher(network, groups), network.info
    return DetailTeacher(network, groups), network.info


def make_teacher_maps(
    settings: StageSettings,
    student: NetworkInfo,
    frames: Sequence[LabelledFrame],
    size: tuple[int, int],
    device: torch.device,
) -> TeacherMaps:
    """Show the teacher every frame once, at ``settings.teacher_scale`` times the ``size`` (H, W) that the student sees.

    It sees the frame as it was read, reduced or enlarged only where its size is another, and unchanged by any
    augmentation. With ``settings.teacher_flip`` scores are the mean of those of the frame and its mirror image.
    Errors as of ``load_teacher``.
    """
    teacher, info = load_teacher(settings, student)
    teacher.to(device)
    height, width = (round(settings.teacher_scale * side) for side in size)
    maps: list[Tensor] = []
    for frame in frames:
        pixels = torch.from_numpy(resize_image(frame.image, (height, width))).to(device)
        image = normalise(pixels.permute(2, 0, 1)[None].float() / 255, info)
        scores = _planes(teacher(image), settings)
        if settings.teacher_flip:
            scores = (scores + _planes(teacher(image.flip(3)), settings).flip(3)) / 2
        maps.append(scores.half())
    return TeacherMaps(torch.stack(maps), (height, width), info.align_corners, student)


def _planes(scores: TeacherScores, settings: StageSettings) -> Tensor:
    """(K, classes, h, w) of one image: overall, then each group where groups are asked for."""
    if not settings.group_distillation:
        return scores.full
    return torch.cat([scores.full, scores.groups[0]])
