"""Auxiliary heads: a loss for the middle of a backbone while it is trained, no part of the network that runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.heads import FCNHead
from tdnet_ros.networks.paths import PyramidPath
from tdnet_ros.networks.tdnet import TDNet


class AuxiliaryHeads(nn.Module):
    """A head on the third stage of every sub-network's ResNet (PSPNet, CVPR 2017, section 3.3).

    The same heads as the official ``auxlayer1`` to ``auxlayer4`` (td4_psp.py; TD2-PSP50 in td2_psp.py likewise), which
    count 0.1 for the newest frame's sub-network. They own their weights: the network's state dict stays that of the
    network that runs.

        heads = AuxiliaryHeads(network)
        with heads.listening(network) as features:
            scores = clip_forward(network, images, order)
        auxiliary = heads(features[order[-1]], order[-1])
    """

    def __init__(self, network: TDNet) -> None:
        """Raises ConfigurationError when the sub-networks have no such stage."""
        super().__init__()
        classes = len(network.info.labels)
        widths = [_path(network, index).backbone.channels // 2 for index in range(len(network.subnetworks))]
        self.heads = nn.ModuleList(FCNHead(width, width // 4, classes) for width in widths)
        self.to(next(network.parameters()).device)

    @contextmanager
    def listening(self, network: TDNet) -> Iterator[dict[int, Tensor]]:
        """Within it, the third stage's newest feature (B, C, H/8, W/8) by sub-network."""
        features: dict[int, Tensor] = {}

        def keep(index: int, stage: nn.Module, arguments: object, feature: Tensor) -> None:
            features[index] = feature

        handles = [
            _path(network, index).backbone.layer3.register_forward_hook(partial(keep, index))
            for index in range(len(self.heads))
        ]
        try:
            yield features
        finally:
            for handle in handles:
                handle.remove()

    def forward(self, feature: Tensor, subnetwork: int) -> Tensor:
        """The third stage's feature (B, C, H/8, W/8) -> scores (B, classes, H/8, W/8)."""
        scores: Tensor = self.heads[subnetwork](feature, ())
        return scores


def _path(network: TDNet, index: int) -> PyramidPath:
    path = network.subnetwork(index).path
    if not isinstance(path, PyramidPath):
        raise ConfigurationError(
            f"'{network.info.name}' has paths of type {type(path).__name__}, expected pyramid paths: its backbone has "
            "no dilated third stage"
        )
    return path
