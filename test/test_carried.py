"""Scores that are carried from one keyframe to the next."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks.analytic_clip import DriveClip
from tdnet_ros.errors import ConfigurationError, StateError
from tdnet_ros.networks import build_network, load_network
from tdnet_ros.networks.cost import count_cost
from tdnet_ros.networks.network import SegmentationNetwork
from tdnet_ros.streaming import Segmenter, StreamSettings
from tdnet_ros.streaming.models import shipped_weights
from tdnet_ros.training.bdnet_stage import BDNetStage
from tdnet_ros.training.configuration import StageSettings
from tdnet_ros.video.frame import Frame

SIZE = (64, 96)


def picture(seed: int) -> torch.Tensor:
    return torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network() -> SegmentationNetwork:
    return load_network("carried_mnv2", shipped_weights("carried_mnv2"))


def test_a_keyframe_is_what_bdnet_and_tdnet_say(network: SegmentationNetwork) -> None:
    first = picture(1)
    scores = network.advance(first, network.initial_state()).scores
    for model in ("bdnet_mnv2", "td2_mnv2"):
        other = load_network(model, shipped_weights(model))
        expected = other.advance(first, other.initial_state()).scores
        torch.testing.assert_close(scores, expected, rtol=1e-3, atol=1e-3)


def test_between_keyframes_the_scores_move_and_the_image_is_not_looked_at(network: SegmentationNetwork) -> None:
    key, state = network.advance(picture(1), network.initial_state())
    motion = torch.zeros(1, 3, 8, 12)
    motion[:, 0] = 2 * network.info.stride
    moved = network.advance(picture(2), state, keyframe=False, motion=motion)
    torch.testing.assert_close(moved.scores[..., :-2], key[..., 2:], rtol=1e-4, atol=1e-4)
    assert moved.state is state, "an error of the motion is not handed on"
    assert torch.equal(network.advance(picture(3), state, keyframe=False, motion=motion).scores, moved.scores)
    with pytest.raises(StateError, match="the state has no keyframe"):
        network.step(picture(1), network.initial_state(), keyframe=False, motion=motion)


def test_frames_between_cost_next_to_nothing() -> None:
    cost, whole = count_cost("carried_mnv2", SIZE), count_cost("bdnet_mnv2", SIZE)
    assert cost.between_gmac is not None and whole.between_gmac is not None
    assert cost.steady_gmac == pytest.approx(whole.steady_gmac)
    assert cost.between_gmac < 0.2 * whole.between_gmac


def test_it_is_recognised_and_not_trained_by_itself() -> None:
    network = build_network("carried_mnv2")
    assert load_network(None, network.state_dict()).info.name == "carried_mnv2"
    assert network.info.keyframe_interval == 3
    with pytest.raises(ConfigurationError, match="trains 'carried_mnv2', expected a bdnet"):
        BDNetStage(network, StageSettings(kind="bdnet"), None)


def test_between_keyframes_there_is_no_scale_to_lower_and_none_is_told() -> None:
    """A budget that is missed makes keyframes rarer at once."""
    settings = StreamSettings(low_resolution=0.4, latency_budget_ms=1e-3, motion="flow", cut_threshold=1.0)
    segmenter = Segmenter("carried_mnv2", device="cpu", input_height=SIZE[0], settings=settings)
    assert settings.scales(segmenter.network.info) == [1.0]
    stream, clip = segmenter.stream(), DriveClip(*SIZE, seed=1)
    plans = [stream.step(Frame(clip.picture(index), stamp_ns=index + 1)).plan for index in range(12)]
    assert {plan.scale for plan in plans} == {1.0}
    keyframes = [index for index, plan in enumerate(plans) if plan.keyframe]
    assert np.diff(keyframes).max() > segmenter.network.info.keyframe_interval
