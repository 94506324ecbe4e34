"""What the light model is trained with: frames, losses, the start from ImageNet weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_training import folded_weights

from tdnet_ros.errors import CheckpointError, SourceError
from tdnet_ros.labels import UNLABELLED
from tdnet_ros.networks.layers import ConvNorm
from tdnet_ros.networks.mobilenet import MobileNetV2
from tdnet_ros.training.datasets import (
    LabelledFrame,
    class_shares,
    read_labelled_frames,
)
from tdnet_ros.training.losses import class_weights, cross_entropy, lovasz_softmax
from tdnet_ros.training.pretrained import load_folded_mobilenet


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
