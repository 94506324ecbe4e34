"""The stages of a training: each is a module whose forward is the loss of a batch of clips.

A further kind of stage is a further class with the same three members, and a line in ``STAGES``.
"""

from __future__ import annotations

from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import SegmentationNetwork, TDNet, load_network
from tdnet_ros.networks.catalog import CATALOG, TDNetVariant
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.single_frame import SingleFrame
from tdnet_ros.training.clip import encode_clip, own_path_scores, recomposed_scores
from tdnet_ros.training.configuration import StageSettings
from tdnet_ros.training.distillation import distillation
from tdnet_ros.training.losses import cross_entropy, hard_pixel_cross_entropy, lovasz_softmax
from tdnet_ros.training.teacher import GroupedTeacher, group_of_path

_COPIED = ("path", "encoder", "norm", "head")


class Stage(Protocol):
    """``clip_length`` frames a clip; ``forward(images (T, B, 3, h, w), labels (T, B, h, w), order)`` is the loss."""

    clip_length: int

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


class SingleFrameStage(nn.Module):
    """Trains one sub-network, or a single-frame network, on frames alone; the others then become copies of it."""

    clip_length = 1

    def __init__(self, network: SegmentationNetwork, settings: StageSettings, weights: Tensor | None) -> None:
        super().__init__()
        self.network = network
        self.loss = SegmentationLoss(settings, network.info, weights)

    def forward(self, images: Tensor, labels: Tensor, order: list[int]) -> Tensor:
        image = normalise(images[0], self.network.info)
        if isinstance(self.network, TDNet):
            first = self.network.subnetwork(0)
            z, details = first.path(image)
            return self.loss(first.classify(first.encoder.value(z), details), labels[0])
        single = cast(SingleFrame, self.network)
        z, details = single.path(image)
        return self.loss(single.head(z, details), labels[0])

    def finish(self, network: SegmentationNetwork) -> None:
        if not isinstance(network, TDNet):
            return
        for other in range(1, len(network.subnetworks)):
            for part in _COPIED:
                weights = getattr(network.subnetwork(0), part).state_dict()
                getattr(network.subnetwork(other), part).load_state_dict(weights)


class TDNetStage(nn.Module):
    """Trains all sub-networks over clips.

    L = l(S, y) + own sum_t l(S_t, y_t) + overall KL(T || S) + grouped KL(T_p || S_p): S are the recomposed scores of
    the newest frame, S_t those of frame t's own path, S_p those of the newest, T the teacher's. TDNet (section 3.4)
    and the official code take the newest frame's own path alone; here every frame has labels.
    """

    def __init__(self, network: SegmentationNetwork, settings: StageSettings, weights: Tensor | None) -> None:
        super().__init__()
        if not isinstance(network, TDNet):
            raise ConfigurationError(f"stage 'tdnet' trains '{network.info.name}', expected a TDNet")
        self.network = network
        self.settings = settings
        self.clip_length = len(network.subnetworks)
        self.loss = SegmentationLoss(settings, network.info, weights)
        self.teacher_info: NetworkInfo | None = None
        if settings.distillation or settings.group_distillation:
            self._take_teacher(settings, next(network.parameters()).device)

    def _take_teacher(self, settings: StageSettings, device: torch.device) -> None:
        if not settings.teacher or not settings.teacher_weights:
            raise ConfigurationError(
                f"teacher is '{settings.teacher}' with weights '{settings.teacher_weights}', expected both where a "
                "distillation's weight is above 0"
            )
        teacher = load_network(settings.teacher, settings.teacher_weights, device)
        if not isinstance(teacher, SingleFrame):
            raise ConfigurationError(f"teacher is '{settings.teacher}', expected psp18, psp50 or psp101")
        if teacher.info.labels.names != self.network.info.labels.names:
            raise ConfigurationError(
                f"teacher's classes are those of '{teacher.info.labels.name}', expected "
                f"'{self.network.info.labels.name}' as the network's"
            )
        self.teacher = GroupedTeacher(teacher, settings.teacher_groups)
        self.teacher_info = teacher.info
        variant = cast(TDNetVariant, CATALOG[self.network.info.name])
        self.groups = [
            group_of_path(path, variant.feature_groups, settings.teacher_groups) for path in range(self.clip_length)
        ]

    def forward(self, images: Tensor, labels: Tensor, order: list[int]) -> Tensor:
        network, settings = self.network, self.settings
        encoded = encode_clip(network, [normalise(image, network.info) for image in images], order)
        own = [own_path_scores(network, frame, path) for frame, path in zip(encoded, order, strict=True)]
        recomposed = recomposed_scores(network, encoded, order)
        total = self.loss(recomposed, labels[-1])
        for scores, truth in zip(own, labels, strict=True):
            total = total + settings.own_path * self.loss(scores, truth)
        if self.teacher_info is not None:
            told = self.teacher(normalise(images[-1], self.teacher_info))
            group = told.groups[:, self.groups[order[-1]]]
            total = total + settings.distillation * _follow(recomposed, told.full)
            total = total + settings.group_distillation * _follow(own[-1], group)
        return total

    def finish(self, network: SegmentationNetwork) -> None:
        """Nothing is left to do."""


STAGES: dict[str, type[SingleFrameStage] | type[TDNetStage]] = {"single": SingleFrameStage, "tdnet": TDNetStage}


def make_stage(
    network: SegmentationNetwork, settings: StageSettings, weights: Tensor | None
) -> SingleFrameStage | TDNetStage:
    """The stage of those settings; raises ConfigurationError for an unknown kind or a network that does not fit."""
    if settings.kind not in STAGES:
        raise ConfigurationError(f"stages kind is '{settings.kind}', expected one of {sorted(STAGES)}")
    return STAGES[settings.kind](network, settings, weights)


def normalise(images: Tensor, info: NetworkInfo) -> Tensor:
    """RGB images (B, 3, H, W) in 0..1 as that network wants them."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (info.mean, info.std))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


def _follow(scores: Tensor, teacher: Tensor) -> Tensor:
    """Distillation at the student's resolution, which is finer than the teacher's for a stride of 4."""
    size = (scores.shape[2], scores.shape[3])
    if (teacher.shape[2], teacher.shape[3]) != size:
        teacher = F.interpolate(teacher.float(), size=size, mode="bilinear", align_corners=False)
    return distillation(scores.float(), teacher.float())
