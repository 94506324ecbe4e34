"""Goldens of the official AR-Seg networks, and all it takes to ask the same questions again: see test/golden."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from seeded_weights import Golden, read_golden, seeded_weights, uniform
from torch import Tensor

#: Models with a golden, and where a golden takes its batch norm statistics from: BiSeNet's weights but for those that
#: make scores are the same for both label sets.
MODELS = {
    "arseg_psp18_camvid": "arseg_psp18_camvid",
    "arseg_bise18_camvid": "arseg_bise18_camvid",
    "arseg_psp18_cityscapes": "arseg_psp18_cityscapes",
    "arseg_bise18_cityscapes": "arseg_bise18_camvid",
}
#: Distances from the keyframe; the frames of a golden are the keyframe, these without motion, these with motion.
DISTANCES = (1, 2, 3, 4, 5)
#: Parts of official classes that stand in their files under two names: (the one, the other).
_ALIASES = (
    ("module.conv_out.conv_out.", "module.final_conv."),
    ("module.conv_out.conv.", "module.feat_conv_out."),
    ("module.cls.4.", "module.final_conv."),
)


@cache
def golden_of(model: str) -> Golden:
    """Keys are those of the official files behind ``HR/`` and ``AR/``; streams are (100 * scale, height, width)."""
    folder = Path(__file__).parent / "golden"
    golden = read_golden(folder / f"{model}.npz")
    return replace(golden, statistics=read_golden(folder / f"{MODELS[model]}.npz").statistics)


@cache
def pair_of(model: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The state dicts of the high-resolution and of the alternating-resolution file."""
    golden = golden_of(model)
    return official_pair(golden)


def official_pair(golden: Golden) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Seeded weights by official key, with what official files share and repeat shared and repeated."""
    high, low = (
        seeded_weights(
            {key.removeprefix(kind): shape for key, shape in golden.shapes.items() if key.startswith(kind)},
            {key.removeprefix(kind): value for key, value in golden.statistics.items() if key.startswith(kind)},
            golden.metadata["seed"] + offset,
        )
        for kind, offset in (("HR/", 0), ("AR/", 1))
    )
    low |= {key: high[key] for key in low if key.startswith("module.final_conv.")}
    for weights in (high, low):
        for one, other in _ALIASES:
            for key in [key for key in weights if key.startswith(one)]:
                if one.startswith("module.conv_out.conv.") or other + key.removeprefix(one) not in weights:
                    weights[other + key.removeprefix(one)] = weights[key]
                else:
                    weights[key] = weights[other + key.removeprefix(one)]
    return high, low


def seeded_motion(distance: int, height: int, width: int, seed: int) -> Tensor:
    """Displacement (1, 2, H, W) from a frame to its keyframe in px: whole blocks in quarter pixels, as codecs have."""
    blocks = uniform("motion", (2, 64, 64), seed)[:, : -(-height // 8), : -(-width // 8)].astype(np.float64)
    quarters = np.round(4 * distance * (np.array([1.5, -0.75])[:, None, None] + blocks)).astype(np.int16)
    pixels = quarters.repeat(8, axis=1).repeat(8, axis=2)[:, :height, :width].astype(np.float32) / 4
    return torch.from_numpy(pixels)[None]
