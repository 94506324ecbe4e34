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

        extra = BoundaryDistillation([network.trunk], channels, settings, network.info)
        with extra.listening() as sides:
            feature = ... # of a frame that the trunk encodes
        loss = loss + extra(sides, feature, extra.target(current_image), labels)
    """

    def __init__(
        self,
        trunks: Sequence[nn.Module],
        channels: int,
        settings: StageSettings,
        info: NetworkInfo,
        needs_teacher: bool = True,
    ) -> None:
        """``trunks`` hold backbones of one kind whose stages the stream reads, ``channels`` are those of the feature.

        Without ``needs_teacher`` and a teacher in the settings, the caller has a target of the same width. Raises
        ConfigurationError and CheckpointError for a trunk or a teacher that does not fit.
        """
        super().__init__()
        self.settings = settings
        self.stream: GatedBoundaryStream | None = None
        self.inner: InnerDistillation | None = None
        self._sides: list[SideFeatures] = []
        self._teacher: list[FeatureTeacher] = []  # in a list it is no part of the module, nor of checkpoints
        if settings.boundary:
            self._sides = [SideFeatures(trunk) for trunk in trunks]
            self.stream = GatedBoundaryStream(self._sides[0].widths)
        device = next(trunks[0].parameters()).device
        if (settings.pairwise or settings.inner) and (needs_teacher or settings.teacher):
            self._teacher.append(load_feature_teacher(settings, info).to(device))
        if settings.inner:
            width = self._teacher[0].channels if self._teacher else channels
            self.inner = InnerDistillation(settings.inner_reading, channels, width)
        self.to(device)

    @contextmanager
    def listening(self, trunk: int = 0) -> Iterator[list[Tensor]]:
        """Within it, the newest features of that trunk's stages, finest first; none without a stream."""
        if not self._sides:
            yield []
            return
        with self._sides[trunk].listening() as features:
            yield features

    def target(self, image: Tensor) -> Tensor | None:
        """The teacher's feature of the current frame (B, 3, H, W), RGB in 0..1; None without a teacher."""
        return self._teacher[0](image) if self._teacher else None

    def forward(self, sides: Sequence[Tensor], feature: Tensor, target: Tensor | None, labels: Tensor) -> Tensor:
        """Side features and the feature (B, C, h, w), as seen from the current frame, what the feature is to follow and
        the frame's labels (B, H, W) -> loss."""
        total = feature.new_zeros((), dtype=feature.float().dtype)
        if self.stream is not None:
            boundary = class_balanced_loss(self.stream(sides), boundary_labels(labels))
            total = total + self.settings.boundary * _BOUNDARY_FACTOR * boundary
        if target is not None:
            if self.settings.pairwise:
                total = total + self.settings.pairwise * pairwise_distillation(feature, target)
            if self.inner is not None:
                total = total + self.settings.inner * self.inner(feature, target, labels)
        return total
