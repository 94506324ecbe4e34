"""Frames to train on as a camera's stream brings them: decoded H.264 with its motion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import HERE, TINY, picture, trainer, write_index

from benchmarks.analytic_clip import DriveClip
from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.training import trainer as training
from tdnet_ros.training.compression import compress_frames
from tdnet_ros.training.configuration import CompressionSettings, parse_configuration
from tdnet_ros.training.datasets import LabelledFrame
from tdnet_ros.training.frame_store import FrameStore

SETTINGS, GAP_S = CompressionSettings(crf=(18, 32), gop=4), 0.2


CLIP = DriveClip(96, 128, seed=4)


def clip_frames(count: int) -> list[LabelledFrame]:
    labels = np.zeros((96, 128), np.uint8)
    return [LabelledFrame(CLIP.picture(number), labels, "drive", number, number / 15) for number in range(count)]


def test_streams_are_decoded_with_their_motion() -> None:
    frames = clip_frames(7)
    found = compress_frames(frames, SETTINGS, GAP_S, seed=1)
    store = FrameStore(found, 11, torch.device("cpu"))
    assert store.motion is not None and store.motion_valid is not None and store.has_motion is not None
    assert store.has_motion.tolist() == [False, True, True, True, False, True, True], "keyframes have none"
    assert store.motion.shape == (7, 2, 12, 16) and store.motion_valid.shape == (7, 12, 16)
    assert not store.motion_valid[4].any() and not store.motion[4].any()
    for before, after in zip(frames, found, strict=True):
        off = np.abs(after.image.astype(int) - before.image).mean()
        assert 0 < off < 12, "the same picture, but for what the codec takes away"
        assert after.labels is before.labels and after.number == before.number
    for number in (1, 2, 3):
        known, _ = CLIP.motion(number, number - 1)
        known = known.reshape(12, 8, 16, 8, 2).mean(axis=(1, 3)).transpose(2, 0, 1)
        off_px = np.hypot(*(store.motion[number].numpy() - known))
        assert np.median(off_px) < 0.4 and off_px.mean() < np.hypot(*known).mean() / 1.5


def test_quality_depends_on_the_seed_alone() -> None:
    frames = clip_frames(3)
    first, again, *others = (compress_frames(frames, SETTINGS, GAP_S, seed) for seed in (1, 1, 2, 3))
    assert all(np.array_equal(a.image, b.image) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(first[0].image, other[0].image) for other in others)


def test_only_streams_are_compressed() -> None:
    dense, other = [picture(number, "a", 1 / 15) for number in range(3)], [picture(number, "b") for number in range(3)]
    found = compress_frames([*dense, *other], SETTINGS, GAP_S, seed=1)
    assert [frame.motion is not None for frame in found] == [True] * 3 + [False] * 3
    assert found[3:] == other
    assert compress_frames(dense, CompressionSettings(), GAP_S, seed=1) == dense
    assert FrameStore(dense, 11, torch.device("cpu")).motion is None
    odd = [replace(frame, image=frame.image[:-1], labels=frame.labels[:-1]) for frame in dense]
    with pytest.raises(ConfigurationError, match="video size is 96x71, expected even numbers"):
        compress_frames(odd, SETTINGS, GAP_S, seed=1)


@pytest.mark.parametrize("crf", [[32, 18], [18], [18, 60]])
def test_a_range_of_qualities_that_is_none_is_refused(crf: list[int]) -> None:
    with pytest.raises(
        ConfigurationError, match=r"data\.compression\.crf is \[.*expected \[\] or two numbers of 0..51"
    ):
        parse_configuration({"data": {"compression": {"crf": crf}}})


def test_a_training_sees_decoded_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    streets = [picture(number, gap_s=0.05) for number in range(4)]
    monkeypatch.setitem(CATALOG, "tiny", TINY)
    monkeypatch.setattr(training, "read_frames", lambda settings, classes: (streets, []))
    data = {"sequences": {"index": str(write_index(tmp_path))}, "compression": {"crf": [18, 32], "gop": 12}}
    made = trainer(tmp_path / "sequences.csv", tmp_path / "out", data=data)
    store = made.clips.store
    assert store.has_motion is not None and store.has_motion.tolist() == [False, True, True, True]
    originals = FrameStore(streets, 11, HERE.device).images
    assert 0 < (store.images.float() - originals.float()).abs().mean() < 12
