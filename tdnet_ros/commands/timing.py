"""``tdnet-ros profile``: where a frame's time goes."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def profile(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """show where a frame's time goes: the engine's stages and the network's modules"""
    parser.add_argument("input", type=Path, help="video file, image folder or rosbag2")
    parser.add_argument("--frames", type=int, default=30, help="frames to measure, after the window is full")
    parser.add_argument("--depth", type=int, default=4, help="of modules, by the parts of their names")
    parser.add_argument("--trace", type=Path, help="file for chrome://tracing or ui.perfetto.dev")
    parser.add_argument("--topic", default="", help="image topic of a bag that has several")
    parser.add_argument("--model", default="auto", help="network, see 'tdnet-ros models'; default: the weight file's")
    parser.add_argument("--weights", default="", help="weight file; default: the weights that ship with the model")
    parser.add_argument("--device", default="auto", help="auto (CUDA when there is one), cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")
    parser.add_argument("--runtime", default="auto", help="auto, eager, compile, cudagraph, onnx or tensorrt")
    parser.add_argument("--input-height", type=int, default=0, help="height of frames in the network, px")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0: one per core")

    def run(arguments: argparse.Namespace) -> int:
        for name in ("frames", "depth"):
            if getattr(arguments, name) < 1:
                parser.error(f"argument --{name}: {getattr(arguments, name)}, expected at least 1")
        from tdnet_ros.evaluation.profile import format_profile, profile_frames
        from tdnet_ros.streaming import Segmenter
        from tdnet_ros.video.source_frames import frames
        from tdnet_ros.video.sources import open_source

        source = open_source(arguments.input, topic=arguments.topic or None)
        segmenter = Segmenter(
            arguments.model,
            arguments.weights or None,
            arguments.device,
            arguments.precision,
            arguments.input_height,
            arguments.threads,
            arguments.runtime,
        )
        width, height = source.size
        rows, columns = segmenter.network_size(height, width)
        print(f"{segmenter.network.info.name} on {segmenter.runtime.describe()}", flush=True)
        print(f"{arguments.frames} frames of {width}x{height}, through the network at {columns}x{rows}\n", flush=True)
        found = profile_frames(segmenter, frames(source), arguments.frames, arguments.depth, arguments.trace)
        print(format_profile(found))
        if arguments.trace:
            print(f"\nwritten: {arguments.trace}")
        return 0

    return run
