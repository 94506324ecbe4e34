"""What the shared-memory profile does for large images: camera -> best-effort receiver of depth 1, with Fast DDS's own
defaults beside our profile, in turn.

The allocator is tuned in both, so that the profile is all the difference.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.traffic import run_traffic
from tdnet_ros.node.transport import PROFILE_VARIABLES

_TOPIC = "bare"
#: Empty names are no choice: then our profile is used. Naming Fast DDS's built-in transports keeps ours away.
_NO_PROFILE = dict.fromkeys(PROFILE_VARIABLES, "")
_WAYS = {
    "defaults": {**_NO_PROFILE, "FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"},
    "profile": _NO_PROFILE,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; 0, or 2 when the machine is busy."""
    options = _parse(arguments)
    watch = machine.begin(options)
    print(
        f"{options.runs} runs in turn of {options.seconds:g} s: {options.width}x{options.height} rgb8 at "
        f"{options.rate:g} Hz, best effort, depth 1; milliseconds from the camera's call to the arrival\n"
    )
    print(f"{'run':<5}{'Fast DDS with':<16}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}{'arrived':>16}")
    runs = []
    for number in range(1, options.runs + 1):
        for way in _WAYS:
            runs.append(watch.measure(partial(_measure, options, way)))
            _print_run(number, runs[-1])
    print("\nmedian (range) over the runs")
    for way in _WAYS:
        mine = [run for run in runs if run["way"] == way]
        shares = [100 * run["share"] for run in mine]
        print(f"  {way:<16}arrived {machine.spread(shares)} %   p95 {machine.spread([run['p95'] for run in mine])} ms")
    machine.write_json(options.json, {**watch.circumstances, "runs": runs})
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.transport", description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=8.0, help="of images, in each run")
    parser.add_argument("--rate", type=float, default=30.0, help="Hz")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    machine.add_common_arguments(parser)
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace, way: str) -> dict[str, Any]:
    camera = {
        "topics": [_TOPIC],
        "width": options.width,
        "height": options.height,
        "rate_hz": options.rate,
        "block_s": options.seconds,
        "blocks": 1,
        "warm_up_s": min(1.0, options.seconds),
        "rest_s": 0.5,
    }
    traffic = run_traffic(camera, environment=_WAYS[way])
    transit_ms, sent = traffic.transit_ms(_TOPIC, _TOPIC), len(traffic.sent_to(_TOPIC))
    return {
        "way": way,
        **machine.percentiles(transit_ms),
        "sent": sent,
        "arrived": len(transit_ms),
        "share": round(len(transit_ms) / sent, 5),
    }


def _print_run(number: int, run: dict[str, Any]) -> None:
    figures = "".join(f"{run[name]:>8.2f}" if np.isfinite(run[name]) else f"{'-':>8}" for name in machine.NAMES)
    print(f"{number:<5}{run['way']:<16}{figures}{run['arrived']:>8} of {run['sent']}")


if __name__ == "__main__":
    machine.run(main)
