"""A network that sees the current frame itself, and whose feature corrects what another one has warped there."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import SegmentationNetwork, load_network
from tdnet_ros.networks.bdnet import BDNet
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.layers import upsample
from tdnet_ros.networks.single_frame import SingleFrame
from tdnet_ros.training.configuration import StageSettings
from tdnet_ros.training.normalisation import normalise


class FeatureTeacher(nn.Module):
    """The feature in front of a network's head, frame by frame, always in eval mode and without gradients.

    Of a BDNet, whose keyframes are a single-frame network, it is the trunk's; of a single-frame network the path's.
    ``scale`` enlarges the image first: a teacher may have been made for larger ones.
    """

    def __init__(self, network: SegmentationNetwork, scale: float = 1.0) -> None:
        """Takes the network over and freezes it. Raises ConfigurationError for networks of other kinds."""
        super().__init__()
        self.trunk: nn.Module
        if isinstance(network, BDNet):
            self.trunk = network.trunk
        elif isinstance(network, SingleFrame):
            self.trunk = network.path
        else:
            raise ConfigurationError(
                f"teacher is '{network.info.name}', expected a single-frame network such as psp101, or a bdnet"
            )
        self.info: NetworkInfo = network.info
        self.scale = scale
        self.requires_grad_(False)
        self.eval()
        with torch.inference_mode():
            side = self.info.minimum_size
            weight = next(self.trunk.parameters())
            self.channels: int = self._feature(torch.zeros(1, 3, side, side).to(weight)).shape[1]

    def train(self, mode: bool = True) -> FeatureTeacher:
        """Stays in eval mode: a teacher's batch norms and dropout are not part of the training."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """RGB image (B, 3, H, W) in 0..1 -> feature (B, C, h, w)."""
        size = (round(self.scale * image.shape[2]), round(self.scale * image.shape[3]))
        return self._feature(normalise(upsample(image, size, align_corners=False), self.info))

    def _feature(self, image: Tensor) -> Tensor:
        seen = self.trunk(image)
        feature: Tensor = seen if isinstance(seen, Tensor) else seen.z
        return feature


def load_feature_teacher(settings: StageSettings, student: NetworkInfo) -> FeatureTeacher:
    """The stage's teacher on the CPU. Raises ConfigurationError and CheckpointError where there is none that fits."""
    if not settings.teacher or not settings.teacher_weights:
        raise ConfigurationError(
            f"teacher is '{settings.teacher}' with weights '{settings.teacher_weights}', expected both where "
            "pairwise or inner is above 0"
        )
    if not settings.teacher_scale:
        raise ConfigurationError("teacher_scale is 0.0, expected a number above 0")
    network = load_network(settings.teacher, settings.teacher_weights)
    if network.info.labels.names != student.labels.names:
        raise ConfigurationError(
            f"teacher's classes are those of '{network.info.labels.name}', expected '{student.labels.name}' as the "
            "network's"
        )
    return FeatureTeacher(network, settings.teacher_scale)
