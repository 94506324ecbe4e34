"""BDNet: propagation along motion vectors (Lu and Deng, ICPR 2020, doi 10.1109/ICPR48806.2021.9412821).

A reconstruction. There is no public code and the text of the paper was not at hand: its abstract says that the frames
between keyframes are propagated by the block motion of the bitstream instead of an optical flow network, and the
authors' poster names the network that they start from, DeepLabV2. Everything else follows published work:

* keyframes through the whole network, and between them the keyframe's feature, warped, and the head: Deep Feature Flow
  (Zhu et al., CVPR 2017, section 3), without its field of scales, which comes out of the flow network;
* motion chained from frame to frame back to the keyframe: CoViAR (Wu et al., CVPR 2018), ``video/motion``;
* trunk and head: DeepLabV2 (Chen et al., TPAMI 2018), ResNet of output stride 8 and atrous spatial pyramid pooling.

The boundary-aware stream and the teacher, which the paper is named after, act in training alone: no part of them stands
here. With motion from optical flow instead of the bitstream it is Deep Feature Flow with a classical flow (``dff`` in
docs/bdnet.md).
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from tdnet_ros.networks.heads import DetailDecoder
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.keyframes import PropagatingNetwork
from tdnet_ros.networks.layers import SeparableConv
from tdnet_ros.networks.network import StepPlan
from tdnet_ros.networks.paths import MobilePath
from tdnet_ros.networks.resnet import DEPTHS, DilatedResNet, StageShape


class BDNet(PropagatingNetwork):
    """Trunk, warp and head. Built by ``tdnet_ros.networks.load_network``.

    The trunk makes a feature (B, C, h, w) out of an image, the head scores (B, classes, h, w) out of a feature: its own
    or a warped one. ``channels`` is C.
    """

    def __init__(self, trunk: AtrousTrunk | MobileTrunk, head: nn.Module, info: NetworkInfo) -> None:
        super().__init__(info)
        self.channels = trunk.channels
        self.trunk = trunk
        self.head = head

    def compute(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        """Image -> scores (B, classes, h, w) and the feature (B, C, h, w).

        With ``plan.fused`` it takes the keyframe's feature and the motion, and of the image no more than its size.
        """
        if plan.fused:
            keyframe, motion = cached
            return (self.head(self.propagate(keyframe, motion, (image.shape[2], image.shape[3]))),)
        feature = self.trunk(image)
        return self.head(feature), feature


class AtrousTrunk(DilatedResNet):
    """DeepLabV2's ResNet (section 3.1): image (B, 3, H, W) -> (B, 512 or from depth 50 on 2048, ceil(H/8), ceil(W/8)).

    All convolutions of the last two stages are dilated, by 2 and by 4; no multi-grid. From depth 50 on the stem is that
    of our other ResNets, three 3x3 convolutions.
    """

    def __init__(self, depth: int) -> None:
        *_, third, fourth = DEPTHS[depth]
        super().__init__(depth, (StageShape(1, 2, (2,) * third), StageShape(1, 4, (4,) * fourth)))


class AtrousPyramid(nn.Module):
    """ASPP-L (DeepLabV2, section 3.2): feature (B, C, h, w) -> scores (B, classes, h, w), the sum of 3x3 convolutions.

    Each has a dilation of its own and its own bias. Linear, so that what is warped before it could be warped behind it
    but for the neighbours that its kernels see.
    """

    DILATIONS = (6, 12, 18, 24)

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Conv2d(channels, classes, 3, padding=dilation, dilation=dilation) for dilation in self.DILATIONS
        )
        for branch in self.branches:
            assert isinstance(branch, nn.Conv2d) and branch.bias is not None
            nn.init.normal_(branch.weight, std=0.01)
            nn.init.zeros_(branch.bias)

    def forward(self, feature: Tensor) -> Tensor:
        scores: Tensor = self.branches[0](feature)
        for branch in list(self.branches)[1:]:
            scores = scores + branch(feature)
        return scores


class MobileTrunk(nn.Module):
    """The light trunk, not of the paper: image (B, 3, H, W) -> (B, hidden, ceil(H/4), ceil(W/4)).

    A sub-network of ``td2_mnv2`` without what its window needs, up to the last refinement, which is the head's.
    """

    def __init__(self, path: MobilePath, norm: nn.Module, decoder: DetailDecoder) -> None:
        super().__init__()
        self.path = path
        self.value = nn.Conv2d(path.channels, decoder.channels, 1)
        self.norm = norm
        self.decoder = decoder
        self.channels = decoder.lateral4.conv.out_channels

    def forward(self, image: Tensor) -> Tensor:
        z, details = self.path(image)
        feature: Tensor = self.decoder(self.norm(self.value(z)), details)
        return feature


class MobileHead(nn.Module):
    """The light trunk's head, the end of ``DetailHead``: feature (B, hidden, h, w) -> scores (B, classes, h, w)."""

    def __init__(self, hidden: int, classes: int) -> None:
        super().__init__()
        self.refine4 = SeparableConv(hidden, hidden)
        self.dropout = nn.Dropout2d(0.1)
        self.classifier = nn.Conv2d(hidden, classes, 1)

    def forward(self, feature: Tensor) -> Tensor:
        scores: Tensor = self.classifier(self.dropout(self.refine4(feature)))
        return scores


def propagated_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of ``td2_mnv2`` as those of ``bdnet_mnv2``: its first sub-network without what its window needs."""
    first = "subnetworks.0."
    parts = {
        f"{first}path.": "trunk.path.",
        f"{first}encoder.value.": "trunk.value.",
        f"{first}norm.": "trunk.norm.",
        **{f"{first}head.{name}.": f"trunk.decoder.{name}." for name in ("lateral8", "refine8", "lateral4")},
        f"{first}head.": "head.",
    }
    renamed = {}
    for key, value in weights.items():
        part = next((part for part in parts if key.startswith(part)), None)
        if part is not None:
            renamed[parts[part] + key.removeprefix(part)] = value
    return renamed
