"""A training's own checkpoint: everything that going on needs, on disk whole or not at all."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from tdnet_ros.errors import ConfigurationError, TrainingError


def make_folder(path: Path) -> None:
    """Make a training's folder; raises ConfigurationError for one that cannot be written."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError("no permission to write")
    except OSError as error:
        raise ConfigurationError(f"output is '{path}', expected a folder that can be written: {error}") from error


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
        with zipfile.ZipFile(path) as file:
            if (damaged := file.testzip()) is not None:  # torch does not compare the sums that it writes
                raise zipfile.BadZipFile(f"'{damaged}' has another checksum than was written")
        state: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # on truncated files torch raises nearly anything
        raise TrainingError(f"checkpoint '{path}' cannot be read, it is damaged: {error!r:.200}") from error
    return state


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """What a checkpoint's content is taken over in: raises TrainingError when it is that of something else."""
    try:
        yield
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = f"no entry {error}" if isinstance(error, KeyError) else str(error).strip().partition("\n")[0]
        raise TrainingError(f"checkpoint '{path}' does not fit this training and version: {reason}") from error
