"""The stages of a training: each is a module whose forward is the loss of a batch of clips.

A further kind of stage is a further class with the methods of ``Stage``, and a line in ``STAGES``.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import SegmentationNetwork, TDNet
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.single_frame import SingleFrame
from tdnet_ros.networks.tdar import TDAR
from tdnet_ros.networks.variants import TDNetVariant
from tdnet_ros.training.auxiliary import AuxiliaryHeads
from tdnet_ros.training.bdnet_stage import BDNetStage
from tdnet_ros.training.clip import encode_clip, own_path_scores, recomposed_scores
from tdnet_ros.training.configuration import StageSettings
from tdnet_ros.training.device_clips import DeviceClips
from tdnet_ros.training.distillation import distillation
from tdnet_ros.training.keyframe_clips import KeyframeDrawing
from tdnet_ros.training.normalisation import normalise
from tdnet_ros.training.similarity_stage import FeatureSimilarityStage
from tdnet_ros.training.stage import SegmentationLoss, Stage
from tdnet_ros.training.teacher import group_of_path
from tdnet_ros.training.teacher_maps import TeacherView

_COPIED = ("path", "encoder", "norm", "head")


class SingleFrameStage(Stage):
    """Trains one sub-network, or a single-frame network, on frames alone; the others then become copies of it.

    L = l(S, y) + overall KL(T || S).
    """

    windows = False

    def __init__(self, network: SegmentationNetwork, settings: StageSettings, weights: Tensor | None) -> None:
        super().__init__()
        if settings.group_distillation:
            raise ConfigurationError("group_distillation is above 0 in a stage 'single', expected 0: it has one path")
        self.network = network
        self.settings = settings
        self.loss = SegmentationLoss(settings, network.info, weights)

    def draw(self, source: KeyframeDrawing, seed: tuple[int, ...], rank: int, processes: int) -> tuple[Any, ...]:
        return _draw_clips(source.clips, seed, self.settings.batch, 1, rank, processes)

    def forward(self, images: Tensor, labels: Tensor, order: list[int], teacher: TeacherView | None = None) -> Tensor:
        scores = self._scores(normalise(images[0], self.network.info))
        total = self.loss(scores, labels[0])
        if teacher is not None:
            total = total + self.settings.distillation * _follow(scores, teacher, 0)
        return total

    def _scores(self, image: Tensor) -> Tensor:
        if isinstance(self.network, TDNet):
            first = self.network.subnetwork(0)
            z, details = first.path(image)
            return first.classify(first.encoder.value(z), details)
        single = cast(SingleFrame, self.network)
        scores: Tensor = single.head(*single.path(image))
        return scores

    def finish(self, network: SegmentationNetwork) -> None:
        if not isinstance(network, TDNet):
            return
        for other in range(1, len(network.subnetworks)):
            for part in _COPIED:
                weights = getattr(network.subnetwork(0), part).state_dict()
                getattr(network.subnetwork(other), part).load_state_dict(weights)
        _hand_norms_on(network)


class TDNetStage(Stage):
    """Trains all sub-networks over clips.

    L = l(S, y) + own sum_t l(S_t, y_t) + auxiliary l(S_a, y) + overall KL(T || S) + grouped KL(T_p || S_p): S are the
    recomposed scores of the newest frame, S_t those of frame t's own path, S_p those of the newest, S_a those of a head
    on the third stage of its backbone (``auxiliary.py``), T the teacher's. TDNet (section 3.4) and the official code
    (td4_psp.py, ``forward``: own 0.5, auxiliary 0.1, overall 1, grouped 0.5) take the newest frame's own path alone;
    here every frame has labels.
    """

    def __init__(self, network: SegmentationNetwork, settings: StageSettings, weights: Tensor | None) -> None:
        super().__init__()
        if not isinstance(network, TDNet):
            raise ConfigurationError(f"stage 'tdnet' trains '{network.info.name}', expected a TDNet")
        self.network = network
        self.settings = settings
        self.clip_length = len(network.subnetworks)
        self.loss = SegmentationLoss(settings, network.info, weights)
        self.auxiliary = AuxiliaryHeads(network) if settings.auxiliary else None
        variant = cast(TDNetVariant, CATALOG[network.info.name])
        self.groups = [0] * self.clip_length
        if settings.group_distillation:
            self.groups = [
                group_of_path(path, variant.feature_groups, settings.teacher_groups) for path in range(self.clip_length)
            ]

    def draw(self, source: KeyframeDrawing, seed: tuple[int, ...], rank: int, processes: int) -> tuple[Any, ...]:
        return _draw_clips(source.clips, seed, self.settings.batch, self.clip_length, rank, processes)

    def forward(self, images: Tensor, labels: Tensor, order: list[int], teacher: TeacherView | None = None) -> Tensor:
        network, settings = self.network, self.settings
        listening: AbstractContextManager[dict[int, Tensor]] = nullcontext({})
        if self.auxiliary is not None:
            listening = self.auxiliary.listening(network)
        with listening as third_stages:
            encoded = encode_clip(network, [normalise(image, network.info) for image in images], order)
        own = [own_path_scores(network, frame, path) for frame, path in zip(encoded, order, strict=True)]
        recomposed = recomposed_scores(network, encoded, order)
        total = self.loss(recomposed, labels[-1])
        for scores, truth in zip(own, labels, strict=True):
            total = total + settings.own_path * self.loss(scores, truth)
        if self.auxiliary is not None:
            scores = self.auxiliary(third_stages[order[-1]], order[-1])
            total = total + settings.auxiliary * self.loss(scores, labels[-1])
        if teacher is not None and settings.distillation:
            total = total + settings.distillation * _follow(recomposed, teacher, 0)
        if teacher is not None and settings.group_distillation:
            group = self.groups[order[-1]]
            total = total + settings.group_distillation * _follow(own[-1], teacher, 1 + group)
        return total

    def training_only(self) -> nn.Module:
        return self.auxiliary or nn.Module()

    def finish(self, network: SegmentationNetwork) -> None:
        _hand_norms_on(network)


STAGES: dict[str, Callable[[SegmentationNetwork, StageSettings, Tensor | None], Stage]] = {
    "single": SingleFrameStage,
    "tdnet": TDNetStage,
    "bdnet": BDNetStage,
    "fst": FeatureSimilarityStage,
}


def make_stage(network: SegmentationNetwork, settings: StageSettings, weights: Tensor | None) -> Stage:
    """The stage of those settings; raises ConfigurationError for an unknown kind or a network that does not fit."""
    if settings.kind not in STAGES:
        raise ConfigurationError(f"stages kind is '{settings.kind}', expected one of {sorted(STAGES)}")
    if settings.auxiliary and settings.kind != "tdnet":
        raise ConfigurationError(f"auxiliary is {settings.auxiliary:g} in a stage '{settings.kind}', expected 0")
    return STAGES[settings.kind](network, settings, weights)


def _hand_norms_on(network: SegmentationNetwork) -> None:
    """The low resolution of a united network, which these stages do not see, begins with the norms of the full one."""
    if isinstance(network, TDAR):
        for full, low in zip(network.subnetworks, network.low, strict=True):
            low.load_state_dict(full.state_dict())


def _draw_clips(
    clips: DeviceClips, seed: tuple[int, ...], batch: int, length: int, rank: int, processes: int
) -> tuple[Any, ...]:
    """Images, labels, the order of the sub-networks and what the teacher says."""
    made = clips.batch(seed, batch, length, rank, processes)
    order = [int(path) for path in np.random.default_rng((*seed, 1)).permutation(length)]
    return made.images, made.labels, order, made.teacher


def _follow(scores: Tensor, teacher: TeacherView, plane: int) -> Tensor:
    """Distillation from one of the teacher's planes: 0 overall, 1 + g of group g."""
    return distillation(scores.float(), teacher.scores[:, plane], teacher.inside)
