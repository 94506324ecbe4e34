"""The stage that trains a BDNet: keyframe and current frame, the one's feature carried to the other."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import SegmentationNetwork
from tdnet_ros.networks.bdnet import BDNet
from tdnet_ros.training.boundary_distillation import BoundaryDistillation
from tdnet_ros.training.configuration import StageSettings
from tdnet_ros.training.keyframe_clips import KeyframeDrawing
from tdnet_ros.training.measured_motion import measure_motion
from tdnet_ros.training.normalisation import normalise
from tdnet_ros.training.stage import SegmentationLoss, Stage


class BDNetStage(Stage):
    """Trains trunk and head on pairs of a keyframe and a frame 0 to interval - 1 behind it, of which that has labels.

    L = l(head(warp(trunk(I_key))), Y) + boundary 20 L_bd + pairwise D_pw + inner D_inn. Pairs and their distances are
    as Deep Feature Flow and Accel train (Zhu et al., CVPR 2017; Jain et al., CVPR 2019). The boundary-aware stream
    reads the keyframe's side features carried along the same motion, as its labels are those of the current frame; that
    is our reading, the poster says no more than that the stream shares the backbone.

    Selection, where there is one, judges keyframes alone.
    """

    windows = False

    def __init__(self, network: SegmentationNetwork, settings: StageSettings, weights: Tensor | None) -> None:
        super().__init__()
        if not isinstance(network, BDNet):
            raise ConfigurationError(f"stage 'bdnet' trains '{network.info.name}', expected a bdnet")
        if settings.distils:
            raise ConfigurationError(
                "distillation is above 0 in a stage 'bdnet', expected 0: here a teacher corrects features"
            )
        self.network = network
        self.settings = settings
        self.interval = settings.interval or network.info.keyframe_interval
        self.loss = SegmentationLoss(settings, network.info, weights)
        self.extra = BoundaryDistillation([network.trunk], network.channels, settings, network.info)

    def training_only(self) -> nn.Module:
        return self.extra

    def draw(self, source: KeyframeDrawing, seed: tuple[int, ...], rank: int, processes: int) -> tuple[Any, ...]:
        """Keyframes and current frames (B, 3, h, w) in 0..1, motion (B, 3, ., .) and labels (B, h, w).

        Distance 0, a keyframe that is the current frame, has its share of 1 / interval of the clips.
        """
        batch = self.settings.batch
        clips = source.batch(seed, batch, max(2, self.interval), rank=rank, processes=processes)
        still = np.random.default_rng((*seed, 3)).random(batch) * self.interval < 1
        mine = torch.from_numpy(still[rank * batch // processes : (rank + 1) * batch // processes])
        mine = mine.to(clips.images.device)
        current = clips.images[-1]
        keyframes = torch.where(mine[:, None, None, None], current, clips.images[clips.keyframe])
        motion = clips.motion
        if self.settings.motion == "flow":
            motion = measure_motion(keyframes, current)
        motion = torch.where(mine[:, None, None, None], torch.zeros_like(motion), motion)
        return keyframes, current, motion, clips.labels[-1]

    def forward(self, keyframes: Tensor, current: Tensor, motion: Tensor, labels: Tensor) -> Tensor:
        network, size = self.network, (keyframes.shape[2], keyframes.shape[3])
        with self.extra.listening() as sides:
            feature = network.trunk(normalise(keyframes, network.info))
        feature = network.propagate(feature, motion, size)
        carried = [network.propagate(side, motion, size) for side in sides]
        extra: Tensor = self.extra(carried, feature, self.extra.target(current), labels)
        return self.loss(network.head(feature), labels) + extra
