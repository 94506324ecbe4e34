"""Feature similarity training: what it learns from, what stays as it was, and that it goes on with the same bits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_keyframe_clips import drawing
from tiny_network import TinyUnitedVariant
from tiny_training import HERE, TINY, picture, trainer, write_index
from torch import nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import CAMVID
from tdnet_ros.networks import build_network
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.network import StepPlan
from tdnet_ros.networks.tdar import TDAR
from tdnet_ros.training.configuration import StageSettings
from tdnet_ros.training.normalisation import normalise
from tdnet_ros.training.similarity_stage import FeatureSimilarityStage, fusion_pass
from tdnet_ros.training.stages import make_stage
from tdnet_ros.training.training_state import read_state
from tdnet_ros.training.validation import stream_miou

STAGES = [{"kind": "fst", "steps": 6, "batch": 2}]


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, "tiny", TINY)
    monkeypatch.setitem(CATALOG, "united", TinyUnitedVariant(subnetworks=2, labels=CAMVID, keyframe_interval=4))
    monkeypatch.setitem(CATALOG, "alternating", TinyUnitedVariant(subnetworks=1, labels=CAMVID, keyframe_interval=4))


def united(name: str = "united") -> TDAR:
    torch.manual_seed(3)
    network = build_network(name)
    assert isinstance(network, TDAR)
    nn.init.normal_(network.fusion.value.weight, std=0.3)
    return network


def stage_of(network: Any, **settings: Any) -> FeatureSimilarityStage:
    stage = make_stage(network, StageSettings("fst", batch=2, class_weights=False, **settings), None)
    assert isinstance(stage, FeatureSimilarityStage)
    return stage


def test_a_clip_is_what_a_stream_would_see_of_its_keyframe_and_current_frame() -> None:
    network = united("alternating").eval()
    clips = drawing([picture(number) for number in range(4)]).batch((1,), 2, 4)
    result = fusion_pass(network, clips, [0, 0], 0.5)
    key, current = (normalise(clips.images[index], network.info) for index in (0, -1))
    step = network.advance(key, network.initial_state())
    torch.testing.assert_close(result.key_scores, step.scores)
    between = network.advance(current, step.state, 0, keyframe=False, motion=clips.motion, scale=0.5)
    torch.testing.assert_close(result.scores, between.scores)
    full = network.observe(StepPlan(0), current)
    torch.testing.assert_close(result.full_feature, full.feature)
    assert not torch.allclose(result.feature, full.feature)


def test_frames_before_leave_entries_of_the_low_resolution_in_the_window() -> None:
    network = united().eval()
    source = drawing([picture(number) for number in range(4)])
    clips = next(c for seed in range(9) if len((c := source.batch((seed,), 2, 4, 1, 1)).images) == 4)
    result = fusion_pass(network, clips, [0, 1, 0, 1], 0.5)
    images = [normalise(image, network.info) for image in clips.images]
    low = [network.low[path].encode(F.interpolate(images[number], scale_factor=0.5, mode="bilinear"), 2, (9, 12)).entry
           for number, path in ((0, 0), (2, 0))]  # fmt: skip
    key = network.observe(StepPlan(1, (0,)), images[1], *vars(low[0]).values())
    torch.testing.assert_close(result.key_scores, key.scores)
    last = StepPlan(1, (0,), 0.5, fused=True)
    fused = network.observe(last, images[3], *vars(low[1]).values(), *key.kept[3:], clips.motion)
    torch.testing.assert_close(result.scores, fused.scores)


def test_the_teacher_is_in_eval_mode_gets_no_gradient_and_everything_trains_on() -> None:
    network = united().train()
    stage = stage_of(network, similarity=1000.0, keyframe=0.0)
    drawn = stage.draw(drawing([picture(number) for number in range(4)]), (5, 0), 0, 1)
    running = {name: value.clone() for name, value in network.named_buffers()}
    network.low[0].path.eval()
    result = fusion_pass(network, *drawn)
    assert not result.full_feature.requires_grad and result.feature.requires_grad
    assert all(module.training for module in network.subnetworks.modules())
    assert not any(module.training for module in network.low[0].path.modules()), "as it was"
    assert any(not torch.equal(running[name], value) for name, value in network.named_buffers())


@pytest.mark.parametrize(("settings", "key_counts"), [({}, True), ({"keyframe": 0.0}, False)])
def test_the_loss_is_its_parts(settings: dict[str, float], key_counts: bool) -> None:
    network = united().eval()
    stage = stage_of(network, **settings, similarity=3.0).eval()
    clips, order, scale = stage.draw(drawing([picture(number) for number in range(4)]), (5, 0), 0, 1)
    result = fusion_pass(network, clips, order, scale)
    expected = stage.loss(result.scores, clips.labels[-1])
    expected = expected + 3 * F.mse_loss(result.feature, result.full_feature)
    if key_counts:
        expected = expected + stage.loss(result.key_scores, clips.labels[clips.keyframe])
    torch.testing.assert_close(stage(clips, order, scale), expected)


def test_order_takes_turns_and_scales_are_drawn() -> None:
    source = drawing([picture(1)])
    stage = stage_of(united(), scales=(0.5, 0.75))
    drawn = [stage.draw(source, (seed, 0), 0, 1) for seed in range(40)]
    assert {scale for _, _, scale in drawn} == {0.5, 0.75}
    keyframes = set()
    for clips, order, _ in drawn:
        assert len(order) == len(clips.images)
        assert order[-1] != order[-2] or len(order) == clips.keyframe + 2
        assert clips.keyframe == 0 or order[0] != order[1]
        if int(clips.distance.min()) == 1:
            assert order[clips.keyframe] != order[-1], "the keyframe is the window"
        keyframes.add(order[clips.keyframe])
    assert keyframes == {0, 1} and {clips.keyframe for clips, _, _ in drawn} == {0, 1}


def test_fused_features_become_like_those_of_full_resolution() -> None:
    network = united("alternating").train()
    stage = stage_of(network, similarity=100.0)
    source = drawing([picture(number) for number in range(4)])
    clips = source.batch((9,), 4, 4)

    def difference() -> float:
        with torch.no_grad():
            result = fusion_pass(network, clips, [0, 0], 0.5)
        return float(F.mse_loss(result.feature, result.full_feature) / result.full_feature.var())

    before = difference()
    optimiser = torch.optim.AdamW(stage.parameters(), 3e-3)
    for step in range(25):
        optimiser.zero_grad()
        stage(*stage.draw(source, (1, step), 0, 1)).backward()
        optimiser.step()
    assert difference() < 0.7 * before


def test_going_on_gives_the_very_same_bits(tmp_path: Path) -> None:
    index = write_index(tmp_path)
    made = {"model": "united", "stages": [{"kind": "tdnet", "steps": 2, "batch": 2}, *STAGES]}
    trainer(index, tmp_path / "straight", **made).run()
    halves = trainer(index, tmp_path / "halves", **made)
    halves.run(2)
    network = halves.network
    assert isinstance(network, TDAR)
    weights = network.subnetworks[1].state_dict()
    assert weights and all(torch.equal(value, weights[key]) for key, value in network.low[1].state_dict().items())
    halves.run(3)
    trainer(index, tmp_path / "halves", resume=True, **made).run()
    one, other = (read_state(tmp_path / run / "checkpoint.pt", HERE.device) for run in ("straight", "halves"))
    assert one["network"].keys() == other["network"].keys()
    for part in ("network", "average"):
        assert all(torch.equal(one[part][key], other[part][key]) for key in one[part])


def test_an_arseg_trains_what_lies_between_keyframes_alone() -> None:
    network = build_network("arseg_bise18_camvid").train()
    stage = stage_of(network)
    assert stage.interval == 12
    for module in stage.frozen():
        module.eval().requires_grad_(False)
    clips = drawing([picture(1)]).batch((1,), 2, 12)
    stage(clips, [0, 0], 0.5).backward()
    parts = {name.split(".")[0] for name, weight in network.named_parameters() if weight.grad is not None}
    assert parts == {"low", "fusion"}


@pytest.mark.parametrize(("gap_s", "keyframes"), [(1 / 15, [0, 4, 6]), (1.0, [0, 1, 2, 3, 4, 5, 6])])
def test_selection_alternates_where_frames_are_dense(
    gap_s: float, keyframes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    network, steps = united().eval(), []
    step = network.step

    def counted(*arguments: Any) -> Any:
        steps.append(arguments[3])
        return step(*arguments)

    monkeypatch.setattr(network, "step", counted)
    images = [cv2.GaussianBlur(np.roll(picture(1).image, index, 1), (0, 0), 2) for index in range(7)]
    frames = [
        replace(picture(1), image=image, number=index, sequence="a" if index < 6 else "b", timestamp_s=index * gap_s)
        for index, image in enumerate(images)
    ]
    assert 0 <= stream_miou(network, frames, HERE.device, dense_gap_s=0.2) <= 1
    assert [index for index, keyframe in enumerate(steps) if keyframe] == keyframes


def test_networks_without_fusion_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="stage 'fst' trains 'tiny', expected one that fuses"):
        make_stage(build_network("tiny"), StageSettings("fst"), None)
    with pytest.raises(ConfigurationError, match="interval is 1, expected at least 2"):
        stage_of(united(), interval=1)
