"""TDNet and AR-Seg in one network, at small sizes, with random weights whose batch norm statistics are calibrated."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from lively_weights import make_lively
from seeded_weights import seeded_picture
from torch import Tensor

from tdnet_ros.networks import build_network, load_network
from tdnet_ros.networks.network import StepPlan
from tdnet_ros.networks.tdar import TDAR, TDARState
from tdnet_ros.networks.tdnet import TDNet, TDNetState

SIZE = (90, 122)
SEED = 5


def picture(index: int, batch: int = 1) -> Tensor:
    return torch.cat([seeded_picture(index + 50 * member, *SIZE, SEED) for member in range(batch)])


def motion(batch: int = 1) -> Tensor:
    """None at all, and known everywhere."""
    return torch.cat((torch.zeros(batch, 2, 12, 16), torch.ones(batch, 1, 12, 16)), dim=1)


@pytest.fixture(scope="module")
def trained() -> dict[str, Tensor]:
    """Weights of a tdar_mnv2 whose batch norms have seen both resolutions."""
    network = build_network("tdar_mnv2")

    def forward() -> None:
        state = network.initial_state()
        for frame in range(4):
            images = picture(frame, batch=4)
            _, state = network.advance(images, state, frame % 2, frame < 2, motion(4))

    make_lively(network, 3, forward)
    return dict(network.state_dict())


@pytest.fixture(scope="module")
def network(trained: dict[str, Tensor]) -> Iterator[TDAR]:
    network = load_network("tdar_mnv2", trained)
    assert isinstance(network, TDAR)
    with torch.inference_mode():
        yield network


@pytest.fixture(scope="module")
def tdnet(trained: dict[str, Tensor]) -> TDNet:
    """The td2_mnv2 that a tdar_mnv2 is on keyframes."""
    network = load_network("td2_mnv2", trained)
    assert isinstance(network, TDNet) and not isinstance(network, TDAR)
    return network


def warm(network: TDNet, frames: int = 3) -> TDNetState:
    """The state after so many keyframes."""
    state = network.initial_state()
    for frame in range(frames):
        _, state = network.advance(picture(frame), state, frame % network.info.subnetworks)
    return state


def test_keyframes_are_what_the_tdnet_of_the_same_weights_makes_of_them(network: TDAR, tdnet: TDNet) -> None:
    state, other = network.initial_state(), tdnet.initial_state()
    for frame in range(5):
        scores, state = network.advance(picture(frame), state, frame % 2)
        expected, other = tdnet.advance(picture(frame), other, frame % 2)
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)
    assert isinstance(state, TDARState) and len(state.keyframe) == 2


def test_a_frame_between_keyframes_sees_window_keyframe_and_motion(network: TDAR) -> None:
    state = warm(network)
    plan = network.plan(state, 1, keyframe=False)
    assert plan == StepPlan(1, (0,), 0.5, fused=True)
    scores, after = network.advance(picture(3), state, 1, keyframe=False, motion=motion())
    assert scores.shape == (1, 11, 23, 31)
    assert after.keyframe is state.keyframe and after.order == (0, 1)
    gone = motion()
    gone[:, 2] = 0
    other_window = network.advance(picture(9), state, 0).state
    for changed, still in (
        (network.advance(picture(3), state, 1, keyframe=False, motion=gone), motion()),
        (network.advance(picture(3), other_window, 1, keyframe=False, motion=motion()), motion()),
        (network.advance(picture(3), state, 1, keyframe=False, motion=motion() + 8.0), motion()),
        (network.advance(picture(3), state, 1, keyframe=False, motion=motion(), scale=0.7), motion()),
    ):
        assert (changed.scores - scores).std() > 0.05 * scores.std(), still.shape
