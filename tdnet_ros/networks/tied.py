"""Weights that a network has in several places: one tensor while it is trained, one entry in its files."""

from __future__ import annotations

import copy
from collections.abc import MutableMapping
from typing import TypeVar

from torch import Tensor, nn

_Module = TypeVar("_Module", bound=nn.Module)


def copy_with_own_norms(module: _Module) -> _Module:
    """A copy that has the very parameters of the given module but for those and the statistics of its batch norms.

    Folding the batch norms of a network unties convolutions: each then has the weights that its own norm makes of them.
    """
    own = {id(x) for norm in module.modules() if isinstance(norm, nn.BatchNorm2d) for x in norm.parameters()}
    return copy.deepcopy(module, {id(x): x for x in module.parameters() if id(x) not in own})


def aliases(network: nn.Module, copies: str) -> dict[str, str]:
    """By name of a parameter that stands elsewhere, too, the name under which it is stored.

    That is the shortest one that does not begin with ``copies``.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in network.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    found = {}
    for group in names.values():
        stored = min(group, key=lambda name: (name.startswith(copies), len(name)))
        found.update({name: stored for name in group if name != stored})
    return found


def drop_aliases(weights: MutableMapping[str, Tensor], names: dict[str, str], prefix: str = "") -> None:
    """Leave out of a state dict, whose keys begin with ``prefix``, what is stored under another name."""
    for name in names:
        weights.pop(prefix + name, None)


def fill_aliases(weights: MutableMapping[str, Tensor], names: dict[str, str], prefix: str = "") -> None:
    """The inverse of ``drop_aliases``."""
    for name, stored in names.items():
        if prefix + stored in weights:
            weights.setdefault(prefix + name, weights[prefix + stored])
