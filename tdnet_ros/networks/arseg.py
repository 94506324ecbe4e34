"""AR-Seg: alternating resolution (Hu et al., CVPR 2023, arXiv 2303.07224).

A keyframe passes a high-resolution branch, and its feature is kept. A frame between keyframes passes a low-resolution
branch on a reduced picture; its feature is fused with the keyframe's, warped to this frame along the motion between the
two (CReFF). One classifier serves both.
"""

from __future__ import annotations

from torch import Tensor, nn

from tdnet_ros.networks.creff import CReFF
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.keyframes import KeyframeNetwork
from tdnet_ros.networks.layers import upsample
from tdnet_ros.networks.masks import Decoded
from tdnet_ros.networks.network import StepPlan, reduced_size
from tdnet_ros.networks.tdar import Observation
from tdnet_ros.networks.warping import Warp


class ARSeg(KeyframeNetwork):
    """Two branches, a fusion and a classifier. Built by ``tdnet_ros.networks.load_network``.

    The low-resolution branch takes any scale; ``info.low_resolution`` is the one that the weights were trained for.
    """

    def __init__(
        self, high: nn.Module, low: nn.Module, fusion: CReFF, classifier: nn.Conv2d, warp: Warp, info: NetworkInfo
    ) -> None:
        super().__init__(info)
        self.high = high
        self.low = low
        self.fusion = fusion
        self.classifier = classifier
        self.warp = warp

    def compute(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        """Image -> scores (B, classes, H', W') and the feature (B, C, H', W').

        With ``plan.fused`` it takes the keyframe's feature and the motion (see ``warping``), and keeps nothing.
        """
        observed = self.observe(plan, image, *cached)
        return observed.scores, *observed.kept

    def observe(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> Observation:
        """As ``compute``, with the feature (B, C, H', W') that the classifier sees: for training."""
        if not plan.fused:
            feature = self.high(image)
            return Observation(feature, self.classifier(feature), (feature,))
        keyframe, motion = cached
        height, width = image.shape[2:]
        low = self.low(upsample(image, reduced_size(height, width, plan.scale), align_corners=True))
        warped = self.warp(keyframe, motion, (height, width))
        fused = self.fusion(low, warped)
        return Observation(fused, self.classifier(fused), ())

    def logits(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        scores, align_corners = self._over_the_image(scores, size)
        return upsample(scores, size, align_corners)

    def decode_mask(self, scores: Tensor, size: tuple[int, int], confidence: bool = False) -> Decoded:
        scores, align_corners = self._over_the_image(scores, size)
        return self.decode(scores, size, align_corners, confidence)

    def _over_the_image(self, scores: Tensor, size: tuple[int, int]) -> tuple[Tensor, bool]:
        """Scores that one bilinear resize brings to the size (H, W), and how its corners are aligned.

        Where a branch's map is larger than the picture (see ``DoublingContextPath``), official scores are enlarged by
        the stride, and what comes out is squeezed onto the picture with its corners aligned.
        """
        stride = self.info.stride
        whole = (stride * scores.shape[2], stride * scores.shape[3])
        if self.info.align_corners or whole == size:
            return scores, self.info.align_corners
        return upsample(scores, whole, align_corners=False), True
