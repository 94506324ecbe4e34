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

#: Name of the last tensor of a step between keyframes.
MOTION = "motion"
#: Shortest side in px of a reduced picture.
SMALLEST_REDUCED = 16


class StepPlan(NamedTuple):
    """Which computation a step is: hashable, and the same for all steps that one captured or exported one can serve.

    ``sources`` names the sub-networks whose entries the step reads, oldest first; none while the window is not full.
    The frame is encoded at ``scale`` of the picture's size. ``fused``: it lies between keyframes, and its feature is
    fused with the keyframe's; ``compute`` then takes the motion between the two as its last tensor.
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

    ``entry_names`` names the tensors that every step keeps, of which a plan reads as many of each of its sources;
    ``keyframe_names`` those that a keyframe keeps for the frames until the next one. Both in the order of ``compute``.
    """

    entry_names: tuple[str, ...] = ()
    keyframe_names: tuple[str, ...] = ()

    def __init__(self, info: NetworkInfo) -> None:
        super().__init__()
        self.info = info

    def initial_state(self, batch: int | None = None, height: int | None = None, width: int | None = None) -> Any:
        """The state before the first frame. The sizes are taken from the first step, so they may stay away."""
        raise NotImplementedError

    def plan(self, state: Any, subnetwork: int = 0, keyframe: bool = True, scale: float | None = None) -> StepPlan:
        """The plan of a step of that sub-network from that state.

        A keyframe is encoded at full resolution, another frame at ``scale`` (by default the weights' own, 1 in a
        network that knows no keyframes). Raises StateError for a keyframe at a lower scale, and for a frame that is to
        be fused with a keyframe from a state without one.
        """
        raise NotImplementedError

    def cached(self, state: Any, plan: StepPlan) -> tuple[Tensor, ...]:
        """The tensors of the state that the plan reads, in the order in which ``compute`` takes them.

        For a plan that is ``fused`` it takes one more behind them, the motion, which no state holds.
        """
        raise NotImplementedError

    def compute(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        """Normalised image (B, 3, H, W) and cached tensors -> scores (B, classes, h, w) and the tensors to keep.

        The image is at full resolution, whatever the plan's scale.
        """
        raise NotImplementedError

    def remember(self, state: Any, plan: StepPlan, image_size: tuple[int, int, int], kept: tuple[Tensor, ...]) -> Any:
        """The state after the step: ``kept`` is what ``compute`` gave behind the scores, ``image_size`` (B, H, W)."""
        raise NotImplementedError

    def read_names(self, plan: StepPlan) -> tuple[str, ...]:
        """Names of the tensors that ``compute`` takes behind the image: ``query_1`` is that of sub-network 1."""
        entries = tuple(f"{name}_{source}" for source in plan.sources for name in self.entry_names)
        return (*entries, *self.keyframe_names, MOTION) if plan.fused else entries

    def kept_names(self, plan: StepPlan) -> tuple[str, ...]:
        """Names of the tensors that ``compute`` gives behind the scores."""
        return self.entry_names if plan.fused else (*self.entry_names, *self.keyframe_names)

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

    def check_plan(self, plan: StepPlan, image: Tensor, motion: Tensor | None = None) -> None:
        """Raise StateError when the plan's scale leaves too little of the image, or when its motion cannot be used."""
        height, width = image.shape[2:]
        if not 0 < plan.scale <= 1 or min(reduced_size(height, width, plan.scale)) < SMALLEST_REDUCED:
            raise StateError(
                f"scale is {plan.scale}, expected at most 1 and at least {SMALLEST_REDUCED / min(height, width):.3f} "
                f"for a picture of {width}x{height}"
            )
        if not plan.fused:
            return
        if motion is None:
            raise StateError("motion is None, expected a tensor (B, 2 or 3, h, w) for a frame between keyframes")
        if motion.dim() != 4 or motion.shape[0] != image.shape[0] or motion.shape[1] not in (2, 3):
            raise StateError(f"motion has shape {tuple(motion.shape)}, expected ({image.shape[0]}, 2 or 3, h, w)")

    def scale_of(self, keyframe: bool, scale: float | None) -> float:
        """The scale of a step's plan. Raises StateError for a keyframe that is not at full resolution."""
        if not keyframe:
            return self.info.low_resolution if scale is None else scale
        if scale not in (None, 1):
            raise StateError(f"scale is {scale} and keyframe is True, expected 1: keyframes are at full resolution")
        return 1.0

    def advance(
        self,
        image: Tensor,
        state: Any,
        subnetwork: int = 0,
        keyframe: bool = True,
        motion: Tensor | None = None,
        scale: float | None = None,
    ) -> Advance:
        """Normalised image (B, 3, H, W) -> scores (B, classes, H/stride, W/stride) and the next state.

        The given state is never changed. ``image`` is at full resolution, for every frame; ``keyframe`` and ``scale``
        are those of ``plan``. In a network with keyframes a frame between them needs the ``motion`` from it to the
        keyframe: (B, 2 or 3, h, w) on any grid, see ``warping``; elsewhere motion is not looked at.
        Raises StateError when the image is no such tensor, when the state belongs to another network, batch or size,
        when there is no such sub-network, and for a scale or motion that cannot be used.
        """
        self.check(image, state, subnetwork)
        plan = self.plan(state, subnetwork, keyframe, scale)
        self.check_plan(plan, image, motion)
        cached = self.cached(state, plan)
        if plan.fused:
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

    def scores_over(self, scores: Tensor, height: int, width: int) -> Tensor:
        """Scores of a reduced picture on the grid of those of the whole one: (B, classes, H/stride, W/stride)."""
        stride = self.info.stride
        return upsample(scores, (-(-height // stride), -(-width // stride)), self.info.align_corners)

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


def reduced_size(height: int, width: int, scale: float) -> tuple[int, int]:
    """(h, w) of the picture that a step at that scale sees, rounded down."""
    return int(height * scale), int(width * scale)


def reduce(image: Tensor, scale: float) -> Tensor:
    """Image (B, 3, H, W) at that scale; at one half each pixel is the mean of 2x2."""
    height, width = image.shape[2:]
    return upsample(image, reduced_size(height, width, scale), align_corners=False)
