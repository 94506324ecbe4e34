"""The commands ``tdnet-ros train`` and ``average``."""

from __future__ import annotations

import argparse
from pathlib import Path

from tdnet_ros.commands.options import Run
from tdnet_ros.commands.output import say


def train(parser: argparse.ArgumentParser) -> Run:
    """train a network as a configuration file says; several processes by torchrun"""
    parser.add_argument("configuration", type=Path, help="yaml file such as config/train_td2_mnv2_cpu.yaml")
    parser.add_argument("--output", type=Path, default=Path("training"), help="folder of checkpoints and results")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument("--device", default="auto", help="auto (CUDA when there is one), cpu, cuda or cuda:N")
    parser.add_argument("--max-steps", type=int, help="stop after so many steps, to be resumed later")

    def run(arguments: argparse.Namespace) -> int:
        import torch.distributed

        from tdnet_ros.training.configuration import read_configuration
        from tdnet_ros.training.processes import join_processes
        from tdnet_ros.training.trainer import Trainer
        from tdnet_ros.training.training_card import publish

        if arguments.max_steps is not None and arguments.max_steps < 1:
            parser.error("--max-steps: expected at least 1")
        configuration = read_configuration(arguments.configuration)
        processes = join_processes(arguments.device)
        try:
            trainer = Trainer(configuration, arguments.output, processes, say, arguments.resume)
            trainer.run(arguments.max_steps)
            if processes.leads:
                if trainer.done == trainer.total:
                    say(f"weights    {publish(trainer)}")
                else:
                    say(f"{trainer.done} of {trainer.total} steps done: go on with --resume")
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        return 0

    return run


def average(parser: argparse.ArgumentParser) -> Run:
    """take the mean of the weights of several trainings that went out from the same ones"""
    parser.add_argument("files", type=Path, nargs="+", help="safetensors of trainings")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write, such as td2_mnv2.safetensors")
    parser.add_argument("--model", required=True, help="network; a united one's file may count as its TDNet's")

    def run(arguments: argparse.Namespace) -> int:
        from tdnet_ros.training.average_files import average_files

        say(f"written: {average_files(arguments.files, arguments.output, arguments.model)}")
        return 0

    return run
