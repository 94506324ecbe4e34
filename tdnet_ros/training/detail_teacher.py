"""A light network as TDNet's teacher: scores of the whole feature, and of each group of its channels alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.heads import DetailHead
from tdnet_ros.networks.network import SegmentationNetwork
from tdnet_ros.networks.paths import MobilePath
from tdnet_ros.networks.single_frame import SingleFrame
from tdnet_ros.networks.tdnet import TDNet
from tdnet_ros.training.teacher import TeacherScores


class DetailTeacher(nn.Module):
    """``mnv2``, or the first sub-network of ``td2_mnv2`` by itself, with its feature split into G groups of channels.

    Up to the head's first non-linearity the feature z meets linear layers alone: it is up-sampled, the lateral
    convolution of the details d is added, and a 3x3 convolution W follows. With z_i equal to z in the channels of
    group i and 0 in the others, and g_i = W up(z_i), that convolution gives sum_i g_i + W lateral(d). As in
    ``GroupedTeacher``, scores of group i have G g_i, the estimate of the sum from one of its parts, in the place of
    the sum. The details belong to no group and stay as they are: the student's head has its own beside its feature
    too. Since all layers up to there are linear in z, that is the network with G z_i in the place of z, and the mean
    over the groups of what reaches the first non-linearity is what reaches it from z.

    In ``td2_mnv2`` the value convolution and the layer norm over channels come first, and the first non-linearity is
    that norm. It divides by the spread of G W z_i + b, so that there the factor G matters against the bias alone.

    A group here is no more than a fixed set of channels. In TDNet a path computes only the channels of its group, so
    that the group's scores are what its share of the feature can say. A path of ``td2_mnv2`` computes all of its own
    128 channels: grouped distillation tells the paths apart, it does not match what they lack.

    Always in eval mode and without gradients, whatever mode the module around it is put into; the path runs once.
    """

    def __init__(self, network: SegmentationNetwork, groups: int) -> None:
        """Takes the network over and freezes it; its batch norms may be folded or not.

        Raises ConfigurationError when it is neither of the two or its channels do not part into the groups.
        """
        super().__init__()
        self.path, self.value, self.norm, self.head = _parts(network)
        channels = self.path.channels
        if groups < 1 or channels % groups:
            raise ConfigurationError(f"groups is {groups}, expected a divisor of {channels}, the feature's channels")
        self.groups = groups
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> DetailTeacher:
        """Stays in eval mode: a teacher's batch norms and dropout are not part of the training."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> TeacherScores:
        """Normalised image (B, 3, H, W) -> scores at H/4."""
        z, details = self.path(image)
        full = self._classify(z, details)
        share = z.shape[1] // self.groups
        alone = []
        for group in range(self.groups):
            only = torch.zeros_like(z)
            only[:, group * share : (group + 1) * share] = self.groups * z[:, group * share : (group + 1) * share]
            alone.append(self._classify(only, details))
        return TeacherScores(full, torch.stack(alone, dim=1))

    def _classify(self, z: Tensor, details: Sequence[Tensor]) -> Tensor:
        scores: Tensor = self.head(self.norm(self.value(z)), details)
        return scores


def _parts(network: SegmentationNetwork) -> tuple[MobilePath, nn.Module, nn.Module, nn.Module]:
    """Path, value convolution, norm and head; the middle two do nothing in a single-frame network."""
    value: nn.Module = nn.Identity()
    norm: nn.Module = nn.Identity()
    path: nn.Module | None = None
    head: nn.Module | None = None
    if isinstance(network, SingleFrame):
        path, head = network.path, network.head
    elif isinstance(network, TDNet):
        first = network.subnetwork(0)
        path, value, norm, head = first.path, first.encoder.value, first.norm, first.head
    if not isinstance(path, MobilePath) or not isinstance(head, DetailHead):
        raise ConfigurationError(f"teacher is '{network.info.name}', expected mnv2, td2_mnv2 or a PSPNet such as psp18")
    return path, value, norm, head
