"""FANet's parts as a path: what each makes of its input. Against the official code: see test_parity_clips.py."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from lively_weights import make_lively

from tdnet_ros.networks import TDNet, build_network
from tdnet_ros.networks.fanet import FANetPath, FastAttention, FramedConv


def test_fast_attention_is_that_of_all_pairs_of_positions() -> None:
    attention = FastAttention(12)
    x = torch.rand(2, 12, 5, 7, generator=torch.Generator().manual_seed(1)) - 0.5
    make_lively(attention, 3, lambda: attention(x))
    with torch.inference_mode():
        query, key = (F.normalize(part(x).flatten(2), dim=1) for part in (attention.query, attention.key))
        affinity = query.transpose(1, 2) @ key  # (2, 35, 35): the cosine of every pair
        attended = affinity @ attention.value(x).flatten(2).transpose(1, 2)
        expected = x + attention.lateral(attended.transpose(1, 2).reshape(x.shape))
        torch.testing.assert_close(attention(x), expected, rtol=1e-5, atol=1e-5)


def test_the_framed_convolution_grows_the_map_by_a_frame_that_knows_nothing_of_it() -> None:
    conv = FramedConv(6, 4, activation=torch.nn.LeakyReLU())
    x = torch.rand(1, 6, 5, 7, generator=torch.Generator().manual_seed(1))
    make_lively(conv, 3, lambda: conv(x))
    with torch.inference_mode():
        framed, nothing = conv(x), conv(torch.zeros(1, 6, 1, 1))
    assert framed.shape == (1, 4, 7, 9)
    frame = torch.ones(7, 9, dtype=torch.bool)
    frame[1:-1, 1:-1] = False
    assert torch.equal(framed[0, :, frame], nothing[0, :, 0, :1].expand(4, int(frame.sum())))
    assert not torch.equal(framed[0, :, ~frame], nothing[0, :, 0, :1].expand(4, 35))


def test_the_feature_is_an_eighth_of_the_image_and_every_weight_counts() -> None:
    path = FANetPath()
    image = torch.rand(2, 3, 90, 118, generator=torch.Generator().manual_seed(1))
    make_lively(path, 3, lambda: path(image))
    z, details = path(image)
    assert z.shape == (2, path.channels, 12, 15)
    assert not details
    z.square().sum().backward()
    assert [name for name, weight in path.named_parameters() if weight.grad is None or not weight.grad.any()] == []


def test_the_norm_has_a_weight_for_each_position_of_the_size_that_weights_are_for() -> None:
    network = build_network("td2_fa18")
    assert isinstance(network, TDNet)
    assert network.info.input_size == (768, 1536)
    assert network.subnetwork(0).norm.weight.shape == (96, 192)
