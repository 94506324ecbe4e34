"""The forward of a clip: the stream's scores, with gradients through every sub-network."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lively_weights import make_lively
from torch import Tensor

from tdnet_ros.errors import ConfigurationError, StateError
from tdnet_ros.networks.catalog import CATALOG, build_network, network_info
from tdnet_ros.networks.tdnet import TDNet
from tdnet_ros.training.auxiliary import AuxiliaryHeads
from tdnet_ros.training.clip import clip_forward
from tdnet_ros.training.losses import hard_pixel_cross_entropy

#: (name in the catalog, sub-networks, image height and width)
CASES = [("td2_mnv2", 2, (64, 97)), ("td2_mnv2", 4, (50, 64)), ("td4_psp18", 4, (33, 49))]


def network_of(name: str, subnetworks: int) -> TDNet:
    """That network of the catalog, of any number of paths, with seeded weights."""
    variant = replace(CATALOG[name], subnetworks=subnetworks)
    network = variant.build(replace(network_info(name), subnetworks=subnetworks))
    assert isinstance(network, TDNet)
    make_lively(network, 1, lambda: clip_forward(network, clip_of(network, (64, 64), batch=2), range(subnetworks)))
    return network


def clip_of(network: TDNet, size: tuple[int, int], batch: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return torch.randn(len(network.subnetworks), batch, 3, *size, generator=generator)


def orders(count: int) -> list[list[int]]:
    """The stream's order with every sub-network as the newest, and one that is out of turn."""
    cyclic = [[(first + step) % count for step in range(count)] for first in range(count)]
    return [*cyclic, list(range(count))[::-1]]


@pytest.mark.parametrize(("name", "subnetworks", "size"), CASES)
def test_a_clip_is_what_the_stream_makes_of_it(name: str, subnetworks: int, size: tuple[int, int]) -> None:
    network = network_of(name, subnetworks)
    images = clip_of(network, size, batch=2)
    with torch.no_grad():
        for order in orders(subnetworks):
            state = network.initial_state()
            for image, subnetwork in zip(images, order, strict=True):
                own = network.advance(image, network.initial_state(), subnetwork).scores
                scores, state = network.advance(image, state, subnetwork)
            ours = clip_forward(network, images, order)
            torch.testing.assert_close(ours.recomposed, scores, rtol=0, atol=1e-5)
            torch.testing.assert_close(ours.own_path, own, rtol=0, atol=1e-5)
            assert (scores - own).abs().max() > 1e-2, "the window matters"


@pytest.mark.parametrize(("name", "subnetworks", "size"), CASES)
def test_gradients_of_the_newest_frame_reach_every_part(name: str, subnetworks: int, size: tuple[int, int]) -> None:
    network = network_of(name, subnetworks)
    order = orders(subnetworks)[1]
    clip_forward(network, list(clip_of(network, size)), order).recomposed.square().sum().backward()
    for index in range(subnetworks):
        part = network.subnetwork(index)
        # Nothing is asked of the oldest frame's query, nor of the newest frame's key.
        used = [part.path, part.encoder.value]
        used += [part.encoder.query] if index != order[0] else []
        used += [part.encoder.key] if index != order[-1] else []
        used += [part.propagation, part.head] if index == order[-1] else []
        for module in used:
            reached = [p.grad is not None and bool(p.grad.abs().sum() > 0) for p in module.parameters()]
            assert sum(reached) >= 0.8 * len(reached) > 0, (index, module)


def test_a_clip_that_is_none_is_refused() -> None:
    network = network_of("td2_mnv2", 2)
    images = clip_of(network, (64, 64))
    with pytest.raises(StateError, match=r"order is \[0, 0\], expected each of the sub-networks 0\.\.1 once"):
        clip_forward(network, images, [0, 0])
    with pytest.raises(StateError, match="clip has 1 images, expected 2"):
        clip_forward(network, images[:1], [0, 1])
    with pytest.raises(StateError, match=r"\(1, 64, 64\) and \(1, 64, 96\), expected one size"):
        clip_forward(network, [images[0], torch.zeros(1, 3, 64, 96)], [0, 1])
    with pytest.raises(StateError, match="expected at least 32 px per side"):
        clip_forward(network, images[..., :16], [0, 1])


def test_auxiliary_heads_see_the_third_stage_and_leave_the_network_as_it_is() -> None:
    network = build_network("td4_psp18").train()
    assert isinstance(network, TDNet)
    keys = set(network.state_dict())
    heads = AuxiliaryHeads(network)
    images = clip_of(network, (33, 49), batch=2)
    with heads.listening(network) as features:
        clip_forward(network, images, [1, 2, 3, 0])
    assert sorted(features) == [0, 1, 2, 3]
    scores = heads(features[0], 0)
    assert scores.shape == (2, 19, 5, 7)
    hard_pixel_cross_entropy(scores, torch.zeros(2, 33, 49), True).backward()
    first = network.subnetwork(0).path.backbone
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in first.layer3.parameters())
    assert all(p.grad is None for p in first.layer4.parameters())
    assert all(p.grad is None for p in network.subnetwork(1).parameters())
    assert set(network.state_dict()) == keys
    kept = dict(features)
    network.encode(images[0], 0)
    assert kept[0] is features[0], "nothing listens any more"


def test_auxiliary_heads_need_a_third_stage() -> None:
    network = build_network("td2_mnv2")
    assert isinstance(network, TDNet)
    with pytest.raises(ConfigurationError, match="'td2_mnv2' has paths of type MobilePath"):
        AuxiliaryHeads(network)
