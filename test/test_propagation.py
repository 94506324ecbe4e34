"""BDNet's ablation: which frames are scored, and that figures by distance are what they say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import picture

from benchmarks import keyframe_cycle
from benchmarks.propagation import Clip, _confusion, _figures
from tdnet_ros.networks import build_network
from tdnet_ros.networks.cost import count_cost
from tdnet_ros.video.frame import Break, MotionField


def still_clip(frames: int, keyframes: tuple[int, ...]) -> Clip:
    """One picture again and again, coded so."""
    none = MotionField.without_path(72, 96, Break.INTRA)
    still = MotionField(np.zeros_like(none.displacement_px), np.ones_like(none.valid))
    motion = [none if number in keyframes else still for number in range(frames)]
    return Clip([replace(picture(1), number=number) for number in range(frames)], {"vectors": motion, "flow": motion})


def test_frames_whose_way_back_meets_an_i_frame_are_left_out() -> None:
    assert still_clip(14, (0, 7)).scored() == [4, 5, 6, 11, 12, 13]


def test_where_nothing_moves_all_distances_are_alike() -> None:
    torch.manual_seed(1)
    network, clip = build_network("bdnet_mnv2").eval(), still_clip(6, (0,))
    counts = _confusion(network, clip, "vectors", (96, 72))
    assert counts.shape == (2, 5, 11, 11) and counts[0, 0].sum() == 72 * 96
    assert abs(counts[:, 1:] - counts[:, :1]).sum() < 0.02 * counts[:, 1:].sum()
    alone = _confusion(network, clip, "", (96, 72))
    assert np.array_equal(alone, counts[:, :1])


def test_a_gain_is_paired() -> None:
    random = np.random.default_rng(0)
    before = random.integers(1, 100, (30, 5, 3, 3))
    after = before + 40 * np.eye(3, dtype=np.int64)
    same, better = _figures(before, before), _figures(after, before)
    assert same["gain"] == 0 and same["gain_interval"] == [0, 0]
    low, high = better["gain_interval"]
    assert 0 < low < better["gain"] < high and better["gain"] == pytest.approx(better["miou"] - same["miou"], abs=0.011)


def test_a_cycle_is_a_keyframe_and_the_frames_between(tmp_path: Path) -> None:
    size = ["--sizes", "64x48", "--interval", "3", "--rounds", "2"]
    assert (
        keyframe_cycle.main(["--force", "--models", "bdnet_mnv2", *size, "--json", str(tmp_path / "cycle.json")]) == 0
    )
    (result,) = json.loads((tmp_path / "cycle.json").read_text())["results"]
    cost = count_cost("bdnet_mnv2", (48, 64))
    assert result["gmac_share"] == pytest.approx(cost.mean_gmac(3) / cost.steady_gmac, abs=1e-3)
    assert result["interval"] == 3 and set(result["ms"]) == {"single frame", "keyframe", "between"}
    share, low, high = result["share"]
    assert 0 < low <= share <= high
