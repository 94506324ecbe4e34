"""What networks have in common that compute keyframes in full and the frames between by what the keyframe left.

Such a frame needs the motion from it to its keyframe. The keyframe's feature is the state; frames between keyframes
leave it as it is, so that an error of the motion is never handed on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tdnet_ros.errors import StateError
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan, image_size
from tdnet_ros.networks.warping import Warp


@dataclass(frozen=True)
class KeyframeState:
    """The keyframe's feature (B, C, H', W') and the (B, H, W) of its image; None before the first keyframe."""

    network: str
    feature: Tensor | None = None
    image_size: tuple[int, int, int] | None = None


class KeyframeNetwork(SegmentationNetwork):
    """Steps with keyframes, and one feature as state. Subclasses compute: see ``SegmentationNetwork.compute``."""

    keyframe_names = ("feature",)

    def initial_state(
        self, batch: int | None = None, height: int | None = None, width: int | None = None
    ) -> KeyframeState:
        """A state without a keyframe."""
        return KeyframeState(self.info.name)

    def plan(
        self, state: KeyframeState, subnetwork: int = 0, keyframe: bool = True, scale: float | None = None
    ) -> StepPlan:
        scale = self.scale_of(keyframe, scale)
        if keyframe:
            return StepPlan(subnetwork)
        if state.feature is None:
            raise StateError("keyframe is False and the state has no keyframe, expected a keyframe first")
        return StepPlan(subnetwork, scale=scale, fused=True)

    def cached(self, state: KeyframeState, plan: StepPlan) -> tuple[Tensor, ...]:
        """The keyframe's feature (B, C, H', W') for a frame that is fused with it; nothing for a keyframe."""
        return (state.feature,) if plan.fused and state.feature is not None else ()

    def remember(
        self, state: KeyframeState, plan: StepPlan, image_size: tuple[int, int, int], kept: tuple[Tensor, ...]
    ) -> KeyframeState:
        """A frame between keyframes leaves the state as it is."""
        return state if plan.fused else KeyframeState(self.info.name, kept[0], image_size)

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


class PropagatingNetwork(KeyframeNetwork):
    """Frames between keyframes are not encoded: what the keyframe left is moved to them."""

    def __init__(self, info: NetworkInfo) -> None:
        super().__init__(info)
        self.warp = Warp()

    def plan(
        self, state: KeyframeState, subnetwork: int = 0, keyframe: bool = True, scale: float | None = None
    ) -> StepPlan:
        """As of ``KeyframeNetwork``; the scale of a frame that is not encoded says nothing."""
        return super().plan(state, subnetwork, keyframe, scale=1.0)

    def propagate(self, left: Tensor, motion: Tensor, picture: tuple[int, int]) -> Tensor:
        """What the keyframe left (B, C, h, w), as seen from a frame with that motion to it (see ``warping``).

        Motion that is a guess is followed as well: there is nothing else to fall back on.
        """
        warped: Tensor = self.warp(left, motion[:, :2], picture)
        return warped
