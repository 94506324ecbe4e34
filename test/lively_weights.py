"""Random weights through which a signal passes: torch's own make a deep network answer almost nothing at all."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn


def make_lively(network: nn.Module, seed: int, forward: Callable[[], object]) -> None:
    """Seeded weights in place, and batch norms that have seen what ``forward`` runs through them; ends in eval mode.

    Convolutions are He-normal; the affine parts of batch norms and all biases are uniform.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, generator=generator)
            if module.bias is not None:
                nn.init.uniform_(module.bias, -0.3, 0.3, generator=generator)
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.7, 1.3, generator=generator)
        nn.init.uniform_(norm.bias, -0.3, 0.3, generator=generator)
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()
        forward()
        network.eval()
    for norm in norms:
        norm.momentum = 0.1
