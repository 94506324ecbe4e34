"""What the node costs by itself: camera -> node -> receiver beside camera -> receiver, with an engine that costs
nothing, or with the real one.

Each run starts three processes anew. The camera sends blocks of images in turn to the node, whose masks the receiver
takes, and straight to the receiver. Measured is the time from the camera's publish call to the arrival.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from benchmarks import machine
from benchmarks.receiver import STAGES
from benchmarks.traffic import Traffic, run_traffic
from tdnet_ros.streaming import DEFAULT_MODEL

LIMIT_MS = 5.0
LIMIT_SHARE = 0.995
_NODE_TOPIC, _BARE_TOPIC = "image", "bare"
_NODE_MODULES = {"instant": "benchmarks.instant_node", "real": "tdnet_ros.node.segmentation_node"}
#: Runs that have to hold, as a share: 3 of 5.
_MAJORITY = 0.6


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; 0 when enough runs hold the limits, else 1, and 2 when the machine is busy.

    The limits are those of the node alone: the real engine is not judged.
    """
    options = _parse(arguments)
    watch = machine.begin(options)
    blocks = max(1, round(options.seconds / options.block))
    print(
        f"{options.runs} runs, {options.engine} engine: {options.width}x{options.height} rgb8 at {options.rate:g} Hz, "
        f"{blocks} blocks of {options.block:g} s through the node in turn with as many straight to the receiver; "
        "milliseconds from the camera's call to the arrival\n"
    )
    print(f"{'run':<5}{'way':<18}{'p50':>8}{'p95':>8}{'p99':>8}{'max':>8}{'arrived':>16}")
    runs = []
    for number in range(1, options.runs + 1):
        runs.append(watch.measure(partial(_measure, options, blocks)))
        _print_run(number, runs[-1])
    summary = _summary(runs)
    _print_summary(runs)
    if options.engine == "instant":
        print(f"{summary['runs_that_hold']} of {len(runs)} runs hold the limits")
    settings = {name: value for name, value in vars(options).items() if name not in ("json", "force", "patience")}
    machine.write_json(
        options.json,
        {**watch.circumstances, "settings": settings, "runs": runs, "summary": summary},
    )
    return 0 if summary["holds"] or options.engine != "instant" else machine.MISSED


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.face", description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="of images through the node, in each run")
    parser.add_argument("--block", type=float, default=2.0, help="seconds between changes of the way")
    parser.add_argument("--rate", type=float, default=30.0, help="Hz")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    parser.add_argument("--engine", choices=sorted(_NODE_MODULES), default="instant")
    parser.add_argument("--model", default=DEFAULT_MODEL, help="of the real engine")
    parser.add_argument("--weights", default="", help="of the real engine; default: those that ship")
    parser.add_argument("--device", default="auto", help="of the real engine")
    machine.add_common_arguments(parser)
    return parser.parse_args(arguments)


def _measure(options: argparse.Namespace, blocks: int) -> dict[str, Any]:
    camera = {
        "topics": [_NODE_TOPIC, _BARE_TOPIC],
        "width": options.width,
        "height": options.height,
        "rate_hz": options.rate,
        "block_s": options.block,
        "blocks": blocks,
        "warm_up_s": min(1.0, options.block),
    }
    node = {
        # The pause between two blocks is no sign of lost frames: a gap this long begins a new stream.
        "max_gap_s": min(2.0, options.block / 2),
        "model": options.model,
        "weights": options.weights,
        "device": options.device,
    }
    return _evaluate(run_traffic(camera, node, _NODE_MODULES[options.engine]), options.engine)


def _evaluate(traffic: Traffic, engine: str) -> dict[str, Any]:
    node_ms, bare_ms = traffic.transit_ms(_NODE_TOPIC, "mask"), traffic.transit_ms(_BARE_TOPIC, _BARE_TOPIC)
    account = traffic.account(_NODE_TOPIC)
    node, bare = machine.percentiles(node_ms), machine.percentiles(bare_ms)
    stages = traffic.stages(_NODE_TOPIC, STAGES)
    share = len(node_ms) / account.sent
    added_ms = round(node["p95"] - bare["p95"], 3)
    within = added_ms <= LIMIT_MS and share >= LIMIT_SHARE
    return {
        "node": node,
        "bare": bare,
        "added_p95_ms": added_ms,
        "share": round(share, 5),
        "bare_sent": len(traffic.sent_to(_BARE_TOPIC)),
        "bare_arrived": len(bare_ms),
        "account": {**asdict(account), "consistent": account.consistent},
        "lost_frames": [{"block": image.block, "index": image.index} for image in traffic.missing(_NODE_TOPIC, "mask")],
        "stages": {name: machine.percentiles(values) for name, values in stages.items()},
        "camera_publish": machine.percentiles([image.publish_ms for image in traffic.sent_to(_NODE_TOPIC)]),
        "holds": None if engine != "instant" else bool(within and account.consistent),
    }


def _print_run(number: int, run: dict[str, Any]) -> None:
    account = run["account"]
    for way, arrived, sent in (
        ("node", account["masks"], account["sent"]),
        ("bare", run["bare_arrived"], run["bare_sent"]),
    ):
        label = "through the node" if way == "node" else "bare transport"
        figures = "".join(f"{value:>8.2f}" for value in run[way].values())
        print(f"{number:<5}{label:<18}{figures}{f'{arrived} of {sent}':>16}")
    adds, through = f"adds {run['added_p95_ms']:.2f} ms at p95", f"{run['share']:.2%} of the frames came through"
    if run["holds"] is None:
        print(f"     {adds}, {through}")
    else:
        verdict = "holds" if run["holds"] else "DOES NOT HOLD"
        print(f"     {adds} (limit {LIMIT_MS:g}), {through} (limit {LIMIT_SHARE:.1%}): {verdict}")
    lost = account["sent"] - account["masks"]
    if lost or not account["consistent"]:
        print(
            f"     {lost} without a mask: {account['lost_images']} lost before they arrived at the node, "
            f"{account['dropped']} dropped for a newer one, {account['rejected']} rejected, {account['lost_masks']} "
            f"masks lost behind the node, {account['unaccounted']} unaccounted for"
        )
        places = ", ".join(f"{frame['block']}/{frame['index']}" for frame in run["lost_frames"])
        print(f"     block/index: {places}")


def _summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    holding = sum(bool(run["holds"]) for run in runs)
    return {
        "runs_that_hold": holding,
        "runs": len(runs),
        "holds": bool(holding >= np.ceil(_MAJORITY * len(runs))),
        "median_added_p95_ms": round(float(np.median([run["added_p95_ms"] for run in runs])), 3),
    }


def _print_summary(runs: list[dict[str, Any]]) -> None:
    print("\nmedian (range) over the runs")
    for way, label in (("node", "through the node"), ("bare", "bare transport")):
        figures = [f"{name} {machine.spread([run[way][name] for run in runs])}" for name in ("p50", "p95", "p99")]
        print(f"  {label:<18}{'   '.join(figures)}")
    print(f"  {'added at p95':<18}{machine.spread([run['added_p95_ms'] for run in runs])}")
    print("\nwhere the node's own time went, by its latency messages: median over the runs of p50 and p95")
    for stage in STAGES:
        middle, high = (np.median([run["stages"][stage][name] for run in runs]) for name in ("p50", "p95"))
        print(f"  {stage:<18}{middle:8.3f}{high:8.3f}")
    sent = sum(run["account"]["sent"] for run in runs)
    masks = sum(run["account"]["masks"] for run in runs)
    print(f"\n{masks} of {sent} frames came through")


if __name__ == "__main__":
    machine.run(main)
