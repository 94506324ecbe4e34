"""What every network of the catalog has in common: the step contract.

A step is a function of tensors. Everything that depends on the state's history is settled first, in a ``StepPlan``;
``compute`` is then a pure function of the image and of the tensors that the plan reads, without a branch on their
content. So it can be compiled, captured, exported and batched, plan by plan.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import Tensor, nn

from tdnet_ros.errors import StateError
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.layers import upsample
from tdnet_ros.networks.masks import Decoded, decode_mask


class StepPlan(NamedTuple):
    """Which computation a step is: hashable, and the same for all steps that one captured or exported one can serve.

    ``sources`` names the sub-networks whose entries the step reads, oldest first; none while the window is not full.
    ``fused``: the frame lies between keyframes, is encoded at ``scale`` of the picture's size, and its feature is fused
    with the keyframe's; ``compute`` then takes the motion between the two as its last tensor.
    """

    subnetwork: int
    sources: tuple[int, ...] = ()
    scale: float = 1.0
    fused: bool = False


class Advance(NamedTuple):
    """Result of one step at feature resolution: scores (B, classes, h, w) and the next state."""

    scores: Tensor
    state: Any


class SegmentationNetwork(nn.Module):
    """Images to scores, with explicit state. Subclasses say what they cache: see the five methods below.

    ``kept_names`` names the tensors that a step keeps, in the order of ``compute``; a plan reads as many of each of
    its sources.
    """

    kept_names: tuple[str, ...] = ()

    def __init__(self, info: NetworkInfo) -> None:
        super().__init__()
        self.info = info

    def initial_state(self, batch: int | None = None, height: int | None = None, width: int | None = None) -> Any:
        """The state before the first frame. The sizes are taken from the first step, so they may stay away."""
        raise NotImplementedError

    def plan(self, state: Any, subnetwork: int) -> StepPlan:
        """The plan of a step of that sub-network from that state."""
        raise NotImplementedError

    def cached(self, state: Any, plan: StepPlan) -> tuple[Tensor, ...]:
        """The tensors of the state that the plan reads, in the order in which ``compute`` takes them."""
        raise NotImplementedError

    def compute(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        """Normalised image (B, 3, H, W) and cached tensors -> scores (B, classes, h, w) and the tensors to keep."""
        raise NotImplementedError

    def remember(self, state: Any, plan: StepPlan, image_size: tuple[int, int, int], kept: tuple[Tensor, ...]) -> Any:
        """The state after the step: ``kept`` is what ``compute`` gave behind the scores, ``image_size`` (B, H, W)."""
        raise NotImplementedError

    def check(self, image: Tensor, state: Any, subnetwork: int) -> None:
        """Raise StateError when the image cannot be segmented, or not from that state."""
        if not 0 <= subnetwork < self.info.subnetworks:
            raise StateError(f"subnetwork is {subnetwork}, expected 0..{self.info.subnetworks - 1}")
        if image.dim() != 4 or image.shape[1] != 3:
            raise StateError(f"image has shape {tuple(image.shape)}, expected (B, 3, H, W)")
        if not image.is_floating_point():
            raise StateError(f"image is {image.dtype}, expected floating point numbers, normalised")
        if min(image.shape[2], image.shape[3]) < self.info.minimum_size:
            raise StateError(
                f"image is {image.shape[3]}x{image.shape[2]}, expected at least {self.info.minimum_size} px per side"
            )

    def advance(self, image: Tensor, state: Any, subnetwork: int = 0) -> Advance:
        """Normalised image (B, 3, H, W) -> scores (B, classes, H/stride, W/stride) and the next state.

        The given state is never changed. Raises StateError when the image is no such tensor, when the state belongs
        to another network, batch or size, or when there is no such sub-network.
        """
        self.check(image, state, subnetwork)
        plan = self.plan(state, subnetwork)
        scores, *kept = self.compute(plan, image, *self.cached(state, plan))
        return Advance(scores, self.remember(state, plan, image_size(image), tuple(kept)))

    def step(self, image: Tensor, state: Any, subnetwork: int = 0) -> Advance:
        """As ``advance`` with the scores upsampled to logits (B, classes, H, W)."""
        scores, state = self.advance(image, state, subnetwork)
        size = (image.shape[2], image.shape[3])
        return Advance(upsample(scores, size, self.info.align_corners), state)

    def decode_mask(self, scores: Tensor, size: tuple[int, int], confidence: bool = False) -> Decoded:
        """Scores (B, classes, h, w) -> mask and confidence (B, H, W) uint8 of that size (H, W).

        A class for what is unlabelled, which some weights have learnt, is never in a mask.
        """
        return self.decode(scores, size, self.info.align_corners, confidence)

    def decode(self, scores: Tensor, size: tuple[int, int], align_corners: bool, confidence: bool) -> Decoded:
        """As ``decode_mask``, of scores that are aligned so."""
        return decode_mask(scores[:, : self.info.labels.shown], size, align_corners, confidence)

    def is_warm(self, state: Any, subnetwork: int = 0) -> bool:
        """Whether a step of this sub-network from this state has all it wants of the past."""
        raise NotImplementedError


def image_size(image: Tensor) -> tuple[int, int, int]:
    """(B, H, W) of an image (B, 3, H, W)."""
    return image.shape[0], image.shape[2], image.shape[3]
