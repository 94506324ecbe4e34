"""AR-Seg: alternating resolution (Hu et al., CVPR 2023, arXiv 2303.07224).

A keyframe passes a high-resolution branch, and its feature is kept. A frame between keyframes passes a low-resolution
branch on a reduced picture; its feature is fused with the keyframe's, warped to this frame along the motion between the
two (CReFF). One classifier serves both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from tdnet_ros.errors import StateError
from tdnet_ros.networks.creff import CReFF
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.layers import upsample
from tdnet_ros.networks.masks import Decoded
from tdnet_ros.networks.network import Advance, SegmentationNetwork, StepPlan, image_size
from tdnet_ros.networks.warping import Warp

#: Shortest side in px of the reduced picture.
_SMALLEST_REDUCED = 16


@dataclass(frozen=True)
class KeyframeState:
    """The keyframe's feature (B, C, H', W') and the (B, H, W) of its image; None before the first keyframe."""

    network: str
    feature: Tensor | None = None
    image_size: tuple[int, int, int] | None = None


class ARSeg(SegmentationNetwork):
    """Two branches, a fusion and a classifier. Built by ``tdnet_ros.networks.load_network``.

    The low-resolution branch takes any scale; ``info.low_resolution`` is the one that the weights were trained for.
    """

    kept_names = ("feature",)

    def __init__(
        self, high: nn.Module, low: nn.Module, fusion: CReFF, classifier: nn.Conv2d, warp: Warp, info: NetworkInfo
    ) -> None:
        super().__init__(info)
        self.high = high
        self.low = low
        self.fusion = fusion
        self.classifier = classifier
        self.warp = warp

    def initial_state(
        self, batch: int | None = None, height: int | None = None, width: int | None = None
    ) -> KeyframeState:
        """A state without a keyframe."""
        return KeyframeState(self.info.name)

    def plan(
        self, state: KeyframeState, subnetwork: int = 0, keyframe: bool = True, scale: float | None = None
    ) -> StepPlan:
        """The plan of a keyframe, or of a frame between keyframes at that scale (by default the weights' own).

        Raises StateError for a frame between keyframes from a state without one.
        """
        if keyframe:
            return StepPlan(subnetwork)
        if state.feature is None:
            raise StateError("keyframe is False and the state has no keyframe, expected a keyframe first")
        return StepPlan(subnetwork, scale=self.info.low_resolution if scale is None else scale, fused=True)

    def cached(self, state: KeyframeState, plan: StepPlan) -> tuple[Tensor, ...]:
        """The keyframe's feature (B, C, H', W') for a frame that is fused with it; nothing for a keyframe.

        ``compute`` takes one more tensor behind it, the motion, which no state holds.
        """
        return (state.feature,) if plan.fused and state.feature is not None else ()

    def compute(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        """Image -> scores (B, classes, H', W') and the feature (B, C, H', W').

        With ``plan.fused`` it takes the keyframe's feature and the motion (see ``warping``), and keeps nothing.
        """
        if not plan.fused:
            feature = self.high(image)
            return self.classifier(feature), feature
        keyframe, motion = cached
        height, width = image.shape[2:]
        low = self.low(upsample(image, reduced_size(height, width, plan.scale), align_corners=True))
        warped = self.warp(keyframe, motion, (height, width))
        return (self.classifier(self.fusion(low, warped)),)

    def remember(
        self, state: KeyframeState, plan: StepPlan, image_size: tuple[int, int, int], kept: tuple[Tensor, ...]
    ) -> KeyframeState:
        """A frame between keyframes leaves the state as it is."""
        return state if plan.fused else KeyframeState(self.info.name, kept[0], image_size)

    def advance(
        self,
        image: Tensor,
        state: Any,
        subnetwork: int = 0,
        keyframe: bool = True,
        motion: Tensor | None = None,
        scale: float | None = None,
    ) -> Advance:
        """As ``SegmentationNetwork.advance``. ``image`` is at full resolution, for every frame.

        A frame between keyframes (``keyframe`` False) needs the ``motion`` from it to the keyframe: (B, 2 or 3, h, w)
        on any grid, see ``warping``; ``scale`` is that of its reduced picture. Raises StateError for a motion or scale
        that cannot be used.
        """
        self.check(image, state, subnetwork)
        plan = self.plan(state, subnetwork, keyframe, scale)
        cached = self.cached(state, plan)
        if plan.fused:
            _check_fused(image, motion, plan.scale)
            assert motion is not None, "checked above"
            cached = (*cached, motion)
        scores, *kept = self.compute(plan, image, *cached)
        return Advance(scores, self.remember(state, plan, image_size(image), tuple(kept)))

    def step(
        self,
        image: Tensor,
        state: Any,
        subnetwork: int = 0,
        keyframe: bool = True,
        motion: Tensor | None = None,
        scale: float | None = None,
    ) -> Advance:
        """As ``advance`` with the scores upsampled to logits (B, classes, H, W)."""
        scores, state = self.advance(image, state, subnetwork, keyframe, motion, scale)
        size = (image.shape[2], image.shape[3])
        scores, align_corners = self._over_the_image(scores, size)
        return Advance(upsample(scores, size, align_corners), state)

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

    def is_warm(self, state: Any, subnetwork: int = 0) -> bool:
        """Always: a keyframe wants nothing of the past, and there is no other step without one."""
        return True

    def check(self, image: Tensor, state: Any, subnetwork: int) -> None:
        super().check(image, state, subnetwork)
        if not isinstance(state, KeyframeState) or state.network != self.info.name:
            owner = f"'{state.network}'" if isinstance(state, KeyframeState) else f"{type(state).__name__}"
            raise StateError(f"state is of {owner}, expected one of '{self.info.name}': start from initial_state()")
        if state.image_size not in (None, image_size(image)):
            raise StateError(
                f"state is of (batch, height, width) {state.image_size}, expected that of the image, "
                f"{image_size(image)}: start from initial_state()"
            )


def reduced_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """(h, w) of the picture that the low-resolution branch sees, rounded down."""
    return int(height * scale), int(width * scale)


def _check_fused(image: Tensor, motion: Tensor | None, scale: float) -> None:
    height, width = image.shape[2:]
    if not 0 < scale <= 1 or min(reduced_size(height, width, scale)) < _SMALLEST_REDUCED:
        raise StateError(
            f"scale is {scale}, expected at most 1 and at least {_SMALLEST_REDUCED / min(height, width):.3f} for a "
            f"picture of {width}x{height}"
        )
    if motion is None:
        raise StateError("motion is None, expected a tensor (B, 2 or 3, h, w) for a frame between keyframes")
    if motion.dim() != 4 or motion.shape[0] != image.shape[0] or motion.shape[1] not in (2, 3):
        raise StateError(f"motion has shape {tuple(motion.shape)}, expected ({image.shape[0]}, 2 or 3, h, w)")
