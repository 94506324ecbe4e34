"""tdnet-ros train: exact resumption, several processes, checkpoints that survive, and clear words on bad input."""

from __future__ import annotations

import csv
import errno
import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import REPOSITORY
from running_process import python_environment
from tiny_network import TinyVariant

from tdnet_ros.cli import main
from tdnet_ros.errors import ConfigurationError, SourceError, TrainingError
from tdnet_ros.labels import CAMVID, UNLABELLED
from tdnet_ros.networks import build_network
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.streaming import Segmenter
from tdnet_ros.training.configuration import (
    AugmentationSettings,
    StageSettings,
    parse_configuration,
    read_configuration,
)
from tdnet_ros.training.datasets import LabelledFrame
from tdnet_ros.training.device_clips import DeviceClips
from tdnet_ros.training.frame_store import FrameStore, read_frames
from tdnet_ros.training.processes import Processes
from tdnet_ros.training.stages import make_stage
from tdnet_ros.training.trainer import Trainer
from tdnet_ros.training.training_state import read_state, write_state

HERE = Processes(0, 1, torch.device("cpu"))


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, "tiny", TinyVariant(subnetworks=2, labels=CAMVID))


def picture(number: int, sequence: str = "a", gap_s: float = 1.0) -> LabelledFrame:
    """Red is 20 times the class."""
    labels = np.kron(np.random.default_rng(number).integers(0, 11, (6, 8)), np.ones((12, 12))).astype(np.uint8)
    image = np.stack([labels * 20, np.full_like(labels, 100), np.full_like(labels, 50)], -1)
    return LabelledFrame(image, labels, sequence, number, number * gap_s)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A sequences.csv with the sequences a (4 frames) and held (2 frames)."""
    with (tmp_path / "sequences.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["split", "sequence", "frame", "timestamp_s", "image", "label"])
        for number in range(6):
            frame = picture(number)
            cv2.imwrite(str(tmp_path / f"{number}.png"), frame.image[..., ::-1])
            cv2.imwrite(str(tmp_path / f"l{number}.png"), frame.labels)
            rows.writerow(["train", "a" if number < 4 else "held", number, number, f"{number}.png", f"l{number}.png"])
    return tmp_path / "sequences.csv"


def content(index: Path, **more: Any) -> dict[str, Any]:
    return {
        "model": "tiny",
        "log_every": 1,
        "checkpoint_every": 2,
        "validate_every": 3,
        "data": {"sequences": {"index": str(index), "selection": "held"}},
        "augmentation": {"crop": [48, 64]},
        "stages": [{"kind": "single", "steps": 3, "batch": 2}, {"kind": "tdnet", "steps": 5, "batch": 2}],
        **more,
    }


def trainer(index: Path, output: Path, resume: bool = False, **more: Any) -> Trainer:
    return Trainer(parse_configuration(content(index, **more)), output, HERE, lambda line: None, resume)


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


def test_two_processes_train_as_one_with_the_whole_batch(index: Path, tmp_path: Path) -> None:
    stages = [
        {"kind": kind, "steps": 3, "batch": 4, "freeze_norms": True, "class_weights": False}
        for kind in ("single", "tdnet")
    ]
    labelled = {"crop": [48, 64], "scale": [1.0, 1.4], "motion_zoom": 0.0, "motion_shift_px": 0.0}
    file = tmp_path / "training.json"
    file.write_text(json.dumps(content(index, stages=stages, augmentation=labelled)))

    def start(rank: int, count: int, output: str, port: int) -> subprocess.Popen[str]:
        torchrun = {"RANK": rank, "WORLD_SIZE": count, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1"}
        told = {name: str(value) for name, value in {**torchrun, "MASTER_PORT": port, "OMP_NUM_THREADS": 1}.items()}
        told["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "test")])
        command = [sys.executable, str(REPOSITORY / "test" / "train_tiny.py"), str(file), str(tmp_path / output)]
        return subprocess.Popen(command, env=python_environment(told), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                text=True)  # fmt: skip

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    running = [start(0, 2, "two", port), start(1, 2, "two/rank1", port), start(0, 1, "one", port)]
    for process in running:
        said = process.communicate(timeout=100)[0]
        assert process.returncode == 0, said
    one, two = (read_state(tmp_path / run / "checkpoint.pt", HERE.device)["network"] for run in ("one", "two"))
    fresh = trainer(index, tmp_path / "fresh").network.state_dict()
    assert any((one[key].float() - fresh[key].float()).abs().max() > 1e-3 for key in one), "it has learned something"
    for key in one:
        torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=2e-5)
    assert not list((tmp_path / "two" / "rank1").glob("*")), "only the first process writes"


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trainer(index, tmp_path / "out")
    run.run(2)
    good = (tmp_path / "out" / "checkpoint.pt").read_bytes()
    with torch.no_grad():
        next(run.network.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"loss of stage 0 is not finite .* last good checkpoint"):
        run.run()
    assert (tmp_path / "out" / "checkpoint.pt").read_bytes() == good


def test_a_full_disk_loses_no_checkpoint(index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = trainer(index, tmp_path / "out")
    run.run(2)
    good = (tmp_path / "out" / "checkpoint.pt").read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(TrainingError, match=r"the last one stays: .*No space left"):
            run.run()
    assert (tmp_path / "out" / "checkpoint.pt").read_bytes() == good
    assert not list((tmp_path / "out").glob("*.partial"))
    trainer(index, tmp_path / "out", resume=True).run()
    with pytest.raises(TrainingError, match="are not finite"):
        write_state(tmp_path / "out" / "checkpoint.pt", {"network": {"a": torch.tensor(float("nan"))}})


def test_damaged_missing_and_foreign_checkpoints_are_named(index: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="expected an existing file to go on from"):
        trainer(index, tmp_path / "out", resume=True)
    trainer(index, tmp_path / "out").run(2)
    with pytest.raises(ConfigurationError, match="holds a training: --resume"):
        trainer(index, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="another configuration"):
        trainer(index, tmp_path / "out", resume=True, seed=9)
    file = tmp_path / "out" / "checkpoint.pt"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(TrainingError, match="cannot be read"):
        trainer(index, tmp_path / "out", resume=True)


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


def test_dense_frames_follow_one_another() -> None:
    store = FrameStore([picture(number, gap_s=1 / 15) for number in range(9)], 11, HERE.device)
    clips = DeviceClips(store, AugmentationSettings(crop=(48, 64)), 1.0)
    draws = [clips._draw(np.random.default_rng(seed), 3) for seed in range(30)]
    assert all(d.frames == list(range(d.frames[-1] - 2, d.frames[-1] + 1)) for d in draws if d.frames[-1] >= 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sped": 1}, "sped is unknown, expected one of"),
        ({"seed": "one"}, "seed is 'one', expected a whole number"),
        ({"precision": "int8"}, "precision is 'int8', expected one of"),
        ({"stages": [{"steps": 0}]}, r"stages\[0\].steps is 0, expected at least 1"),
        ({"stages": []}, "expected at least one stage"),
        ({"augmentation": {"crop": [8, 64]}}, r"augmentation.crop is \[8, 64\], expected at least 32"),
        ({"augmentation": {"crop": 8}}, "augmentation.crop is 8, expected a list of two numbers"),
        ({"optimiser": {"head_rate": -1}}, "optimiser.head_rate is -1.0, expected 0 or more"),
        ({"data": 3}, "data is 3, expected fields"),
    ],
)
def test_bad_settings_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_configuration(change)


def test_bad_data_is_named(index: Path) -> None:
    with pytest.raises(SourceError, match="no frames to train on"):
        FrameStore([], 11, HERE.device)
    small = picture(1)
    small = replace(small, image=small.image[:40], labels=small.labels[:40])
    with pytest.raises(SourceError, match="frame 1 of sequence 'a' is 96x40, expected 96x72"):
        FrameStore([picture(0), small], 11, HERE.device)
    with pytest.raises(SourceError, match=r"has label \d+, expected 0..4 or 255"):
        FrameStore([picture(0)], 5, HERE.device)
    settings = parse_configuration(content(index)).data
    with pytest.raises(ConfigurationError, match=r"selection is 'none', expected one of \['a', 'held'\]"):
        read_frames(replace(settings, sequences=replace(settings.sequences, selection="none")), 11)
    with pytest.raises(ConfigurationError, match="'val', expected one to train on"):
        read_frames(replace(settings, sequences=replace(settings.sequences, split="val")), 11)
    frames, selection = read_frames(settings, 11)
    assert {frame.sequence for frame in frames} == {"a"} and {frame.sequence for frame in selection} == {"held"}
    with pytest.raises(ConfigurationError, match="kind is 'magic', expected one of"):
        make_stage(build_network("tiny"), StageSettings(kind="magic"), None)


def test_the_command_trains_on_a_rendered_street(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = {
        "model": "td2_mnv2",
        "data": {"street": {"seeds": [1], "frames": 3, "height": 64, "width": 96}},
        "augmentation": {"crop": [64, 96]},
        "stages": [{"kind": "tdnet", "steps": 2, "batch": 2}],
    }
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(told))
    command = ["train", str(tmp_path / "training.yaml"), "--output", str(tmp_path / "out"), "--device", "cpu"]
    assert main([*command, "--max-steps", "1"]) == 0
    assert "1 of 2 steps done: go on with --resume" in capsys.readouterr().out
    assert main([*command, "--resume"]) == 0
    assert Segmenter(weights=tmp_path / "out" / "td2_mnv2.safetensors", device="cpu").network.info.name == "td2_mnv2"
    card = (tmp_path / "out" / "td2_mnv2.md").read_text()
    assert "street-1" in card and "2 of 2 steps" in card and "kind: tdnet" in card


@pytest.mark.parametrize("path", sorted((REPOSITORY / "config").glob("train_*.yaml")), ids=lambda path: path.stem)
def test_shipped_configurations_are_valid(path: Path) -> None:
    configuration = read_configuration(path)
    assert configuration.model in CATALOG and configuration.data.sequences.selection == "0006R0"
