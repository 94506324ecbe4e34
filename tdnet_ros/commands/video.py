"""The commands ``tdnet-ros demo``, ``segment`` and ``play``: what a video becomes."""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

from tdnet_ros.commands.options import Run, add_engine_options, add_model_options, add_source_options, segmenter_of
from tdnet_ros.commands.output import Progress, say

_TRANSPORTS = ("auto", "raw", "compressed", "ffmpeg", "foxglove", "compressed_video")
_PACKETS = "ffmpeg, foxglove and compressed_video: the video's own packets, not encoded anew"


def demo(parser: argparse.ArgumentParser) -> Run:
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
    add_source_options(parser)
    add_model_options(parser)
    add_engine_options(parser)

    def run(arguments: argparse.Namespace) -> int:
        from tdnet_ros.demo import run_demo, street_clip
        from tdnet_ros.evaluation.processes import require_ros
        from tdnet_ros.evaluation.replay import ReplaySettings

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


def segment(parser: argparse.ArgumentParser) -> Run:
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
    add_source_options(parser)
    add_model_options(parser)
    add_engine_options(parser)

    def run(arguments: argparse.Namespace) -> int:
        if arguments.output is None and arguments.masks is None:
            parser.error("nothing to write: give --output, --masks or both")
        from tdnet_ros.evaluation.segment_video import segment_video
        from tdnet_ros.streaming import StreamSettings
        from tdnet_ros.video.sources import open_source

        settings = StreamSettings(arguments.keyframe_interval, arguments.low_resolution, arguments.motion)
        source = open_source(arguments.input, arguments.rate_hz or None, arguments.topic or None)
        segmenter = segmenter_of(arguments, settings=settings)
        say(f"terms of the weights: {segmenter.network.info.stated_terms}")
        started_s = time.perf_counter()
        progress, total = Progress(), source.frame_count
        done, stale = segment_video(
            source,
            segmenter,
            arguments.output,
            arguments.masks,
            lambda frames: progress(frames, total),
            arguments.draw_motion,
        )
        seconds = time.perf_counter() - started_s
        say(f"{done} frames in {seconds:.1f} s ({done / seconds:.1f} per second)")
        if stale:
            say(f"{stale} frames had a stamp that was not newer than the one before: no mask")
        for written in filter(None, (arguments.output, arguments.masks)):
            say(f"written: {written}")
        return 0

    return run


def play(parser: argparse.ArgumentParser) -> Run:
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
    add_source_options(parser)

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
        return int(run_task(Player, "player", ["--ros-args", *given, *remaps, *arguments.ros_arguments]))

    return run
