"""The stage that trains what lies between keyframes: feature similarity training (FST) of AR-Seg."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import SegmentationNetwork
from tdnet_ros.networks.arseg import ARSeg
from tdnet_ros.networks.network import StepPlan, image_size
from tdnet_ros.networks.tdar import TDAR, Observation, TDARState
from tdnet_ros.training.boundary_distillation import BoundaryDistillation
from tdnet_ros.training.configuration import StageSettings
from tdnet_ros.training.keyframe_clips import KeyframeClips, KeyframeDrawing
from tdnet_ros.training.normalisation import normalise
from tdnet_ros.training.stage import SegmentationLoss, Stage

#: So many steps begin with an empty window, as a stream does.
_EMPTY_SHARE = 0.15


class FusionPass(NamedTuple):
    """What a clip gives: scores (B, classes, ., .) of the keyframe and of the fused current frame, the latter's feature
    (B, C, h, w), and the one that the same frame has at full resolution, without gradient."""

    key_scores: Tensor
    scores: Tensor
    feature: Tensor
    full_feature: Tensor


class FeatureSimilarityStage(Stage):
    """Trains fusion and low resolution: L = l(S, y) + keyframe l(S_k, y_k) + similarity MSE(F, F_full).

    S are the scores of the current frame, fused with its keyframe's feature, F its fused feature and F_full the one of
    the same frame at full resolution, whose branch is in eval mode and gets no gradient; S_k are the keyframe's scores.
    Both resolutions have one classifier (AR-Seg, arXiv 2303.07224, feature similarity training; the official code's MSE
    is a mean over all entries, of weight 1).

    An AR-Seg's full-resolution branch and its classifier stay as they are, and the keyframe's loss is left out. The
    networks that unite it with TDNet have the same weights at both resolutions, so that they are trained together.

    BDNet's losses (``boundary_distillation``) may be added: the boundary-aware stream reads the branch of the frames
    between keyframes, D_pw and D_inn compare F with F_full, or with the feature of a ``teacher``.

    Unlike the official code, distances are even over 1..interval-1 rather than always 11, the pictures are decoded or
    degraded ones as in a stream, and there are no first epochs without fusion.
    """

    def __init__(self, network: SegmentationNetwork, settings: StageSettings, weights: Tensor | None) -> None:
        super().__init__()
        if not isinstance(network, ARSeg | TDAR):
            raise ConfigurationError(
                f"stage 'fst' trains '{network.info.name}', expected one that fuses resolutions, such as tdar_mnv2"
            )
        if settings.distils:
            raise ConfigurationError("distillation is above 0 in a stage 'fst', expected 0: it has its own teacher")
        self.interval = settings.interval or network.info.keyframe_interval
        if self.interval < 2:
            raise ConfigurationError(f"interval is {self.interval}, expected at least 2 for frames between keyframes")
        self.network = network
        self.settings = settings
        self.scales = settings.scales or (network.info.low_resolution,)
        self.loss = SegmentationLoss(settings, network.info, weights)
        reduced = list(network.low) if isinstance(network, TDAR) else [network.low]
        channels = network.classifier.in_channels
        self.extra = BoundaryDistillation(reduced, channels, settings, network.info, needs_teacher=False)

    def training_only(self) -> nn.Module:
        return self.extra

    def frozen(self) -> list[nn.Module]:
        return [self.network.high, self.network.classifier] if isinstance(self.network, ARSeg) else []

    def adapted(self) -> list[nn.Module]:
        if not isinstance(self.network, TDAR):
            return []
        return [norm for norm in self.network.low.modules() if isinstance(norm, nn.modules.batchnorm._BatchNorm)]

    def draw(self, source: KeyframeDrawing, seed: tuple[int, ...], rank: int, processes: int) -> tuple[Any, ...]:
        """Clips, the sub-network of each of their frames, and the scale of those that are no keyframes."""
        random, others = np.random.default_rng((*seed, 1)), self.network.info.subnetworks - 1
        before = 0 if random.random() < _EMPTY_SHARE else others
        scale = float(random.choice(self.scales))
        clips = source.batch(seed, self.settings.batch, self.interval, before, others, rank, processes)
        first, last = (random.permutation(others + 1) for _ in range(2))
        behind = len(clips.images) - before - 1
        # Frames that follow each other take turns; over the gap behind a keyframe any sub-network may come next.
        order = [int(first[index % len(first)]) for index in range(len(clips.images))]
        if behind > others:
            order[before + 1 :] = [int(path) for path in last[:behind]]
        return clips, order, scale

    def forward(self, clips: KeyframeClips, order: list[int], scale: float) -> Tensor:
        with self.extra.listening(order[-1]) as sides:
            result = fusion_pass(self.network, clips, order, scale)
        total = self.loss(result.scores, clips.labels[-1])
        if self.settings.keyframe and not self.frozen():
            total = total + self.settings.keyframe * self.loss(result.key_scores, clips.labels[clips.keyframe])
        difference = F.mse_loss(result.feature.float(), result.full_feature.float())
        target = self.extra.target(clips.images[-1])
        target = result.full_feature if target is None else target
        extra: Tensor = self.extra(sides, result.feature, target, clips.labels[-1])
        return total + self.settings.similarity * difference + extra


def fusion_pass(network: ARSeg | TDAR, clips: KeyframeClips, order: list[int], scale: float) -> FusionPass:
    """Frames of a clip as a stream would step through them, but for what nothing is learnt from.

    Frames that are neither keyframe nor current leave their entry in the window, encoded at ``scale``.
    """
    images = [normalise(image, network.info) for image in clips.images]
    state: Any = network.initial_state()
    last = len(images) - 1
    keyframe: Observation | None = None
    for number, (image, subnetwork) in enumerate(zip(images[:-1], order[:-1], strict=True)):
        if number != clips.keyframe:
            assert isinstance(network, TDAR), "other networks have no window"
            state = _leave_entry(network, state, image, StepPlan(subnetwork, (), scale, fused=True))
            continue
        plan = network.plan(state, subnetwork)
        keyframe = network.observe(plan, image, *network.cached(state, plan))
        state = network.remember(state, plan, image_size(image), keyframe.kept)
    assert keyframe is not None, "a clip has a keyframe"
    with torch.no_grad(), _evaluating(network):
        plan = network.plan(state, order[last])
        full = network.observe(plan, images[last], *network.cached(state, plan))
    plan = network.plan(state, order[last], keyframe=False, scale=scale)
    fused = network.observe(plan, images[last], *network.cached(state, plan), clips.motion)
    return FusionPass(keyframe.scores, fused.scores, fused.feature, full.feature.detach())


def _leave_entry(network: TDAR, state: TDARState, image: Tensor, plan: StepPlan) -> TDARState:
    entry = network.propagate(network.branch(plan), plan, image, ()).entry
    return state.push(plan.subnetwork, entry, image_size(image))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Everything in eval mode meanwhile; what was in training mode is again afterwards."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
