"""What networks have in common that compute keyframes in full and the frames between by what the keyframe left.

Such a frame needs the motion from it to its keyframe. The keyframe's feature is the state; frames between keyframes
leave it as it is, so that an error of the motion is never handed on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tdnet_ros.errors import StateError
from tdnet_ros.networks.layers import upsample
from tdnet_ros.networks.network import Advance, SegmentationNetwork, StepPlan, image_size

#: Shortest side in px of the reduced picture.
_SMALLEST_REDUCED = 16


@dataclass(frozen=True)
class KeyframeState:
    """The keyframe's feature (B, C, H', W') and the (B, H, W) of its image; None before the first keyframe."""

    network: str
    feature: Tensor | None = None
    image_size: tuple[int, int, int] | None = None


class KeyframeNetwork(SegmentationNetwork):
    """Steps with keyframes, and one feature as state. Subclasses compute: see ``SegmentationNetwork.compute``."""

    kept_names = ("feature",)

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
        return Advance(self.logits(scores, (image.shape[2], image.shape[3])), state)

    def logits(self, scores: Tensor, size: tuple[int, int]) -> Tensor:
        """Scores (B, classes, h, w) over the image of that size (H, W): (B, classes, H, W)."""
        return upsample(scores, size, self.info.align_corners)

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
