"""AR-Seg's parts against their definitions, and its step contract. Against the official code: test_arseg_parity.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from lively_weights import make_lively
from torch import Tensor

from tdnet_ros.errors import StateError
from tdnet_ros.networks import build_network, creff, load_network, network_info
from tdnet_ros.networks.arseg import ARSeg
from tdnet_ros.networks.checkpoints import save_checkpoint
from tdnet_ros.networks.cost import count_cost
from tdnet_ros.networks.creff import CReFF, local_attention
from tdnet_ros.networks.layers import fold_batch_norm
from tdnet_ros.networks.metadata import to_metadata
from tdnet_ros.networks.network import StepPlan
from tdnet_ros.networks.warping import StretchedWarp, Warp

MODEL = "arseg_bise18_camvid"
SIZE = (64, 96)


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def network() -> Iterator[ARSeg]:
    network = build_network(MODEL)
    assert isinstance(network, ARSeg)
    pictures = random(8, 3, *SIZE, seed=1)
    motion = torch.zeros(8, 2, 8, 12)

    def forward() -> None:
        state = network.advance(pictures, network.initial_state()).state
        network.advance(pictures, state, keyframe=False, motion=motion)

    make_lively(network, 1, forward)
    fold_batch_norm(network)
    with torch.inference_mode():
        yield network


def attention_by_definition(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Every neighbour one by one; outside the picture score and value are zero."""
    batch, channels, height, width = query.shape
    keys, values = (
        F.unfold(x, 7, padding=3).view(batch, channels, 49, height, width) for x in (key.double(), value.double())
    )
    weights = torch.softmax((query.double()[:, :, None] * keys).sum(1), dim=1)
    return (values * weights[:, None]).sum(2)


@pytest.mark.parametrize("strip", [1 << 18, 100])
@pytest.mark.parametrize("shape", [(1, 5, 1, 1), (2, 3, 7, 13), (1, 4, 9, 16)])
def test_tiles_compute_the_attention_that_the_definition_does(
    shape: tuple[int, ...], strip: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one strip of tiles or in many."""
    monkeypatch.setattr(creff, "_STRIP_FLOATS", strip)
    query, key, value = (random(*shape, seed=seed) / shape[1] ** 0.25 for seed in range(3))
    expected = attention_by_definition(query, key, value)
    torch.testing.assert_close(local_attention(query, key, value).double(), expected, rtol=0, atol=5e-6)


def test_attention_is_diluted_at_the_border_by_neighbours_that_do_not_exist() -> None:
    """All existing neighbours are alike: in the middle they have all the weight, in a corner 16 of 49 parts."""
    zero, one = torch.zeros(1, 2, 12, 12), torch.ones(1, 2, 12, 12)
    attended = local_attention(zero, one, one)
    assert float(attended[0, 0, 6, 6]) == pytest.approx(1)
    assert float(attended[0, 0, 0, 11]) == pytest.approx(16 / 49)


def test_attention_can_be_trained() -> None:
    tensors = [random(1, 2, 4, 9, seed=seed).double().requires_grad_() for seed in range(3)]
    assert torch.autograd.gradcheck(local_attention, tensors, fast_mode=True)


def test_fusion_adds_to_the_raised_low_resolution_feature() -> None:
    fusion = CReFF(4)
    low, warped = random(1, 4, 5, 6, seed=3), random(1, 4, 10, 11, seed=4)
    raised = F.interpolate(low, (10, 11), mode="bilinear", align_corners=True)
    with torch.no_grad():
        attended = fusion(low, warped) - raised
        fusion.value.weight.zero_()
        fusion.value.bias.zero_()
        torch.testing.assert_close(fusion(low, warped), raised)
    assert float(attended.std()) > 0.05
    assert sum(parameter.numel() for parameter in CReFF(512).parameters()) == 15_360


def test_warp_without_motion_is_identity_and_with_motion_moves() -> None:
    feature, picture = random(1, 3, 6, 9), (48, 72)
    torch.testing.assert_close(Warp()(feature, torch.zeros(1, 2, 6, 9), picture), feature)
    motion = torch.tensor([16.0, -8.0]).view(1, 2, 1, 1).expand(1, 2, 48, 72)  # px of the picture: 2 and -1 positions
    moved = Warp()(feature, motion, picture)
    torch.testing.assert_close(moved[..., 1:, :-2], feature[..., :-1, 2:])
    torch.testing.assert_close(moved[..., 0, :-2], feature[..., 0, 2:])  # beyond the border stands the border


def test_stretched_warp_samples_at_its_own_positions() -> None:
    """x is sampled at x W / (W - 1) - 1/2, half of it zero at the border; and both ratios are that of the heights."""
    columns = 9
    feature = torch.arange(1.0, columns + 1).expand(1, 1, 6, columns)
    motion = torch.tensor([8.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 4)
    for shift, picture in ((0, (48, 72)), (1, (48, 72)), (1, (48, 999))):
        row = StretchedWarp()(feature, shift * motion, picture)[0, 0, 2]
        at = (torch.arange(columns) + shift) * columns / (columns - 1) - 0.5
        inside = (at >= 0) & (at <= columns - 1)
        torch.testing.assert_close(row[inside], at[inside] + 1)
    edge = StretchedWarp()(feature, 0 * motion, (48, 72))[0, 0, 2]
    assert float(edge[0]) == pytest.approx(0.5) and float(edge[-1]) == pytest.approx(columns / 2)


@pytest.mark.parametrize("warp", [Warp(), StretchedWarp()])
def test_nothing_is_carried_over_where_motion_is_not_known(warp: Warp) -> None:
    feature, motion = random(1, 2, 4, 6), torch.zeros(1, 3, 4, 6)
    motion[:, 2, :, :3] = 1
    warped = warp(feature, motion, (32, 48))
    assert not warped[..., 3:].any()
    torch.testing.assert_close(warped[..., :3], warp(feature, motion[:, :2], (32, 48))[..., :3])


def test_half_precision_features_are_sampled_at_exact_places() -> None:
    feature = torch.arange(2000.0).remainder(7).expand(1, 1, 2, 2000)
    warped = Warp()(feature.half(), torch.full((1, 2, 2, 2000), 4.0), (16, 16000))
    exact = Warp()(feature, torch.full((1, 2, 2, 2000), 4.0), (16, 16000))
    torch.testing.assert_close(warped.float(), exact, rtol=0, atol=2e-3)  # half precision's own rounding of up to 6


def test_a_step_changes_no_state_and_frames_between_keyframes_read_the_keyframe_alone(network: ARSeg) -> None:
    first, second, third = (random(1, 3, *SIZE, seed=seed) for seed in range(3))
    motion = 10 * random(1, 2, 8, 12, seed=9)
    keyframe = network.advance(first, network.initial_state()).state
    kept = keyframe.feature.clone()
    between, state = network.advance(second, keyframe, keyframe=False, motion=motion)
    assert state is keyframe and torch.equal(keyframe.feature, kept)
    again, state = network.advance(second, network.advance(third, state, keyframe=False, motion=motion).state,
                                   keyframe=False, motion=motion)  # fmt: skip
    assert torch.equal(between, again)
    other = network.advance(third, state).state
    assert not torch.allclose(network.advance(second, other, keyframe=False, motion=motion).scores, between, atol=0.1)
    assert not torch.allclose(
        network.advance(second, state, keyframe=False, motion=0 * motion).scores, between, atol=0.1
    )


def test_plans_name_what_is_computed(network: ARSeg) -> None:
    state = network.advance(random(1, 3, *SIZE), network.initial_state()).state
    assert network.plan(state) == network.plan(network.initial_state()) == StepPlan(0)
    assert network.plan(state, keyframe=False) == StepPlan(0, scale=0.5, fused=True)
    assert network.plan(state, keyframe=False, scale=0.3) == StepPlan(0, scale=0.3, fused=True)
    assert network.is_warm(state) and network.is_warm(network.initial_state())


@pytest.mark.parametrize("scale", [0.25, 1.0])
def test_any_scale_and_any_grid_of_motion_give_scores_of_one_size(network: ARSeg, scale: float) -> None:
    height, width = 70, 101
    state = network.advance(random(1, 3, height, width), network.initial_state()).state
    for grid in ((9, 13), (height, width), (1, 1)):
        logits, _ = network.step(
            random(1, 3, height, width), state, keyframe=False, motion=torch.ones(1, 2, *grid), scale=scale
        )
        assert logits.shape == (1, 12, height, width) and bool(torch.isfinite(logits).all())


def test_a_batch_is_its_images_one_by_one(network: ARSeg) -> None:
    pictures, later, motion = random(2, 3, *SIZE, seed=5), random(2, 3, *SIZE, seed=6), random(2, 2, 8, 12, seed=7)
    together = network.advance(pictures, network.initial_state()).state
    scores = network.advance(later, together, keyframe=False, motion=motion).scores
    for index in range(2):
        one = slice(index, index + 1)
        state = network.advance(pictures[one], network.initial_state()).state
        alone = network.advance(later[one], state, keyframe=False, motion=motion[one]).scores
        torch.testing.assert_close(scores[one], alone, rtol=0, atol=1e-3)


def test_steps_that_cannot_be_made_are_refused(network: ARSeg) -> None:
    picture, motion = random(1, 3, *SIZE), torch.zeros(1, 2, 8, 12)
    state = network.advance(picture, network.initial_state()).state
    with pytest.raises(StateError, match="the state has no keyframe"):
        network.step(picture, network.initial_state(), keyframe=False, motion=motion)
    with pytest.raises(StateError, match="motion is None"):
        network.step(picture, state, keyframe=False)
    for wrong in (motion[0], motion[:, :1], motion.repeat(2, 1, 1, 1)):
        with pytest.raises(StateError, match="motion has shape"):
            network.step(picture, state, keyframe=False, motion=wrong)
    for scale in (0.0, 1.5, 0.2):
        with pytest.raises(StateError, match=f"scale is {scale}"):
            network.step(picture, state, keyframe=False, motion=motion, scale=scale)
    with pytest.raises(StateError, match=r"state is of \(batch, height, width\) \(1, 64, 96\)"):
        network.step(random(1, 3, 64, 100), state)
    with pytest.raises(StateError, match="state is of 'arseg_bise18_cityscapes'"):
        network.step(picture, replace(state, network="arseg_bise18_cityscapes"))


@pytest.mark.parametrize("size", [(64, 96), (72, 101)])
def test_masks_are_the_logits_best_classes_but_never_void(network: ARSeg, size: tuple[int, int]) -> None:
    """At the second size the feature is larger than the picture."""
    picture = random(1, 3, *size, seed=8)
    logits = network.step(picture, network.initial_state()).scores
    scores = network.advance(picture, network.initial_state()).scores
    assert bool((logits.argmax(1) == 11).any()), "void must win somewhere"
    for confidence in (False, True):
        mask = network.decode_mask(scores, size, confidence).mask
        assert mask.shape == (1, *size)
        assert float((mask == logits[:, :11].argmax(1)).float().mean()) > 0.999


def test_own_files_keep_the_scale(tmp_path: Path, network: ARSeg) -> None:
    weights = build_network(MODEL).state_dict()
    info = replace(network_info(MODEL), low_resolution=0.7)
    save_checkpoint(tmp_path / "ours.safetensors", weights, to_metadata(info))
    loaded = load_network(None, tmp_path / "ours.safetensors")
    assert loaded.info == info


#: GMAC of a keyframe and of a frame between keyframes at half resolution, counted on the official classes with hooks,
#: with the attention as its definition has it, and the attention's share: facts of the same code as the goldens.
OFFICIAL_GMAC = {
    ("arseg_psp18_camvid", (720, 960)): (308.6, 83.1, 4.34),
    ("arseg_bise18_camvid", (720, 960)): (39.1, 10.3, 0.27),
    ("arseg_psp18_cityscapes", (1024, 2048)): (540.0, 137.3, 1.64),
    ("arseg_bise18_cityscapes", (1024, 2048)): (118.3, 30.8, 0.82),
}


@pytest.mark.parametrize(("model", "size"), OFFICIAL_GMAC)
def test_costs_are_the_official_ones_but_for_the_tiles_of_the_attention(model: str, size: tuple[int, int]) -> None:
    """A tile meets 10/7 of the neighbours that it needs, and the warping counts here."""
    keyframe, between, attention = OFFICIAL_GMAC[model, size]
    cost = count_cost(model, size)
    assert cost.steady_gmac == cost.warm_up_gmac == pytest.approx(keyframe, abs=0.1)
    assert cost.between_gmac is not None
    assert 3 / 7 * attention - 0.05 < cost.between_gmac - between < 4 / 7 * attention + 0.25
    assert cost.mean_gmac(12) == pytest.approx((cost.steady_gmac + 11 * cost.between_gmac) / 12)
    assert cost.parameters_used < 0.51 * cost.parameters


def test_cost_follows_the_scale() -> None:
    cost, low = count_cost(MODEL, (96, 128)), count_cost(MODEL, (96, 128), scale=0.3)
    assert low.steady_gmac == cost.steady_gmac
    assert low.between_gmac is not None and cost.between_gmac is not None
    assert low.between_gmac < 0.5 * cost.between_gmac
