"""What the light model is trained with: clips, losses, the start from ImageNet weights; and a whole training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import folded_weights

from tdnet_ros.errors import CheckpointError, SourceError
from tdnet_ros.labels import UNLABELLED
from tdnet_ros.networks.layers import ConvNorm
from tdnet_ros.networks.mobilenet import MobileNetV2
from tdnet_ros.streaming import Segmenter
from tdnet_ros.training.datasets import (
    Augmentation,
    ClipSampler,
    LabelledFrame,
    class_shares,
    read_labelled_frames,
)
from tdnet_ros.training.losses import class_weights, correct_prior, cross_entropy, lovasz_softmax
from tdnet_ros.training.pretrained import load_folded_mobilenet
from tdnet_ros.training.train import Recipe, train

SMALL = Augmentation(crop=(48, 64))


def frames(count: int = 4, sequence: str = "a") -> list[LabelledFrame]:
    """Pictures whose red channel is 20 times the class: labels can be read off the image."""
    made = []
    for number in range(count):
        labels = np.kron(np.random.default_rng(number).integers(0, 11, (9, 12)), np.ones((10, 10))).astype(np.uint8)
        image = np.stack([labels * 20, np.full_like(labels, 100), np.full_like(labels, 50)], -1)
        made.append(LabelledFrame(image, labels, sequence, number, float(number)))
    return made


def test_clips_are_the_same_for_the_same_seed_and_differ_otherwise() -> None:
    first, again, other = (ClipSampler(frames(), SMALL, seed).batch(3, 2) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])
    assert first[0].shape == (2, 3, 48, 64, 3) and first[1].shape == (2, 3, 48, 64)


def test_labels_stay_on_their_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    identity = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    monkeypatch.setattr(ClipSampler, "_photometry", lambda self: identity)
    images, labels = ClipSampler(frames(), SMALL, 3).batch(4, 2)
    inside = labels != UNLABELLED
    off = np.abs(images[..., 0].astype(int) - 20 * labels.astype(int))[inside]
    assert inside.mean() > 0.5
    assert np.mean(off <= 10) > 0.85, "but for the blend of bilinear edges the colour says the class"


def test_short_drives_are_drawn_more_often_when_drives_are_balanced() -> None:
    mixed = [*frames(9, "long"), *frames(1, "short")]
    even, balanced = (ClipSampler(mixed, SMALL, 1, balance).probabilities[-1] for balance in (1.0, 0.0))
    assert even == pytest.approx(0.1) and balanced == pytest.approx(0.5)


def test_unlabelled_pixels_do_not_count() -> None:
    labels = torch.randint(0, 11, (1, 8, 8), generator=torch.Generator().manual_seed(1))
    scores = torch.randn(1, 11, 8, 8, generator=torch.Generator().manual_seed(2))
    changed = scores.clone()
    labels[0, :4] = UNLABELLED
    changed[:, :, :4] += 5 * torch.randn(1, 11, 4, 8, generator=torch.Generator().manual_seed(3))
    assert torch.equal(cross_entropy(scores, labels), cross_entropy(changed, labels))
    weights = torch.linspace(0.5, 2, 11)
    expected = torch.nn.functional.cross_entropy(scores, labels, weights, ignore_index=UNLABELLED)
    torch.testing.assert_close(cross_entropy(scores, labels, weights), expected)
    for loss in (cross_entropy, lovasz_softmax):  # a crop may lie in what is unlabelled altogether
        scores.requires_grad_().grad = None
        nothing = loss(scores, torch.full_like(labels, UNLABELLED))
        nothing.backward()
        assert float(nothing.detach()) == 0 and scores.grad is not None and not scores.grad.any()
    scores.requires_grad_(False)
    assert not torch.equal(cross_entropy(scores, labels), cross_entropy(changed, labels * 0))


def test_rare_classes_weigh_more() -> None:
    weights = class_weights(torch.tensor([0.5, 0.01]))
    assert weights[1] > weights[0] > 0
    assert weights[0] == pytest.approx(1 / np.log(1.6))


def test_shares_are_those_of_the_labelled_pixels() -> None:
    labels = np.array([[0, 0, 1, UNLABELLED]], np.uint8)
    frame = LabelledFrame(np.zeros((1, 4, 3), np.uint8), labels, "a", 0, 0.0)
    assert class_shares([frame, frame], 3) == pytest.approx([2 / 3, 1 / 3, 0])


def test_correcting_the_prior_undoes_the_weights_of_the_loss() -> None:
    weights = torch.tensor([1.0, 4.0])
    state = {"subnetworks.0.head.classifier.bias": torch.zeros(2), "other.bias": torch.ones(2)}
    corrected = correct_prior(state, weights, 1.0)
    odds = torch.softmax(corrected["subnetworks.0.head.classifier.bias"], 0) * weights
    assert odds[0] == pytest.approx(float(odds[1]))
    assert torch.equal(corrected["other.bias"], state["other.bias"])
    assert torch.equal(correct_prior(state, weights, 0.0)["subnetworks.0.head.classifier.bias"], torch.zeros(2))


def test_norms_put_back_change_nothing(tmp_path: Path) -> None:
    weights = folded_weights(1)
    torch.save(weights, tmp_path / "folded.pth")
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(2)) * 2 - 1
    network = MobileNetV2()
    load_folded_mobilenet(network, tmp_path / "folded.pth", images)
    plain = MobileNetV2().eval()
    for name, module in plain.named_modules():
        if isinstance(module, ConvNorm):
            module.norm = torch.nn.Identity()
            module.conv.weight.data = weights[f"{name}.weight"]
            module.conv.bias = torch.nn.Parameter(weights[f"{name}.bias"])
    for ours, folded in zip(network.eval()(images), plain(images), strict=True):
        torch.testing.assert_close(ours, folded, rtol=1e-3, atol=1e-3)


def test_missing_or_wrong_start_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected an existing file"):
        load_folded_mobilenet(MobileNetV2(), tmp_path / "none.pth", torch.zeros(1, 3, 32, 32))
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match="expected folded MobileNetV2 weights"):
        load_folded_mobilenet(MobileNetV2(), tmp_path / "other.pth", torch.zeros(1, 3, 32, 32))


def test_missing_index_or_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"expected an existing sequences.csv"):
        read_labelled_frames(tmp_path / "sequences.csv", "train", 11)
    (tmp_path / "sequences.csv").write_text("split,sequence,frame,timestamp_s,label_rate_hz,image,label\n")
    with pytest.raises(SourceError, match="no frame of split 'train'"):
        read_labelled_frames(tmp_path / "sequences.csv", "train", 11)


def test_a_training_runs_goes_on_and_can_be_loaded(tmp_path: Path) -> None:
    torch.save(folded_weights(1), tmp_path / "folded.pth")
    recipe = Recipe(batch=2, single_s=2.0, stream_s=3.0, augmentation=SMALL)
    train(recipe, frames(), tmp_path / "folded.pth", tmp_path / "first")
    record = json.loads((tmp_path / "first" / "training.json").read_text())
    assert {entry["stage"] for entry in record["history"]} == {"single", "stream"}
    go_on = replace(recipe, start=str(tmp_path / "first" / "model.pth"))
    train(go_on, frames(), tmp_path / "folded.pth", tmp_path / "second")
    first, second = (torch.load(tmp_path / name / "model.pth", weights_only=True) for name in ("first", "second"))
    assert any(not torch.equal(first[key], second[key]) for key in first)
    assert len(Segmenter(weights=tmp_path / "second" / "model.pth", device="cpu").labels) == 11
