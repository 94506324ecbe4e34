"""Which model and which weights are meant, when one of them is not named; and the weights that ship."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tdnet_ros.errors import CheckpointError
from tdnet_ros.networks import AUTO, NetworkInfo, network_info
from tdnet_ros.networks.checkpoints import read_checkpoint
from tdnet_ros.networks.export import export_folder, read_manifest
from tdnet_ros.networks.loading import info_of

#: The model that is taken when neither a model nor a weight file is named.
DEFAULT_MODEL = "td2_mnv2"
_SHIPPED_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


def choose_weights(model: str, weights: Path | str | Mapping[str, Any] | None) -> Path | str | Mapping[str, Any]:
    """The given weights, else those that ship with the model; ``auto`` without a file is the default model."""
    if weights is not None:
        return weights
    return shipped_weights(DEFAULT_MODEL if model == AUTO else model)


def model_info(model: str = AUTO, weights: Path | str | None = None) -> NetworkInfo:
    """What a segmenter of that model and those weights will say of its network, without building it.

    Raises ConfigurationError and CheckpointError as ``Segmenter`` does, but does not see whether the weights fit.
    """
    folder = export_folder(weights)
    if folder is not None:
        return read_manifest(folder).info
    return info_of(read_checkpoint(choose_weights(model, weights)), model)


def shipped_weights(model: str) -> Path:
    """The weight file that ships with a model.

    Raises ConfigurationError for a model that there is not, CheckpointError for one that has no file.
    """
    network_info(model)
    path = _SHIPPED_WEIGHTS / f"{model}.safetensors"
    if not path.is_file():
        raise CheckpointError(
            f"weights is not set and model '{model}' ships without weights "
            f"(these ship with some: {sorted(shipped_models())}): name a weight file"
        )
    return path


def shipped_models() -> dict[str, Path]:
    """The weight files that ship with the package, by model."""
    return {path.stem: path for path in sorted(_SHIPPED_WEIGHTS.glob("*.safetensors"))}
