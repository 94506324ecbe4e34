"""What keyframes save: a keyframe and the frames until the next one, beside as many frames of the same network without
the frames between, which is its single-frame network, in turn.

Each round measures one step of the single-frame network, one keyframe and one frame between keyframes, beginning with
another one each time; a step ends with scores at feature resolution. The time of a frame at an interval n is
(keyframe + (n - 1) between) / n, given as the share of the single-frame network's, by round; the motion, which a stream
has to get from somewhere (docs/motion.md), is not in it. On a CPU times are processor time, so that others on the
machine count for little.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import machine
from tdnet_ros.networks import load_network
from tdnet_ros.networks.cost import count_cost

_SINGLE, _KEYFRAME, _BETWEEN = "single frame", "keyframe", "between"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; 0, or 2 when the machine is busy."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.keyframe_cycle", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["bdnet50"])
    parser.add_argument("--interval", type=int, help="default: the network's own")
    parser.add_argument("--sizes", type=machine.size_of, nargs="+", default=[(240, 180)], metavar="WxH")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    machine.add_common_arguments(parser)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    watch = machine.begin(options)
    results = []
    for model in options.models:
        for size in options.sizes:
            results.append(watch.measure(partial(_measure, model, size, options)))
            _print(results[-1])
    machine.write_json(options.json, {**watch.circumstances, "results": results})
    return 0


@torch.inference_mode()
def _measure(model: str, size: tuple[int, int], options: argparse.Namespace) -> dict[str, Any]:
    width, height = size
    network = load_network(model, device=options.device)
    interval = options.interval or network.info.keyframe_interval
    image = torch.rand(1, 3, height, width, device=options.device).contiguous(memory_format=torch.channels_last)
    motion = 8 * torch.randn(1, 3, -(-height // 8), -(-width // 8), device=options.device)
    start = network.initial_state()
    state = network.advance(image, start).state
    steps: dict[str, Callable[[], object]] = {
        _SINGLE: lambda: network.advance(image, start),
        _KEYFRAME: lambda: network.advance(image, state),
        _BETWEEN: lambda: network.advance(image, state, keyframe=False, motion=motion),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    names = list(steps)
    clock = time.perf_counter if options.device.type == "cuda" else time.process_time
    for number in range(options.rounds + 1):
        for name in names[number % 3 :] + names[: number % 3]:
            _wait(options.device)
            began = clock()
            steps[name]()
            _wait(options.device)
            if number:  # the first round warms up
                times[name].append(1e3 * (clock() - began))
    single, keyframe, between = (np.array(times[name]) for name in names)
    shares = (keyframe + (interval - 1) * between) / (interval * single)
    cost = count_cost(model, (height, width))
    return {
        "model": model,
        "size": [width, height],
        "interval": interval,
        "ms": {name: round(float(np.median(values)), 2) for name, values in times.items()},
        "share": [round(float(value), 3) for value in np.percentile(shares, (50, 5, 95))],
        "gmac_share": round(cost.mean_gmac(interval) / cost.steady_gmac, 3),
    }


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _print(result: dict[str, Any]) -> None:
    (width, height), ms, (share, low, high) = result["size"], result["ms"], result["share"]
    print(
        f"{result['model']}, {width}x{height}: "
        + ", ".join(f"{name} {value} ms" for name, value in ms.items())
        + f"; a frame at interval {result['interval']}: {share} ({low} to {high}) of the single frame's time, "
        f"{result['gmac_share']} of its GMAC",
        flush=True,
    )


if __name__ == "__main__":
    machine.run(main)
