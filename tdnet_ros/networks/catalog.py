"""The networks by name: one description per variant, one function that builds them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import CAMVID, CAMVID_VOID, CITYSCAPES, LabelSet
from tdnet_ros.networks.arseg import ARSeg
from tdnet_ros.networks.attention import Encoder, Propagation
from tdnet_ros.networks.bdnet import AtrousPyramid, AtrousTrunk, BDNet, MobileHead, MobileTrunk
from tdnet_ros.networks.bisenet import BiSeNetBranch, BiSeNetPath
from tdnet_ros.networks.creff import CReFF
from tdnet_ros.networks.fanet import FANetPath
from tdnet_ros.networks.heads import DetailDecoder, DetailHead, FCNHead
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.layers import ChannelNorm
from tdnet_ros.networks.map_norm import MapNorm
from tdnet_ros.networks.mobilenet import MobileNetV2
from tdnet_ros.networks.network import SegmentationNetwork
from tdnet_ros.networks.paths import MobilePath, PyramidPath
from tdnet_ros.networks.pyramid_branches import DecodedPyramidBranch, PyramidBranch
from tdnet_ros.networks.single_frame import SingleFrame
from tdnet_ros.networks.spatial_norm import SpatialLayerNorm
from tdnet_ros.networks.tdar import TDAR
from tdnet_ros.networks.tdnet import SubNetwork, TDNet
from tdnet_ros.networks.warping import StretchedWarp, Warp

_IMAGENET_MEAN = (0.485, 0.456, 0.406)
_IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Everything that tells one single-frame network from another; those with a memory add to it.

    ``path`` names the kind of path (see ``_path``), ``depth`` its ResNet's depth and ``path_channels`` the width of
    its feature, where it leaves a choice. ``head`` names the kind of head (see ``_head``), ``head_channels`` is its
    hidden width. ``stride`` is the distance of two scores in
    input pixels, ``input_size`` (height, width) the size that the weights were made for.
    """

    summary: str
    path: str
    depth: int = 0
    path_channels: int = 0
    head: str = "fcn"
    head_channels: int
    labels: LabelSet = CITYSCAPES
    mean: tuple[float, float, float] = _IMAGENET_MEAN
    std: tuple[float, float, float] = _IMAGENET_STD
    stride: int = 8
    input_size: tuple[int, int] = (769, 1537)
    align_corners: bool = True
    subnetworks: int = 1
    low_resolution: float = 1.0
    keyframe_interval: int = 1

    def build(self, info: NetworkInfo) -> SegmentationNetwork:
        """The network with fresh weights."""
        path = _path(self, group=0, groups=1)
        return SingleFrame(path, _head(self, path.channels, len(info.labels)), info)


@dataclass(frozen=True, kw_only=True)
class TDNetVariant(Variant):
    """Everything that tells one TDNet from another.

    ``feature_groups``: into how many groups the full feature is split; path p computes group p mod groups.
    ``window_stride``: every how many positions of a past frame are kept. ``norm``: ``spatial`` (the official quirk),
    ``group`` (each channel over its map) or ``channel`` (the channels of each position).
    """

    feature_groups: int
    key_channels: int
    value_channels: int
    window_stride: int
    norm: str

    def build(self, info: NetworkInfo) -> SegmentationNetwork:
        subnetworks = [self._subnetwork(index, info) for index in range(self.subnetworks)]
        return TDNet(subnetworks, self.window_stride, info)

    def _subnetwork(self, index: int, info: NetworkInfo) -> SubNetwork:
        values = self.value_channels
        path = _path(self, index % self.feature_groups, self.feature_groups)
        return SubNetwork(
            path,
            Encoder(path.channels, self.key_channels, values),
            Propagation(index, self.subnetworks, values),
            _norm(self.norm, values, info.input_size),
            _head(self, values, len(info.labels)),
        )


@dataclass(frozen=True, kw_only=True)
class TDARVariant(TDNetVariant):
    """Everything that tells one united network from another.

    ``detail``: whether the frames between keyframes take the keyframe's fine details, where scores are finer than
    the fusion (see ``TDAR``).
    """

    norm: str = "channel"
    low_resolution: float = 0.5
    keyframe_interval: int = 12
    detail: bool = False

    def build(self, info: NetworkInfo) -> TDAR:
        subnetworks = [self._subnetwork(index, info) for index in range(self.subnetworks)]
        fusion = CReFF(self.head_channels, self.align_corners)
        gate = nn.Conv2d(self.head_channels, 1, 1) if self.detail else None
        return TDAR(subnetworks, self.window_stride, fusion, Warp(), gate, info)


@dataclass(frozen=True, kw_only=True)
class ARSegVariant(Variant):
    """Everything that tells one AR-Seg from another. ``path`` names the kind of both branches."""

    head: str = "shared"
    low_resolution: float = 0.5
    keyframe_interval: int = 12

    def build(self, info: NetworkInfo) -> ARSeg:
        channels = self.head_channels
        branches = {"pyramid": PyramidBranch, "decoded pyramid": DecodedPyramidBranch, "bisenet": BiSeNetBranch}
        high, low = (branches[self.path]() for _ in range(2))
        classifier = nn.Conv2d(channels, len(info.labels), 1)
        return ARSeg(high, low, CReFF(channels), classifier, StretchedWarp(), info)


@dataclass(frozen=True, kw_only=True)
class BDNetVariant(Variant):
    """Everything that tells one BDNet from another. ``path`` names the kind of trunk and head."""

    keyframe_interval: int = 5
    align_corners: bool = False
    input_size: tuple[int, int] = (1024, 2048)
    head_channels: int = 0

    def build(self, info: NetworkInfo) -> BDNet:
        classes = len(info.labels)
        if self.path == "atrous":
            atrous = AtrousTrunk(self.depth)
            return BDNet(atrous, AtrousPyramid(atrous.channels, classes), info)
        path, hidden = MobilePath(self.path_channels), self.head_channels
        decoder = DetailDecoder(path.channels, hidden, MobileNetV2.channels[:2])
        trunk = MobileTrunk(path, ChannelNorm(path.channels), decoder)
        return BDNet(trunk, MobileHead(hidden, classes), info)


#: Mean and standard deviation that AR-Seg's authors took for CamVid, and for BiSeNet on Cityscapes.
_ARSEG_CAMVID = ((0.39068785, 0.40521392, 0.41434407), (0.29652068, 0.30514979, 0.30080369))
_ARSEG_BISENET = ((0.3257, 0.3690, 0.3223), (0.2112, 0.2148, 0.2115))

#: What td2_mnv2's sub-networks are, of whatever network they are part.
_MOBILE_TDNET: dict[str, Any] = {
    "path": "mobile",
    "path_channels": 128,
    "feature_groups": 2,
    "key_channels": 64,
    "value_channels": 128,
    "window_stride": 2,
    "norm": "channel",
    "head": "detail",
    "head_channels": 96,
    "labels": CAMVID,
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "stride": 4,
    "input_size": (360, 480),
    "align_corners": False,
}

CATALOG: dict[str, Variant] = {
    "td4_psp18": TDNetVariant(
        summary="TD4-PSP18 of the paper: four dilated ResNet-18 paths with pyramid pooling",
        path="pyramid",
        depth=18,
        subnetworks=4,
        feature_groups=2,
        key_channels=64,
        value_channels=512,
        window_stride=4,
        norm="spatial",
        head_channels=128,
    ),
    "td2_psp50": TDNetVariant(
        summary="TD2-PSP50 of the paper: two dilated ResNet-50 paths with pyramid pooling",
        path="pyramid",
        depth=50,
        subnetworks=2,
        feature_groups=2,
        key_channels=64,
        value_channels=512,
        window_stride=4,
        norm="spatial",
        head_channels=256,
    ),
    "psp18": Variant(summary="PSPNet with ResNet-18, frame by frame", path="pyramid", depth=18, head_channels=128),
    "psp50": Variant(summary="PSPNet with ResNet-50, frame by frame", path="pyramid", depth=50, head_channels=512),
    "psp101": Variant(summary="PSPNet with ResNet-101, frame by frame", path="pyramid", depth=101, head_channels=512),
    "td4_bise18": TDNetVariant(
        summary="TD4-Bise18 of the paper, from removed official code: four BiSeNet-18 paths; no weights exist",
        path="bisenet",
        depth=18,
        subnetworks=4,
        feature_groups=2,
        key_channels=64,
        value_channels=128,
        window_stride=5,
        norm="group",
        head="leaky",
        head_channels=256,
        input_size=(768, 1536),
    ),
    "td2_fa18": TDNetVariant(
        summary="TD2-FA18 of the official training code: two FANet-18 paths; no weights exist",
        path="fanet",
        depth=18,
        subnetworks=2,
        feature_groups=1,
        key_channels=64,
        value_channels=256,
        window_stride=3,
        norm="spatial",
        head="leaky",
        head_channels=256,
        input_size=(768, 1536),
    ),
    "arseg_psp18_camvid": ARSegVariant(
        summary="AR-Seg with PSPNet-18 for CamVid, fused at full resolution: for GPUs",
        path="decoded pyramid",
        head_channels=64,
        labels=CAMVID_VOID,
        mean=_ARSEG_CAMVID[0],
        std=_ARSEG_CAMVID[1],
        stride=1,
        input_size=(720, 960),
    ),
    "arseg_bise18_camvid": ARSegVariant(
        summary="AR-Seg with BiSeNet-18 for CamVid",
        path="bisenet",
        head_channels=256,
        labels=CAMVID_VOID,
        mean=_ARSEG_CAMVID[0],
        std=_ARSEG_CAMVID[1],
        input_size=(720, 960),
        align_corners=False,
    ),
    "arseg_psp18_cityscapes": ARSegVariant(
        summary="AR-Seg with PSPNet-18 for Cityscapes", path="pyramid", head_channels=512, input_size=(1024, 2048)
    ),
    "arseg_bise18_cityscapes": ARSegVariant(
        summary="AR-Seg with BiSeNet-18 for Cityscapes",
        path="bisenet",
        head_channels=256,
        mean=_ARSEG_BISENET[0],
        std=_ARSEG_BISENET[1],
        input_size=(1024, 2048),
        align_corners=False,
    ),
    "bdnet18": BDNetVariant(summary="BDNet with DeepLabV2 on ResNet-18, reconstructed", path="atrous", depth=18),
    "bdnet50": BDNetVariant(summary="BDNet with DeepLabV2 on ResNet-50, reconstructed", path="atrous", depth=50),
    "bdnet101": BDNetVariant(summary="BDNet with DeepLabV2 on ResNet-101, reconstructed", path="atrous", depth=101),
    "bdnet_mnv2": BDNetVariant(
        summary="BDNet on a MobileNetV2 path of td2_mnv2, for CPUs",
        path="mobile",
        path_channels=128,
        head_channels=96,
        labels=CAMVID,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        stride=4,
        input_size=(360, 480),
    ),
    "td2_mnv2": TDNetVariant(
        summary="the light one: two MobileNetV2 paths, for CPUs and small GPUs", subnetworks=2, **_MOBILE_TDNET
    ),
    "tdar_psp18": TDARVariant(
        summary="TD4-PSP18 with alternating resolution",
        path="pyramid",
        depth=18,
        subnetworks=4,
        feature_groups=2,
        key_channels=64,
        value_channels=512,
        window_stride=4,
        head_channels=128,
    ),
    "tdar_bise18": TDARVariant(
        summary="TD4-Bise18 with alternating resolution",
        path="bisenet",
        depth=18,
        subnetworks=4,
        feature_groups=2,
        key_channels=64,
        value_channels=128,
        window_stride=5,
        head="leaky",
        head_channels=128,
        input_size=(768, 1536),
    ),
    "tdar_mnv2": TDARVariant(
        summary="td2_mnv2 with alternating resolution, for CPUs and small GPUs",
        subnetworks=2,
        detail=True,
        **_MOBILE_TDNET,
    ),
    "arseg_mnv2": TDARVariant(
        summary="one sub-network of tdar_mnv2 by itself: alternating resolution without a window",
        subnetworks=1,
        detail=True,
        **_MOBILE_TDNET,
    ),
    "mnv2": Variant(
        summary="one sub-network of td2_mnv2 by itself, frame by frame",
        path="mobile",
        path_channels=128,
        head="detail",
        head_channels=96,
        labels=CAMVID,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        stride=4,
        input_size=(360, 480),
        align_corners=False,
    ),
}


def network_info(name: str) -> NetworkInfo:
    """What the catalog says of that network; weights may say otherwise. ConfigurationError for an unknown name."""
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
        low_resolution=variant.low_resolution,
        keyframe_interval=variant.keyframe_interval,
    )


def build_network(network: str | NetworkInfo) -> SegmentationNetwork:
    """The network of that name, or with those facts instead of the catalog's, with fresh weights.

    Raises ConfigurationError for a name not in the catalog.
    """
    info = network_info(network) if isinstance(network, str) else network
    return _variant(info.name).build(info)


def _variant(name: str) -> Variant:
    if name not in CATALOG:
        raise ConfigurationError(f"model is '{name}', expected one of {sorted(CATALOG)}")
    return CATALOG[name]


def _path(variant: Variant, group: int, groups: int) -> PyramidPath | BiSeNetPath | FANetPath | MobilePath:
    """One of the networks that make a feature out of an image; ``group`` of ``groups`` is its share of the channels."""
    if variant.path == "pyramid":
        return PyramidPath(variant.depth, group, groups)
    if variant.path == "bisenet":
        return BiSeNetPath(group, groups)
    if variant.path == "fanet":
        return FANetPath()
    return MobilePath(variant.path_channels)


def _head(variant: Variant, channels: int, classes: int) -> nn.Module:
    if variant.head == "fcn":
        return FCNHead(channels, variant.head_channels, classes)
    if variant.head == "leaky":
        leaky = nn.LeakyReLU(0.01, inplace=True)
        return FCNHead(channels, variant.head_channels, classes, leaky, dropout=0.0, bias=False)
    return DetailHead(channels, variant.head_channels, MobileNetV2.channels[:2], classes)


def _norm(kind: str, channels: int, input_size: tuple[int, int]) -> nn.Module:
    if kind == "spatial":
        return SpatialLayerNorm(-(-input_size[0] // 8), -(-input_size[1] // 8))
    if kind == "group":
        return MapNorm(channels)
    return ChannelNorm(channels)
