"""From a received message to pixels and from a mask to a message: our way beside rclpy's, in turn, in one process."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from benchmarks import machine
from tdnet_ros.node import bridge
from tdnet_ros.node.transport import tune_allocator
from tdnet_ros.video.messages.cdr import serialize_image
from tdnet_ros.video.messages.images import image_view

Work = Callable[[], object]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; 0, or 2 when the machine is busy."""
    options = _parse(arguments)
    watch = machine.begin(options)
    tune_allocator()
    results = {}
    for title, ways in (
        (f"serialised {options.width}x{options.height} rgb8 image to an array of pixels", _inward(options)),
        (f"{options.width}x{options.height} mask to a serialised mono8 image", _outward(options)),
    ):
        results[title] = watch.measure(partial(_compare, ways, options.rounds))
        _print(title, results[title]["ways"])
    machine.write_json(options.json, {**watch.circumstances, "conversions": results})
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conversion", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="in each of which every way has its turn")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    machine.add_common_arguments(parser)
    return parser.parse_args(arguments)


def _inward(options: argparse.Namespace) -> dict[str, Work]:
    """The ways in; the first is ours, to which the others are compared."""
    size = (options.height, options.width, 3)
    pixels = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    message = serialize_image(1, 2, "camera", *size[:2], "rgb8", 3 * options.width, pixels)

    def deserialised() -> np.ndarray:
        image = deserialize_message(message, Image)
        return np.frombuffer(image.data, np.uint8).reshape(size)

    ways: dict[str, Work] = {
        "view into the message (ours)": lambda: bridge.to_frame(image_view(message)).image,
        "rclpy's deserialize_message": deserialised,
        "the same and a copy of the pixels": lambda: deserialised().copy(),
    }
    if bridge.distribution_bridge() is not None:
        ways["cv_bridge"] = lambda: bridge.convert(image_view(message), "rgb8")
    return ways


def _outward(options: argparse.Namespace) -> dict[str, Work]:
    """The ways out; the first is ours."""
    size = (options.height, options.width)
    mask = np.random.default_rng(2).integers(0, 11, size, np.uint8)

    def by_message(data: object) -> bytes:
        image = Image(height=size[0], width=size[1], encoding="mono8", step=size[1])
        image.header.frame_id = "camera"
        image.data = data
        return serialize_message(image)

    return {
        "serialised at once (ours)": lambda: serialize_image(1, 2, "camera", *size, "mono8", size[1], mask),
        "message, data = mask.tobytes()": lambda: by_message(mask.tobytes()),
        "message, data = mask.data": lambda: by_message(mask.reshape(-1).data),
        "message, data = the array": lambda: by_message(mask.reshape(-1)),
    }


def _compare(ways: dict[str, Work], rounds: int) -> dict[str, Any]:
    """Microseconds by way, and the ratio to the first way's time in the same round: median, p5 and p95."""
    for work in ways.values():
        work()
    times_us: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, work in ways.items():
            started = time.perf_counter()
            work()
            times_us[name].append(1e6 * (time.perf_counter() - started))
    first = np.array(next(iter(times_us.values())))
    results = {
        name: {
            **machine.percentiles(values),
            "ratio": [round(float(value), 2) for value in np.percentile(np.array(values) / first, (50, 5, 95))],
        }
        for name, values in times_us.items()
    }
    return {"ways": results}


def _print(title: str, results: dict[str, dict[str, Any]]) -> None:
    print(f"{title}, microseconds")
    print(f"  {'way':<36}{'p50':>10}{'p95':>10}{'times ours: median (p5 to p95)':>36}")
    for name, result in results.items():
        middle, low, high = result["ratio"]
        ratio = f"{middle:.1f} ({low:.1f} to {high:.1f})"
        print(f"  {name:<36}{result['p50']:>10.1f}{result['p95']:>10.1f}{ratio:>36}")
    print()


if __name__ == "__main__":
    machine.run(main)
