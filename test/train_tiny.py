"""Trains the tiny network of the tests in a process of its own: started twice, it is a training of two processes.

The argument is JSON, a list of trainings to be done one after the other: ``configuration``, ``outputs`` (a folder for
each process), ``dropout``, ``stop`` after so many steps, ``resume``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from tiny_training import TINY

from tdnet_ros.networks.catalog import CATALOG, build_network
from tdnet_ros.networks.heads import FCNHead
from tdnet_ros.training import trainer as training
from tdnet_ros.training.configuration import parse_configuration
from tdnet_ros.training.processes import join_processes

CATALOG["tiny"] = TINY


def build_without_dropout(info: object) -> torch.nn.Module:
    """Dropout differs between processes, as it should; where they are to compute the same it is left out."""
    network = build_network(info)  # type: ignore[arg-type]
    for module in network.modules():
        if isinstance(module, FCNHead):
            module.dropout.p = 0.0
    return network


if __name__ == "__main__":
    torch.set_num_threads(1)
    processes = join_processes("cpu")
    for job in json.loads(sys.argv[1]):
        training.build_network = build_network if job["dropout"] else build_without_dropout  # type: ignore
        configuration, output = parse_configuration(job["configuration"]), Path(job["outputs"][processes.rank])
        trainer = training.Trainer(configuration, output, processes, lambda line: None, job.get("resume", False))
        trainer.run(job.get("stop"))
        processes.wait()
    torch.distributed.destroy_process_group() if torch.distributed.is_initialized() else None
