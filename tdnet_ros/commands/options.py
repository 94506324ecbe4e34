"""Options that several commands have, and what they mean."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tdnet_ros.streaming import Segmenter

#: What carries a command out: the parsed options in, the exit code out.
Run = Callable[[argparse.Namespace], int]


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which network, and where it runs; empty where not given."""
    parser.add_argument("--model", default="", help="network, see 'tdnet-ros models'; default: the weight file's")
    parser.add_argument(
        "--weights", default="", help="weight file, or name of weights that ship; default: those of the model"
    )
    parser.add_argument("--device", default="", help="auto (CUDA when there is one), cpu, cuda or cuda:N")


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """How a network is computed; empty where not given."""
    parser.add_argument("--precision", default="", help="auto, fp32, bf16 or fp16")
    parser.add_argument(
        "--runtime", default="", help="auto, eager, compile, cudagraph, onnx or tensorrt: see docs/node.md"
    )


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Which images of a source, and when."""
    parser.add_argument("--topic", default="", help="image topic of a bag that has several")
    parser.add_argument(
        "--rate-hz", type=float, default=0.0, help="frames per second instead of the source's own times"
    )


def segmenter_of(arguments: argparse.Namespace, **settings: Any) -> Segmenter:
    """The engine that add_model_options and add_engine_options ask for; ``settings`` are further ones of Segmenter."""
    from tdnet_ros.networks import AUTO
    from tdnet_ros.streaming import Segmenter

    return Segmenter(
        arguments.model or AUTO,
        arguments.weights or None,
        arguments.device or "auto",
        arguments.precision or "auto",
        runtime=arguments.runtime or "auto",
        **settings,
    )


def size(text: str) -> tuple[int, int]:
    """``640x480``, width first as everywhere for people, to (height, width)."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"'{text}' is no size, expected WIDTHxHEIGHT such as 640x480")
    return int(height), int(width)
