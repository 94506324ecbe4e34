"""A PSPNet as TDNet's teacher: scores of the whole feature, and of each group of its channels alone."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.heads import FCNHead, PyramidPooling
from tdnet_ros.networks.paths import PyramidPath
from tdnet_ros.networks.single_frame import SingleFrame


class TeacherScores(NamedTuple):
    """What the teacher says of a batch: ``full`` (B, classes, h, w), ``groups`` (B, G, classes, h, w)."""

    full: Tensor
    groups: Tensor


class GroupedTeacher(nn.Module):
    """A single-frame PSPNet whose feature is split into G groups of channels (TDNet's grouped distillation).

    Group g of the feature z = [x, pooled 1, 2, 3, 6] holds its slice of x beside its slices of the pooled maps, as
    ``PyramidPooling(channels, g, G)`` lays them out, so it is what a path of that group has to work with. The head's
    3x3 convolution W is split by its input channels, g_i = W_i z_i, and sum_i g_i = W z. Full scores are
    H(sum_i g_i), those of group i are H(G g_i), with H = batch norm, ReLU, classifier.

    Official sources: Training/ptsemseg/models/td4_psp/pspnet_4p.py (4 groups, H(4 g_i)) and td2_psp/pspnet_2p.py
    (2 groups, H(g_i)). They disagree; here the scaling is that of the former for every G. The batch norm's
    statistics are those of the sum of G contributions, and G g_i is the estimate of that sum from one of them: its
    mean over the groups is the sum itself, so what H subtracts fits, and equal contributions give the full scores.
    Unscaled, H subtracts the mean of G contributions from one. What the scaling cannot match is the spread: where
    contributions vary independently, G g_i varies sqrt(G) times as much as their sum.

    Always in eval mode and without gradients, whatever mode the module around it is put into; the backbone runs once.
    """

    order: Tensor

    def __init__(self, network: SingleFrame, groups: int) -> None:
        """Takes the network over and freezes it; its batch norms may be folded or not.

        Raises ConfigurationError when it is no PSPNet or its channels do not part into the groups.
        """
        super().__init__()
        path, head = network.path, network.head
        if not isinstance(path, PyramidPath) or path.pyramid.groups != 1 or not isinstance(head, FCNHead):
            raise ConfigurationError(
                f"teacher is '{network.info.name}', expected a single-frame PSPNet: psp18, psp50 or psp101"
            )
        if groups < 1 or path.backbone.channels % (4 * groups):
            raise ConfigurationError(
                f"groups is {groups}, expected a divisor of {path.backbone.channels // 4}, the channels of a pooled map"
            )
        self.path = path
        self.head = head
        self.groups = groups
        self.register_buffer("order", _channel_order(path.backbone.channels, groups), persistent=False)
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> GroupedTeacher:
        """Stays in eval mode: a teacher's batch norms and dropout are not part of the training."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> TeacherScores:
        """Normalised image (B, 3, H, W) -> scores at H/8."""
        contributions = self.contributions(image)
        full = self._classify(contributions.sum(1))
        groups = self._classify(self.groups * contributions.flatten(0, 1))
        return TeacherScores(full, groups.view(*contributions.shape[:2], *full.shape[1:]))

    @torch.no_grad()
    def contributions(self, image: Tensor) -> Tensor:
        """Each group's share of the 3x3 convolution: (B, G, hidden, h, w); their sum over G is the convolution."""
        z = self.path(image).z[:, self.order]
        weight = self.head.conv.conv.weight[:, self.order]
        # Groups of channels follow one another in z, but of a grouped convolution's weights in the outputs.
        weight = torch.cat(weight.chunk(self.groups, dim=1))
        shares = F.conv2d(z, weight, padding=self.head.conv.conv.padding, groups=self.groups)
        return shares.view(shares.shape[0], self.groups, -1, *shares.shape[2:])

    def _classify(self, hidden: Tensor) -> Tensor:
        conv = self.head.conv
        if conv.conv.bias is not None:  # a folded batch norm leaves its shift here: it belongs to the sum
            hidden = hidden + conv.conv.bias.view(-1, 1, 1)
        scores: Tensor = self.head.classifier(conv.activation(conv.norm(hidden)))
        return scores


def group_of_path(path: int, feature_groups: int, teacher_groups: int) -> int:
    """Which of the teacher's groups a path learns from: one that lies within the channels it computes.

    Path p computes group p mod ``feature_groups``; where the teacher is split finer, paths of the same group take its
    parts in turn. TD4-PSP18 (2 and 4): paths 0..3 learn from groups 0, 2, 1, 3, as pspnet_4p.py returns them.
    Raises ConfigurationError when the teacher's groups do not part those of the paths.
    """
    if teacher_groups % feature_groups:
        raise ConfigurationError(f"teacher_groups is {teacher_groups}, expected a multiple of {feature_groups}")
    parts = teacher_groups // feature_groups
    return path % feature_groups * parts + path // feature_groups % parts


def _channel_order(channels: int, groups: int) -> Tensor:
    """(2 * channels,): for the channels of all groups, group by group, where they stand in the ungrouped feature."""
    widths = [channels] + [channels // 4] * len(PyramidPooling.BINS)
    starts = [sum(widths[:index]) for index in range(len(widths))]
    return torch.cat(
        [
            torch.arange(start + group * width // groups, start + (group + 1) * width // groups)
            for group in range(groups)
            for start, width in zip(starts, widths, strict=True)
        ]
    )
