"""What a network costs, counted without computing it: parameters and multiply-accumulates.

Definitions. A MAC is one multiplication and one addition; GMAC = 1e9 of them, GFLOP = 2 GMAC. Counted are all
convolutions, matrix products and both products of every attention, as ``compute`` does them at that size, by torch's
flop counter on tensors without memory. Not counted: activations, norms (batch norm is folded into the convolutions),
softmax, pooling, upsampling and the decoding of the mask, which together are well below one percent.

``steady`` is a frame with its whole window, ``warm_up`` one without a window, as after a reset. For networks without
a memory they are the same. In a network with keyframes both are those of a keyframe, and ``between`` is a frame between
keyframes, the warping of the keyframe's feature (four products per number) counted too. In another network ``between``
is a frame at the scale that was asked for.

The official TD4-PSP18 counts 257.4 GMAC at 769x1537, of which 4.9 are the fully-connected layers of the attention at
the frame's resolution: here they run on the cached values, at a sixteenth of the positions. AR-Seg's local attention
counts 10/7 of what its definition needs, as a tile of positions meets all the neighbours that any of them needs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.catalog import build_network
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan, image_size


@dataclass(frozen=True)
class Cost:
    """``parameters`` of all sub-networks and those that one frame uses; GMAC of a frame at ``size`` (height, width).

    ``between_gmac`` is None in a network without keyframes.
    """

    size: tuple[int, int]
    parameters: int
    parameters_used: int
    steady_gmac: float
    warm_up_gmac: float
    between_gmac: float | None = None

    def mean_gmac(self, interval: int) -> float:
        """GMAC of a frame on average, if every ``interval``-th is a keyframe."""
        if self.between_gmac is None:
            return self.steady_gmac
        return (self.steady_gmac + (interval - 1) * self.between_gmac) / interval


def count_cost(network: str | NetworkInfo, size: tuple[int, int] | None = None, scale: float | None = None) -> Cost:
    """The cost of a network at a size (height, width), by default the one that its weights are made for.

    ``scale`` is that of the frames between keyframes, by default that of the weights. Raises ConfigurationError for an
    unknown network or a size below its minimum.
    """
    with torch.device("meta"):
        built = build_network(network).eval()
    size = size or built.info.input_size
    if min(size) < built.info.minimum_size:
        raise ConfigurationError(
            f"size is {size[1]}x{size[0]}, expected at least {built.info.minimum_size} px per side"
        )
    every = sum(parameter.numel() for parameter in built.parameters())
    others = sum(parameter.numel() for name, parameter in built.named_parameters() if _subnetwork(name) > 0)
    image = torch.empty((1, 3, *size), device="meta")
    state = built.initial_state()
    warm_up, kept = _count_step(built, image, state, built.plan(state))
    # All sub-networks of a network are alike: what one keeps has the shapes of what another keeps.
    for subnetwork in range(built.info.subnetworks):
        state = built.remember(state, StepPlan(subnetwork), image_size(image), kept)
    plan = built.plan(state)
    steady = _count_step(built, image, state, plan)[0] if plan.sources else warm_up
    if built.info.keyframe_interval == 1 and scale is None:
        return Cost(size, every, every - others, steady, warm_up)
    plan = built.plan(state, keyframe=False, scale=scale)
    motion = torch.empty((1, 2, -(-size[0] // 8), -(-size[1] // 8)), device="meta")
    between, _ = _count_step(built, image, state, plan, *((motion,) if plan.fused else ()))
    # A frame of AR-Seg uses one of two branches; that of the frames between keyframes has the fusion behind it.
    idle = sum(parameter.numel() for name, parameter in built.named_parameters() if name.startswith("high."))
    return Cost(size, every, every - others - idle, steady, warm_up, between)


def _subnetwork(parameter: str) -> int:
    family, _, rest = parameter.partition(".")
    return int(rest.partition(".")[0]) if family in ("subnetworks", "low") and rest[0].isdigit() else 0


@torch.no_grad()
def _count_step(
    network: SegmentationNetwork, image: Tensor, state: Any, plan: StepPlan, *motion: Tensor
) -> tuple[float, tuple[Tensor, ...]]:
    """GMAC of a step and the tensors that it keeps."""
    with FlopCounterMode(display=False, custom_mapping=_UNCOUNTED) as counter:
        _, *kept = network.compute(plan, image, *network.cached(state, plan), *motion)
    return counter.get_total_flops() / 2e9, tuple(kept)


def _sampling_flops(feature: Sequence[int], grid: Sequence[int], *_: Any, **__: Any) -> int:
    """Bilinear sampling: four multiply-accumulates for every number that comes out, B * C * H * W of them."""
    return 2 * 4 * feature[0] * feature[1] * grid[1] * grid[2]


def _product_flops(total: Sequence[int], left: Sequence[int], right: Sequence[int], **_: Any) -> int:
    """A batch of products of matrices, (b, n, m) and (b, m, k)."""
    return 2 * left[0] * left[1] * left[2] * right[2]


#: What torch's counter does not know: sampling, and a product that is added in place.
_UNCOUNTED = {torch.ops.aten.grid_sampler_2d: _sampling_flops, torch.ops.aten.baddbmm_: _product_flops}
