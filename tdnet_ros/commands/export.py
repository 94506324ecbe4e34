"""The command ``tdnet-ros export``."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from tdnet_ros.commands.options import Run, size
from tdnet_ros.commands.output import say

if TYPE_CHECKING:
    from tdnet_ros.networks import SegmentationNetwork
    from tdnet_ros.networks.export import Manifest

#: Largest difference between ONNX Runtime and torch, over the largest value of that output. Two correct programs differ
#: by as much as each loses to rounding: deep networks with random weights lose 2e-4 in fp32.
TOLERANCES = {"fp32": 1e-3, "fp16": 5e-2}


def export(parser: argparse.ArgumentParser) -> Run:
    """write a network as ONNX files, its state as inputs and outputs"""
    parser.add_argument("model", help="name of the network; see 'tdnet-ros models'")
    parser.add_argument(
        "--weights", default="", help="weight file, or 'random' for timing; default: those that ship with the model"
    )
    parser.add_argument(
        "--size", type=size, metavar="WxH", help="of the network's input; default: what the weights were made for"
    )
    parser.add_argument("--batch", type=int, default=1, help="pictures in one step")
    parser.add_argument("--precision", choices=sorted(TOLERANCES), default="fp32", help="of everything in the files")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the files and their manifest")

    def run(arguments: argparse.Namespace) -> int:
        import torch

        from tdnet_ros.networks import load_network
        from tdnet_ros.networks.export import EXPORT_PRECISIONS, export_network
        from tdnet_ros.streaming.models import choose_weights

        dtype = EXPORT_PRECISIONS[arguments.precision]
        sha256 = ""
        if arguments.weights == "random":
            torch.manual_seed(0)
            name = "random"
            network = load_network(arguments.model, dtype=dtype)
        else:
            path = Path(str(choose_weights(arguments.model, arguments.weights or None)))
            network = load_network(arguments.model, path, dtype=dtype)
            name, sha256 = path.name, hashlib.sha256(path.read_bytes()).hexdigest()
        manifest = export_network(
            network,
            arguments.output,
            arguments.size or network.info.input_size,
            arguments.batch,
            name,
            sha256,
            lambda step: say(f"written: {arguments.output / step.file}"),
        )
        absolute, relative = largest_differences(network, arguments.output, manifest)
        fits = relative <= TOLERANCES[manifest.precision]
        say(
            f"ONNX Runtime and torch differ by at most {absolute:.1e}, and by {relative:.1e} of an output's largest "
            f"value: {'less' if fits else 'MORE'} than {TOLERANCES[manifest.precision]:.0e}"
        )
        return 0 if fits else 1

    return run


def largest_differences(network: SegmentationNetwork, folder: Path, manifest: Manifest) -> tuple[float, float]:
    """Between torch and ONNX Runtime on the CPU, over all results of all steps on a picture of noise.

    The largest absolute one, and the largest in proportion to the largest value of the same result.
    """
    import torch

    from tdnet_ros.networks.export import EXPORT_PRECISIONS, meet_every_plan, network_without_weights
    from tdnet_ros.streaming.engines.onnx_runtime import OnnxRuntimeEngine

    engine = OnnxRuntimeEngine(network_without_weights(manifest), torch.device("cpu"), folder)
    noise = torch.randn(manifest.batch, 3, *manifest.info.input_size, generator=torch.Generator().manual_seed(0))
    noise = noise.to(EXPORT_PRECISIONS[manifest.precision])
    absolute = relative = 0.0
    for plan, (cached, results) in meet_every_plan(network, noise).items():
        for expected, found in zip(results, engine.compute(plan, noise, *cached), strict=True):
            difference = float((expected.double() - found.double()).abs().max())
            absolute = max(absolute, difference)
            relative = max(relative, difference / float(expected.abs().max()))
    return absolute, relative
