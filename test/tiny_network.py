"""A TDNet that steps in a millisecond: for tests of what runs networks, not of what they compute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from lively_weights import make_lively
from torch import Tensor, nn

from tdnet_ros.networks.attention import Encoder, Propagation
from tdnet_ros.networks.catalog import build_network
from tdnet_ros.networks.creff import CReFF
from tdnet_ros.networks.heads import FCNHead
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.layers import ChannelNorm
from tdnet_ros.networks.paths import PathFeature
from tdnet_ros.networks.tdar import TDAR
from tdnet_ros.networks.tdnet import SubNetwork, TDNet
from tdnet_ros.networks.variants import TDNetVariant
from tdnet_ros.networks.warping import Warp

_CHANNELS = 16


class TinyPath(nn.Module):
    """Image -> feature (B, 16, H/8, W/8)."""

    stride = 8

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, _CHANNELS, 9, stride=8, padding=4)

    def forward(self, image: Tensor) -> PathFeature:
        details: Sequence[Tensor] = ()
        return PathFeature(F.relu(self.conv(image)), details)


@dataclass(frozen=True, kw_only=True)
class TinyVariant(TDNetVariant):
    """A catalog row for as many tiny paths as ``subnetworks`` says."""

    summary: str = "of the tests"
    path: str = "tiny"
    head_channels: int = _CHANNELS
    feature_groups: int = 1
    key_channels: int = 8
    value_channels: int = _CHANNELS
    window_stride: int = 2
    norm: str = "channel"
    input_size: tuple[int, int] = (64, 96)

    def build(self, info: NetworkInfo) -> TDNet:
        return TDNet([self._tiny(index, info) for index in range(self.subnetworks)], self.window_stride, info)

    def _tiny(self, index: int, info: NetworkInfo) -> SubNetwork:
        return SubNetwork(
            TinyPath(),
            Encoder(_CHANNELS, self.key_channels, self.value_channels),
            Propagation(index, self.subnetworks, self.value_channels),
            ChannelNorm(_CHANNELS),
            FCNHead(_CHANNELS, self.head_channels, len(info.labels)),
        )


@dataclass(frozen=True, kw_only=True)
class TinyUnitedVariant(TinyVariant):
    """A catalog row for a united network (TDAR) of as many tiny paths; of one path it is an AR-Seg."""

    keyframe_interval: int = 12
    low_resolution: float = 0.5

    def build(self, info: NetworkInfo) -> TDNet:
        subnetworks = [self._tiny(index, info) for index in range(self.subnetworks)]
        return TDAR(subnetworks, self.window_stride, CReFF(self.head_channels), Warp(), None, info)


def tiny_weights(name: str) -> dict[str, Tensor]:
    """Weights of that catalog row under which a picture gets several classes and the window matters."""
    network = build_network(name)
    count = network.info.subnetworks
    pictures = torch.randn(2 * count, 1, 3, 64, 96, generator=torch.Generator().manual_seed(0))

    def forward() -> None:
        state, alternating = network.initial_state(), network.info.keyframe_interval > 1
        for index, picture in enumerate(pictures):
            keyframe = index % 2 == 0 or not alternating
            state = network.advance(picture, state, index % count, keyframe, torch.zeros(1, 3, 8, 12)).state

    make_lively(network, 0, forward)
    return network.state_dict()
