"""Trainings of the tiny network on six small pictures: what the tests of the trainer have in common."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from tiny_network import TinyVariant

from tdnet_ros.labels import CAMVID
from tdnet_ros.networks.layers import ConvNorm
from tdnet_ros.networks.mobilenet import MobileNetV2
from tdnet_ros.training.configuration import parse_configuration
from tdnet_ros.training.datasets import LabelledFrame
from tdnet_ros.training.processes import Processes
from tdnet_ros.training.trainer import Trainer

HERE = Processes(0, 1, torch.device("cpu"))


TINY = TinyVariant(subnetworks=2, labels=CAMVID)


def picture(number: int, sequence: str = "a", gap_s: float = 1.0) -> LabelledFrame:
    """Red is 20 times the class."""
    labels = np.kron(np.random.default_rng(number).integers(0, 11, (6, 8)), np.ones((12, 12))).astype(np.uint8)
    image = np.stack([labels * 20, np.full_like(labels, 100), np.full_like(labels, 50)], -1)
    return LabelledFrame(image, labels, sequence, number, number * gap_s)


def write_index(folder: Path) -> Path:
    """A sequences.csv with the sequences a (4 frames) and held (2 frames)."""
    with (folder / "sequences.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["split", "sequence", "frame", "timestamp_s", "image", "label"])
        for number in range(6):
            frame = picture(number)
            cv2.imwrite(str(folder / f"{number}.png"), frame.image[..., ::-1])
            cv2.imwrite(str(folder / f"l{number}.png"), frame.labels)
            rows.writerow(["train", "a" if number < 4 else "held", number, number, f"{number}.png", f"l{number}.png"])
    return folder / "sequences.csv"


def folded_weights(seed: int) -> dict[str, torch.Tensor]:
    """Weights of a MobileNetV2 with its batch norms folded in, as a backbone's file has them."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for name, module in MobileNetV2().named_modules():
        if isinstance(module, ConvNorm):
            shape = module.conv.weight.shape
            weights[f"{name}.weight"] = torch.randn(shape, generator=generator) * (2 / shape[1:].numel()) ** 0.5
            weights[f"{name}.bias"] = torch.randn(shape[0], generator=generator) * 0.1
    return weights


def content(index: Path, **more: Any) -> dict[str, Any]:
    """A configuration of two stages, 8 steps in all."""
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
    """The trainer of ``content`` in this process."""
    return Trainer(parse_configuration(content(index, **more)), output, HERE, lambda line: None, resume)
