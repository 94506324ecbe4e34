"""The mean of the weights of several trainings that went out from the same ones.

What a training ends at after each cycle of its rate is averaged as in Stochastic Weight Averaging (Izmailov et al.,
UAI 2018, arXiv 1803.05407, section 3.1); weights that went out from one start lie in one basin, so that their mean is a
network.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tdnet_ros import __version__
from tdnet_ros.errors import CheckpointError, ConfigurationError
from tdnet_ros.networks.checkpoints import read_checkpoint, save_checkpoint
from tdnet_ros.networks.loading import build_loaded, info_of
from tdnet_ros.networks.metadata import to_metadata


def average_files(files: Sequence[Path], output: Path, model: str) -> Path:
    """Write the mean of the files' weights for ``model``, in half precision; the path written.

    The output says of itself what the first file says: size, labels and terms. The batch norms' statistics are averaged
    as everything else. Raises ConfigurationError for fewer than two files, CheckpointError for weights that do not fit
    the model, or whose terms differ.
    """
    if len(files) < 2:
        raise ConfigurationError(f"files are {len(files)}, expected at least 2 to take the mean of")
    mean: dict[str, Tensor] = {}
    first = read_checkpoint(files[0])
    for file in files:
        checkpoint = read_checkpoint(file)
        if checkpoint.metadata.get("terms") != first.metadata.get("terms"):
            raise CheckpointError(f"terms of '{file}' are not those of '{files[0]}', expected the same")
        for key, value in build_loaded(checkpoint, info_of(checkpoint, model)).state_dict().items():
            share = value.double() / len(files) if value.is_floating_point() else value
            mean[key] = mean[key] + share if key in mean and value.is_floating_point() else share.clone()
    info = info_of(first, model)
    terms = first.metadata.get("terms", "")
    weights = {key: value.to(torch.float32) if value.is_floating_point() else value for key, value in mean.items()}
    save_checkpoint(output, weights, to_metadata(info, terms=terms, version=__version__))
    return output
