"""What tells one network of the catalog from another, and how it is built."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from tdnet_ros.labels import CITYSCAPES, LabelSet
from tdnet_ros.networks.arseg import ARSeg
from tdnet_ros.networks.attention import Encoder, Propagation
from tdnet_ros.networks.bdnet import AtrousPyramid, AtrousTrunk, BDNet, MobileHead, MobileTrunk
from tdnet_ros.networks.bisenet import BiSeNetBranch, BiSeNetPath
from tdnet_ros.networks.carried import CarriedScores
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
    encodes_between: bool = True

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
    encodes_between: bool = False
    align_corners: bool = False
    input_size: tuple[int, int] = (1024, 2048)
    head_channels: int = 0

    def build(self, info: NetworkInfo) -> SegmentationNetwork:
        classes = len(info.labels)
        if self.path == "atrous":
            atrous = AtrousTrunk(self.depth)
            return BDNet(atrous, AtrousPyramid(atrous.channels, classes), info)
        return BDNet(*self._mobile(classes), info)

    def _mobile(self, classes: int) -> tuple[MobileTrunk, MobileHead]:
        path, hidden = MobilePath(self.path_channels), self.head_channels
        decoder = DetailDecoder(path.channels, hidden, MobileNetV2.channels[:2])
        return MobileTrunk(path, ChannelNorm(path.channels), decoder), MobileHead(hidden, classes)


@dataclass(frozen=True, kw_only=True)
class CarriedVariant(BDNetVariant):
    """A light BDNet's trunk and head, of which the scores are carried from one keyframe to the next."""

    keyframe_interval: int = 3

    def build(self, info: NetworkInfo) -> SegmentationNetwork:
        return CarriedScores(*self._mobile(len(info.labels)), info)


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
