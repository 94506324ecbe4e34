"""The commands ``tdnet-ros benchmark`` and ``profile``: where a frame's time goes."""

from __future__ import annotations

import argparse
from pathlib import Path

from tdnet_ros.commands.options import Run, add_engine_options, add_model_options, segmenter_of, size
from tdnet_ros.commands.output import say


def benchmark(parser: argparse.ArgumentParser) -> Run:
    """time the steps of a model on this machine, by stage"""
    parser.add_argument("--size", type=size, metavar="WxH", help="size of the frames; default: that of the weights")
    parser.add_argument("--steps", type=int, default=50, help="steps to time")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0: one per core")
    add_model_options(parser)
    add_engine_options(parser)

    def run(arguments: argparse.Namespace) -> int:
        if arguments.steps < 1:
            parser.error(f"argument --steps: {arguments.steps}, expected at least 1")
        from tdnet_ros.evaluation.step_times import measure_steps

        segmenter = segmenter_of(arguments, threads=arguments.threads)
        height, width = arguments.size or segmenter.network.info.input_size
        say(f"{segmenter.network.info.name} on {segmenter.runtime.describe()}")
        found = measure_steps(segmenter, height, width, arguments.steps)
        rows, columns = found.network_size
        say(f"{arguments.steps} steps on frames of {width}x{height}, through the network at {columns}x{rows}")
        for stage, (p50, p95) in found.stages.items():
            say(f"  {stage:<12} p50 {p50:8.2f} ms   p95 {p95:8.2f} ms")
        rate = 1e3 / found.stages["step"][0]
        say(f"  {rate:.1f} frames per second; {found.gmac:.1f} GMAC, {found.gflops:.0f} GFLOP/s in the network")
        return 0

    return run


def profile(parser: argparse.ArgumentParser) -> Run:
    """show where a frame's time goes: the engine's stages and the network's modules"""
    parser.add_argument("input", type=Path, help="video file, image folder or rosbag2")
    parser.add_argument("--frames", type=int, default=30, help="frames to measure, after the window is full")
    parser.add_argument("--depth", type=int, default=4, help="of modules, by the parts of their names")
    parser.add_argument("--trace", type=Path, help="file for chrome://tracing or ui.perfetto.dev")
    parser.add_argument("--topic", default="", help="image topic of a bag that has several")
    add_model_options(parser)
    add_engine_options(parser)
    parser.add_argument("--input-height", type=int, default=0, help="height of frames in the network, px")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0: one per core")

    def run(arguments: argparse.Namespace) -> int:
        for name in ("frames", "depth"):
            if getattr(arguments, name) < 1:
                parser.error(f"argument --{name}: {getattr(arguments, name)}, expected at least 1")
        from tdnet_ros.evaluation.profile import format_profile, profile_frames
        from tdnet_ros.video.source_frames import frames
        from tdnet_ros.video.sources import open_source

        source = open_source(arguments.input, topic=arguments.topic or None)
        segmenter = segmenter_of(arguments, input_height=arguments.input_height, threads=arguments.threads)
        width, height = source.size
        rows, columns = segmenter.network_size(height, width)
        say(f"{segmenter.network.info.name} on {segmenter.runtime.describe()}")
        say(f"{arguments.frames} frames of {width}x{height}, through the network at {columns}x{rows}\n")
        found = profile_frames(segmenter, frames(source), arguments.frames, arguments.depth, arguments.trace)
        say(format_profile(found))
        if arguments.trace:
            say(f"\nwritten: {arguments.trace}")
        return 0

    return run
