"""The same network with layers that are faster on a CPU, put in place of the plain ones once it is loaded."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn

from tdnet_ros.networks.attention import Propagation, StripAttention
from tdnet_ros.networks.layers import ConvNorm
from tdnet_ros.networks.spatial_norm import SpatialLayerNorm, StripSpatialNorm
from tdnet_ros.networks.winograd import WinogradConv

_Network = TypeVar("_Network", bound=nn.Module)

#: With fewer channels the transforms of Winograd's algorithm cost what it saves. Measured at 60x45 pixels, one thread
#: of an EPYC with AVX-512: in fp32 0.8 times the speed of the direct convolution at 64 channels, 1.2 at 128,
#: 2.1 at 512; in bf16 0.7 at 128, 1.3 at 256, 2.8 at 512.
_WINOGRAD_CHANNELS = {torch.float32: 128, torch.bfloat16: 256}


def accelerate_for_cpu(network: _Network) -> _Network:
    """A copy for inference on a CPU, of a network in eval mode with folded batch norms; see ``load_network``.

    It shares the weights with the given network, but for 3x3 convolutions with stride 1 and 128 channels or more (in
    bf16 256), of which it has transformed ones, four times as many: drop the given network to have the memory back. In
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
    return network


def _accelerate_convolution(module: ConvNorm) -> None:
    conv = module.conv
    if not isinstance(conv, nn.Conv2d) or not isinstance(module.norm, nn.Identity):
        return
    plain = conv.kernel_size == (3, 3) and conv.stride == (1, 1) and conv.padding == conv.dilation and conv.groups == 1
    enough = _WINOGRAD_CHANNELS.get(conv.weight.dtype)
    wide = enough is not None and min(conv.in_channels, conv.out_channels) >= enough
    if plain and wide and conv.dilation[0] == conv.dilation[1]:
        relu = isinstance(module.activation, nn.ReLU)
        module.add_module("conv", WinogradConv(conv, relu))
        module.activation = nn.Identity() if relu else module.activation
