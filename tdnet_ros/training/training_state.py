"""A training's own checkpoint: everything that going on needs, on disk whole or not at all."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch

from tdnet_ros.errors import TrainingError


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write under another name, wait for the disk, rename: the file before stays until the new one is whole.

    Raises TrainingError when the disk does not take it, or for weights that are not finite.
    """
    for key, value in state["network"].items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise TrainingError(f"weights '{key}' are not finite, expected numbers: '{path}' stays as it was")
    content = io.BytesIO()
    torch.save(state, content)
    partial = path.with_suffix(".partial")
    try:
        with partial.open("wb") as file:
            file.write(content.getbuffer())
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise TrainingError(f"checkpoint '{path}' cannot be written, the last one stays: {error}") from error


def read_state(path: Path, device: torch.device) -> dict[str, Any]:
    """What ``write_state`` wrote; raises TrainingError when it is missing or damaged."""
    if not path.is_file():
        raise TrainingError(f"checkpoint is '{path}', expected an existing file to go on from")
    try:
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # on truncated files torch raises nearly anything
        raise TrainingError(f"checkpoint '{path}' cannot be read: {type(error).__name__}") from error
    return state
