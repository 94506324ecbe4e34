"""The weights that ship: they see, they stream, and they say what they are."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from conftest import REPOSITORY

from tdnet_ros.errors import CheckpointError
from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.networks import network_info
from tdnet_ros.networks.checkpoints import save_checkpoint
from tdnet_ros.networks.metadata import to_metadata
from tdnet_ros.streaming import DEFAULT_MODEL, Segmenter, models
from tdnet_ros.training.datasets import read_labelled_frames
from tdnet_ros.video.frame import Frame


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(device="cpu")


@pytest.mark.parametrize(("split", "at_least"), [("val", 74.5), ("test", 65.2)])
def test_accuracy_as_a_stream(segmenter: Segmenter, data_pack: Path, split: str, at_least: float) -> None:
    """The 15 Hz clip, and the 1 Hz second half of 0001TP (all that the data pack has of the test split)."""
    matrix, stream = ConfusionMatrix(len(segmenter.labels)), segmenter.stream()
    for labelled in read_labelled_frames(data_pack / "camvid" / "sequences.csv", split, len(segmenter.labels)):
        frame = Frame(labelled.image, round(labelled.timestamp_s * 1e9), source=labelled.sequence)
        matrix.add(labelled.labels, stream.step(frame).mask)
    assert 100 * matrix.miou() >= at_least


WORDS = {
    "": ("CamVid", "non-commercial", "Apache-2.0", "MobileNetV2", "mIoU"),
    "street": ("rendered streets", "Apache-2.0", "google-coral/test_data", "config/train_street.yaml", "mIoU"),
}
TERMS = {"": "non-commercial", "street": "Apache-2.0"}


@pytest.mark.parametrize("shipped", models.list_shipped_weights(), ids=lambda each: each.path.stem)
def test_file_and_card_say_what_the_weights_are(shipped: models.ShippedWeights) -> None:
    assert shipped.model == DEFAULT_MODEL and shipped.terms.startswith(TERMS[shipped.name])
    info = Segmenter(weights=shipped.name or None, device="cpu").network.info
    assert (info.name, info.labels.name, info.terms) == (DEFAULT_MODEL, "camvid", shipped.terms)
    card, license_text = shipped.path.with_suffix(".md"), REPOSITORY / "LICENSE-WEIGHTS"
    for word in (*WORDS[shipped.name], hashlib.sha256(shipped.path.read_bytes()).hexdigest()):
        assert word in card.read_text(encoding="utf-8"), word
    assert shipped.path.name in license_text.read_text(encoding="utf-8")


def test_all_files_together_are_small() -> None:
    assert sum(each.path.stat().st_size for each in models.list_shipped_weights()) < 25e6


def test_shipped_weights_are_chosen_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network, tensors = network_info("td2_mnv2"), {"a": torch.zeros(1)}
    for name, terms in (("td2_mnv2", "strict"), ("td2_mnv2_street", "free"), ("td2_mnv2_bare", "")):
        save_checkpoint(tmp_path / f"{name}.safetensors", tensors, to_metadata(network, terms=terms))
    (tmp_path / "none_of_ours.safetensors").write_bytes(b"")
    (tmp_path / "here" / "street").mkdir(parents=True)
    monkeypatch.setattr(models, "_SHIPPED_WEIGHTS", tmp_path)
    monkeypatch.chdir(tmp_path / "here")
    shipped = [(each.model, each.name, each.terms) for each in models.list_shipped_weights()]
    assert sorted(shipped) == [("td2_mnv2", name, terms) for name, terms in
                               (("", "strict"), ("bare", "terms not stated"), ("street", "free"))]  # fmt: skip
    for model in ("auto", "td2_mnv2"):
        assert models.choose_weights(model, "street") == tmp_path / "td2_mnv2_street.safetensors"
        assert models.choose_weights(model, None) == tmp_path / "td2_mnv2.safetensors"
        assert models.model_info(model, "street").terms == "free"
        assert models.model_info("bdnet_mnv2", "street").name == "bdnet_mnv2", "it runs on weights of td2_mnv2"
    assert models.choose_weights("bdnet_mnv2", None) == tmp_path / "td2_mnv2.safetensors"
    for other in ("./street", "rain", Path("street")):
        assert models.choose_weights("auto", other) == other
    assert models.choose_weights("td4_psp18", "street") == "street", "weights of another model"
    with pytest.raises(CheckpointError, match="'td2_mnv2' ships without weights 'rain'"):
        models.shipped_weights("td2_mnv2", "rain")
