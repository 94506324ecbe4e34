"""Weight files: reads official and own ones, and says clearly what does not fit."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from tdnet_ros.errors import CheckpointError
from tdnet_ros.networks.official_keys import rename_official
from tdnet_ros.networks.recognition import describe_likeness, shapes_of
from tdnet_ros.networks.spatial_norm import SpatialLayerNorm


@dataclass(frozen=True)
class Checkpoint:
    """Weights by key, as the file has them, and the file's metadata (empty unless it is one of ours)."""

    weights: dict[str, Tensor]
    metadata: dict[str, str]
    origin: str

    @cached_property
    def ours(self) -> dict[str, Tensor]:
        """The weights by our keys."""
        return rename_official(self.weights)


def read_checkpoint(source: Path | str | Mapping[str, Any]) -> Checkpoint:
    """Read ``.safetensors`` or a torch file (``weights_only=True``), or take a state dict as it is.

    A ``{"model_state": ...}`` wrapper and a ``module.`` prefix are taken off. Raises CheckpointError when the file
    is missing or is not a weight file.
    """
    if isinstance(source, Mapping):
        return Checkpoint(_unwrap(source, "state dict"), {}, "state dict")
    path = Path(source)
    if not path.is_file():
        raise CheckpointError(f"weights is '{path}', expected an existing weight file")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                weights = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                return Checkpoint(weights, dict(file.metadata() or {}), str(path))
        _refuse_compressed(path)
        with _numpy_numbers_allowed():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on truncated and hostile files torch raises nearly anything
        raise CheckpointError(f"weights is '{path}', which cannot be read: {_reason(error)}") from error
    return Checkpoint(_unwrap(content, str(path)), {}, str(path))


def save_checkpoint(
    path: Path | str,
    weights: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write weights as safetensors. ``metadata`` says what they are: at least ``model`` (see ``metadata.py``).

    ``dtype`` is that of all floating-point weights: half of single precision's bytes unless said otherwise. Raises
    CheckpointError for numbers that are not finite in it and for a path that cannot be written.
    """
    if "model" not in metadata:
        raise CheckpointError(f"metadata has keys {sorted(metadata)}, expected 'model' among them")
    tensors = {
        key: value.detach().cpu().to(dtype).contiguous()
        for key, value in weights.items()
        if not key.endswith("num_batches_tracked")
    }
    broken = next((key for key, value in tensors.items() if not torch.isfinite(value).all()), None)
    if broken is not None:
        raise CheckpointError(f"weights '{path}': {broken} holds numbers that are not finite as {dtype}")
    # Under another name first: a write that breaks off must not leave half a file, nor take an older one along.
    partial = Path(path).with_suffix(".partial")
    try:
        partial.write_bytes(save(tensors, metadata=dict(metadata)))
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise CheckpointError(f"weights '{path}' cannot be written: {error}") from error


def load_weights(network: nn.Module, checkpoint: Checkpoint, name: str) -> None:
    """Put a checkpoint into a network of the catalog, in place. Raises CheckpointError when it does not fit.

    Maps of a spatial layer norm take the size that they have in the file.
    """
    weights = checkpoint.ours
    for key, module in network.named_modules():
        if isinstance(module, SpatialLayerNorm) and f"{key}.weight" in weights:
            module.take_size(*_map_size(weights[f"{key}.weight"], module))
    expected = network.state_dict()
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = [key for key in expected if key not in weights and key not in counters]
    unexpected = [key for key in weights if key not in expected]
    misshaped = [key for key in expected if key in weights and weights[key].shape != expected[key].shape]
    if missing or unexpected or misshaped:
        shapes = [f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}" for key in misshaped]
        parts = [
            f"{len(found)} {kind}, first: {found[0]}"
            for kind, found in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", shapes))
            if found
        ]
        raise CheckpointError(
            f"weights '{checkpoint.origin}' do not fit model '{name}' ({'; '.join(parts)}); "
            + (_other_classes(weights, expected, misshaped) if not missing and not unexpected else "")
            + f"the file looks like {describe_likeness(shapes_of(weights))}"
        )
    broken = next((key for key in expected if key in weights and not torch.isfinite(weights[key]).all()), None)
    if broken is not None:
        raise CheckpointError(f"weights '{checkpoint.origin}': {broken} holds numbers that are not finite")
    network.load_state_dict({key: weights.get(key, value) for key, value in expected.items()})


def _map_size(weight: Tensor, module: SpatialLayerNorm) -> torch.Size:
    return weight.shape if weight.dim() == 2 else module.weight.shape


def _other_classes(weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], misshaped: Sequence[str]) -> str:
    """What to do when a file fits but for its classes: the rows of what makes scores, and of nothing else, differ."""
    if any(weights[key].shape[1:] != expected[key].shape[1:] for key in misshaped):
        return ""
    counts = {(len(weights[key]), len(expected[key])) for key in misshaped}
    if len(counts) != 1 or not all(".classifier." in key for key in misshaped):
        return ""
    ((own, wanted),) = counts
    return (
        f"it has {own} classes and the label set {wanted}: name its label set "
        "(load_network's labels, or tdnet-ros convert --labels); "
    )


def _refuse_compressed(path: Path) -> None:
    """torch stores its tensors as they are; one that is compressed may unpack to more than a memory holds."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        packed = next((entry for entry in archive.infolist() if entry.compress_type != zipfile.ZIP_STORED), None)
    if packed is not None:
        raise CheckpointError(f"entry '{packed.filename}' is compressed, expected tensors as they are")


def _unwrap(content: Any, origin: str) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and isinstance(content.get("model_state"), Mapping):
        content = content["model_state"]
    misfit = None if content else f"an empty {type(content).__name__}"
    if not isinstance(content, Mapping):
        misfit = f"a {type(content).__name__}"
    else:
        others = ((key, value) for key, value in content.items() if not isinstance(value, Tensor))
        misfit = next((f"{type(value).__name__} at key '{key}'" for key, value in others), misfit)
    if misfit is not None:
        raise CheckpointError(f"weights '{origin}' hold {misfit}, expected a dict of tensors by key")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _numpy_numbers_allowed() -> AbstractContextManager[None]:
    """Lets a torch file hold numpy's numbers: the official training saves its best score as it comes.

    Numpy 1 and 2 name the function that makes them differently; torch before 2.7 cannot be told of two names, and
    such a file is refused.
    """
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 7):
        return nullcontext()
    make = np.float64().__reduce__()[0]
    names = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
    allowed: list[Any] = [np.dtype, type(np.dtype(np.float32)), type(np.dtype(np.float64))]
    allowed += [(make, name) for name in names]
    return torch.serialization.safe_globals(allowed)


def _reason(error: Exception) -> str:
    text = str(error).strip()
    if found := re.search(r"Unsupported global: GLOBAL (\S+)", text):
        return f"it calls {found[1]}, expected tensors alone"
    if isinstance(error, pickle.UnpicklingError):  # torch's own text says how to run the file's code
        return "it is not a torch file"
    return text.splitlines()[0][:200] if text else type(error).__name__
