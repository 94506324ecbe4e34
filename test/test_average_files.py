"""The mean of several trainings' weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tdnet_ros.cli import main
from tdnet_ros.errors import CheckpointError, ConfigurationError
from tdnet_ros.networks.checkpoints import read_checkpoint, save_checkpoint
from tdnet_ros.training.average_files import average_files


def written(path: Path, value: float, terms: str = "free") -> Path:
    shipped = read_checkpoint(Path(__file__).parent.parent / "tdnet_ros" / "weights" / "td2_mnv2.safetensors")
    weights = {key: torch.full_like(each, value) for key, each in shipped.weights.items()}
    save_checkpoint(path, weights, {**shipped.metadata, "terms": terms})
    return path


def test_the_mean_is_that_of_every_entry(tmp_path: Path) -> None:
    files = [written(tmp_path / f"{value}.safetensors", value) for value in (1.0, 2.0, 6.0)]
    output = tmp_path / "mean.safetensors"
    assert main(["average", *map(str, files), "-o", str(output), "--model", "td2_mnv2"]) == 0
    mean = read_checkpoint(output)
    assert mean.metadata["terms"] == "free" and mean.metadata["model"] == "td2_mnv2"
    assert mean.weights.keys() == read_checkpoint(files[0]).weights.keys()
    assert all((value == 3).all() for value in mean.weights.values())


def test_what_has_no_mean_is_refused(tmp_path: Path) -> None:
    one, other = written(tmp_path / "1.safetensors", 1), written(tmp_path / "2.safetensors", 2, "not free")
    with pytest.raises(ConfigurationError, match="files are 1, expected at least 2"):
        average_files([one], tmp_path / "mean.safetensors", "td2_mnv2")
    with pytest.raises(CheckpointError, match="terms of"):
        average_files([one, other], tmp_path / "mean.safetensors", "td2_mnv2")
    with pytest.raises(CheckpointError, match="do not fit"):
        average_files([one, one], tmp_path / "mean.safetensors", "td4_psp18")
    assert not (tmp_path / "mean.safetensors").exists()
