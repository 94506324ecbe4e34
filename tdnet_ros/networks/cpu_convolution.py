"""Convolutions that are faster on a CPU: weights laid out once for oneDNN, or Winograd's algorithm, as the map's size
has it.

torch hands oneDNN a convolution's weights as they are, and oneDNN arranges them anew in every call. On the small maps
of a reduced picture that takes longer than the convolution: of 256 to 512 channels, stride 2, at 12x15 pixels 3.1 ms of
one thread of an EPYC with AVX-512, 1.2 ms with weights laid out before.
"""

from __future__ import annotations

import platform
from functools import cache

import torch
from torch import Tensor, nn

from tdnet_ros.networks.winograd import TILE, WinogradConv

#: With fewer weights a call of its own takes as long as the two that it stands for.
_SMALLEST_PACKED = 1 << 10
#: Sizes of maps of which it is remembered that the weights' layout is right for them.
_MOST_SIZES = 64
#: With fewer channels the transforms of Winograd's algorithm cost what it saves. Measured at 60x45 pixels, one thread
#: of an EPYC with AVX-512: in fp32 0.8 times the speed of the direct convolution at 64 channels, 1.2 at 128,
#: 2.1 at 512; in bf16 0.7 at 128, 1.3 at 256, 2.8 at 512.
_WINOGRAD_CHANNELS = {torch.float32: 128, torch.bfloat16: 256}
#: Channels times tiles below which the map is too small: four times as many weights are read for too few products.
#: Of one thread, ms by Winograd and direct, weights laid out: 512 channels at 6x8 pixels 5.5 and 2.1, at 12x15 7.3 and
#: 7.6, at 23x30 19 and 26; 128 channels at 23x30 2.5 and 1.8, at 45x60 7.1 and 7.2.
_WINOGRAD_TILES = 8192

_Size = tuple[int, int]


class PlainConv(nn.Module):
    """A convolution and its activation as torch computes them."""

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self.conv = conv
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.activation(self.conv(x))
        return result

    def weight(self) -> Tensor:
        """(Cout, Cin, kh, kw)."""
        return self.conv.weight


class PackedConv(nn.Module):
    """A convolution and its activation as one call of oneDNN, weights laid out for it. For inference in fp32 on x86.

    They are laid out as the size of the last map wants it: otherwise oneDNN may take thirty times as long. More than
    half of the layers of ``td2_mnv2`` have one layout for all sizes. What is right for a new size stays where it is:
    laying out anew leaves holes among all that has been allocated since.
    """

    bias: Tensor | None

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self._geometry = conv.padding, conv.stride, conv.dilation, conv.groups
        self._activation = _name_in_onednn(activation) or ("none", [])
        # Not a buffer: once laid out it is opaque to all but oneDNN. One attribute, for threads that come together.
        self._fitted = conv.weight.detach(), frozenset[_Size]()
        self.register_buffer("bias", None if conv.bias is None else conv.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        weight, sizes = self._fitted
        if (x.shape[2], x.shape[3]) not in sizes:
            weight = self._fit(x)
        name, numbers = self._activation
        result: Tensor = torch.ops.mkldnn._convolution_pointwise(
            x, weight, self.bias, *self._geometry, name, numbers, ""
        )
        return result

    def weight(self) -> Tensor:
        """(Cout, Cin, kh, kw)."""
        weight, _ = self._fitted
        return weight.to_dense() if weight.is_mkldnn else weight

    def _fit(self, x: Tensor) -> Tensor:
        """The weights as maps of that size want them, which are those that are there if they are laid out so."""
        (weight, sizes), size = self._fitted, (x.shape[2], x.shape[3])
        fitting: Tensor = torch.ops.mkldnn._reorder_convolution_weight(
            self.weight(), *self._geometry, (1, *x.shape[1:])
        )
        if not weight.is_mkldnn or not torch.equal(_layout(weight), _layout(fitting)):
            weight, sizes = fitting, frozenset()
        self._fitted = weight, (sizes if len(sizes) < _MOST_SIZES else frozenset()) | {size}
        return weight


class ConvBySize(nn.Module):
    """A 3x3 convolution with stride 1 and its activation: direct on small maps, Winograd's algorithm on larger ones.

    Weights are held for one of the two: from the first large map on all are computed by Winograd's algorithm.
    """

    def __init__(self, conv: nn.Conv2d, activation: nn.Module) -> None:
        super().__init__()
        self._channels, self._dilation = min(conv.in_channels, conv.out_channels), int(conv.dilation[0])
        self._relu = isinstance(activation, nn.ReLU)
        self.activation = nn.Identity() if self._relu else activation  # behind Winograd's
        self.direct: PlainConv | PackedConv | None = fast_convolution(conv, activation)
        self.winograd: WinogradConv | None = None

    def forward(self, x: Tensor) -> Tensor:
        direct, winograd = self.direct, self.winograd
        if winograd is None:
            assert direct is not None, "one of the two is always there"
            if self._channels * self._tiles(x.shape[2]) * self._tiles(x.shape[3]) < _WINOGRAD_TILES:
                return direct(x)  # type: ignore[no-any-return]
            # Threads that come here together make it twice, alike.
            winograd = self._to_winograd(direct)
        result: Tensor = self.activation(winograd(x))
        return result

    def _tiles(self, length: int) -> int:
        return -(-length // (TILE * self._dilation)) * self._dilation

    def _to_winograd(self, direct: PlainConv | PackedConv) -> WinogradConv:
        with torch.inference_mode(False), torch.no_grad():
            bias = direct.conv.bias if isinstance(direct, PlainConv) else direct.bias
            winograd = WinogradConv(direct.weight(), bias, self._dilation, self._relu)
        self.winograd, self.direct = winograd, None
        return winograd


def fast_convolution(conv: nn.Conv2d, activation: nn.Module) -> PlainConv | PackedConv:
    """The convolution and its activation as they are fastest on a CPU whose torch has oneDNN."""
    small = conv.weight.numel() < _SMALLEST_PACKED or conv.groups > 1
    if small or conv.weight.dtype != torch.float32 or _name_in_onednn(activation) is None or not _has_packing():
        return PlainConv(conv, activation)
    return PackedConv(conv, activation)


def by_size(conv: nn.Conv2d) -> bool:
    """Whether Winograd's algorithm is ever worth while for such a convolution."""
    plain = conv.kernel_size == (3, 3) and conv.stride == (1, 1) and conv.padding == conv.dilation and conv.groups == 1
    enough = _WINOGRAD_CHANNELS.get(conv.weight.dtype)
    wide = enough is not None and min(conv.in_channels, conv.out_channels) >= enough
    return plain and wide and conv.dilation[0] == conv.dilation[1]


def _name_in_onednn(activation: nn.Module) -> tuple[str, list[float]] | None:
    """Name and numbers of an activation as torch's oneDNN operators have them; None where they have none."""
    if isinstance(activation, nn.LeakyReLU):
        return "leaky_relu", [activation.negative_slope]
    return {nn.Identity: ("none", []), nn.ReLU: ("relu", []), nn.ReLU6: ("hardtanh", [0.0, 6.0])}.get(type(activation))


def _layout(weight: Tensor) -> Tensor:
    """oneDNN's description of how weights lie in memory, as bytes."""
    description: Tensor = torch.ops.mkldnn._get_mkldnn_serialized_md(weight)
    return description


@cache
def _has_packing() -> bool:
    """Whether this torch can lay out weights once; on ARM that is another library's affair, and not measured."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    return hasattr(torch.ops.mkldnn, "_convolution_pointwise") and platform.machine().lower() in ("x86_64", "amd64")
