"""Seeded stand-ins for an official checkpoint and for camera pictures, equal on every machine and numpy version.

They use the raw words of PCG64 alone, whose stream is guaranteed; the distributions of numpy's Generator are not.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

FloatArray = npt.NDArray[np.float32]

#: Bound of the uniform distribution of affine weights (around one) and of all biases (around zero).
_AFFINE = 0.3
#: Standard deviation of a convolution's output over that of its input. Queries and keys are large so that the
#: attention is far from uniform, the classifier is set for logits of a standard deviation near 1.5.
_GAINS = {
    ".w_qs.1.": 1.6,
    ".w_ks.1.": 1.6,
    ".fc.0.": 2.7,
    ".conv5.4.": 2.4,
    ".conv5.5.": 2.4,
    ".lr_query_conv.": 0.35,
    ".hr_key_conv.": 0.35,
    ".hr_value_conv.": 2.0,
    ".final_conv.": 2.0,
}


@dataclass(frozen=True)
class Golden:
    """What the official implementation answered, and all it takes to ask the same question again.

    ``shapes`` is by official key; ``statistics`` holds the calibrated batch norm buffers; ``logits`` is by
    (first sub-network, height, width): (frames, points) at the points that ``sample_points`` names.
    """

    metadata: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    statistics: dict[str, FloatArray]
    logits: dict[tuple[int, int, int], FloatArray]


def read_golden(path: Path) -> Golden:
    """Read a golden file: see the class."""
    with np.load(path) as file:
        shapes = dict(zip(file["keys"].tolist(), map(_parse_shape, file["shapes"].tolist()), strict=True))
        buffers = [key for key in shapes if key.endswith((".running_mean", ".running_var"))]
        ends = np.cumsum([shapes[key][0] for key in buffers])
        statistics = dict(zip(buffers, np.split(file["statistics"].astype(np.float32), ends[:-1]), strict=True))
        logits = {
            (int(first), int(height), int(width)): file[f"logits_{first}_{height}_{width}"]
            for first, height, width in (name.split("_")[1:] for name in file.files if name.startswith("logits_"))
        }
        return Golden(json.loads(str(file["metadata"])), shapes, statistics, logits)


def uniform(name: str, shape: tuple[int, ...], seed: int) -> FloatArray:
    """Numbers in [-1, 1) that depend on the name and the seed alone."""
    count = int(np.prod(shape, dtype=np.int64))
    words = np.random.PCG64([seed, zlib.crc32(name.encode())]).random_raw((count + 1) // 2)
    halves = words.astype("<u8").view("<u4")[:count]
    numbers: FloatArray = (halves >> 8).astype(np.float32) * np.float32(2.0**-23) - np.float32(1)
    return numbers.reshape(shape)


def seeded_weights(
    shapes: Mapping[str, tuple[int, ...]], statistics: Mapping[str, FloatArray], seed: int
) -> dict[str, Tensor]:
    """A state dict of those keys and shapes. Without statistics of their own batch norms get mean 0, variance 1."""
    return {key: torch.from_numpy(_weight(key, shapes, statistics, seed)) for key in shapes}


def _weight(
    key: str, shapes: Mapping[str, tuple[int, ...]], statistics: Mapping[str, FloatArray], seed: int
) -> npt.NDArray[np.generic]:
    shape = shapes[key]
    if key in statistics:
        return statistics[key]
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if ".fc.weight" in key or ".fc.bias" in key or key.endswith("running_mean"):
        return np.zeros(shape, np.float32)  # fc: the ImageNet classifier, which nothing uses
    if key.endswith("running_var"):
        return np.ones(shape, np.float32)
    noise = uniform(key, shape, seed)
    if key.endswith(".bias"):
        centre, bound = 0.0, _AFFINE
    elif len(shape) == 1 or ".ln." in key:
        centre, bound = 1.0, _AFFINE
    else:
        gain = next((gain for part, gain in _GAINS.items() if part in key), 1.0)
        centre, bound = 0.0, gain * float(np.sqrt(3.0 / np.prod(shape[1:])))
    return (centre + bound * noise.astype(np.float64)).astype(np.float32)


def seeded_picture(index: int, height: int, width: int, seed: int) -> Tensor:
    """Normalised image (1, 3, H, W): 9x8 blocks of colour that move from one index to the next, and noise."""
    rows = np.arange(height) * 9 // height + index // 2
    columns = np.arange(width) * 8 // width + index // 3
    blocks = uniform("blocks", (3, 97, 89), seed)[:, rows % 97][:, :, columns % 89]
    noise = uniform(f"noise {index}", (3, height, width), seed)
    return torch.from_numpy(np.float32(1.6) * blocks + np.float32(0.5) * noise)[None]


def sample_points(frame: int, count: int, shape: tuple[int, ...], seed: int) -> Tensor:
    """``count`` flat indices (count,) int64 into a tensor of that shape, other ones for every frame."""
    words = np.random.PCG64([seed, zlib.crc32(b"points"), frame]).random_raw(count)
    return torch.from_numpy((words % np.uint64(np.prod(shape, dtype=np.int64))).astype(np.int64))


def _parse_shape(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("x")) if text else ()
