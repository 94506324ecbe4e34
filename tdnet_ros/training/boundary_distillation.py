"""BDNet's losses together, for any network with a backbone and a feature that motion has carried somewhere.

L = boundary 20 L_bd + pairwise D_pw + inner D_inn, to be added to the loss of the scores. The weights are settings of
the stage; the factor is that of Gated-SCNN's released settings, which weigh boundaries against classes 20 to 1. How the
paper weighs its terms is not known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.training.boundary_loss import boundary_labels, class_balanced_loss
from tdnet_ros.training.boundary_stream import GatedBoundaryStream, SideFeatures
from tdnet_ros.training.configuration import StageSettings
from tdnet_ros.training.feature_teacher import FeatureTeacher, load_feature_teacher
from tdnet_ros.training.inner_layer import InnerDistillation
from tdnet_ros.training.pairwise import pairwise_distillation

_BOUNDARY_FACTOR = 20.0


class BoundaryDistillation(nn.Module):
    """What acts beside the scores' loss while a network trains: a stream on its trunk, and a teacher of its feature.

    It owns the stream's weights and the adapting convolution; the network's state dict stays that of the network that
    runs. Parts whose weight is 0 are not there.

        extra = BoundaryDistillation(network.trunk, channels, settings, network.info)
        with extra.listening() as sides:
            feature = ... # of a frame that the trunk encodes
        loss = loss + extra(sides, feature, current_image, labels)
    """

    def __init__(self, trunk: nn.Module, channels: int, settings: StageSettings, info: NetworkInfo) -> None:
        """``trunk`` holds the backbone whose stages the stream reads, ``channels`` are those of the feature.

        Raises ConfigurationError and CheckpointError for a trunk or a teacher that does not fit.
        """
        super().__init__()
        self.settings = settings
        self.stream: GatedBoundaryStream | None = None
        self.inner: InnerDistillation | None = None
        self._sides: SideFeatures | None = None
        self._teacher: list[FeatureTeacher] = []  # in a list it is no part of the module, nor of checkpoints
        if settings.boundary:
            self._sides = SideFeatures(trunk)
            self.stream = GatedBoundaryStream(self._sides.widths)
        if settings.pairwise or settings.inner:
            self._teacher.append(load_feature_teacher(settings, info).to(next(trunk.parameters()).device))
        if settings.inner:
            self.inner = InnerDistillation(settings.inner_reading, channels, self._teacher[0].channels)
        self.to(next(trunk.parameters()).device)

    @contextmanager
    def listening(self) -> Iterator[list[Tensor]]:
        """Within it, the newest features of the trunk's stages, finest first; none without a stream."""
        if self._sides is None:
            yield []
            return
        with self._sides.listening() as features:
            yield features

    def forward(self, sides: Sequence[Tensor], feature: Tensor, image: Tensor, labels: Tensor) -> Tensor:
        """Side features, the feature (B, C, h, w), all as seen from the current frame, that frame (B, 3, H, W) in 0..1
        and its labels (B, H, W) -> loss."""
        total = feature.new_zeros((), dtype=feature.float().dtype)
        if self.stream is not None:
            boundary = class_balanced_loss(self.stream(sides), boundary_labels(labels))
            total = total + self.settings.boundary * _BOUNDARY_FACTOR * boundary
        if self._teacher:
            target = self._teacher[0](image)
            if self.settings.pairwise:
                total = total + self.settings.pairwise * pairwise_distillation(feature, target)
            if self.inner is not None:
                total = total + self.settings.inner * self.inner(feature, target, labels)
        return total
