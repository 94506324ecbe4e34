"""What all stages of a training have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from tdnet_ros.networks import SegmentationNetwork
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.training.configuration import StageSettings
from tdnet_ros.training.keyframe_clips import KeyframeDrawing
from tdnet_ros.training.losses import cross_entropy, hard_pixel_cross_entropy, lovasz_softmax


class Stage(nn.Module, ABC):
    """A module whose ``forward`` takes what ``draw`` gives and returns the loss of a step.

    ``windows`` says whether what it trains is judged as a stream, with what the network keeps from frame to frame.
    """

    windows = True

    @abstractmethod
    def draw(self, source: KeyframeDrawing, seed: tuple[int, ...], rank: int, processes: int) -> tuple[Any, ...]:
        """Process ``rank``'s share of a step's clips and whatever else is random in it: the arguments of ``forward``.

        ``source`` draws clips with a keyframe, its ``clips`` those without. What is drawn depends on the seed alone.
        """

    def training_only(self) -> nn.Module:
        """What is trained along with the network and is no part of it."""
        return nn.Module()

    def frozen(self) -> list[nn.Module]:
        """Modules that stay as they are: no gradients, batch norms in eval mode."""
        return []

    def adapted(self) -> list[nn.Module]:
        """Modules that are trained even where the first blocks are frozen."""
        return []

    def finish(self, network: SegmentationNetwork) -> None:
        """Change the averaged network after the last step, before the next stage starts from it."""


class SegmentationLoss:
    """Scores (B, C, h, w) and labels (B, H, W) -> loss, as the stage's settings say."""

    def __init__(self, settings: StageSettings, info: NetworkInfo, weights: Tensor | None) -> None:
        self.hard_pixels = settings.loss == "ohem"
        self.align_corners = info.align_corners
        self.weights = weights if settings.class_weights else None
        self.lovasz = settings.lovasz

    def __call__(self, scores: Tensor, labels: Tensor) -> Tensor:
        scores = scores.float()
        if self.hard_pixels:
            loss = hard_pixel_cross_entropy(scores, labels, self.align_corners)
        else:
            loss = cross_entropy(scores, labels, self.weights)
        return loss + self.lovasz * lovasz_softmax(scores, labels) if self.lovasz else loss
