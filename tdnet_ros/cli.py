"""The command line, ``tdnet-ros COMMAND``: each command is a function that declares its options and work."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tdnet_ros import __version__
from tdnet_ros.errors import TdnetRosError
from tdnet_ros.evaluation.commands import accuracy, compare, evaluate, make_bag
from tdnet_ros.export_command import export
from tdnet_ros.model_commands import convert, models
from tdnet_ros.profile_command import profile
from tdnet_ros.training.commands import average, train

_TRANSPORTS = ("auto", "raw", "compressed", "ffmpeg", "foxglove", "compressed_video")
_PACKETS = "ffmpeg, foxglove and compressed_video: the video's own packets, not encoded anew"

# Commands import what they need when they run: `tdnet-ros --help` should not wait for torch, nor ask for ROS.


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", default="", help="network, see 'tdnet-ros models'; default: the weight file's")
    parser.add_argument("--weights", default="", help="weight file; default: the weights that ship with the model")
    parser.add_argument("--device", default="", help="auto (CUDA when there is one), cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="", help="auto, fp32, bf16 or fp16")
    parser.add_argument(
        "--runtime", default="", help="auto, eager, compile, cudagraph, onnx or tensorrt: see docs/node.md"
    )


def _add_source_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--topic", default="", help="image topic of a bag that has several")
    parser.add_argument(
        "--rate-hz", type=float, default=0.0, help="frames per second instead of the source's own times"
    )


def demo(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """play a video as a camera through the ROS 2 node and show what comes out"""
    parser.add_argument(
        "--video",
        type=Path,
        help="video file, image folder or rosbag2; default: a street rendered by our own code",
    )
    parser.add_argument("--output", type=Path, default=Path("demo_output"), help="folder for the results")
    parser.add_argument("--rate", type=float, default=1.0, help="speed of the playback; 2 plays twice as fast")
    parser.add_argument("--duration", type=float, default=0.0, help="play only the first so many seconds")
    parser.add_argument(
        "--transport",
        choices=_TRANSPORTS,
        default="auto",
        help=f"how images travel; auto: as a bag has them, else raw; {_PACKETS}",
    )
    _add_source_options(parser)
    _add_model_options(parser)

    def run(arguments: argparse.Namespace) -> int:
        from tdnet_ros.demo import run_demo, street_clip
        from tdnet_ros.evaluation.processes import require_ros
        from tdnet_ros.evaluation.replay import ReplaySettings

        def say(line: str) -> None:
            print(line, flush=True)

        require_ros()
        settings = ReplaySettings(
            source=arguments.video or street_clip(arguments.output, say),
            output=arguments.output,
            model=arguments.model,
            weights=arguments.weights,
            device=arguments.device,
            node_parameters={"precision": arguments.precision, "runtime": arguments.runtime},
            topic=arguments.topic,
            transport=arguments.transport,
            rate=arguments.rate,
            rate_hz=arguments.rate_hz,
            duration_s=arguments.duration,
        )
        run_demo(settings, say)
        return 0

    return run


def segment(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """segment a video, image folder or rosbag2 without ROS"""
    parser.add_argument("input", type=Path, help="video file, image folder or rosbag2")
    parser.add_argument("-o", "--output", type=Path, help="overlay video to write, such as out.mp4")
    parser.add_argument("--masks", type=Path, help="folder for the class ids, one PNG for each frame")
    parser.add_argument(
        "--draw-motion",
        action="store_true",
        help="show keyframes, the motion to them and the resolution of each frame in the overlay",
    )
    parser.add_argument("--keyframe-interval", type=int, default=0, help="0: the network's own; 1: no frames between")
    parser.add_argument("--low-resolution", type=float, default=0.0, help="scale between keyframes; 0: the network's")
    parser.add_argument(
        "--motion", default="auto", help="auto: the video's vectors, else optical flow; flow; zero: nothing moves"
    )
    _add_source_options(parser)
    _add_model_options(parser)

    def run(arguments: argparse.Namespace) -> int:
        if arguments.output is None and arguments.masks is None:
            parser.error("nothing to write: give --output, --masks or both")
        from tdnet_ros.evaluation.segment_video import segment_video
        from tdnet_ros.networks import AUTO
        from tdnet_ros.streaming import Segmenter, StreamSettings
        from tdnet_ros.video.sources import open_source

        settings = StreamSettings(arguments.keyframe_interval, arguments.low_resolution, arguments.motion)
        source = open_source(arguments.input, arguments.rate_hz or None, arguments.topic or None)
        segmenter = Segmenter(
            arguments.model or AUTO,
            arguments.weights or None,
            arguments.device or "auto",
            arguments.precision or "auto",
            runtime=arguments.runtime or "auto",
            settings=settings,
        )
        print(f"terms of the weights: {segmenter.network.info.stated_terms}", flush=True)
        started_s = time.perf_counter()
        progress = _Progress(source.frame_count)
        done, stale = segment_video(
            source, segmenter, arguments.output, arguments.masks, progress, arguments.draw_motion
        )
        seconds = time.perf_counter() - started_s
        print(f"{done} frames in {seconds:.1f} s ({done / seconds:.1f} per second)")
        if stale:
            print(f"{stale} frames had a stamp that was not newer than the one before: no mask")
        for written in filter(None, (arguments.output, arguments.masks)):
            print(f"written: {written}")
        return 0

    return run


class _Progress:
    """A line every two seconds, with an estimate where the number of frames is known."""

    def __init__(self, total: int | None) -> None:
        self._total = total
        self._started_s = self._said_s = time.perf_counter()

    def __call__(self, done: int) -> None:
        now_s = time.perf_counter()
        if now_s - self._said_s < 2.0:
            return
        self._said_s = now_s
        text = f"{done} frames"
        if self._total:
            left_s = (now_s - self._started_s) / done * (self._total - done)
            text = f"{done} of {self._total} frames, about {left_s:.0f} s left"
        print(text, flush=True)


def play(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """publish a video, image folder or rosbag2 as a camera (ROS 2)"""
    parser.add_argument("source", type=Path, help="video file, image folder or rosbag2")
    parser.add_argument("--transport", choices=_TRANSPORTS, default="auto", help=_PACKETS)
    parser.add_argument("--rate", type=float, default=1.0, help="speed; 2 plays twice as fast")
    parser.add_argument("--loop", action="store_true", help="start again at the end")
    parser.add_argument("--stamps", choices=("now", "original"), default="now", help="header stamps")
    parser.add_argument("--frame-id", default="camera", help="header.frame_id of videos and folders")
    parser.add_argument("--image-topic", default="image", help="topic to publish on instead of 'image'")
    parser.add_argument("--wait-for-subscribers", type=int, default=1, help="0: play at once")
    parser.epilog = "What follows --ros-args goes to ROS: remappings, QoS overrides, more parameters of the player."
    _add_source_options(parser)

    def run(arguments: argparse.Namespace) -> int:
        from tdnet_ros.evaluation.processes import require_ros

        require_ros()
        from tdnet_ros.node.player_node import Player
        from tdnet_ros.node.process import run_task

        names = (
            "topic",
            "transport",
            "rate",
            "rate_hz",
            "loop",
            "stamps",
            "frame_id",
            "wait_for_subscribers",
        )
        parameters: dict[str, Any] = {name: getattr(arguments, name) for name in names}
        parameters["source"] = str(arguments.source.resolve())
        # JSON is YAML: a folder named 007 stays a string.
        given = [text for key, value in parameters.items() for text in ("-p", f"{key}:={json.dumps(value)}")]
        remaps = ["-r", f"image:={arguments.image_topic}"] if arguments.image_topic != "image" else []
        return run_task(Player, "player", ["--ros-args", *given, *remaps, *arguments.ros_arguments])

    return run


def benchmark(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """time the steps of a model on this machine, by stage"""
    parser.add_argument("--size", type=_size, metavar="WxH", help="size of the frames; default: that of the weights")
    parser.add_argument("--steps", type=int, default=50, help="steps to time")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads, 0: one per core")
    _add_model_options(parser)

    def run(arguments: argparse.Namespace) -> int:
        if arguments.steps < 1:
            parser.error(f"argument --steps: {arguments.steps}, expected at least 1")
        from tdnet_ros.evaluation.step_times import measure_steps
        from tdnet_ros.streaming import Segmenter

        segmenter = Segmenter(
            arguments.model or "auto",
            arguments.weights or None,
            arguments.device or "auto",
            arguments.precision or "auto",
            threads=arguments.threads,
            runtime=arguments.runtime or "auto",
        )
        width, height = arguments.size or reversed(segmenter.network.info.input_size)
        print(f"{segmenter.network.info.name} on {segmenter.runtime.describe()}", flush=True)
        found = measure_steps(segmenter, height, width, arguments.steps)
        rows, columns = found.network_size
        print(f"{arguments.steps} steps on frames of {width}x{height}, through the network at {columns}x{rows}")
        for stage, (p50, p95) in found.stages.items():
            print(f"  {stage:<12} p50 {p50:8.2f} ms   p95 {p95:8.2f} ms")
        rate = 1e3 / found.stages["step"][0]
        print(f"  {rate:.1f} frames per second; {found.gmac:.1f} GMAC, {found.gflops:.0f} GFLOP/s in the network")
        return 0

    return run


def _size(text: str) -> tuple[int, int]:
    """(width, height) of e.g. 640x480."""
    width, _, height = text.partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"'{text}', expected WxH such as 640x480")
    return int(width), int(height)


COMMANDS = (
    demo,
    segment,
    play,
    evaluate,
    compare,
    accuracy,
    make_bag,
    train,
    average,
    export,
    convert,
    benchmark,
    profile,
    models,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code: 0, 1 after an error, 2 for wrong usage, 130 after Ctrl-C."""
    # OpenMP's threads by default spin while they wait. On a machine that has other work to do they then take the
    # processor from those they wait for, and a frame takes five to ten times as long. Children inherit this.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    given = list(sys.argv[1:] if arguments is None else arguments)
    split = given.index("--ros-args") if "--ros-args" in given else len(given)
    parser = argparse.ArgumentParser(
        prog="tdnet-ros", description="Streaming semantic segmentation for video and ROS 2."
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        subparser = commands.add_parser(
            command.__name__.replace("_", "-"), help=command.__doc__, description=command.__doc__
        )
        subparser.set_defaults(run=command(subparser))
    parsed = parser.parse_args(given[:split])
    parsed.ros_arguments = given[split + 1 :]
    try:
        return int(parsed.run(parsed))
    except TdnetRosError as error:
        print(f"tdnet-ros: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tdnet-ros: interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
