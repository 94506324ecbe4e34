"""Layers that are faster on a CPU give what the plain ones give."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from seeded_weights import read_golden, sample_points, seeded_picture, seeded_weights
from torch import nn

from tdnet_ros.networks import load_network
from tdnet_ros.networks.acceleration import accelerate_for_cpu
from tdnet_ros.networks.attention import Attention, StripAttention
from tdnet_ros.networks.cpu_convolution import ConvBySize, PackedConv, fast_convolution
from tdnet_ros.networks.layers import ConvNorm
from tdnet_ros.networks.spatial_norm import SpatialLayerNorm, StripSpatialNorm
from tdnet_ros.networks.warping import RowWarp, StretchedWarp, Warp
from tdnet_ros.networks.winograd import WinogradConv


@pytest.mark.parametrize("height", [7, 8, 33])
@pytest.mark.parametrize("width", [8, 9])
def test_same_padding_is_tensorflows(height: int, width: int) -> None:
    torch.manual_seed(1)
    layer = ConvNorm(6, 6, 3, 2, groups=6, same=True).eval()
    x = torch.randn(2, 6, height, width)
    # An even length of stride 2 lacks one pixel, which comes behind the picture; an odd one lacks one on each side.
    near, lower = (0, 1) if width % 2 == 0 else (1, 1), (0, 1) if height % 2 == 0 else (1, 1)
    with torch.no_grad():
        expected = layer.norm(F.conv2d(F.pad(x, near + lower), layer.conv.weight, stride=2, groups=6))
        torch.testing.assert_close(layer(x), expected)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("batch", "inputs", "outputs", "height", "width", "dilation"),
    [
        (1, 16, 24, 9, 13, 1),
        (2, 16, 24, 8, 12, 2),
        (1, 8, 4, 1, 1, 1),
        (1, 4, 8, 5, 3, 4),  # smaller than its reach
        (1, 16, 16, 45, 60, 16),  # phases of different lengths
        (1, 64, 32, 97, 193, 8),  # several strips of phases
        (1, 64, 32, 97, 193, 1),  # several strips of rows
    ],
)
def test_winograd_is_the_convolution(
    batch: int, inputs: int, outputs: int, height: int, width: int, dilation: int, relu: bool
) -> None:
    torch.manual_seed(1)
    conv = nn.Conv2d(inputs, outputs, 3, padding=dilation, dilation=dilation, bias=not relu)
    x = torch.randn(batch, inputs, height, width)
    with torch.no_grad():
        exact = F.conv2d(x.double(), conv.weight.double(), None, 1, dilation, dilation)
        exact = exact if conv.bias is None else exact + conv.bias[:, None, None]
        exact = exact.relu() if relu else exact
        for layout in (torch.contiguous_format, torch.channels_last):
            result = WinogradConv(conv.weight, conv.bias, dilation, relu)(x.to(memory_format=layout))
            assert result.shape == exact.shape
            assert (result - exact).abs().max() < 1e-5


def test_winograd_is_deterministic_and_leaves_its_results_alone() -> None:
    torch.manual_seed(2)
    conv = nn.Conv2d(32, 32, 3, padding=2, dilation=2)
    wino = WinogradConv(conv.weight, conv.bias, dilation=2, relu=False)
    x = torch.randn(1, 32, 30, 41)
    first = wino(x)
    kept = first.clone()
    with torch.inference_mode():
        wino(torch.randn(1, 32, 120, 100))
    assert torch.equal(first, kept)
    assert torch.equal(wino(x), kept)


def test_attention_in_strips_is_the_attention(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(3)
    query, key, value = torch.randn(2, 101, 16), torch.randn(2, 37, 16), torch.randn(2, 37, 24)
    monkeypatch.setattr(StripAttention, "_STRIP_FLOATS", 2 * 37 * 10)
    torch.testing.assert_close(StripAttention()(query, key, value), Attention()(query, key, value))


def test_a_spatial_norm_in_strips_is_the_norm() -> None:
    torch.manual_seed(6)
    norm = SpatialLayerNorm(9, 13)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = torch.randn(2, 100, 12, 17).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(StripSpatialNorm(norm)(x), norm(x))


def test_an_accelerated_network_gives_the_official_logits_and_leaves_the_plain_one_alone() -> None:
    golden = read_golden(Path(__file__).parent / "golden" / "td4_psp18.npz")
    seed, points = golden.metadata["seed"], golden.metadata["points"]
    plain = load_network("td4_psp18", seeded_weights(golden.shapes, golden.statistics, seed))
    fast = accelerate_for_cpu(plain)
    assert any(isinstance(module, PackedConv) for module in fast.modules())
    assert not any(isinstance(module, (ConvBySize, PackedConv, StripAttention)) for module in plain.modules())
    first, height, width = stream = (1, 90, 118)
    state = fast.initial_state()
    for frame, expected in enumerate(golden.logits[stream][:5]):
        picture = seeded_picture(frame, height, width, seed).contiguous(memory_format=torch.channels_last)
        logits, state = fast.step(picture, state, (first + frame) % 4)
        ours = logits.flatten()[sample_points(frame, points, tuple(logits.shape), seed)]
        assert (ours - torch.from_numpy(expected)).abs().max() < 5e-4
    assert any(isinstance(module, WinogradConv) for module in fast.modules())


def test_bf16_keeps_narrow_convolutions_plain() -> None:
    fast = accelerate_for_cpu(load_network("td4_psp18", dtype=torch.bfloat16))
    layers = [module.direct for module in fast.modules() if isinstance(module, ConvBySize)]
    assert {layer.weight().shape[:2] for layer in layers if layer is not None} == {(256, 256), (512, 256), (512, 512)}
    assert not any(isinstance(module, PackedConv) for module in fast.modules())
    assert any(isinstance(module, StripAttention) for module in fast.modules())


@pytest.mark.parametrize("activation", [nn.Identity(), nn.ReLU(), nn.ReLU6(), nn.LeakyReLU(0.1)])
def test_weights_laid_out_once_give_what_the_convolution_gives_at_every_size(activation: nn.Module) -> None:
    torch.manual_seed(7)
    conv = nn.Conv2d(64, 48, 3, 2, 1)
    fast = fast_convolution(conv, activation)
    with torch.no_grad():
        for size in ((12, 15), (23, 30), (12, 15)):
            for layout in (torch.contiguous_format, torch.channels_last):
                x = torch.randn(2, 64, *size).contiguous(memory_format=layout)
                torch.testing.assert_close(fast(x), activation(conv(x)))
    assert torch.equal(fast.weight(), conv.weight)


def test_a_layer_turns_to_winograd_with_its_first_large_map() -> None:
    torch.manual_seed(8)
    conv = nn.Conv2d(128, 128, 3, padding=2, dilation=2)
    layer = ConvBySize(conv, nn.LeakyReLU(0.1))
    with torch.inference_mode():
        for size, large in (((9, 12), False), ((40, 60), True), ((9, 12), True)):
            x = torch.randn(1, 128, *size)
            torch.testing.assert_close(layer(x), F.leaky_relu(conv(x), 0.1), rtol=1e-4, atol=1e-4)
            assert (layer.winograd is not None) == (layer.direct is None) == large


def test_rows_of_channels_are_sampled_as_the_warp_samples() -> None:
    generator = torch.Generator().manual_seed(9)
    feature = torch.randn(2, 40, 7, 9, generator=generator)
    motion = 40 * torch.randn(2, 3, 7, 9, generator=generator)  # far beyond the border, too
    motion[:, 2] = (motion[:, 2] > 0).float()
    for warp in (Warp(), StretchedWarp()):
        torch.testing.assert_close(RowWarp(warp)(feature, motion, (56, 72)), warp(feature, motion, (56, 72)))


def test_winograd_in_bf16_loses_what_bf16_loses() -> None:
    torch.manual_seed(5)
    conv = nn.Conv2d(256, 256, 3, padding=2, dilation=2)
    x = torch.randn(1, 256, 13, 18).relu().bfloat16()
    exact = F.conv2d(x.float(), conv.weight, conv.bias, 1, 2, 2)
    result = WinogradConv(conv.weight, conv.bias, dilation=2, relu=False).bfloat16()(x)
    assert result.dtype == torch.bfloat16
    assert (result - exact).std() < 0.03 * exact.std()
