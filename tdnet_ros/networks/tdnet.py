"""TDNet: temporally distributed networks (Hu et al., CVPR 2020, arXiv 2004.01800).

Each frame runs one shallow sub-network; attention propagation recomposes the full feature from the newest entry
of every other sub-network. The step is a function of tensors: the state that it is given is never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from torch import Tensor, nn

from tdnet_ros.errors import StateError
from tdnet_ros.networks.attention import Encoder, Propagation, WindowEntry, positions
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan, image_size


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

    def push(self, subnetwork: int, entry: WindowEntry, image_size: tuple[int, int, int]) -> TDNetState:
        """The state after the sub-network encoded a frame."""
        slots = (*self.slots[:subnetwork], entry, *self.slots[subnetwork + 1 :])
        order = (*(source for source in self.order if source != subnetwork), subnetwork)
        return TDNetState(self.network, slots, order, image_size)


class Encoded(NamedTuple):
    """One frame on its own: query (B, d_k, h, w), key on the window's grid, value (B, d_v, h, w), details."""

    query: Tensor
    key: Tensor
    value: Tensor
    details: Sequence[Tensor]


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

    def classify(self, feature: Tensor, details: Sequence[Tensor]) -> Tensor:
        """Recomposed (or, without a window, own) value (B, d_v, h, w) -> scores (B, classes, ., .)."""
        scores: Tensor = self.head(self.norm(feature), details)
        return scores


class TDNet(SegmentationNetwork):
    """P sub-networks over a shared window. Built by ``tdnet_ros.networks.load_network``.

    Until every other sub-network has an entry a frame is segmented by its own path alone, as the official code does
    on its first frames.
    """

    kept_names = ("query", "key", "value")

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

    def plan(self, state: TDNetState, subnetwork: int) -> StepPlan:
        if not self.is_warm(state, subnetwork):
            return StepPlan(subnetwork)
        return StepPlan(subnetwork, tuple(source for source, _ in state.window(subnetwork)))

    def cached(self, state: TDNetState, plan: StepPlan) -> tuple[Tensor, ...]:
        """Query, key and value (B, N, d) of every source of the plan, oldest first."""
        entries = (state.slots[source] for source in plan.sources)
        return tuple(x for entry in entries if entry is not None for x in (entry.query, entry.key, entry.value))

    def compute(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        """Image and window -> scores (B, classes, h, w) and the frame's own query, key and value (B, N, d)."""
        encoded = self.encode(image, plan.subnetwork)
        tensors = len(self.kept_names)
        entries = [WindowEntry(*cached[first : first + tensors]) for first in range(0, len(cached), tensors)]
        window = list(zip(plan.sources, entries, strict=True))
        feature = self.recompose(encoded, window, plan.subnetwork) if window else encoded.value
        entry, details = self.entry(encoded), encoded.details
        del encoded  # norm and head are where the memory peaks: the frame's own value is not needed any more
        scores = self.subnetwork(plan.subnetwork).classify(feature, details)
        return scores, entry.query, entry.key, entry.value

    def remember(
        self, state: TDNetState, plan: StepPlan, image_size: tuple[int, int, int], kept: tuple[Tensor, ...]
    ) -> TDNetState:
        return state.push(plan.subnetwork, WindowEntry(*kept), image_size)

    def encode(self, image: Tensor, subnetwork: int) -> Encoded:
        """Normalised image (B, 3, H, W) -> what one sub-network alone makes of it."""
        network = self.subnetwork(subnetwork)
        z, details = network.path(image)
        # Keys are only ever asked for on the window's grid. Every layer of the encoder is 1x1, so subsampling its
        # input is the same as subsampling its output.
        key = network.encoder.key(z[..., :: self.window_stride, :: self.window_stride])
        return Encoded(network.encoder.query(z), key, network.encoder.value(z), details)

    def recompose(self, encoded: Encoded, window: Sequence[tuple[int, WindowEntry]], subnetwork: int) -> Tensor:
        """The frame's own value plus what the window, (source, entry) oldest first, propagates: (B, d_v, h, w)."""
        propagation = self.subnetwork(subnetwork).propagation
        propagated = propagation(positions(encoded.query), window)  # (B, h * w, d_v)
        result: Tensor = encoded.value + propagated.transpose(1, 2).unflatten(2, encoded.value.shape[2:])
        return result

    def entry(self, encoded: Encoded) -> WindowEntry:
        """What the frame leaves behind for later ones."""
        return WindowEntry(
            positions(encoded.query, self.window_stride),
            positions(encoded.key),
            positions(encoded.value, self.window_stride),
        )

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
