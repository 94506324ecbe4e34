"""What a teacher says reaches the student's loss: groups that add up, scores kept by frame, crops that match."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from lively_weights import make_lively
from tiny_network import TinyVariant
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import CAMVID
from tdnet_ros.networks import build_network, load_network, network_info
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.checkpoints import save_checkpoint
from tdnet_ros.networks.metadata import to_metadata
from tdnet_ros.networks.tdnet import TDNet
from tdnet_ros.training import trainer as training
from tdnet_ros.training.auxiliary import AuxiliaryHeads
from tdnet_ros.training.clip import clip_forward
from tdnet_ros.training.configuration import (
    AugmentationSettings,
    StageSettings,
    parse_configuration,
    read_configuration,
)
from tdnet_ros.training.datasets import LabelledFrame
from tdnet_ros.training.detail_teacher import DetailTeacher
from tdnet_ros.training.device_clips import DeviceClips
from tdnet_ros.training.distillation import distillation
from tdnet_ros.training.frame_size import resize_frames
from tdnet_ros.training.frame_store import FrameStore
from tdnet_ros.training.losses import hard_pixel_cross_entropy
from tdnet_ros.training.normalisation import normalise
from tdnet_ros.training.processes import Processes
from tdnet_ros.training.stages import make_stage
from tdnet_ros.training.teacher import GroupedTeacher
from tdnet_ros.training.teacher_maps import TeacherMaps, TeacherView, load_teacher, make_teacher_maps
from tdnet_ros.training.trainer import Trainer

SIZE = (64, 96)
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, "tiny", TinyVariant(subnetworks=2, labels=CAMVID))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files of seeded weights, by model; those of the light ones give several classes."""
    folder, files = tmp_path_factory.mktemp("teachers"), {}
    image = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(3))
    for name in ("mnv2", "td2_mnv2", "psp18"):
        info = replace(network_info(name), labels=CAMVID)
        torch.manual_seed(1)
        network = build_network(info)
        if name != "psp18":
            make_lively(network, 1, lambda n=network: n.advance(image, n.initial_state()))
        save_checkpoint(folder / f"{name}.safetensors", network.state_dict(), to_metadata(info))
        files[name] = str(folder / f"{name}.safetensors")
    return files


def settings(weights: dict[str, str], teacher: str = "mnv2", **more: Any) -> StageSettings:
    given = {"distillation": 1.0, "group_distillation": 1.0, "teacher_groups": 2, **more}
    return StageSettings(teacher=teacher, teacher_weights=weights[teacher], **given)


def frames(height: int = SIZE[0], width: int = SIZE[1]) -> list[LabelledFrame]:
    random = np.random.default_rng(5)
    return [
        LabelledFrame(
            random.integers(0, 256, (height, width, 3), np.uint8),
            random.integers(0, 11, (height, width)).astype(np.uint8),
            "a",
            number,
            float(number),
        )
        for number in range(2)
    ]


def image_of(frame: LabelledFrame, info: Any) -> Tensor:
    return normalise(torch.from_numpy(frame.image).permute(2, 0, 1)[None].float() / 255, info)


@pytest.mark.parametrize("name", ["mnv2", "td2_mnv2"])
def test_the_groups_of_a_light_teacher_add_up_before_the_first_non_linearity(
    weights: dict[str, str], name: str
) -> None:
    network = load_network(name, weights[name])
    first = network.head.refine8 if name == "mnv2" else network.subnetwork(0).norm
    layer = first if name == "td2_mnv2" else next(m for m in first.modules() if isinstance(m, nn.Conv2d))
    met: list[Tensor] = []
    layer.register_forward_hook(lambda _, told, made: met.append((told[0] if name == "td2_mnv2" else made).clone()))
    image = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(2))
    teacher = DetailTeacher(network, 4)
    with torch.no_grad():
        scores = network.advance(image, network.initial_state()).scores
    del met[:]
    ours = teacher(image)
    full, *alone = met
    torch.testing.assert_close(torch.stack(alone).mean(0), full, rtol=0, atol=1e-4 * float(full.abs().max()))
    torch.testing.assert_close(ours.full, scores, rtol=0, atol=1e-5 * float(scores.abs().max()))
    assert ours.groups.shape == (1, 4, *scores.shape[1:])
    assert not torch.allclose(ours.groups[:, 0], ours.groups[:, 1]) and not ours.full.requires_grad
    one = DetailTeacher(network, 1).train()(image)
    assert not any(part.training for part in teacher.modules()) and torch.equal(one.groups[:, 0], one.full)


@pytest.mark.parametrize("name", ["mnv2", "psp18"])
def test_kept_scores_are_the_teachers_own(weights: dict[str, str], name: str) -> None:
    """For the whole frame as it is, and mirrored; scores lie as the student's do, at either stride and alignment."""
    told, student = settings(weights, name), replace(network_info(name), labels=CAMVID)
    maps = make_teacher_maps(told, student, frames(), SIZE, CPU)
    teacher, info = load_teacher(told, student)
    assert isinstance(teacher, DetailTeacher if name == "mnv2" else GroupedTeacher)
    direct = teacher(image_of(frames()[1], info))
    expected = torch.cat([direct.full[:, None], direct.groups], 1).half().float()
    whole, mirror = torch.eye(2, 3)[None], torch.tensor([[[-1.0, 0, 0], [0, 1, 0]]])
    scale = float(expected.abs().max())
    for theta, wanted in ((whole, expected), (mirror, expected.flip(4))):
        view = maps.view(torch.tensor([1]), theta, SIZE)
        torch.testing.assert_close(view.scores, wanted, rtol=0, atol=1e-4 * scale)
        assert view.inside.all()
    both = make_teacher_maps(replace(told, teacher_flip=True, group_distillation=0.0), student, frames()[1:], SIZE, CPU)
    flipped = teacher(image_of(frames()[1], info).flip(3)).full.flip(3)
    torch.testing.assert_close(both.scores[0, :1], ((direct.full + flipped) / 2).half())


def test_a_teacher_sees_the_frame_as_it_was_read(weights: dict[str, str]) -> None:
    """The student's frames are half as large; its scores lie amid four of the teacher's."""
    student = replace(network_info("mnv2"), input_size=(SIZE[0] // 2, SIZE[1] // 2))
    maps = make_teacher_maps(settings(weights, teacher_scale=2.0), student, frames(), student.input_size, CPU)
    teacher, info = load_teacher(settings(weights), student)
    expected = nn.functional.avg_pool2d(teacher(image_of(frames()[0], info)).full, 2)
    view = maps.view(torch.tensor([0]), torch.eye(2, 3)[None], student.input_size)
    torch.testing.assert_close(view.scores[:, 0], expected, rtol=0, atol=2e-3 * float(expected.abs().max()))
    small = resize_frames(frames(), student.input_size)
    assert {(*frame.image.shape[:2], *frame.labels.shape) for frame in small} == {(*student.input_size,) * 2}
    np.testing.assert_allclose(small[0].image[0, 0], frames()[0].image[:2, :2].mean((0, 1)), atol=1)


def test_crops_of_scores_move_with_the_labels() -> None:
    """A teacher that is sure of the labels says the same as the labels of any crop, and nothing beyond the frame."""
    blocks = [
        replace(frame, labels=np.kron(frame.labels[:4, :6], np.ones((16, 16), np.uint8)).astype(np.uint8))
        for frame in frames()
    ]
    clips = DeviceClips(FrameStore(blocks, 11, CPU), AugmentationSettings(crop=SIZE, scale=(0.6, 1.6)), 1.0)
    sure = torch.stack([nn.functional.one_hot(torch.from_numpy(f.labels).long(), 11) for f in blocks]).float()
    maps = nn.functional.avg_pool2d(sure.permute(0, 3, 1, 2), 4)[:, None].half()
    clips.teacher = TeacherMaps(maps, SIZE, False, replace(network_info("mnv2"), stride=1))
    batch = clips.batch((1,), 8, 2)
    assert batch.teacher is not None
    scores, inside = batch.teacher
    assert scores.shape == (8, 1, 11, *SIZE)
    assert torch.equal(inside, batch.labels[-1] != 255) and 0.5 < inside.float().mean() < 1
    agreement = (scores[:, 0].argmax(1) == batch.labels[-1])[inside].float().mean()
    assert agreement > 0.93, "all but pixels between blocks"
    halves = [clips.batch((1,), 8, 2, rank, 2).teacher for rank in (0, 1)]
    assert torch.equal(scores, torch.cat([half.scores for half in halves if half]))


def test_the_loss_of_a_step_is_the_sum_of_its_parts() -> None:
    torch.manual_seed(0)
    network = build_network("tiny").eval()
    images, labels = torch.rand(2, 2, 3, *SIZE), torch.randint(0, 11, (2, 2, *SIZE))
    scores, inside = torch.randn(2, 3, 11, 8, 12), torch.rand(2, 8, 12) > 0.3
    view = TeacherView(scores, inside)
    own, recomposed = reversed(clip_forward(network, [normalise(i, network.info) for i in images], [0, 1]))

    def divergence(made: Tensor, plane: int) -> Tensor:
        """By hand: sum T (ln T - ln S), mean over the positions inside."""
        target = scores[:, plane].softmax(1)
        return (target * (target.log() - made.softmax(1).log())).sum(1)[inside].mean()

    def loss(overall: float, grouped: float, teacher: TeacherView | None = view) -> Tensor:
        told = StageSettings(distillation=overall, group_distillation=grouped, teacher_groups=2)
        stage = make_stage(network, told, None).eval()
        result: Tensor = stage(images, labels, [0, 1], teacher)
        return result

    plain = loss(0.0, 0.0)
    torch.testing.assert_close(loss(1.0, 0.5, None), plain)
    torch.testing.assert_close(loss(0.7, 0.0) - plain, 0.7 * divergence(recomposed, 0), rtol=1e-3, atol=1e-5)
    group = 1 + 1  # path 1 of two learns from the second of two groups; the tiny network does not split its feature
    torch.testing.assert_close(loss(0.0, 0.5) - plain, 0.5 * divergence(own, group), rtol=1e-3, atol=1e-5)
    single = make_stage(network, StageSettings("single", distillation=2.0), None).eval()
    change = single(images[:1], labels[:1], [0], view) - single(images[:1], labels[:1], [0])
    alone = clip_forward(network, [normalise(images[0], network.info)] * 2, [1, 0]).own_path
    torch.testing.assert_close(change, 2 * divergence(alone, 0), rtol=1e-3, atol=1e-5)
    nothing = distillation(recomposed, scores[:, 0], torch.zeros_like(inside))
    assert nothing == 0 and torch.isfinite(nothing)


def test_an_auxiliary_head_adds_its_loss_and_trains_the_newest_path_alone() -> None:
    """Against TDNet's rule (td4_psp.py, ``forward``): 0.1 of the loss of a head on the newest path's third stage."""
    torch.manual_seed(0)
    network, order = build_network("td4_psp18"), [1, 2, 3, 0]
    images, labels = torch.rand(4, 1, 3, 33, 49), torch.randint(0, 19, (4, 1, 33, 49))
    told = StageSettings(loss="ohem", class_weights=False, auxiliary=0.1)
    stage = make_stage(network, told, None).eval()
    heads = stage.training_only()
    assert isinstance(heads, AuxiliaryHeads) and isinstance(network, TDNet)
    plain = make_stage(network, replace(told, auxiliary=0.0), None).eval()(images, labels, order)
    whole = stage(images, labels, order)
    with heads.listening(network) as features:
        network.encode(normalise(images[-1], network.info), 0)
    expected = 0.1 * hard_pixel_cross_entropy(heads(features[0], 0), labels[-1], True)
    torch.testing.assert_close(whole - plain, expected, rtol=1e-3, atol=1e-5)
    whole.backward()
    trained = [all(p.grad is not None for p in head.parameters()) for head in heads.heads]
    assert trained == [True, False, False, False]
    with pytest.raises(ConfigurationError, match=r"auxiliary is 0\.1 in a stage 'single', expected 0"):
        make_stage(network, replace(told, kind="single"), None)


def test_a_training_with_a_teacher_goes_on_with_the_very_same_bits(
    weights: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "read_frames", lambda settings, classes: (frames(128, 192), []))
    told = {"distillation": 1.0, "teacher": "mnv2", "teacher_weights": weights["mnv2"]}
    stages = [{"kind": "tdnet", "steps": 2, "batch": 2, **told}]
    content = {"model": "tiny", "input_size": list(SIZE), "augmentation": {"crop": [32, 64]}, "stages": stages}
    said: list[str] = []

    def run(output: str, steps: int, resume: bool = False) -> Trainer:
        trainer = Trainer(parse_configuration(content), tmp_path / output, Processes(0, 1, CPU), said.append, resume)
        trainer.run(steps)
        return trainer

    straight = run("straight", 2).network.state_dict()
    run("halves", 1)
    halves = run("halves", 1, resume=True).network.state_dict()
    assert all(torch.equal(value, halves[key]) for key, value in straight.items())
    assert sum(line.startswith("teacher    mnv2, 2 frames of 96x64: 0 MiB") for line in said) == 3, said


def test_teachers_that_do_not_fit_are_named(weights: dict[str, str]) -> None:
    student = network_info("td2_mnv2")
    fits = settings(weights)
    for change, message in (
        ({"teacher_weights": ""}, "expected both where a distillation's weight is above 0"),
        ({"teacher": "mnv3"}, "teacher is 'mnv3', expected one of"),
        ({"teacher_scale": 0.0}, "teacher_scale is 0.0, expected a number above 0"),
        ({"teacher_groups": 3}, "groups is 3, expected a divisor of 128, the feature's channels"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            load_teacher(replace(fits, **change), student)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="teacher's classes are those of 'camvid', expected 'cityscapes'"):
        load_teacher(fits, network_info("td4_psp18"))
    with pytest.raises(ConfigurationError, match="teacher is 'tiny', expected mnv2, td2_mnv2 or a PSPNet"):
        DetailTeacher(build_network("tiny"), 1)
    with pytest.raises(ConfigurationError, match="expected 0: it has one path"):
        make_stage(build_network("tiny"), StageSettings("single", group_distillation=1.0), None)


def test_a_configuration_may_extend_another(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("seed: 3\nlog_every: 7\noptimiser: {warmup_steps: 5, head_rate: 0.1}\n")
    (tmp_path / "row.yaml").write_text(
        "extends: base.yaml\nseed: 4\noptimiser: {head_rate: 0.2}\nstages: [{steps: 2}]\n"
    )
    row = read_configuration(tmp_path / "row.yaml")
    assert (row.seed, row.log_every, row.optimiser.warmup_steps, row.optimiser.head_rate) == (4, 7, 5, 0.2)
    assert [stage.steps for stage in row.stages] == [2]
    for text, message in (
        ("extends: row.yaml", "extends is 'row.yaml' in .*row.yaml', expected no file that extends it"),
        ("extends: [base.yaml]", "expected the name of a file beside"),
        ("extends: none.yaml", "none.yaml' cannot be read"),
    ):
        (tmp_path / "row.yaml").write_text(text)
        with pytest.raises(ConfigurationError, match=message):
            read_configuration(tmp_path / "row.yaml")


def test_the_rows_of_the_ablation_have_one_budget() -> None:
    names = ("single", "plain", "overall", "grouped")
    rows = [read_configuration(REPOSITORY / "config" / "ablation" / f"{name}.yaml") for name in names]
    assert all(replace(row, stages=()) == replace(rows[0], stages=()) for row in rows)
    assert rows[0].data.sequences.selection == "0006R0" and rows[0].start
    stages = [stage for row in rows for stage in row.stages]
    frames = {stage.steps * stage.batch * (1 if stage.kind == "single" else 2) for stage in stages}
    assert len(frames) == 1 and len({(stage.rate, stage.own_path) for stage in stages}) == 1
    assert [stage.distillation > 0 for stage in stages] == [False, False, True, True]
    assert [stage.group_distillation > 0 for stage in stages] == [False, False, False, True]
    teacher = read_configuration(REPOSITORY / "config" / "ablation" / "teacher.yaml")
    assert teacher.model == rows[0].model and teacher.data.sequences.split == "train" and teacher.backbone
