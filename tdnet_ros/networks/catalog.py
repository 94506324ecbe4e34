"""The networks by name: one description per variant, one function that builds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import CAMVID, CITYSCAPES, LabelSet
from tdnet_ros.networks.attention import Encoder, Propagation
from tdnet_ros.networks.checkpoints import load_weights, read_checkpoint
from tdnet_ros.networks.heads import DetailHead, FCNHead, GatedContext, PyramidPooling
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.layers import ChannelNorm, fold_batch_norm
from tdnet_ros.networks.mobilenet import MobileNetV2
from tdnet_ros.networks.resnet import DilatedResNet18
from tdnet_ros.networks.spatial_norm import SpatialLayerNorm
from tdnet_ros.networks.tdnet import PathFeature, SubNetwork, TDNet

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class TDNetVariant:
    """Everything that tells one TDNet from another.

    ``feature_groups``: into how many groups the full feature is split; path p computes group p mod groups.
    ``window_stride``: every how many positions of a past frame are kept. ``norm_size``: (h, w) of the spatial layer
    norm's weights, None for a norm over channels. ``head_channels`` is the hidden width of the head.
    """

    backbone: str
    subnetworks: int
    feature_groups: int
    key_channels: int
    value_channels: int
    window_stride: int
    norm_size: tuple[int, int] | None
    head: str
    head_channels: int
    labels: LabelSet
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stride: int
    input_size: tuple[int, int]
    align_corners: bool
    summary: str


TDNETS = {
    "td4_psp18": TDNetVariant(
        backbone="resnet18",
        subnetworks=4,
        feature_groups=2,
        key_channels=64,
        value_channels=512,
        window_stride=4,
        norm_size=(97, 193),
        head="fcn",
        head_channels=128,
        labels=CITYSCAPES,
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
        stride=8,
        input_size=(769, 1537),
        align_corners=True,
        summary="TD4-PSP18 of the paper: four dilated ResNet-18 paths with pyramid pooling",
    ),
    "td2_mnv2": TDNetVariant(
        backbone="mobilenetv2",
        subnetworks=2,
        feature_groups=2,
        key_channels=64,
        value_channels=128,
        window_stride=2,
        norm_size=None,
        head="detail",
        head_channels=64,
        labels=CAMVID,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        stride=4,
        input_size=(360, 480),
        align_corners=False,
        summary="the light one: two MobileNetV2 paths, for CPUs and small GPUs",
    ),
}


class PyramidPath(nn.Module):
    """ResNet and one group of a pyramid pooling module: image -> feature (B, C, H/8, W/8)."""

    def __init__(self, group: int, groups: int) -> None:
        super().__init__()
        self.backbone = DilatedResNet18()
        self.pyramid = PyramidPooling(self.backbone.channels, group, groups)
        self.channels = self.pyramid.channels

    def forward(self, image: Tensor) -> PathFeature:
        return PathFeature(self.pyramid(self.backbone(image)), ())


class MobilePath(nn.Module):
    """MobileNetV2 and a gated context: image -> feature (B, 128, H/16, W/16) and details at H/4 and H/8."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.backbone = MobileNetV2()
        self.context = GatedContext(self.backbone.channels[2], channels)
        self.channels = channels

    def forward(self, image: Tensor) -> PathFeature:
        quarter, eighth, sixteenth = self.backbone(image)
        return PathFeature(self.context(sixteenth), (quarter, eighth))


def network_info(name: str) -> NetworkInfo:
    """What a caller has to know of that network; raises ConfigurationError for a name not in the catalog."""
    variant = _variant(name)
    return NetworkInfo(
        name=name,
        labels=variant.labels,
        mean=variant.mean,
        std=variant.std,
        stride=variant.stride,
        minimum_size=32,
        input_size=variant.input_size,
        align_corners=variant.align_corners,
        subnetworks=variant.subnetworks,
    )


def build_network(name: str) -> TDNet:
    """The network of that name with fresh weights; raises ConfigurationError for a name not in the catalog."""
    variant = _variant(name)
    subnetworks = [_build_subnetwork(variant, index) for index in range(variant.subnetworks)]
    return TDNet(subnetworks, variant.window_stride, network_info(name))


def _variant(name: str) -> TDNetVariant:
    if name not in TDNETS:
        raise ConfigurationError(f"model is '{name}', expected one of {sorted(TDNETS)}")
    return TDNETS[name]


def _build_subnetwork(variant: TDNetVariant, index: int) -> SubNetwork:
    values, classes = variant.value_channels, len(variant.labels)
    path: PyramidPath | MobilePath
    head: nn.Module
    if variant.backbone == "resnet18":
        path = PyramidPath(index % variant.feature_groups, variant.feature_groups)
    else:
        path = MobilePath(values)
    if variant.head == "fcn":
        head = FCNHead(values, variant.head_channels, classes)
    else:
        head = DetailHead(values, MobileNetV2.channels[:2], classes)
    norm = ChannelNorm(values) if variant.norm_size is None else SpatialLayerNorm(*variant.norm_size)
    encoder = Encoder(path.channels, variant.key_channels, values)
    return SubNetwork(path, encoder, Propagation(index, variant.subnetworks, values), norm, head)


def load_network(
    name: str,
    weights: Path | str | Mapping[str, Any] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> TDNet:
    """A network of the catalog in eval mode, ready to step.

    ``weights`` is a file (official or our safetensors) or a state dict; None leaves fresh random weights, for
    benchmarks and tests. Raises ConfigurationError for an unknown name and CheckpointError for weights that are
    missing or do not fit.

    On a CPU the layout of the image is that of all features: channels-last takes a tenth less time, contiguous is
    two to three times closer to exact arithmetic (oneDNN has a kernel for each).
    """
    network = build_network(name)
    if weights is not None:
        load_weights(network, read_checkpoint(weights), name)
    network.eval()
    # Fold in double precision: the norm's scale and the weights meet only once.
    network.double()
    fold_batch_norm(network)
    network.to(device=device, dtype=dtype)
    if torch.device(device).type == "cuda":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.requires_grad_(False)
