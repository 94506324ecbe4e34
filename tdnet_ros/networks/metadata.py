"""What a weight file of ours says of its weights, as the text by name that safetensors keeps.

======================  ============================================================================
``model``               name of the network in the catalog
``labels``              name of a label set, or JSON ``{"name": ..., "names": [...], "colours": [[r, g, b], ...]}``
``mean``, ``std``       JSON lists of three numbers, RGB order, for pixels scaled to 0..1
``input_size``          JSON list [height, width] in px
``low_resolution``      scale of the frames between keyframes, for networks that have keyframes
``keyframe_interval``   longest distance of two keyframes in frames, for networks that have keyframes
``colour_order``        ``rgb``; ``bgr`` for weights whose first convolution still takes BGR pixels
``source``              name of the file that it was converted from
``source_sha256``       that file's SHA-256
``terms``               license terms of the weights
``version``             version of tdnet_ros that wrote the file
======================  ============================================================================

Whatever is not said is what the catalog says.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tdnet_ros.errors import CheckpointError, ConfigurationError
from tdnet_ros.labels import LABEL_SETS, LabelSet, label_set
from tdnet_ros.networks.info import NetworkInfo

_COLOUR_ORDERS = ("rgb", "bgr")


def to_metadata(info: NetworkInfo, **more: str) -> dict[str, str]:
    """The metadata of weights for that network; ``more`` adds entries, empty ones are left out."""
    labels = info.labels
    known = LABEL_SETS.get(labels.name) == labels
    described = {"name": labels.name, "names": labels.names, "colours": labels.colours}
    metadata = {
        "model": info.name,
        "labels": labels.name if known else json.dumps(described),
        "mean": json.dumps(info.mean),
        "std": json.dumps(info.std),
        "input_size": json.dumps(info.input_size),
        "colour_order": info.colour_order,
    }
    if info.terms:
        metadata["terms"] = info.terms
    if info.low_resolution != 1.0:
        metadata["low_resolution"] = json.dumps(info.low_resolution)
    if info.keyframe_interval != 1:
        metadata["keyframe_interval"] = json.dumps(info.keyframe_interval)
    return metadata | {name: text for name, text in more.items() if text}


def apply_metadata(info: NetworkInfo, metadata: Mapping[str, str], origin: str) -> NetworkInfo:
    """The network's facts as the metadata have them; ``origin`` names the file in errors.

    Raises CheckpointError for metadata that cannot be meant.
    """
    try:
        return replace(
            info,
            labels=_labels(metadata["labels"]) if "labels" in metadata else info.labels,
            mean=_three(metadata, "mean", info.mean),
            std=_three(metadata, "std", info.std),
            input_size=_size(metadata, info),
            colour_order=_colour_order(metadata.get("colour_order", info.colour_order)),
            terms=metadata.get("terms", info.terms),
            low_resolution=_scale(metadata, info),
            keyframe_interval=_interval(metadata, info),
        )
    except ConfigurationError as error:
        raise CheckpointError(f"metadata of weights '{origin}': {error}") from error


def _labels(text: str) -> LabelSet:
    if not text.startswith("{"):
        return label_set(text)
    content = _json("labels", text)
    try:
        name, names, colours = content["name"], content["names"], content["colours"]
        rgb = tuple((int(red), int(green), int(blue)) for red, green, blue in colours)
        return LabelSet(str(name), tuple(map(str, names)), rgb)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"labels is {text[:80]}, expected name, names and colours: {error!r}") from error


def _three(metadata: Mapping[str, str], name: str, otherwise: tuple[float, float, float]) -> Any:
    if name not in metadata:
        return otherwise
    values = _json(name, metadata[name])
    lowest = math.ulp(0.0) if name == "std" else -math.inf
    fits = isinstance(values, list) and len(values) == 3 and all(isinstance(v, int | float) for v in values)
    if not fits or not all(math.isfinite(value) and value >= lowest for value in values):
        kind = "three numbers above 0" if name == "std" else "three numbers"
        raise ConfigurationError(f"{name} is {metadata[name]}, expected {kind}, one for each of R, G and B")
    return tuple(float(value) for value in values)


def _size(metadata: Mapping[str, str], info: NetworkInfo) -> tuple[int, int]:
    if "input_size" not in metadata:
        return info.input_size
    size = _json("input_size", metadata["input_size"])
    if not isinstance(size, list) or len(size) != 2 or not all(isinstance(v, int) for v in size):
        raise ConfigurationError(f"input_size is {metadata['input_size']}, expected [height, width]")
    if min(size) < info.minimum_size:
        raise ConfigurationError(f"input_size is {size}, expected at least {info.minimum_size} px per side")
    return size[0], size[1]


def _scale(metadata: Mapping[str, str], info: NetworkInfo) -> float:
    if "low_resolution" not in metadata:
        return info.low_resolution
    scale = _json("low_resolution", metadata["low_resolution"])
    if not isinstance(scale, int | float) or not 0 < scale <= 1:
        raise ConfigurationError(f"low_resolution is {metadata['low_resolution']}, expected above 0 and at most 1")
    return float(scale)


def _interval(metadata: Mapping[str, str], info: NetworkInfo) -> int:
    if "keyframe_interval" not in metadata:
        return info.keyframe_interval
    interval = _json("keyframe_interval", metadata["keyframe_interval"])
    if type(interval) is not int or interval < 1:
        raise ConfigurationError(
            f"keyframe_interval is {metadata['keyframe_interval']}, expected a whole number of at least 1"
        )
    return interval


def _colour_order(text: str) -> str:
    if text not in _COLOUR_ORDERS:
        raise ConfigurationError(f"colour_order is '{text}', expected one of {list(_COLOUR_ORDERS)}")
    return text


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{name} is '{text[:80]}', which is no JSON: {error}") from error
