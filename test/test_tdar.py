"""TDNet and AR-Seg in one network, at small sizes, with random weights whose batch norm statistics are calibrated.

When which frame is a keyframe: test_alternation.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from lively_weights import make_lively
from seeded_weights import seeded_picture
from torch import Tensor

from tdnet_ros.errors import CheckpointError, StateError
from tdnet_ros.networks import build_network, load_network
from tdnet_ros.networks.attention import WindowGrid
from tdnet_ros.networks.checkpoints import read_checkpoint, save_checkpoint
from tdnet_ros.networks.cost import count_cost
from tdnet_ros.networks.loading import build_loaded, info_of
from tdnet_ros.networks.metadata import to_metadata
from tdnet_ros.networks.network import StepPlan
from tdnet_ros.networks.tdar import TDAR, TDARState, take_over
from tdnet_ros.networks.tdnet import TDNet, TDNetState

#: Not a multiple of 8 or 16: every count is rounded.
SIZE = (90, 122)
SEED = 5
#: (sub-network, keyframe) of the frames of a stream.
GROUP = ((0, True), (1, False), (0, False), (1, True), (0, False), (1, False))


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
            _, state = network.advance(picture(frame, 2), state, frame % 2, frame < 2, motion(2))

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
        state = network.advance(picture(frame), state, frame % network.info.subnetworks).state
    return state


def stream(network: TDAR, pictures: Sequence[Tensor]) -> Iterator[Tensor]:
    """Scores of frame after frame, by the plan of ``GROUP``."""
    state = network.initial_state()
    for image, (subnetwork, keyframe) in zip(pictures, GROUP, strict=True):
        scores, state = network.advance(image, state, subnetwork, keyframe, motion(len(image)))
        yield scores


def test_with_an_interval_of_one_it_is_the_tdnet_of_the_same_weights(network: TDAR, tdnet: TDNet) -> None:
    """With its channel norm; the batch norms of the full resolution, and one classifier for both sub-networks."""
    state, other = network.initial_state(), tdnet.initial_state()
    for frame in range(5):
        scores, state = network.advance(picture(frame), state, frame % 2)
        expected, other = tdnet.advance(picture(frame), other, frame % 2)
        torch.testing.assert_close(scores, expected, rtol=0, atol=1e-5)


def test_a_frame_between_keyframes_sees_window_keyframe_motion_and_scale(network: TDAR) -> None:
    state = warm(network)
    assert network.plan(state, 1, keyframe=False) == StepPlan(1, (0,), 0.5, fused=True)
    scores, after = network.advance(picture(3), state, 1, keyframe=False, motion=motion())
    assert scores.shape == network.advance(picture(3), state, 1).scores.shape == (1, 11, 23, 31)
    assert isinstance(after, TDARState) and isinstance(state, TDARState)
    assert after.keyframe is state.keyframe and after.order == (0, 1)
    unknown = motion()
    unknown[:, 2] = 0
    other_window, other_keyframe = (
        TDARState(**{field.name: getattr(source, field.name) for field in fields(state)} | {"keyframe": kept})
        for source, kept in ((warm(network, 5), state.keyframe), (state, warm(network, 5).keyframe))  # type: ignore[attr-defined]
    )
    for given, field, scale in (
        (state, unknown, None),
        (state, motion() + 8.0, None),
        (state, motion(), 0.7),
        (other_window, motion(), None),
        (other_keyframe, motion(), None),
    ):
        changed = network.advance(picture(3), given, 1, keyframe=False, motion=field, scale=scale).scores
        assert (changed - scores).std() > 0.02 * scores.std()


def test_without_motion_the_keyframes_own_picture_is_fused_with_the_keyframes_feature(network: TDAR) -> None:
    """The raised low-resolution one, plus the attention over the keyframe's, and that itself where they are alike."""
    state = network.initial_state()
    keyframe = network.observe(StepPlan(0), picture(0))
    state = network.remember(state, StepPlan(0), (1, *SIZE), keyframe.kept)
    plan = network.plan(state, 0, keyframe=False)
    fused = network.observe(plan, picture(0), *network.cached(state, plan), motion())
    assert keyframe.feature.shape == fused.feature.shape == (1, 96, 12, 16)
    value = network.propagate(network.branch(plan), plan, picture(0), ())
    low = network.low[0]
    feature = low.head.embed(low.norm(value.feature), value.details)
    added = network.fusion(feature, keyframe.feature)
    torch.testing.assert_close(fused.feature, take_over(added, feature, keyframe.feature, False))
    finer = torch.sigmoid(network.detail(fused.feature))  # type: ignore[misc]
    assert 0 < finer.min() < finer.max() < 1


def test_the_keyframe_takes_over_where_the_low_resolution_is_like_it() -> None:
    generator = torch.Generator().manual_seed(1)
    fused, low, warped = (torch.randn(1, 8, 4, 4, generator=generator) for _ in range(3))
    warped[..., 0, :] = 3 * low[..., 0, :]
    warped[..., 1, :] = -low[..., 1, :]
    warped[..., 2, :] = 0
    result = take_over(fused, low, warped, False)
    torch.testing.assert_close(result[..., 0, :], warped[..., 0, :])
    torch.testing.assert_close(result[..., 1:3, :], fused[..., 1:3, :])
    assert torch.isfinite(result).all()


@pytest.mark.parametrize("size", [(12, 16), (45, 60), (23, 31), (97, 193)])
@pytest.mark.parametrize("stride", [2, 4, 5])
def test_entries_lie_on_one_grid_at_every_scale(size: tuple[int, int], stride: int) -> None:
    """A map whose numbers are its own positions, and reduced ones: entries are at most half a position beside."""
    grid = WindowGrid(*size, stride)
    rows, columns = torch.meshgrid(*(torch.arange(length, dtype=torch.float64) for length in size), indexing="ij")
    whole = grid.sample(torch.stack((rows, columns))[None])
    assert torch.equal(whole[0, 0], rows[::stride, ::stride]) and torch.equal(whole[0, 1], columns[::stride, ::stride])
    for scale in (0.3, 0.5, 0.7):
        own = [max(1, round(length * scale)) for length in size]
        place = [torch.arange(count) * (length / count) for count, length in zip(own, size, strict=True)]
        reduced = grid.sample(torch.stack(torch.meshgrid(*place, indexing="ij"))[None])
        assert reduced.shape == whole.shape
        for axis in (0, 1):
            beside = (reduced[0, axis] - whole[0, axis]).abs().max()
            assert beside <= 0.51 * size[axis] / own[axis] + (stride - 1 if scale == 0.3 else 0.5)


def test_the_window_has_one_shape_at_every_scale(network: TDAR, tdnet: TDNet) -> None:
    for scale in (0.3, 0.5, 0.7, 1.0):
        for steps, fused in ((network, True), (tdnet, False)):
            state = warm(steps)
            assert state.slots[0] is not None
            _, state = steps.advance(picture(3), state, 1, False, motion(), scale)
            assert state.slots[1] is not None
            for name in ("query", "key", "value"):
                assert getattr(state.slots[1], name).shape == getattr(state.slots[0], name).shape, (scale, fused)


def test_a_tdnet_alternates_without_fusion(tdnet: TDNet) -> None:
    """The baseline: its frames between are smaller ones, and nothing of a keyframe reaches them but the window."""
    with torch.inference_mode():
        state = warm(tdnet)
        assert tdnet.plan(state, 1, keyframe=False, scale=0.5) == StepPlan(1, (0,), 0.5)
        assert tdnet.plan(state, 1, keyframe=False) == tdnet.plan(state, 1)
        whole = tdnet.advance(picture(3), state, 1).scores
        reduced, after = tdnet.advance(picture(3), state, 1, keyframe=False, scale=0.5)
        assert reduced.shape == whole.shape
        assert 0 < (reduced - whole).std() < 1.5 * whole.std()
        assert tdnet.advance(picture(4), after, 0).scores.shape == whole.shape


def test_no_step_changes_the_state_that_it_is_given(network: TDAR) -> None:
    state = warm(network)
    assert isinstance(state, TDARState)
    tensors = [x for slot in state.slots if slot for x in (slot.query, slot.key, slot.value)] + [*state.keyframe]
    before = [x.clone() for x in tensors]
    for keyframe in (False, True):
        _, after = network.advance(picture(7), state, 1, keyframe, motion())
        assert after is not state and (state.slots[1] is not after.slots[1])
    assert all(map(torch.equal, tensors, before))


def test_two_interleaved_streams_give_what_two_separate_ones_give(network: TDAR) -> None:
    clips = [[picture(frame + 20 * clip) for frame in range(len(GROUP))] for clip in range(2)]
    separate = [list(stream(network, clip)) for clip in clips]
    for alone, interleaved in zip(
        zip(*separate, strict=True), zip(*(stream(network, clip) for clip in clips), strict=True), strict=True
    ):
        assert all(map(torch.equal, alone, interleaved))


def test_what_cannot_be_stepped_is_refused(network: TDAR, tdnet: TDNet) -> None:
    fresh, image = network.initial_state(), picture(0)
    with pytest.raises(StateError, match="keyframe is False and the state has no keyframe"):
        network.advance(image, fresh, keyframe=False, motion=motion())
    state = warm(network)
    with pytest.raises(StateError, match="motion is None, expected a tensor"):
        network.advance(image, state, keyframe=False)
    for steps in (network, tdnet):
        given = warm(steps)
        with pytest.raises(StateError, match=r"scale is 0\.5 and keyframe is True, expected 1"):
            steps.advance(image, given, scale=0.5)
        with pytest.raises(StateError, match=r"scale is 0.1, expected at most 1 and at least 0.178"):
            steps.advance(image, given, keyframe=False, motion=motion(), scale=0.1)
    with pytest.raises(StateError, match="state is of 'td2_mnv2', expected one of 'tdar_mnv2'"):
        network.advance(image, tdnet.initial_state())


def test_a_file_holds_tied_weights_once_and_gives_the_same_network(trained: dict[str, Tensor], tmp_path: Path) -> None:
    network = build_network("tdar_mnv2")
    network.load_state_dict(trained)
    save_checkpoint(tmp_path / "tdar.safetensors", network.state_dict(), to_metadata(network.info), torch.float32)
    checkpoint = read_checkpoint(tmp_path / "tdar.safetensors")
    low = {key for key in checkpoint.weights if key.startswith("low.")}
    assert low and all(".norm." in key for key in low)
    assert len([key for key in checkpoint.weights if "classifier" in key]) == 2
    loaded = build_loaded(checkpoint, info_of(checkpoint))
    assert isinstance(loaded, TDAR) and loaded.info == network.info
    state, again = network.state_dict(), loaded.state_dict()
    assert state.keys() == again.keys() and all(torch.equal(state[key], again[key]) for key in low)
    high, reduced = loaded.subnetwork(1).path, loaded.low[1].path
    assert high.lateral16.conv.weight is reduced.lateral16.conv.weight
    assert high.lateral16.norm.weight is not reduced.lateral16.norm.weight
    assert loaded.low[1].head.classifier is loaded.subnetwork(0).head.classifier is loaded.classifier
    gone = "low.0.path.lateral16.norm.bias"
    checkpoint = replace(checkpoint, weights={key: x for key, x in checkpoint.weights.items() if key != gone})
    with pytest.raises(CheckpointError, match=rf"1 missing, first: {re.escape(gone)}"):
        build_loaded(checkpoint, info_of(checkpoint))


def test_a_tdnets_weights_are_the_start_of_united_ones(tdnet: TDNet) -> None:
    """The reverse is the fixture ``tdnet``: one file serves both."""
    start = build_network("td2_mnv2").state_dict()
    state = warm(tdnet)
    for name, subnetworks in (("tdar_mnv2", 2), ("arseg_mnv2", 1)):
        checkpoint = read_checkpoint(start)
        united = build_loaded(checkpoint, info_of(checkpoint, name))
        assert isinstance(united, TDAR) and len(united.low) == subnetworks
        last = united.low[subnetworks - 1].path.backbone.stem
        assert torch.equal(
            last.norm.running_var, start[f"subnetworks.{subnetworks - 1}.path.backbone.stem.norm.running_var"]
        )
        biases = [start[f"subnetworks.{index}.head.classifier.bias"] for index in range(subnetworks)]
        torch.testing.assert_close(united.classifier.bias.detach(), sum(biases) / subnetworks)
        # Before any training the fusion adds nothing, and a frame between keyframes is a reduced one.
        united.eval()
        with torch.inference_mode():
            state = united.advance(picture(0), united.initial_state()).state
            plan = united.plan(state, 0, keyframe=False)
            fused = united.observe(plan, picture(1), *united.cached(state, plan), motion()).feature
            assert fused.isfinite().all()


#: Share of the same TDNet's GMAC at full resolution, on average over an interval of 12 with a scale of 0.5.
SHARES = {("tdar_psp18", "td4_psp18"): 0.323, ("tdar_bise18", "td4_bise18"): 0.312, ("tdar_mnv2", "td2_mnv2"): 0.348}


@pytest.mark.parametrize(("united", "tdnet"), SHARES)
def test_the_mean_frame_costs_a_third_of_the_tdnets(united: str, tdnet: str) -> None:
    """With attention, warping and fusion in; the bound that psp18 and bise18 have to keep is 34 %."""
    size = (360, 480)
    cost, whole = count_cost(united, size), count_cost(tdnet, size)
    assert cost.mean_gmac(12) / whole.steady_gmac == pytest.approx(SHARES[united, tdnet], abs=0.001)
    assert united == "tdar_mnv2" or cost.mean_gmac(12) < 0.34 * whole.steady_gmac
    unfused = count_cost(tdnet, size, scale=0.5)
    assert unfused.steady_gmac == whole.steady_gmac
    assert 0.25 < (unfused.between_gmac or 0) / whole.steady_gmac < 0.27
