"""AR-Seg's official weights: one file of the high-resolution network, one of the low-resolution one with the fusion."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tdnet_ros.errors import CheckpointError
from tdnet_ros.networks.checkpoints import Checkpoint, read_checkpoint

#: What ``official_keys`` calls a file's own network; of the pair one is the branch ``high``, the other ``low``.
_BRANCH, _FUSION, _CLASSIFIER = "branch.", "fusion.", "classifier."


def read_pair(high: Path | str | Mapping[str, Any], low: Path | str | Mapping[str, Any]) -> Checkpoint:
    """The weights of one network from the official files of the high (HR) and of the alternating resolution (AR).

    See ``join_pair``; raises CheckpointError also for files that are missing or are no weight files.
    """
    return join_pair(read_checkpoint(high), read_checkpoint(low))


def join_pair(first: Checkpoint, second: Checkpoint) -> Checkpoint:
    """The weights of one network from those of the official HR and AR file.

    An official AR file's name, ``PSPNet_resnet18_<scale>_<epoch>_.pth``, says the low-resolution branch's scale. Raises
    CheckpointError for files that are no such pair: both share one classifier, bit by bit.
    """
    for role, file in (("high-resolution", first), ("alternating-resolution", second)):
        if not is_half(file):
            raise CheckpointError(f"weights '{file.origin}' are no official file of AR-Seg, expected the {role} one")
    if not any(key.startswith(_FUSION) for key in second.ours):
        raise CheckpointError(
            f"weights '{second.origin}' hold no fusion (fuse_attention), expected the pair (HR file, AR file)"
        )
    # The high-resolution network of one configuration is built with a fusion that it never uses.
    weights = {_place(key, "high."): x for key, x in first.ours.items() if not key.startswith(_FUSION)}
    weights |= {_place(key, "low."): x for key, x in second.ours.items()}
    if differing := _differing(first.ours, second.ours):
        raise CheckpointError(
            f"weights '{first.origin}' and '{second.origin}' differ in {differing}, expected a pair with one classifier"
        )
    return Checkpoint(weights, _scale_of(second.origin), f"{first.origin}, {second.origin}")


def is_half(checkpoint: Checkpoint) -> bool:
    """Whether it is one of the two files of a pair."""
    return any(key.startswith(_BRANCH) for key in checkpoint.ours)


def refuse_half(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError for a checkpoint that is one of the two files of a pair."""
    if is_half(checkpoint):
        raise CheckpointError(
            f"weights '{checkpoint.origin}' are one file of AR-Seg, expected the pair (HR file, AR file)"
        )


def _place(key: str, branch: str) -> str:
    return branch + key.removeprefix(_BRANCH) if key.startswith(_BRANCH) else key


def _differing(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> str | None:
    """The first key of the classifier whose tensors are not the same in both."""
    keys = (key for key in first if key.startswith(_CLASSIFIER))
    return next((key for key in keys if key not in second or not torch.equal(first[key], second[key])), None)


def _scale_of(origin: str) -> dict[str, str]:
    parts = Path(origin).name.split("_")
    try:
        return {"low_resolution": json.dumps(float(parts[2]))} if parts[0] == "PSPNet" else {}
    except (IndexError, ValueError):
        return {}
