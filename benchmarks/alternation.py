"""What alternating resolution saves: networks with keyframes beside the TDNet that they are made of, in turn.

Each round measures, of every contender, one step as a keyframe (of a TDNet, the only kind that it has) and some steps
as frames between keyframes, at --scale; rounds begin with another contender each time. A step begins with a normalised
image on the CPU and ends with scores. Weights are random, the window is full, motion is known everywhere. With
--processor-time, for a machine that others use, too, waiting for a core does not count; others in the caches do.

mean: of a frame, if every --interval-th is a keyframe. p95: of frames drawn so; with an interval up to 20 it is that of
a keyframe. Shares are those of the mean over that of the full step of the contender named in the last column, in the
same round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import machine
from tdnet_ros.networks import build_network, load_network
from tdnet_ros.networks.acceleration import accelerate_for_cpu
from tdnet_ros.networks.cost import Cost, count_cost

_SEED = 1
#: Frames between keyframes that each round measures.
_BETWEEN = 3
_PAIRS = ("tdar_psp18:td4_psp18", "tdar_bise18:td4_bise18", "tdar_mnv2:td2_mnv2", "arseg_bise18_camvid:")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; 0, or 2 when the machine is busy."""
    options = _parse(arguments)
    torch.set_num_threads(options.threads)
    contenders = [
        [
            _Contender(name, options.scale, size, time.process_time if options.processor_time else time.perf_counter)
            for pair in options.pairs
            for name in pair
            if name
        ]
        for size in options.sizes
    ]
    with torch.inference_mode():
        for at_one_size in contenders:
            for contender in at_one_size:
                contender.warm_up()
    watch = machine.begin(options)
    results = []
    for (width, height), at_one_size in zip(options.sizes, contenders, strict=True):
        result = watch.measure(partial(_measure, at_one_size, options))
        results.append({"size": [width, height], **result})
        _print(options, results[-1])
    settings = {name: getattr(options, name) for name in ("interval", "scale", "rounds", "threads", "processor_time")}
    machine.write_json(options.json, {**watch.circumstances, **settings, "results": results})
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.alternation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--pairs", type=_pair, nargs="+", default=[_pair(text) for text in _PAIRS], metavar="NETWORK:TDNET",
        help="a network with keyframes and the one that it is compared to, by default its own keyframes",
    )  # fmt: skip
    parser.add_argument("--sizes", type=machine.size_of, nargs="+", default=[(480, 360), (960, 720)], metavar="WxH")
    parser.add_argument("--interval", type=int, default=12, help="frames from keyframe to keyframe")
    parser.add_argument("--scale", type=float, default=0.5, help="of the frames between keyframes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument(
        "--processor-time", action="store_true", help="that of this process, not elapsed time: on a machine in use"
    )
    machine.add_common_arguments(parser)
    return parser.parse_args(arguments)


def _pair(text: str) -> tuple[str, str]:
    network, _, tdnet = text.partition(":")
    return network, tdnet


@dataclass
class _Contender:
    """A network ready to step, and milliseconds of its steps, (rounds) and (rounds, _BETWEEN)."""

    name: str
    scale: float
    size: tuple[int, int]
    clock: Callable[[], float]
    keyframes: list[float] = field(default_factory=list)
    between: list[list[float]] = field(default_factory=list)

    def warm_up(self) -> None:
        width, height = self.size
        torch.manual_seed(_SEED)
        self._network = accelerate_for_cpu(load_network(self.name, build_network(self.name).state_dict()))
        self._alternates = self._network.info.keyframe_interval > 1
        self._image = torch.randn(1, 3, height, width).contiguous(memory_format=torch.channels_last)
        self._motion = torch.ones(1, 3, -(-height // 8), -(-width // 8))
        state = self._network.initial_state()
        for index in range(2 * self._network.info.subnetworks):
            state = self._network.advance(self._image, state, index % self._network.info.subnetworks).state
        self._state = state
        if self._alternates:
            for index in range(self._network.info.subnetworks):
                self._step(index, keyframe=False)

    @property
    def cost(self) -> Cost:
        return count_cost(self.name, self.size[::-1], self.scale if self._alternates else None)

    def round(self, index: int) -> None:
        self.keyframes.append(self._step(index, keyframe=True))
        if self._alternates:
            self.between.append([self._step(index + 1 + frame, keyframe=False) for frame in range(_BETWEEN)])

    def _step(self, index: int, keyframe: bool) -> float:
        """Milliseconds of a step of a stream that goes on from there."""
        network = self._network
        plan = network.plan(self._state, index % network.info.subnetworks, keyframe, None if keyframe else self.scale)
        read = (*network.cached(self._state, plan), *((self._motion,) if plan.fused else ()))
        started = self.clock()
        _, *kept = network.compute(plan, self._image, *read)
        milliseconds = 1e3 * (self.clock() - started)
        self._state = network.remember(self._state, plan, (1, *self._image.shape[2:]), tuple(kept))
        return milliseconds


def _measure(contenders: Sequence[_Contender], options: argparse.Namespace) -> dict[str, Any]:
    for contender in contenders:
        contender.keyframes.clear()
        contender.between.clear()
    with torch.inference_mode():
        for index in range(options.rounds):
            first = index % len(contenders)
            for contender in (*contenders[first:], *contenders[:first]):
                contender.round(index)
    by_name = {contender.name: contender for contender in contenders}
    rows = {}
    for network, tdnet in options.pairs:
        if tdnet:
            rows[tdnet] = _row(by_name[tdnet], by_name[tdnet], options.interval)
        rows[network] = _row(by_name[network], by_name[tdnet or network], options.interval)
    return {"contenders": rows}


def _row(contender: _Contender, whole: _Contender, interval: int) -> dict[str, Any]:
    key, full, cost = np.array(contender.keyframes), np.array(whole.keyframes), contender.cost
    row: dict[str, Any] = {"full_ms": round(float(np.median(key)), 1), "gmac": round(cost.mean_gmac(interval), 2)}
    if not contender.between:
        return row | {"mean_ms": row["full_ms"], "p95_ms": round(float(np.percentile(key, 95)), 1)}
    between = np.array(contender.between)
    mean = (key + (interval - 1) * between.mean(1)) / interval
    drawn = np.concatenate([np.repeat(key, between.shape[1]), np.repeat(between.ravel(), interval - 1)])
    return row | {
        "between_ms": round(float(np.median(between)), 1),
        "mean_ms": round(float(np.median(mean)), 1),
        "p95_ms": round(float(np.percentile(drawn, 95)), 1),
        "between_share": machine.spread(np.median(between, 1) / key),
        "mean_share": machine.spread(mean / full),
        "gmac_share": round(cost.mean_gmac(interval) / whole.cost.steady_gmac, 3),
        "of": whole.name,
    }


def _print(options: argparse.Namespace, result: dict[str, Any]) -> None:
    width, height = result["size"]
    unit = "ms of processor time" if options.processor_time else "ms"
    print(f"{width}x{height}, {options.threads} threads, interval {options.interval}, scale {options.scale}, {unit}:")
    print(
        f"  {'':<24}{'full':>8}{'between':>9}{'mean':>8}{'p95':>8}{'between/key (range)':>24}"
        f"{'mean/full (range)':>24}{'GMAC':>8}{'share':>7}  of"
    )
    for name, row in result["contenders"].items():
        print(
            f"  {name:<24}{row['full_ms']:>8.1f}{row.get('between_ms', ''):>9}{row['mean_ms']:>8.1f}"
            f"{row['p95_ms']:>8.1f}{row.get('between_share', ''):>24}{row.get('mean_share', ''):>24}"
            f"{row['gmac']:>8.2f}{row.get('gmac_share', ''):>7}  {row.get('of', '')}"
        )
    print(flush=True)


if __name__ == "__main__":
    machine.run(main)
