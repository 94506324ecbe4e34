"""Weights into networks: which network a file is of, what its metadata change, and the network ready to step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tdnet_ros.errors import CheckpointError, ConfigurationError
from tdnet_ros.labels import LabelSet
from tdnet_ros.networks.bdnet import BDNet, propagated_weights
from tdnet_ros.networks.carried import CarriedScores, carried_weights
from tdnet_ros.networks.catalog import CATALOG, build_network, network_info
from tdnet_ros.networks.checkpoint_pairs import read_pair, refuse_half
from tdnet_ros.networks.checkpoints import Checkpoint, load_weights, read_checkpoint
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.layers import fold_batch_norm
from tdnet_ros.networks.metadata import apply_metadata
from tdnet_ros.networks.network import SegmentationNetwork
from tdnet_ros.networks.recognition import describe_likeness, recognise, shapes_of
from tdnet_ros.networks.tdar import TDAR, tdnet_weights, united_weights
from tdnet_ros.networks.tdnet import TDNet

#: Instead of a model's name: the one that the weight file is of.
AUTO = "auto"

#: One file or state dict; of AR-Seg's official ones the two of the high and of the alternating resolution.
Weights = Path | str | Mapping[str, Any] | tuple[Path | str | Mapping[str, Any], Path | str | Mapping[str, Any]]


def load_network(
    name: str | None,
    weights: Weights | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    labels: LabelSet | None = None,
) -> SegmentationNetwork:
    """A network of the catalog in eval mode, ready to step.

    ``weights`` is a file (official or our safetensors) or a state dict, of AR-Seg the pair of official ones; None
    leaves fresh random weights, for benchmarks and tests. ``name`` None or ``auto`` takes the model that the weights
    are of. Label set, normalisation and input size are those of the file's metadata, else the catalog's; ``labels``
    goes before both, for a file without metadata that was trained on other classes. Raises ConfigurationError for an
    unknown name and CheckpointError for weights that are missing or do not fit.

    On a CPU the layout of the image is that of all features: channels-last takes a tenth less time, contiguous is
    two to three times closer to exact arithmetic (oneDNN has a kernel for each).
    """
    if weights is None:
        if name is None or name == AUTO:
            raise ConfigurationError(
                f"model is '{AUTO}' and there is no weight file, expected one of {sorted(CATALOG)}"
            )
        info = network_info(name)
        network = build_network(info if labels is None else replace(info, labels=labels))
    else:
        checkpoint = read_pair(*weights) if isinstance(weights, tuple) else read_checkpoint(weights)
        network = build_loaded(checkpoint, info_of(checkpoint, name, labels))
    network.eval()
    # Fold in double precision: the norm's scale and the weights meet only once.
    network.double()
    fold_batch_norm(network)
    network.to(device=device, dtype=dtype)
    if torch.device(device).type == "cuda":
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return network.requires_grad_(False)


def info_of(checkpoint: Checkpoint, name: str | None = None, labels: LabelSet | None = None) -> NetworkInfo:
    """What a caller has to know of the network with those weights; the arguments are those of ``load_network``."""
    refuse_half(checkpoint)
    model = name if name is not None and name != AUTO else model_of(checkpoint)
    info = network_info(model)
    info = replace(info, input_size=_input_size(info, checkpoint.ours))
    said = dict(checkpoint.metadata)
    if said.get("model", model) != model:  # a TDNet has no keyframes, though the network has that its weights are from
        for name in ("low_resolution", "keyframe_interval"):
            said.pop(name, None)
    info = apply_metadata(info, said, checkpoint.origin)
    return info if labels is None else replace(info, labels=labels)


def model_of(checkpoint: Checkpoint) -> str:
    """The name of the network that the weights are of: what the metadata say, else the one with the same keys.

    Raises CheckpointError when there is none.
    """
    said = checkpoint.metadata.get("model", "")
    if said in CATALOG:
        return said
    shapes = shapes_of(checkpoint.ours)
    found = recognise(shapes)
    if found is None:
        claim = f"its metadata say '{said}', " if said else ""
        raise CheckpointError(
            f"weights '{checkpoint.origin}' are of none of our models ({claim}it looks like "
            f"{describe_likeness(shapes)}): name the model, one of {sorted(CATALOG)}, to see what does not fit"
        )
    return found


def build_loaded(checkpoint: Checkpoint, info: NetworkInfo) -> SegmentationNetwork:
    """The network with those facts and weights as they are for training: batch norms not folded, gradients on.

    It takes RGB whatever ``info.colour_order`` says of the weights. Raises CheckpointError for weights that don't fit.
    """
    network = build_network(replace(info, colour_order="rgb"))
    load_weights(network, fitted(checkpoint, network), info.name)
    if info.colour_order == "bgr":
        _turn_to_rgb(network)
    return network


def fitted(checkpoint: Checkpoint, network: SegmentationNetwork) -> Checkpoint:
    """A TDNet's weights for a network that is made of its parts, or those of its union with AR-Seg for it; others as
    they are."""
    weights = checkpoint.ours
    if isinstance(network, BDNet) and "subnetworks.0.encoder.value.weight" in weights:
        return replace(checkpoint, weights=propagated_weights(weights))
    if isinstance(network, CarriedScores) and "subnetworks.0.encoder.value.weight" in weights:
        return replace(checkpoint, weights=carried_weights(weights))
    if isinstance(network, TDAR) and "subnetworks.0.head.classifier.weight" in weights:
        return replace(checkpoint, weights=united_weights(weights, network.state_dict()))
    if isinstance(network, TDNet) and not isinstance(network, TDAR) and "classifier.weight" in weights:
        return replace(checkpoint, weights=tdnet_weights(weights))
    return checkpoint


def _turn_to_rgb(network: nn.Module) -> None:
    """Swap the first and last input channel of the convolutions that see the image: all our networks take RGB."""
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d) and module.in_channels == 3]
    with torch.no_grad():
        for weight in {id(module.weight): module.weight for module in convolutions}.values():
            weight.copy_(weight.flip(1))


def _input_size(info: NetworkInfo, weights: Mapping[str, Tensor]) -> tuple[int, int]:
    """(height, width) that the weights were made for, where their own maps tell: see SpatialLayerNorm."""
    maps = (value.shape for key, value in weights.items() if key.endswith("norm.weight") and value.dim() == 2)
    rows, columns = next(maps, (0, 0))
    catalog_rows, catalog_columns = (-(-side // 8) for side in info.input_size)
    if rows == 0 or (rows, columns) == (catalog_rows, catalog_columns):
        return info.input_size
    return 8 * rows - 7, 8 * columns - 7
