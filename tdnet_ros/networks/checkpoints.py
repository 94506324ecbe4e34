"""Weight files: reads official and own ones, renames official keys, and says clearly what does not fit."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from tdnet_ros.errors import CheckpointError

#: Official TDNet key -> ours. ``{p}`` and ``{s}`` count from one there and from zero here.
_OFFICIAL_TDNET = (
    (r"pretrained(\d+)\.conv1\.weight", "subnetworks.{p}.path.backbone.stem.conv.weight"),
    (r"pretrained(\d+)\.bn1\.(\w+)", "subnetworks.{p}.path.backbone.stem.norm.{1}"),
    (r"pretrained(\d+)\.(layer\d\.\d+\.conv\d)\.weight", "subnetworks.{p}.path.backbone.{1}.conv.weight"),
    (r"pretrained(\d+)\.(layer\d\.\d+)\.bn(\d)\.(\w+)", "subnetworks.{p}.path.backbone.{1}.conv{2}.norm.{3}"),
    (r"pretrained(\d+)\.(layer\d\.\d+\.downsample)\.0\.weight", "subnetworks.{p}.path.backbone.{1}.conv.weight"),
    (r"pretrained(\d+)\.(layer\d\.\d+\.downsample)\.1\.(\w+)", "subnetworks.{p}.path.backbone.{1}.norm.{2}"),
    (r"psp(\d+)\.conv([1-4])\.0\.weight", "subnetworks.{p}.path.pyramid.pooled.{1-}.conv.weight"),
    (r"psp(\d+)\.conv([1-4])\.1\.(\w+)", "subnetworks.{p}.path.pyramid.pooled.{1-}.norm.{2}"),
    (r"enc(\d+)\.w_qs\.0\.conv\.weight", "subnetworks.{p}.encoder.query.0.conv.weight"),
    (r"enc(\d+)\.w_qs\.0\.bn\.(\w+)", "subnetworks.{p}.encoder.query.0.norm.{1}"),
    (r"enc(\d+)\.w_qs\.1\.conv\.(\w+)", "subnetworks.{p}.encoder.query.1.{1}"),
    (r"enc(\d+)\.w_ks\.0\.conv\.weight", "subnetworks.{p}.encoder.key.0.conv.weight"),
    (r"enc(\d+)\.w_ks\.0\.bn\.(\w+)", "subnetworks.{p}.encoder.key.0.norm.{1}"),
    (r"enc(\d+)\.w_ks\.1\.conv\.(\w+)", "subnetworks.{p}.encoder.key.1.{1}"),
    (r"enc(\d+)\.w_vs\.0\.conv\.(\w+)", "subnetworks.{p}.encoder.value.{1}"),
    (r"atn(\d+)_(\d+)\.fc\.0\.conv\.(\w+)", "subnetworks.{p}.propagation.transfer.{1-}.{2}"),
    (r"layer_norm(\d+)\.ln\.(\w+)", "subnetworks.{p}.norm.{1}"),
    (r"head(\d+)\.conv5\.0\.weight", "subnetworks.{p}.head.conv.conv.weight"),
    (r"head(\d+)\.conv5\.1\.(\w+)", "subnetworks.{p}.head.conv.norm.{1}"),
    (r"head(\d+)\.conv5\.4\.(\w+)", "subnetworks.{p}.head.classifier.{1}"),
)
#: Convolutions in front of a batch norm whose bias the norm takes up.
_OFFICIAL_BIAS = r"enc(\d+)\.w_([qk])s\.0\.conv\.bias"
#: Parts that only training uses (auxiliary heads) or that nothing uses (the ImageNet classifier).
_UNUSED = re.compile(r"pretrained\d+\.fc\.|auxlayer\d+\.")
_OFFICIAL_TELLTALE = re.compile(r"(pretrained|enc|atn|layer_norm|head)\d")


@dataclass(frozen=True)
class Checkpoint:
    """Weights by key, as the file has them, and the file's metadata (empty unless it is one of ours)."""

    weights: dict[str, Tensor]
    metadata: dict[str, str]
    origin: str


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
        with _numpy_numbers_allowed():
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # on truncated and hostile files torch raises nearly anything
        raise CheckpointError(f"weights is '{path}', which cannot be read: {_reason(error)}") from error
    return Checkpoint(_unwrap(content, str(path)), {}, str(path))


def save_checkpoint(path: Path | str, weights: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write weights in half precision as safetensors. ``metadata`` says what they are: at least ``model``."""
    if "model" not in metadata:
        raise CheckpointError(f"metadata has keys {sorted(metadata)}, expected 'model' among them")
    halves = {
        key: value.detach().cpu().half().contiguous()
        for key, value in weights.items()
        if not key.endswith("num_batches_tracked")
    }
    save_file(halves, path, metadata=dict(metadata))


def load_weights(network: nn.Module, checkpoint: Checkpoint, name: str) -> None:
    """Put a checkpoint into a network of the catalog, in place. Raises CheckpointError when it does not fit."""
    weights = checkpoint.weights
    if any(_OFFICIAL_TELLTALE.match(key) for key in weights):
        weights = rename_official(weights)
    expected = network.state_dict()
    counters = {key for key in expected if key.endswith("num_batches_tracked")}
    missing = [key for key in expected if key not in weights and key not in counters]
    unexpected = [key for key in weights if key not in expected]
    shapes = [
        f"{key} {tuple(weights[key].shape)} instead of {tuple(expected[key].shape)}"
        for key in expected
        if key in weights and weights[key].shape != expected[key].shape
    ]
    if missing or unexpected or shapes:
        parts = [
            f"{len(found)} {kind}, first: {found[0]}"
            for kind, found in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", shapes))
            if found
        ]
        raise CheckpointError(
            f"weights '{checkpoint.origin}' do not fit model '{name}' ({'; '.join(parts)}); "
            f"the file looks like {_looks_like(checkpoint)}"
        )
    broken = next((key for key in expected if key in weights and not torch.isfinite(weights[key]).all()), None)
    if broken is not None:
        raise CheckpointError(f"weights '{checkpoint.origin}': {broken} holds numbers that are not finite")
    network.load_state_dict({key: weights.get(key, value) for key, value in expected.items()})


def rename_official(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keys of the official TDNet classes to ours; keys that no rule knows stay as they are."""
    renamed: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for key, value in weights.items():
        if _UNUSED.match(key):
            continue
        if found := re.fullmatch(_OFFICIAL_BIAS, key):
            part = "query" if found[2] == "q" else "key"
            biases[f"subnetworks.{int(found[1]) - 1}.encoder.{part}.0.norm.running_mean"] = value
            continue
        ours = _rename(key)
        # The transfer is a 1x1 convolution there and a linear layer here.
        renamed[ours] = value.flatten(1) if ".transfer." in ours and value.dim() == 4 else value
    for key, bias in biases.items():
        if key in renamed:
            renamed[key] = renamed[key] - bias  # norm(x + b) with mean m is norm(x) with mean m - b
    return renamed


def _rename(key: str) -> str:
    for pattern, template in _OFFICIAL_TDNET:
        found = re.fullmatch(pattern, key)
        if found is None:
            continue
        path, *rest = found.groups()
        name = template.replace("{p}", str(int(path) - 1))
        for position, text in enumerate(rest, start=1):
            name = name.replace(f"{{{position}}}", text)
            if f"{{{position}-}}" in name:
                name = name.replace(f"{{{position}-}}", str(int(text) - 1))
        return name
    return key


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


def _looks_like(checkpoint: Checkpoint) -> str:
    if "model" in checkpoint.metadata:
        return f"'{checkpoint.metadata['model']}'"
    keys = checkpoint.weights
    paths = {found[1] for key in keys if (found := re.match(r"(?:pretrained|subnetworks\.)(\d+)\.", key))}
    deep = any(re.search(r"conv1\.[036]\.weight", key) for key in keys)
    if len(paths) == 4:
        return "'td4_psp18'"
    if len(paths) == 2:
        return "'td2_psp50'" if deep else "a two-path network such as 'td2_mnv2'"
    if any(key.startswith("pretrained.") for key in keys):
        return "a single-frame PSPNet"
    return "none of our models"


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
