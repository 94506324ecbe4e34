"""The boundary-aware stream of BDNet: a second head on the trunk's stages that predicts silhouettes while it trains.

A reconstruction (see ``networks/bdnet``): that a stream beside the main one shares its backbone, predicts the
silhouettes of objects and is gone at inference is from the abstract and the poster; its gates are those of Gated-SCNN
(Takikawa et al., ICCV 2019, section 3.1), written from the paper's equations. Unlike there its map never reaches the
main stream's head, which has to do without it afterwards: it acts through the gradients of the shared stages alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.layers import lift
from tdnet_ros.networks.mobilenet import MobileNetV2
from tdnet_ros.networks.resnet import BasicBlock, ResNet


class GatedBoundaryStream(nn.Module):
    """Side features r_1..r_n of a trunk (B, widths[i], h_i, w_i), finest first -> boundary logits (B, 1, h_1, w_1).

    b_1 is a 1x1 convolution of r_1. Then for each further side there is a gate of one channel, a_i =
    sigmoid(conv1x1([b_i ; r_i])), and b_{i+1} = res_i(b_i * (1 + a_i)), with res_i a residual block of two 3x3
    convolutions; the logits are a 1x1 convolution of the last b (Gated-SCNN, equations 1 and 2). The 1x1 convolution of
    the two beside each other is the sum of one of b_i and one of r_i, which is taken before r_i is resized to b's grid:
    both are linear.
    """

    def __init__(self, widths: Sequence[int], channels: int = 32) -> None:
        super().__init__()
        if len(widths) < 2:
            raise ConfigurationError(f"widths is {list(widths)}, expected those of at least two side features")
        first, *rest = widths
        self.enter = nn.Conv2d(first, channels, 1)
        self.gate_stream = nn.ModuleList(nn.Conv2d(channels, 1, 1) for _ in rest)
        self.gate_side = nn.ModuleList(nn.Conv2d(width, 1, 1, bias=False) for width in rest)
        self.residual = nn.ModuleList(BasicBlock(channels, channels, 1) for _ in rest)
        self.leave = nn.Conv2d(channels, 1, 1)

    def forward(self, sides: Sequence[Tensor]) -> Tensor:
        first, *rest = sides
        stream = self.enter(first)
        for side, of_stream, of_side, residual in zip(
            rest, self.gate_stream, self.gate_side, self.residual, strict=True
        ):
            gate = torch.sigmoid(of_stream(stream) + lift(of_side(side), stream))
            stream = residual(stream * (1 + gate))
        logits: Tensor = self.leave(stream)
        return logits


class SideFeatures:
    """Taps the four stages of a trunk's backbone, a ResNet or a MobileNetV2, without a change to the network.

    sides = SideFeatures(network.trunk)
    with sides.listening() as features:
        network.trunk(image)
    boundary = stream(features)
    """

    def __init__(self, trunk: nn.Module) -> None:
        """Raises ConfigurationError when there is no such backbone in the module."""
        backbone = next((part for part in trunk.modules() if isinstance(part, ResNet | MobileNetV2)), None)
        if isinstance(backbone, MobileNetV2):
            self._stages = [backbone.blocks[index] for index in backbone.taps]
            self.widths = tuple(backbone.channels)
        elif isinstance(backbone, ResNet):
            self._stages = [backbone.layer1, backbone.layer2, backbone.layer3, backbone.layer4]
            self.widths = tuple(backbone.widths)
        else:
            raise ConfigurationError(f"{type(trunk).__name__} has no ResNet or MobileNetV2, expected one of them")

    @contextmanager
    def listening(self) -> Iterator[list[Tensor]]:
        """Within it, the stages' newest features, finest first; empty before the first forward pass."""
        features: list[Tensor] = []

        def keep(index: int, stage: nn.Module, arguments: object, feature: Tensor) -> None:
            if index == 0:
                features.clear()
            features.append(feature)

        handles = [stage.register_forward_hook(partial(keep, index)) for index, stage in enumerate(self._stages)]
        try:
            yield features
        finally:
            for handle in handles:
                handle.remove()
