"""BDNet's step contract: what propagates, what it costs, and that frames between keyframes do not look at the image."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lively_weights import make_lively
from torch import Tensor

from tdnet_ros.errors import StateError
from tdnet_ros.networks import build_network, load_network
from tdnet_ros.networks.bdnet import AtrousPyramid, BDNet
from tdnet_ros.networks.checkpoints import save_checkpoint
from tdnet_ros.networks.cost import count_cost
from tdnet_ros.networks.layers import fold_batch_norm
from tdnet_ros.networks.metadata import to_metadata
from tdnet_ros.networks.network import StepPlan
from tdnet_ros.streaming.models import shipped_weights

SIZE = (64, 96)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module", params=["bdnet18", "bdnet_mnv2"])
def network(request: pytest.FixtureRequest) -> Iterator[BDNet]:
    network = build_network(request.param)
    assert isinstance(network, BDNet)
    pictures = random(4, 3, *SIZE, seed=1)
    make_lively(network, 1, lambda: network.advance(pictures, network.initial_state()))
    fold_batch_norm(network)
    with torch.inference_mode():
        yield network


def test_a_frame_between_keyframes_is_the_keyframe_moved(network: BDNet) -> None:
    """By whole positions of the feature, away from the borders; whatever its own image shows."""
    first, second = random(1, 3, *SIZE), random(1, 3, *SIZE, seed=2)
    key, state = network.advance(first, network.initial_state())
    assert state.feature.shape[2:] == (SIZE[0] // network.info.stride, SIZE[1] // network.info.stride)
    still = network.advance(second, state, keyframe=False, motion=torch.zeros(1, 3, 8, 12))
    torch.testing.assert_close(still.scores, key, rtol=1e-4, atol=1e-4)
    assert still.state is state
    motion = torch.zeros(1, 3, 8, 12)
    motion[:, 0] = 2 * network.info.stride
    moved = network.head(state.feature[..., 2:])
    scores = network.advance(second, state, keyframe=False, motion=motion).scores
    # The last columns come from beyond the border, which dilated kernels see from afar; the light head's do not.
    if network.info.name == "bdnet_mnv2":
        torch.testing.assert_close(scores[..., :-3], moved[..., :-1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.propagate(state.feature, motion, SIZE)[..., :-2], state.feature[..., 2:])


def test_guessed_motion_is_followed(network: BDNet) -> None:
    """There is no other feature to take where the bitstream knows no motion, and zeros would be worse."""
    state = network.advance(random(1, 3, *SIZE), network.initial_state()).state
    known, guessed = torch.full((1, 3, 8, 12), 5.0), torch.full((1, 3, 8, 12), 5.0)
    known[:, 2], guessed[:, 2] = 1, 0
    picture = random(1, 3, *SIZE, seed=3)
    one, other = (network.advance(picture, state, keyframe=False, motion=m).scores for m in (known, guessed))
    assert torch.equal(one, other)


def test_plans_and_steps_that_cannot_be_made(network: BDNet) -> None:
    picture, motion = random(1, 3, *SIZE), torch.zeros(1, 3, 8, 12)
    start = network.initial_state()
    state = network.advance(picture, start).state
    assert network.info.keyframe_interval == 5
    assert network.plan(start) == network.plan(state) == StepPlan(0)
    assert network.plan(state, keyframe=False, scale=0.3) == StepPlan(0, fused=True)  # nothing is encoded at a scale
    with pytest.raises(StateError, match="the state has no keyframe"):
        network.step(picture, start, keyframe=False, motion=motion)
    with pytest.raises(StateError, match="motion is None"):
        network.step(picture, state, keyframe=False)


def test_a_batch_is_its_images_one_by_one(network: BDNet) -> None:
    pictures, motion = random(2, 3, *SIZE, seed=5), 9 * random(2, 3, 8, 12, seed=7)
    together = network.advance(pictures, network.initial_state()).state
    scores = network.advance(pictures, together, keyframe=False, motion=motion).scores
    for index in range(2):
        one = slice(index, index + 1)
        state = network.advance(pictures[one], network.initial_state()).state
        alone = network.advance(pictures[one], state, keyframe=False, motion=motion[one]).scores
        torch.testing.assert_close(scores[one], alone, rtol=1e-3, atol=1e-3)


def test_the_pyramid_is_the_sum_of_its_dilated_convolutions() -> None:
    pyramid, feature = AtrousPyramid(4, 3).double(), random(1, 4, 50, 50).double()
    summed = torch.zeros(1, 3, dtype=torch.float64)
    for branch, dilation in zip(pyramid.branches, (6, 12, 18, 24), strict=True):
        reached = F.pad(feature, [30] * 4)[:, :, 55 - dilation : 56 + dilation : dilation]
        taps = reached[..., 50 - dilation : 51 + dilation : dilation]
        summed += torch.einsum("bcij,ocij->bo", taps, branch.weight) + branch.bias
    torch.testing.assert_close(pyramid(feature)[:, :, 25, 20], summed)


@pytest.mark.parametrize("model", ["bdnet18", "bdnet50", "bdnet101", "bdnet_mnv2"])
def test_frames_between_keyframes_cost_little(model: str) -> None:
    """Less than a tenth of a keyframe, so that at interval 5 the mean is below 0.28 of the single-frame network."""
    cost = count_cost(model, (96, 128))
    assert cost.between_gmac is not None and 0 < cost.between_gmac < 0.1 * cost.steady_gmac
    assert cost.mean_gmac(5) < 0.28 * cost.steady_gmac


def test_own_files_are_recognised_and_keep_the_interval(tmp_path: Path) -> None:
    network = build_network("bdnet_mnv2")
    assert load_network(None, network.state_dict()).info == network.info
    save_checkpoint(tmp_path / "said.safetensors", network.state_dict(), to_metadata(network.info))
    assert load_network(None, tmp_path / "said.safetensors").info.keyframe_interval == 5


def test_the_light_one_begins_as_the_first_path_of_its_tdnet() -> None:
    tdnet, picture = load_network("td2_mnv2", shipped_weights("td2_mnv2")), random(1, 3, *SIZE)
    light = load_network("bdnet_mnv2", shipped_weights("td2_mnv2"))
    assert light.info.keyframe_interval == 5 and light.info.labels == tdnet.info.labels
    with torch.inference_mode():
        expected = tdnet.advance(picture, tdnet.initial_state()).scores
        torch.testing.assert_close(light.advance(picture, light.initial_state()).scores, expected, rtol=1e-3, atol=1e-3)
