"""TDNet: temporally distributed networks (Hu et al., CVPR 2020, arXiv 2004.01800).

Each frame runs one shallow sub-network; attention propagation recomposes the full feature from the newest entry
of every other sub-network. The step is a function of tensors: the state that it is given is never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from torch import Tensor, nn

from tdnet_ros.errors import StateError
from tdnet_ros.networks.attention import Encoder, Propagation, WindowEntry, positions
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.layers import upsample
from tdnet_ros.networks.masks import Decoded, decode_mask


class PathFeature(NamedTuple):
    """A path's feature z (B, C, h, w) and the finer features of the same frame that its head may want."""

    z: Tensor
    details: Sequence[Tensor]


@dataclass(frozen=True)
class TDNetState:
    """The window: by sub-network the entry of the newest frame that it encoded, and their age order.

    ``order`` lists the sub-networks that have an entry, oldest first. ``grid`` is (batch, h, w) of the entries,
    None while there are none.
    """

    slots: tuple[WindowEntry | None, ...]
    order: tuple[int, ...] = ()
    grid: tuple[int, int, int] | None = None

    def window(self, subnetwork: int) -> list[tuple[int, WindowEntry]]:
        """(source, entry) of every other sub-network that has one, oldest first."""
        entries = [(source, self.slots[source]) for source in self.order if source != subnetwork]
        return [(source, entry) for source, entry in entries if entry is not None]

    def push(self, subnetwork: int, entry: WindowEntry, grid: tuple[int, int, int]) -> TDNetState:
        """The state after the sub-network encoded a frame."""
        slots = (*self.slots[:subnetwork], entry, *self.slots[subnetwork + 1 :])
        order = (*(source for source in self.order if source != subnetwork), subnetwork)
        return TDNetState(slots, order, grid)


class Encoded(NamedTuple):
    """One frame on its own: query (B, d_k, h, w), key on the window's grid, value (B, d_v, h, w), details."""

    query: Tensor
    key: Tensor
    value: Tensor
    details: Sequence[Tensor]

    @property
    def grid(self) -> tuple[int, int, int]:
        """(batch, h, w) of the frame's feature map."""
        return self.value.shape[0], self.value.shape[2], self.value.shape[3]


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


class Advance(NamedTuple):
    """Result of one step at feature resolution: scores (B, classes, h, w) and the next state."""

    scores: Tensor
    state: TDNetState


class TDNet(nn.Module):
    """P sub-networks over a shared window. Built by ``tdnet_ros.networks.load_network``."""

    def __init__(self, subnetworks: Sequence[SubNetwork], window_stride: int, info: NetworkInfo) -> None:
        super().__init__()
        self.subnetworks = nn.ModuleList(subnetworks)
        self.window_stride = window_stride
        self.info = info

    def subnetwork(self, index: int) -> SubNetwork:
        """The sub-network of that index, from 0."""
        return cast(SubNetwork, self.subnetworks[index])

    def initial_state(
        self, batch: int | None = None, height: int | None = None, width: int | None = None
    ) -> TDNetState:
        """An empty window. The sizes are taken from the first step, so the arguments may stay away."""
        return TDNetState((None,) * len(self.subnetworks))

    def advance(self, image: Tensor, state: TDNetState, subnetwork: int) -> Advance:
        """Normalised image (B, 3, H, W) -> scores (B, classes, H/stride, W/stride) and the next state.

        Until every other sub-network has an entry the frame is segmented by its own path alone. Raises StateError
        when the state belongs to another network, batch or size, or when there is no such sub-network.
        """
        encoded = self.encode(image, subnetwork)
        feature = self.recompose(encoded, state, subnetwork)
        scores = self.subnetwork(subnetwork).classify(feature, encoded.details)
        return Advance(scores, self.remember(encoded, state, subnetwork))

    def encode(self, image: Tensor, subnetwork: int) -> Encoded:
        """Normalised image (B, 3, H, W) -> what one sub-network alone makes of it."""
        self._check_image(image, subnetwork)
        network = self.subnetwork(subnetwork)
        z, details = network.path(image)
        # Keys are only ever asked for on the window's grid. Every layer of the encoder is 1x1, so subsampling its
        # input is the same as subsampling its output.
        key = network.encoder.key(z[..., :: self.window_stride, :: self.window_stride])
        return Encoded(network.encoder.query(z), key, network.encoder.value(z), details)

    def recompose(self, encoded: Encoded, state: TDNetState, subnetwork: int) -> Tensor:
        """The frame's own value plus what the window propagates to it: (B, d_v, h, w).

        Without the whole window it is the own value alone, as the official code does on its first frames. Raises
        StateError when the state belongs to another network, batch or size.
        """
        self._check_state(state, encoded)
        if not self.is_warm(state, subnetwork):
            return encoded.value
        propagation = self.subnetwork(subnetwork).propagation
        propagated = propagation(positions(encoded.query), state.window(subnetwork))  # (B, h * w, d_v)
        result: Tensor = encoded.value + propagated.transpose(1, 2).unflatten(2, encoded.grid[1:])
        return result

    def remember(self, encoded: Encoded, state: TDNetState, subnetwork: int) -> TDNetState:
        """The state with this frame as the sub-network's newest entry."""
        entry = WindowEntry(
            positions(encoded.query, self.window_stride),
            positions(encoded.key),
            positions(encoded.value, self.window_stride),
        )
        return state.push(subnetwork, entry, encoded.grid)

    def step(self, image: Tensor, state: TDNetState, subnetwork: int) -> Advance:
        """As ``advance`` with the scores upsampled to logits (B, classes, H, W)."""
        scores, state = self.advance(image, state, subnetwork)
        size = (image.shape[2], image.shape[3])
        return Advance(upsample(scores, size, self.info.align_corners), state)

    def decode_mask(self, scores: Tensor, size: tuple[int, int], confidence: bool = False) -> Decoded:
        """Scores (B, classes, h, w) -> mask and confidence (B, H, W) uint8 of that size (H, W)."""
        return decode_mask(scores, size, self.info.align_corners, confidence)

    def is_warm(self, state: TDNetState, subnetwork: int) -> bool:
        """Whether a step of this sub-network from this state has its whole window."""
        return len(state.window(subnetwork)) == len(self.subnetworks) - 1 > 0

    def _check_image(self, image: Tensor, subnetwork: int) -> None:
        if not 0 <= subnetwork < len(self.subnetworks):
            raise StateError(f"subnetwork is {subnetwork}, expected 0..{len(self.subnetworks) - 1}")
        if image.dim() != 4 or image.shape[1] != 3:
            raise StateError(f"image has shape {tuple(image.shape)}, expected (B, 3, H, W)")
        if min(image.shape[2], image.shape[3]) < self.info.minimum_size:
            raise StateError(
                f"image is {image.shape[3]}x{image.shape[2]}, expected at least {self.info.minimum_size} px per side"
            )

    def _check_state(self, state: TDNetState, encoded: Encoded) -> None:
        if len(state.slots) != len(self.subnetworks):
            raise StateError(f"state has {len(state.slots)} slots, this network {len(self.subnetworks)} sub-networks")
        if state.grid not in (None, encoded.grid):
            raise StateError(
                f"state is of (batch, h, w) {state.grid}, this image gives {encoded.grid}: start from initial_state()"
            )
        channels = {entry.value.shape[2] for entry in state.slots if entry is not None}
        if channels - {encoded.value.shape[1]}:
            raise StateError(f"state has values of {channels} channels, this network of {encoded.value.shape[1]}")
