"""Trains the tiny network of the tests in a process of its own: started twice, it is a training of two processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tiny_network import TinyVariant

from tdnet_ros.labels import CAMVID
from tdnet_ros.networks.catalog import CATALOG, build_network
from tdnet_ros.networks.heads import FCNHead
from tdnet_ros.training import trainer as training
from tdnet_ros.training.configuration import parse_configuration
from tdnet_ros.training.processes import join_processes

CATALOG["tiny"] = TinyVariant(subnetworks=2, labels=CAMVID)


def build_without_dropout(info: object) -> torch.nn.Module:
    """Dropout differs between processes, as it should; here they have to compute the same."""
    network = build_network(info)  # type: ignore[arg-type]
    for module in network.modules():
        if isinstance(module, FCNHead):
            module.dropout.p = 0.0
    return network


if __name__ == "__main__":
    torch.set_num_threads(1)
    training.build_network = build_without_dropout  # type: ignore[assignment]
    configuration = parse_configuration(json.loads(Path(sys.argv[1]).read_text()))
    training.Trainer(configuration, Path(sys.argv[2]), join_processes("cpu"), lambda line: None).run()
    torch.distributed.destroy_process_group() if torch.distributed.is_initialized() else None
