"""Which network of the catalog a weight file is of, told by its keys and shapes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from tdnet_ros.networks.catalog import CATALOG, build_network, network_info
from tdnet_ros.networks.variants import Variant

Shapes = Mapping[str, tuple[int, ...]]

#: Below this share of common keys a file is like no network of ours.
_ALIKE = 0.5


@dataclass(frozen=True)
class Likeness:
    """How near a file's weights come to a network: shares of the keys of both together, 0 to 1.

    ``keys`` is the share of keys that both have, ``shapes`` that of keys that both have in the same shape.
    """

    model: str
    keys: float
    shapes: float


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Shape by key, without the step counters of batch norms, which no network of ours needs."""
    return {key: tuple(value.shape) for key, value in weights.items() if not key.endswith("num_batches_tracked")}


def likenesses(shapes: Shapes) -> list[Likeness]:
    """Every network of the catalog beside a file of our keys with those shapes, the likest one first."""
    found = [_compare(name, shapes, _shapes_in_catalog(name, variant)) for name, variant in CATALOG.items()]
    return sorted(found, key=lambda likeness: (likeness.shapes + likeness.keys, likeness.keys), reverse=True)


def recognise(shapes: Shapes) -> str | None:
    """The network that has exactly those keys, whatever its number of classes and its size; None when there is none.

    Of several with the same keys that which agrees in most shapes.
    """
    best = likenesses(shapes)[0]
    return best.model if best.keys == 1.0 else None


def describe_likeness(shapes: Shapes) -> str:
    """For error messages: what a file looks like."""
    best = likenesses(shapes)[0]
    if best.keys < _ALIKE:
        return "none of our models"
    return f"'{best.model}' ({best.keys:.0%} of the keys, {best.shapes:.0%} in the same shape)"


def _compare(name: str, file: Shapes, network: Shapes) -> Likeness:
    union = len(file.keys() | network.keys())
    common = file.keys() & network.keys()
    alike = sum(file[key] == network[key] for key in common)
    return Likeness(name, len(common) / union, alike / union)


@cache
def _shapes_in_catalog(name: str, variant: Variant) -> Shapes:
    with torch.device("meta"):
        network = build_network(network_info(name))
    return shapes_of(network.state_dict())
