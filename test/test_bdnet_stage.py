"""The stage that trains a BDNet: what it draws, what acts in training alone, and that none of that is left behind."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from test_keyframe_clips import drawing
from tiny_training import HERE, content, picture, trainer, write_index
from torch import Tensor

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import build_network, load_network
from tdnet_ros.networks.bdnet import BDNet
from tdnet_ros.networks.checkpoints import read_checkpoint, save_checkpoint
from tdnet_ros.networks.cost import count_cost
from tdnet_ros.networks.metadata import to_metadata
from tdnet_ros.networks.tdar import TDAR
from tdnet_ros.training.bdnet_stage import BDNetStage
from tdnet_ros.training.boundary_loss import boundary_labels, class_balanced_loss
from tdnet_ros.training.configuration import StageSettings, parse_configuration
from tdnet_ros.training.measured_motion import measure_motion
from tdnet_ros.training.pairwise import pairwise_distillation
from tdnet_ros.training.similarity_stage import fusion_pass
from tdnet_ros.training.stages import make_stage
from tdnet_ros.training.trainer import Trainer
from tdnet_ros.training.training_card import publish

MODEL = "bdnet_mnv2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Frames to train on, and a teacher."""
    folder = tmp_path_factory.mktemp("bdnet")
    write_index(folder)
    torch.manual_seed(5)
    teacher = build_network(MODEL)
    save_checkpoint(folder / "teacher.safetensors", teacher.state_dict(), to_metadata(teacher.info))
    return folder


def settings(folder: Path, **more: Any) -> dict[str, Any]:
    stage = {"kind": "bdnet", "steps": 2, "batch": 2, "boundary": 1.0, "pairwise": 0.5, "inner": 0.5}
    return {**stage, "teacher": MODEL, "teacher_weights": str(folder / "teacher.safetensors"), **more}


def make(folder: Path, output: Path, resume: bool = False, **more: Any) -> Trainer:
    return trainer(folder / "sequences.csv", output, resume, model=MODEL, validate_every=9,
                   stages=[settings(folder, **more)])  # fmt: skip


def test_what_is_saved_is_the_plain_network(folder: Path, tmp_path: Path) -> None:
    """The stream and the adapters are trained, but are neither in the weights nor in what a frame costs."""
    training = make(folder, tmp_path)
    before = {key: value.clone() for key, value in training.losses.training_only().state_dict().items()}
    assert any(key.startswith("stream.gate") for key in before)
    training.run()
    after = training.losses.training_only().state_dict()
    assert not torch.equal(after["stream.leave.weight"], before["stream.leave.weight"])
    file = publish(training)
    plain = build_network(MODEL)
    saved = read_checkpoint(file).weights
    assert saved.keys() == {key for key in plain.state_dict() if not key.endswith("num_batches_tracked")}
    loaded = load_network(None, file)
    assert loaded.info.name == MODEL and not any("stream" in name for name, _ in loaded.named_modules())
    assert sum(x.numel() for x in load_network(MODEL).parameters()) == sum(x.numel() for x in loaded.parameters())
    assert count_cost(loaded.info, (96, 128)) == count_cost(MODEL, (96, 128))


def test_a_stopped_training_goes_on_with_the_same_bits(folder: Path, tmp_path: Path) -> None:
    whole, parts = make(folder, tmp_path / "whole"), make(folder, tmp_path / "parts")
    whole.run()
    parts.run(stop_after=1)
    resumed = make(folder, tmp_path / "parts", resume=True)
    resumed.run()
    for kind in (lambda t: t.network.state_dict(), lambda t: t.losses.training_only().state_dict()):
        for key, value in kind(whole).items():
            assert torch.equal(value, kind(resumed)[key]), key


def draw(folder: Path, tmp_path: Path, **more: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    training = Trainer(
        parse_configuration(content(folder / "sequences.csv", model=MODEL, stages=[settings(folder, **more)])),
        tmp_path / "unused", HERE, lambda line: None)  # fmt: skip
    return training.losses.draw(training.drawing, (1, 2), 0, 1)


def test_clips_lie_up_to_the_interval_behind_their_keyframe(folder: Path, tmp_path: Path) -> None:
    keyframes, current, motion, labels = draw(folder, tmp_path, batch=32)
    assert keyframes.shape == current.shape == (32, 3, 48, 64) and labels.shape == (32, 48, 64)
    still = (keyframes == current).flatten(1).all(1)
    assert 2 <= int(still.sum()) <= 13, "a fifth of 32, give or take"
    assert not motion[still].any() and bool(motion[~still].flatten(1).any(1).all())


def test_interval_one_is_the_single_frame_network(folder: Path, tmp_path: Path) -> None:
    keyframes, current, motion, _ = draw(folder, tmp_path, batch=8, interval=1)
    assert torch.equal(keyframes, current) and not motion.any()


def test_motion_can_be_measured_in_the_place_of_what_is_told() -> None:
    """A picture that was moved by (-4, 2) px."""
    scene = torch.rand(1, 3, 15, 20, generator=torch.Generator().manual_seed(1))
    scene = torch.nn.functional.interpolate(scene, (120, 160), mode="bicubic").clamp(0, 1)
    earlier, later = scene[..., 8:104, 8:136], scene[..., 10:106, 4:132]
    motion = measure_motion(earlier.expand(2, 3, 96, 128), later.expand(2, 3, 96, 128))
    assert motion.shape == (2, 3, 12, 16)
    inner = motion[0, :, 3:9, 3:13]
    assert inner[2].mean() > 0.8
    assert float(inner[0].median()) == pytest.approx(-4, abs=0.7)
    assert float(inner[1].median()) == pytest.approx(2, abs=0.7)


def test_stages_that_cannot_be(folder: Path) -> None:
    network = build_network(MODEL)
    with pytest.raises(ConfigurationError, match="stage 'bdnet' trains 'mnv2', expected a bdnet"):
        BDNetStage(build_network("mnv2"), StageSettings("bdnet"), None)
    with pytest.raises(ConfigurationError, match="teacher is '' with weights ''"):
        BDNetStage(network, StageSettings("bdnet", pairwise=1.0), None)
    with pytest.raises(ConfigurationError, match="distillation is above 0"):
        BDNetStage(network, StageSettings("bdnet", distillation=1.0), None)
    with pytest.raises(ConfigurationError, match=r"inner_reading is 'outer', expected one of"):
        parse_configuration({"stages": [{"kind": "bdnet", "inner_reading": "outer"}]})
    assert isinstance(network, BDNet) and not list(BDNetStage(network, StageSettings("bdnet"), None).extra.parameters())


def test_networks_that_fuse_resolutions_can_have_the_same_losses() -> None:
    """The stream reads the branch of the frame's own sub-network at low resolution; nothing of it is in the weights."""
    torch.manual_seed(2)
    network = build_network("tdar_mnv2")
    assert isinstance(network, TDAR)
    told = StageSettings("fst", batch=1, class_weights=False, boundary=1.0, pairwise=2.0, inner=3.0)
    bare = replace(told, boundary=0.0, pairwise=0.0, inner=0.0)
    plain, stage = (make_stage(network, each, None).eval() for each in (bare, told))
    network.eval()
    drawn = stage.draw(drawing([picture(number) for number in range(4)]), (5, 0), 0, 1)
    clips, order, _ = drawn
    result = fusion_pass(network, *drawn)
    with stage.extra.listening(order[-1]) as sides:
        fusion_pass(network, *drawn)
    boundary = class_balanced_loss(stage.extra.stream(sides), boundary_labels(clips.labels[-1]))
    expected = plain(*drawn) + 20 * boundary + 2 * pairwise_distillation(result.feature, result.full_feature)
    expected = expected + 3 * F.mse_loss(result.feature, result.full_feature)
    found = stage(*drawn)
    torch.testing.assert_close(found, expected)
    grid = -(-clips.images.shape[3] // 2)
    assert sides[0].shape[2] == -(-grid // 4), "of the reduced picture"
    found.backward()
    assert stage.extra.stream.leave.weight.grad is not None
    assert network.low[order[-1]].path.backbone.stem.norm.weight.grad is not None
    assert not any("stream" in key for key in network.state_dict())
