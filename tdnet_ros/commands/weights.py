"""The commands ``tdnet-ros models`` and ``convert``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdnet_ros.commands.options import Run, size

if TYPE_CHECKING:
    from tdnet_ros.networks.variants import Variant

_MIB = 1 << 20


def models(parser: argparse.ArgumentParser) -> Run:
    """list the networks with their cost and the weights that are installed"""
    parser.add_argument("--size", type=size, metavar="WxH", help="count GMAC at this size; default: each model's own")
    parser.add_argument("--json", action="store_true", help="everything, for programs")
    parser.epilog = (
        "GMAC: 1e9 multiply-accumulates of convolutions, matrix products and attention in one frame, with the whole "
        "window and, in brackets, right after a reset."
    )

    def run(arguments: argparse.Namespace) -> int:
        from tdnet_ros.networks.catalog import CATALOG

        found = [_describe(name, variant, arguments.size) for name, variant in CATALOG.items()]
        if arguments.json:
            print(json.dumps(found, indent=1))
            return 0
        heading = ("model", "classes", "parameters", "in a frame", "GMAC", "", "counted at", "weights", "")
        rows = [heading, *map(_row, found)]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())
        print("\nweights that ship, by --model and --weights:")
        for model in found:
            for each in model["shipped"]:
                print(f"  {model['model']}  {each['name'] or 'default':<10}  {_mebibytes(each)}  {each['terms']}")
        return 0

    return run


def convert(parser: argparse.ArgumentParser) -> Run:
    """turn an official weight file into safetensors that say what they are"""
    parser.add_argument("weights", type=Path, help="td4-psp18.pkl and the like, a training's file, or safetensors")
    parser.add_argument("low", type=Path, nargs="?", help="of AR-Seg the second file (AR), behind the first (HR)")
    parser.add_argument("-o", "--output", type=Path, required=True, help="file to write, such as td4_psp18.safetensors")
    parser.add_argument("--model", default="", help="network, see 'tdnet-ros models'; default: told by the keys")
    parser.add_argument(
        "--labels", default="", metavar="SET|YAML", help="classes: cityscapes, camvid, or a file (docs/weights.md)"
    )
    for name in ("mean", "std"):
        parser.add_argument(f"--{name}", type=float, nargs=3, metavar=("R", "G", "B"), help="for pixels in 0..1")
    parser.add_argument("--input-size", type=size, metavar="WxH", help="size that the weights were made for")
    parser.add_argument("--bgr", action="store_true", help="the weights expect BGR pixels; they are turned to RGB")
    parser.add_argument("--terms", default="", help="license terms of the weights, kept in the file")
    parser.add_argument("--half", action="store_true", help="half precision: half the size, no longer bit by bit equal")
    parser.add_argument("--force", action="store_true", help="overwrite the output")

    def run(arguments: argparse.Namespace) -> int:
        from tdnet_ros.labels import read_label_set
        from tdnet_ros.networks import AUTO
        from tdnet_ros.networks.conversion import convert as convert_file

        changes: dict[str, Any] = {"colour_order": "bgr"} if arguments.bgr else {}
        changes |= {name: tuple(getattr(arguments, name)) for name in ("mean", "std") if getattr(arguments, name)}
        if arguments.input_size:
            changes["input_size"] = arguments.input_size
        done = convert_file(
            (arguments.weights, arguments.low) if arguments.low else arguments.weights,
            arguments.output,
            arguments.model or AUTO,
            read_label_set(arguments.labels) if arguments.labels else None,
            changes,
            arguments.terms,
            arguments.half,
            arguments.force,
        )
        info = done.info
        print(f"written: {done.output} ({done.output.stat().st_size / _MIB:.1f} MiB, {_precision(arguments.half)})")
        print(f"  model   {info.name}")
        print(f"  labels  {info.labels.name}: {', '.join(info.labels.names)}")
        print(f"  input   {info.input_size[1]}x{info.input_size[0]}, RGB, mean {info.mean}, std {info.std}")
        if info.low_resolution != 1:
            print(f"  scale   {info.low_resolution} between keyframes")
        print(f"  source  {done.metadata['source']}, sha256 {done.metadata['source_sha256']}")
        if "terms" in done.metadata:
            print(f"  terms   {done.metadata['terms']}")
        if done.left_out:
            print(f"  left out, because no frame needs it: {len(done.left_out)} entries such as {done.left_out[0]}")
        return 0

    return run


def _describe(name: str, variant: Variant, size: tuple[int, int] | None) -> dict[str, Any]:
    from tdnet_ros.networks.cost import count_cost
    from tdnet_ros.streaming.models import DEFAULT_MODEL, shipped_for

    cost = count_cost(name, size)
    shipped = [
        {"name": each.name, "path": str(each.path), "bytes": each.path.stat().st_size, "terms": each.terms}
        for each in shipped_for(name)
    ]
    installed = next((each for each in shipped if not each["name"]), None)
    return {
        "model": name,
        "summary": variant.summary,
        "default": name == DEFAULT_MODEL,
        "labels": variant.labels.name,
        "classes": list(variant.labels.names),
        "subnetworks": variant.subnetworks,
        "input_size": list(variant.input_size),
        "parameters": cost.parameters,
        "parameters_in_a_frame": cost.parameters_used,
        "gmac_size": list(cost.size),
        "gmac": cost.steady_gmac,
        "gmac_after_reset": cost.warm_up_gmac,
        "weights": installed["path"] if installed else None,
        "weights_bytes": installed["bytes"] if installed else None,
        "shipped": shipped,
    }


def _row(model: dict[str, Any]) -> tuple[str, ...]:
    height, width = model["gmac_size"]
    return (
        model["model"],
        f"{model['labels']} ({len(model['classes'])} classes)",
        f"{model['parameters'] / 1e6:.1f} M",
        f"{model['parameters_in_a_frame'] / 1e6:.1f} M",
        _decimals(model["gmac"]),
        f"({_decimals(model['gmac_after_reset'])})",
        f"{width}x{height}",
        _mebibytes(model["shipped"][0]) if model["shipped"] else "none",
        f"{model['summary']}{' (default)' if model['default'] else ''}",
    )


def _mebibytes(weights: dict[str, Any]) -> str:
    return f"{weights['bytes'] / _MIB:.1f} MiB"


def _decimals(value: float) -> str:
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _precision(half: bool) -> str:
    return "half precision" if half else "single precision"
