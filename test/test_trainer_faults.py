"""tdnet-ros train where something goes wrong: checkpoints survive, and bad input is named."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from tiny_training import HERE, TINY, content, picture, trainer, write_index

from tdnet_ros.errors import CheckpointError, ConfigurationError, SourceError, TrainingError
from tdnet_ros.labels import UNLABELLED
from tdnet_ros.networks import build_network
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.training.configuration import StageSettings, parse_configuration
from tdnet_ros.training.datasets import class_shares
from tdnet_ros.training.frame_store import FrameStore, read_frames
from tdnet_ros.training.stages import make_stage
from tdnet_ros.training.training_card import publish
from tdnet_ros.training.training_state import write_state


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CATALOG, "tiny", TINY)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return write_index(tmp_path)


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


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """The kernel refuses to write further into a file, as it does where the disk is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_loses_no_checkpoint(index: Path, tmp_path: Path) -> None:
    run = trainer(index, tmp_path / "out")
    run.run(2)
    checkpoint, log = tmp_path / "out" / "checkpoint.pt", tmp_path / "out" / "log.jsonl"
    good, said = checkpoint.read_bytes(), log.read_text()
    with files_of_at_most(len(good) // 2), pytest.raises(TrainingError, match=r"the last one stays: .*File too large"):
        run.run()
    assert checkpoint.read_bytes() == good and not list((tmp_path / "out").glob("*.partial"))
    with log.open("a") as file:  # a line that will be said again, and one that was cut
        file.write('{"done": 3}\n{"do')
    log.with_suffix(".partial").symlink_to("/dev/full")
    with pytest.raises(TrainingError, match=r"log .* the last checkpoint stays: .*No space left"):
        trainer(index, tmp_path / "out", resume=True).run()
    assert log.read_text().startswith(said)
    trainer(index, tmp_path / "out", resume=True).run(1)
    log.unlink()
    log.symlink_to("/dev/full")
    with pytest.raises(TrainingError, match=r"log .* the last checkpoint stays: .*No space left"):
        trainer(index, tmp_path / "out", resume=True).run()
    log.unlink()
    run = trainer(index, tmp_path / "out", resume=True)
    run.run()
    (tmp_path / "out" / "tiny.md").mkdir()
    with pytest.raises(CheckpointError, match=r"card .*tiny.md' cannot be written"):
        publish(run)
    with pytest.raises(TrainingError, match="are not finite"):
        write_state(checkpoint, {"network": {"a": torch.tensor(float("nan"))}})


def test_damaged_missing_and_foreign_checkpoints_are_named(index: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="expected an existing file to go on from"):
        trainer(index, tmp_path / "out", resume=True)
    trainer(index, tmp_path / "out").run()
    with pytest.raises(ConfigurationError, match="holds a training: --resume"):
        trainer(index, tmp_path / "out")
    with pytest.raises(ConfigurationError, match="another configuration"):
        trainer(index, tmp_path / "out", resume=True, seed=9)
    file = tmp_path / "out" / "checkpoint.pt"
    whole = file.read_bytes()
    other_network = torch.load(file)
    other_network["network"].popitem()
    torch.save(other_network, tmp_path / "other.pt")
    turned = bytearray(whole)
    turned[len(whole) // 2] ^= 1
    for damaged, message in (
        (whole[:1000], "cannot be read"),
        (bytes(turned), "cannot be read, it is damaged: .*another checksum"),
        ((tmp_path / "out" / "best.pt").read_bytes(), "does not fit .* no entry 'configuration'"),
        ((tmp_path / "other.pt").read_bytes(), "does not fit .* state_dict"),
    ):
        file.write_bytes(damaged)
        with pytest.raises(TrainingError, match=message):
            trainer(index, tmp_path / "out", resume=True)


def test_a_checkpoint_of_before_a_field_was_added_goes_on(index: Path, tmp_path: Path) -> None:
    trainer(index, tmp_path / "out").run(2)
    file = tmp_path / "out" / "checkpoint.pt"
    state = torch.load(file)
    state["configuration"] = state["configuration"].replace('"frozen_blocks": 0', '"average_decay": 0.995')
    assert "frozen_blocks" not in state["configuration"]
    write_state(file, state)
    assert trainer(index, tmp_path / "out", resume=True).done == 2


def test_an_output_that_cannot_be_written_is_named_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for output in (tmp_path / "file", tmp_path / "file" / "out", Path("/proc/out")):
        with pytest.raises(ConfigurationError, match=f"output is '{output}', expected a folder that can be written"):
            trainer(tmp_path / "no index", output)


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
        ({"data": {"street": {"frames": 0}}}, "data.street.frames is 0, expected at least 1"),
        ({"data": {"street": {"seeds": [1, 2], "selection_seeds": [2]}}}, r"selection_seeds is \[2\], .* such as 2"),
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
    without = replace(picture(0), labels=np.full_like(picture(0).labels, UNLABELLED))
    with pytest.raises(SourceError, match="data has no labelled pixel in 1 frames"):
        class_shares([without], 11)
    with pytest.raises(SourceError, match="labels of frame 0 of sequence 'a' are 96x40, expected 96x72 as the image"):
        FrameStore([replace(picture(0), labels=small.labels)], 11, HERE.device)
    with pytest.raises(ConfigurationError, match=r"selection is 'none', expected one of \['a', 'held'\]"):
        read_frames(replace(settings, sequences=replace(settings.sequences, selection="none")), 11)
    with pytest.raises(ConfigurationError, match="'val', expected one to train on"):
        read_frames(replace(settings, sequences=replace(settings.sequences, split="val")), 11)
    frames, selection = read_frames(settings, 11)
    assert {frame.sequence for frame in frames} == {"a"} and {frame.sequence for frame in selection} == {"held"}
    with pytest.raises(ConfigurationError, match="kind is 'magic', expected one of"):
        make_stage(build_network("tiny"), StageSettings(kind="magic"), None)
    with pytest.raises(ConfigurationError, match="frozen_blocks is 2, expected 0: 'tiny' has no MobileNetV2"):
        trainer(index, index.parent / "out", optimiser={"frozen_blocks": 2})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.full((72, 96), 12, np.uint8), r"l1.png has label 12, expected 0..10, or 11 or 255 for unlabelled"),
        (np.zeros((72, 96, 3), np.uint8), "l1.png has 3 channels of uint8, expected ids in 8 bits"),
        (np.full((72, 96), 256, np.uint16), "l1.png has 1 channels of uint16"),
        (np.zeros((0, 0), np.uint8), "cannot read 1.png or l1.png"),
    ],
)
def test_labels_that_are_none_of_the_set_are_named(index: Path, labels: np.ndarray, message: str) -> None:
    path = index.parent / "l1.png"
    path.write_bytes(b"") if not labels.size else cv2.imwrite(str(path), labels)
    with pytest.raises(SourceError, match=message):
        read_frames(parse_configuration(content(index)).data, 11)


@pytest.mark.parametrize(("wrong", "by"), [("timestamp_s", "time"), (",3,3,", ",three,3,"), ("split", "\udcff")])
def test_a_damaged_index_is_named(index: Path, wrong: str, by: str) -> None:
    index.write_bytes(index.read_text().replace(wrong, by).encode(errors="surrogateescape"))
    with pytest.raises(SourceError, match="cannot be read, expected columns split, sequence, frame"):
        read_frames(parse_configuration(content(index)).data, 11)
