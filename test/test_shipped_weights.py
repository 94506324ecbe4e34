"""The weights that ship: they see, they stream, and they say what they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors import safe_open

from tdnet_ros.streaming import DEFAULT_MODEL, ContinuityLimits, Segmenter
from tdnet_ros.streaming.models import shipped_weights
from tdnet_ros.training.datasets import read_labelled_frames
from tdnet_ros.training.score import score


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(device="cpu")


@pytest.mark.parametrize(("split", "at_least"), [("val", 66.0), ("test", 60.0)])
def test_accuracy_as_a_stream(segmenter: Segmenter, data_pack: Path, split: str, at_least: float) -> None:
    """The 15 Hz clip, and the 1 Hz second half of 0001TP (all that the data pack has of the test split)."""
    frames = read_labelled_frames(data_pack / "camvid" / "sequences.csv", split, len(segmenter.labels))
    assert 100 * score(segmenter, frames, ContinuityLimits()).miou() >= at_least


def test_file_and_card_say_what_the_weights_are() -> None:
    path = shipped_weights(DEFAULT_MODEL)
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["model"] == DEFAULT_MODEL and metadata["labels"] == "camvid"
    assert metadata["terms"].startswith("non-commercial")
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    for word in ("CamVid", "non-commercial", "Apache-2.0", "MobileNetV2", "tdnet_ros.training.train", "mIoU"):
        assert word in card, word
    assert path.stat().st_size < 25e6
