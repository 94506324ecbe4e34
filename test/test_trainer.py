"""tdnet-ros train: exact resumption, several processes, clips, stages, and what is published."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import REPOSITORY
from running_process import python_environment
from tiny_training import HERE, TINY, content, folded_weights, picture, trainer, write_index

from tdnet_ros.cli import main
from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import UNLABELLED
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.streaming import Segmenter
from tdnet_ros.training import trainer as training
from tdnet_ros.training.configuration import AugmentationSettings, parse_configuration, read_configuration
from tdnet_ros.training.device_clips import DeviceClips
from tdnet_ros.training.frame_store import FrameStore
from tdnet_ros.training.trainer import Trainer
from tdnet_ros.training.training_state import read_state


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, "tiny", TINY)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return write_index(tmp_path)


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


@pytest.mark.parametrize("stop", [2, 5])
def test_going_on_gives_the_very_same_bits(index: Path, tmp_path: Path, stop: int) -> None:
    trainer(index, tmp_path / "straight").run()
    trainer(index, tmp_path / "halves").run(stop)
    trainer(index, tmp_path / "halves", resume=True).run()
    for name in ("checkpoint.pt", "best.pt"):
        straight, halves = (read_state(tmp_path / run / name, HERE.device) for run in ("straight", "halves"))
        assert_same(straight, halves)
    logs = [(tmp_path / run / "log.jsonl").read_text() for run in ("straight", "halves")]
    assert logs[0].count("selection_miou") >= 3 and logs[0].count("loss") == 8
    assert logs[0] == logs[1]
    trainer(index, tmp_path / "other", seed=2).run()
    other = read_state(tmp_path / "other" / "checkpoint.pt", HERE.device)["network"]
    assert any(not torch.equal(other[key], straight_value) for key, straight_value in straight["network"].items())


def test_bf16_and_hard_pixels_train_too(index: Path, tmp_path: Path) -> None:
    stages = [{"kind": "tdnet", "steps": 2, "batch": 2, "loss": "ohem"}]
    run = trainer(index, tmp_path / "out", precision="bf16", stages=stages)
    before = {key: value.clone() for key, value in run.network.state_dict().items()}
    run.run()
    assert any(not torch.equal(before[key], value) for key, value in run.network.state_dict().items())
    with pytest.raises(ConfigurationError, match="'fp16' on a CPU, expected fp32 or bf16"):
        trainer(index, tmp_path / "half", precision="fp16")


def test_two_processes_train_as_one_and_go_on_with_the_very_same_bits(index: Path, tmp_path: Path) -> None:
    stages = [
        {"kind": kind, "steps": 3, "batch": 4, "freeze_norms": True, "class_weights": False}
        for kind in ("single", "tdnet")
    ]
    labelled = {"crop": [48, 64], "scale": [1.0, 1.4], "motion_zoom": 0.0, "motion_shift_px": 0.0}
    same = {"configuration": content(index, stages=stages, augmentation=labelled), "dropout": False}
    usual = {"configuration": content(index), "dropout": True}
    two = [
        {**same, "outputs": ["two", "two-1"]},
        {**usual, "outputs": ["straight"] * 2},
        {**usual, "outputs": ["halves"] * 2, "stop": 5},
        {**usual, "outputs": ["halves"] * 2, "resume": True},
    ]

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    def start(rank: int, count: int, jobs: list[dict[str, Any]]) -> subprocess.Popen[str]:
        torchrun = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"}
        told = {name: str(value) for name, value in {**torchrun, "MASTER_PORT": port, "OMP_NUM_THREADS": 1}.items()}
        told["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "test")])
        command = [sys.executable, str(REPOSITORY / "test" / "train_tiny.py"), json.dumps(jobs)]
        return subprocess.Popen(command, env=python_environment(told), cwd=tmp_path, stdout=subprocess.PIPE,
                                stderr=subprocess.STDOUT, text=True)  # fmt: skip

    for process in [start(0, 2, two), start(1, 2, two), start(0, 1, [{**same, "outputs": ["one"]}])]:
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
    one, shared = (read_state(tmp_path / run / "checkpoint.pt", HERE.device)["network"] for run in ("one", "two"))
    fresh = trainer(index, tmp_path / "fresh").network.state_dict()
    assert any((one[key].float() - fresh[key].float()).abs().max() > 1e-3 for key in one), "it has learned something"
    for key in one:
        torch.testing.assert_close(one[key], shared[key], rtol=1e-3, atol=2e-5)
    assert not (tmp_path / "two-1").exists(), "only the first process writes"
    for name in ("checkpoint.pt", "best.pt"):
        assert_same(*(read_state(tmp_path / run / name, HERE.device) for run in ("straight", "halves")))


def test_labels_stay_on_their_pixels_and_clips_change_as_one() -> None:
    store = FrameStore([picture(number) for number in range(4)], 11, HERE.device)
    clips = DeviceClips(store, AugmentationSettings(crop=(48, 64), photometric=0.0), 1.0)
    images, labels, _ = clips.batch((1, 2), 6, 2)
    assert images.shape == (2, 6, 3, 48, 64) and labels.shape == (2, 6, 48, 64)
    inside = labels != UNLABELLED
    off = (images[:, :, 0] * 255 - 20 * labels).abs()[inside]
    assert inside.float().mean() > 0.5 and (off <= 10).float().mean() > 0.8
    whole, halves = clips.batch((3,), 4, 2), [clips.batch((3,), 4, 2, rank, 2) for rank in (0, 1)]
    assert torch.equal(whole.images, torch.cat([half.images for half in halves], 1))
    light = DeviceClips(store, AugmentationSettings(crop=(48, 64), motion_zoom=0, motion_shift_px=0, slow_share=0), 1.0)
    images, labels, _ = light.batch((5,), 4, 2)
    assert torch.equal(images[0], images[1]) and torch.equal(labels[0], labels[1]), "one draw holds for a clip"
    assert not torch.equal(images[0, 0], images[0, 1])


def test_short_drives_are_drawn_more_often_when_drives_are_balanced() -> None:
    frames = [*(picture(number) for number in range(9)), replace(picture(9), sequence="short")]
    store = FrameStore(frames, 11, HERE.device)
    even, balanced = (DeviceClips(store, AugmentationSettings(), by).probabilities[-1] for by in (1.0, 0.0))
    assert even == pytest.approx(0.1) and balanced == pytest.approx(0.5)


def test_noise_is_of_each_frame_and_the_same_whichever_process_makes_it() -> None:
    store = FrameStore([picture(number) for number in range(4)], 11, HERE.device)
    still = AugmentationSettings(crop=(48, 64), motion_zoom=0, motion_shift_px=0, slow_share=0)
    clean = DeviceClips(store, still, 1.0).batch((1,), 4, 2).images
    noisy = DeviceClips(store, replace(still, noise=20.0), 1.0)
    images = noisy.batch((1,), 4, 2).images
    halves = [noisy.batch((1,), 4, 2, rank, 2).images for rank in (0, 1)]
    assert torch.equal(images, torch.cat(halves, 1))
    inner = (clean > 0.3) & (clean < 0.7)  # where nothing is cut off
    inner = inner & inner.flip(0)
    noise = (images - clean) * 255
    for clip in range(4):
        first, second = (noise[frame, clip][inner[frame, clip]] for frame in (0, 1))
        assert 0.1 < float(first.std()) < 22 and float(first.mean().abs()) < 1
        assert float(torch.corrcoef(torch.stack([first, second]))[0, 1].abs()) < 0.1
    assert len({round(float(noise[0, clip][inner[0, clip]].std()), 2) for clip in range(4)}) > 1


def test_dense_frames_follow_one_another() -> None:
    store = FrameStore([picture(number, gap_s=1 / 15) for number in range(9)], 11, HERE.device)
    clips = DeviceClips(store, AugmentationSettings(crop=(48, 64)), 1.0)
    draws = [clips._draw(np.random.default_rng(seed), 3) for seed in range(30)]
    assert all(d.frames == list(range(d.frames[-1] - 2, d.frames[-1] + 1)) for d in draws if d.frames[-1] >= 2)


def test_the_command_trains_on_a_rendered_street(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {
        "model": "td2_mnv2",
        "name": "street",
        "terms": "free",
        "data": {"street": {"seeds": [1], "selection_seeds": [2], "frames": 2, "height": 64, "width": 96}},
        "augmentation": {"crop": [64, 96]},
        "stages": [{"kind": "tdnet", "steps": 2, "batch": 2}],
    }
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(told))
    command = ["train", str(tmp_path / "training.yaml"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*command, "--max-steps", "1"]) == 0
    said = capsys.readouterr().out
    assert "1 of 2 steps done: go on with --resume" in said and re.search(r"step 1 of 2, .* about \d+ s left", said)
    assert main([*command, "--resume"]) == 0
    assert (
        Segmenter(weights=tmp_path / "out" / "td2_mnv2_street.safetensors", device="cpu").network.info.name
        == "td2_mnv2"
    )
    card = (tmp_path / "out" / "td2_mnv2_street.md").read_text()
    streets = "2 labelled frames of rendered streets (tdnet_ros.training.street) of the seeds"
    for fact in (f"| data | {streets} 1 |", f"best of the last stage on {streets} 2,", "| terms | free |", "commit ",
                 "2 of 2 steps", "kind: tdnet", "| start | fresh weights |"):  # fmt: skip
        assert fact in card, fact
    assert len(list((tmp_path / "out" / "tensorboard").iterdir())) == 2


def test_frozen_blocks_stay_as_they_start_and_go_on_exactly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streets = [picture(number, gap_s=0.05) for number in range(3)]
    monkeypatch.setattr(training, "read_frames", lambda settings, classes: (streets, []))
    torch.save(folded_weights(1), tmp_path / "folded.pth")
    stages = [{"kind": kind, "steps": steps, "batch": 2} for kind, steps in (("tdnet", 2), ("single", 1))]
    told = {
        "backbone": str(tmp_path / "folded.pth"),
        "augmentation": {"crop": [32, 64]},
        "optimiser": {"frozen_blocks": 3},
        "stages": stages,
    }

    def make(output: str, resume: bool = False) -> Trainer:
        return Trainer(parse_configuration(told), tmp_path / output, HERE, lambda line: None, resume)

    straight = make("straight")
    start = {key: value.clone() for key, value in straight.network.state_dict().items()}
    straight.run()
    make("halves").run(1)
    make("halves", resume=True).run()
    assert_same(*(read_state(tmp_path / name / "checkpoint.pt", HERE.device) for name in ("straight", "halves")))
    frozen = re.compile(r"backbone\.(stem|blocks\.[012])\.")
    for key in filter(frozen.search, start):
        assert torch.equal(start[key], start[key.replace("subnetworks.0", "subnetworks.1")]), "both begin with ImageNet"
    for trained in (straight.network.state_dict(), straight.published()):
        moved = {key for key, value in trained.items() if not torch.equal(value, start[key])}
        assert not [key for key in moved if frozen.search(key)]
        for part in ("blocks.3.dw.norm.running_mean", "blocks.3.dw.conv.weight", "head.classifier.weight"):
            assert any(key.startswith("subnetworks.0") and key.endswith(part) for key in moved), part


@pytest.mark.parametrize("path", sorted((REPOSITORY / "config").glob("train_*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    configuration = read_configuration(path)
    held_out = configuration.data.street.selection_seeds or configuration.data.sequences.selection == "0006R0"
    # The recipe of the weights that ship trains on everything, and picks nothing.
    assert configuration.model in CATALOG and (held_out or path.stem.endswith("mnv2_cpu"))
