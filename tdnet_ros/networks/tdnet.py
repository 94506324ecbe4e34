"""TDNet: temporally distributed networks (Hu et al., CVPR 2020, arXiv 2004.01800).

Each frame runs one shallow sub-network; attention propagation recomposes the full feature from the newest entry
of every other sub-network. The step is a function of tensors: the state that it is given is never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar, cast

from torch import Tensor, nn

from tdnet_ros.errors import StateError
from tdnet_ros.networks.attention import Encoder, Propagation, WindowEntry, WindowGrid, positions
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan, image_size, reduce

State = TypeVar("State", bound="TDNetState")


@dataclass(frozen=True)
class TDNetState:
    """The window: by sub-network the entry of the newest frame that it encoded, and their age order.

    ``order`` lists the sub-networks that have an entry, oldest first. ``network`` is the name of the network whose
    entries they are, ``image_size`` (B, H, W) of the images that they were made from, None while there are none.
    """

    network: str
    slots: tuple[WindowEntry | None, ...]
    order: tuple[int, ...] = ()
    image_size: tuple[int, int, int] | None = None

    def window(self, subnetwork: int) -> list[tuple[int, WindowEntry]]:
        """(source, entry) of every other sub-network that has one, oldest first."""
        entries = [(source, self.slots[source]) for source in self.order if source != subnetwork]
        return [(source, entry) for source, entry in entries if entry is not None]

    def push(self: State, subnetwork: int, entry: WindowEntry, image_size: tuple[int, int, int]) -> State:
        """The state after the sub-network encoded a frame."""
        slots = (*self.slots[:subnetwork], entry, *self.slots[subnetwork + 1 :])
        order = (*(source for source in self.order if source != subnetwork), subnetwork)
        return replace(self, slots=slots, order=order, image_size=image_size)


class Encoded(NamedTuple):
    """One frame on its own: query (B, d_k, h, w), key on the window's grid, value (B, d_v, h, w), details."""

    query: Tensor
    key: Tensor
    value: Tensor
    details: Sequence[Tensor]
    grid: WindowGrid

    @property
    def entry(self) -> WindowEntry:
        """What the frame leaves behind for later ones."""
        query, value = (positions(self.grid.sample(x)) for x in (self.query, self.value))
        return WindowEntry(query, positions(self.key), value)


class Propagated(NamedTuple):
    """A frame's recomposed feature (B, d_v, h, w), or without a window its own value, its details and its entry."""

    feature: Tensor
    details: Sequence[Tensor]
    entry: WindowEntry


class SubNetwork(nn.Module):
    """One path: backbone and context, encoder, propagation, norm and head."""

    def __init__(
        self, path: nn.Module, encoder: Encoder, propagation: Propagation, norm: nn.Module, head: nn.Module
    ) -> None:
        super().__init__()
        self.path = path
        self.encoder = encoder
        self.propagation = propagation
        self.norm = norm
        self.head = head

    def encode(self, image: Tensor, window_stride: int, whole: tuple[int, int] | None = None) -> Encoded:
        """Normalised image (B, 3, H, W) -> what this sub-network alone makes of it.

        ``whole`` is the size (h, w) of the feature of the whole picture, if the image is a reduced one.
        """
        z, details = self.path(image)
        height, width = whole or z.shape[2:]
        grid = WindowGrid(height, width, window_stride)
        # Keys are only ever asked for on the window's grid. Every layer of the encoder is 1x1, so subsampling its
        # input is the same as subsampling its output.
        key = self.encoder.key(grid.sample(z))
        return Encoded(self.encoder.query(z), key, self.encoder.value(z), details, grid)

    def recompose(self, encoded: Encoded, window: Sequence[tuple[int, WindowEntry]]) -> Tensor:
        """The frame's own value plus what the window, (source, entry) oldest first, propagates: (B, d_v, h, w)."""
        propagated = self.propagation(positions(encoded.query), window)  # (B, h * w, d_v)
        result: Tensor = encoded.value + propagated.transpose(1, 2).unflatten(2, encoded.value.shape[2:])
        return result

    def classify(self, feature: Tensor, details: Sequence[Tensor]) -> Tensor:
        """Recomposed (or, without a window, own) value (B, d_v, h, w) -> scores (B, classes, ., .)."""
        scores: Tensor = self.head(self.norm(feature), details)
        return scores


class TDNet(SegmentationNetwork):
    """P sub-networks over a shared window. Built by ``tdnet_ros.networks.load_network``.

    Until every other sub-network has an entry a frame is segmented by its own path alone, as the official code does
    on its first frames.
    """

    entry_names = ("query", "key", "value")

    def __init__(self, subnetworks: Sequence[SubNetwork], window_stride: int, info: NetworkInfo) -> None:
        super().__init__(info)
        self.subnetworks = nn.ModuleList(subnetworks)
        self.window_stride = window_stride

    def subnetwork(self, index: int) -> SubNetwork:
        """The sub-network of that index, from 0."""
        return cast(SubNetwork, self.subnetworks[index])

    def initial_state(
        self, batch: int | None = None, height: int | None = None, width: int | None = None
    ) -> TDNetState:
        """An empty window."""
        return TDNetState(self.info.name, (None,) * len(self.subnetworks))

    def plan(
        self, state: TDNetState, subnetwork: int = 0, keyframe: bool = True, scale: float | None = None
    ) -> StepPlan:
        sources = tuple(source for source, _ in state.window(subnetwork)) if self.is_warm(state, subnetwork) else ()
        return StepPlan(subnetwork, sources, self.scale_of(keyframe, scale))

    def cached(self, state: TDNetState, plan: StepPlan) -> tuple[Tensor, ...]:
        """Query, key and value (B, N, d) of every source of the plan, oldest first."""
        entries = (state.slots[source] for source in plan.sources)
        return tuple(x for entry in entries if entry is not None for x in (entry.query, entry.key, entry.value))

    def compute(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        """Image and window -> scores (B, classes, h, w) and the frame's own query, key and value (B, N, d).

        A reduced picture's scores are brought to the grid of the whole one's.
        """
        branch = self.subnetwork(plan.subnetwork)
        feature, details, entry = self.propagate(branch, plan, image, cached)
        scores = branch.classify(feature, details)
        if plan.scale != 1:
            scores = self.scores_over(scores, *image.shape[2:])
        return scores, entry.query, entry.key, entry.value

    def propagate(self, branch: SubNetwork, plan: StepPlan, image: Tensor, cached: Sequence[Tensor]) -> Propagated:
        """The branch's feature of the image (B, 3, H, W), recomposed from the tensors of the plan's sources."""
        tensors = len(self.entry_names)
        entries = [WindowEntry(*cached[first : first + tensors]) for first in range(0, len(cached), tensors)]
        window = list(zip(plan.sources, entries, strict=True))
        if plan.scale == 1:
            encoded = branch.encode(image, self.window_stride)
        else:
            stride = cast(int, branch.path.stride)
            whole = -(-image.shape[2] // stride), -(-image.shape[3] // stride)
            encoded = branch.encode(reduce(image, plan.scale), self.window_stride, whole)
        # What is not returned is not needed any more: norm and head are where the memory peaks.
        feature = branch.recompose(encoded, window) if window else encoded.value
        return Propagated(feature, encoded.details, encoded.entry)

    def remember(
        self, state: TDNetState, plan: StepPlan, image_size: tuple[int, int, int], kept: tuple[Tensor, ...]
    ) -> TDNetState:
        return state.push(plan.subnetwork, WindowEntry(*kept), image_size)

    def encode(self, image: Tensor, subnetwork: int) -> Encoded:
        """Normalised image (B, 3, H, W) -> what one sub-network alone makes of it."""
        return self.subnetwork(subnetwork).encode(image, self.window_stride)

    def recompose(self, encoded: Encoded, window: Sequence[tuple[int, WindowEntry]], subnetwork: int) -> Tensor:
        """The frame's own value plus what the window, (source, entry) oldest first, propagates: (B, d_v, h, w)."""
        return self.subnetwork(subnetwork).recompose(encoded, window)

    def entry(self, encoded: Encoded) -> WindowEntry:
        """What the frame leaves behind for later ones."""
        return encoded.entry

    def is_warm(self, state: TDNetState, subnetwork: int = 0) -> bool:
        """Whether a step of this sub-network from this state has its whole window."""
        return len(state.window(subnetwork)) == len(self.subnetworks) - 1

    def check(self, image: Tensor, state: Any, subnetwork: int) -> None:
        super().check(image, state, subnetwork)
        if not isinstance(state, TDNetState) or state.network != self.info.name:
            owner = f"'{state.network}'" if isinstance(state, TDNetState) else f"{type(state).__name__}"
            raise StateError(f"state is of {owner}, expected one of '{self.info.name}': start from initial_state()")
        if state.image_size not in (None, image_size(image)):
            raise StateError(
                f"state is of (batch, height, width) {state.image_size}, expected that of the image, "
                f"{image_size(image)}: start from initial_state()"
            )
