"""The same network with layers that are faster on a CPU, put in place of the plain ones once it is loaded."""

from __future__ import annotations

import copy
from typing import TypeVar

from torch import nn

from tdnet_ros.networks.attention import Propagation, StripAttention
from tdnet_ros.networks.cpu_convolution import ConvBySize, by_size, fast_convolution
from tdnet_ros.networks.layers import ConvNorm
from tdnet_ros.networks.spatial_norm import SpatialLayerNorm, StripSpatialNorm
from tdnet_ros.networks.warping import RowWarp, Warp

_Network = TypeVar("_Network", bound=nn.Module)


def accelerate_for_cpu(network: _Network) -> _Network:
    """A copy for inference on a CPU, of a network in eval mode with folded batch norms; see ``load_network``.

    It shares the weights with the given network, but for what ``cpu_convolution`` has in another layout; of 3x3
    convolutions with stride 1 and 128 channels or more (in bf16 256) that have met a large map it has transformed ones,
    four times as many: drop the given network to have the memory back. In
    fp32 its scores are as far from exact arithmetic as those of torch's convolutions for channels-last; in bf16 a
    layer's error is some five times that of a direct convolution, whose inputs are rounded to eight bits too.
    Not for training, compiling or export: those want the plain layers.
    """
    shared = {id(tensor): tensor for tensor in (*network.parameters(), *network.buffers())}
    network = copy.deepcopy(network, shared)
    for module in list(network.modules()):
        if isinstance(module, ConvNorm):
            _accelerate_convolution(module)
        elif isinstance(module, Propagation):
            module.attention = StripAttention()
        for name, child in list(module.named_children()):
            if isinstance(child, SpatialLayerNorm):
                module.add_module(name, StripSpatialNorm(child))
            elif isinstance(child, Warp):
                module.add_module(name, RowWarp(child))
    return network


def _accelerate_convolution(module: ConvNorm) -> None:
    conv = module.conv
    # With TensorFlow's padding the weights' shape depends on the picture's.
    if not isinstance(conv, nn.Conv2d) or not isinstance(module.norm, nn.Identity) or module.same:
        return
    module.add_module("conv", (ConvBySize if by_size(conv) else fast_convolution)(conv, module.activation))
    module.activation = nn.Identity()
