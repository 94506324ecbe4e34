"""What a step of the network costs, by stage: with the window beside the same sub-network on single frames, in turn.

Frames have the size at which they go through the network. Single frames are a stream that is reset before each and
remembers nothing.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks import machine
from tdnet_ros.errors import ConfigurationError
from tdnet_ros.evaluation.step_times import panning_pictures
from tdnet_ros.networks import build_network
from tdnet_ros.streaming import DEFAULT_MODEL, Segmenter, StageTimes
from tdnet_ros.streaming.score_memory import ScoreMemory
from tdnet_ros.video.frame import Frame

_STAGES = (*(field.name for field in fields(StageTimes)), "step_ms")
_WINDOW, _SINGLE = "window", "single frames"
_PICTURES = 4
_WARM_UP = 3
_SEED = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and report; 0, or 2 when the machine is busy."""
    options = _parse(arguments)
    watch = machine.begin(options)
    results = []
    for width, height in options.sizes:
        for threads in options.threads:
            segmenter = _segmenter(options, height, threads)
            if segmenter.network.info.subnetworks == 1:
                raise ConfigurationError(f"model is '{options.model}', expected one that has a window")
            results.append(watch.measure(partial(_measure, segmenter, height, width, options.steps)))
            _print(options.model, results[-1])
    machine.write_json(
        options.json,
        {
            **watch.circumstances,
            "model": options.model,
            "weights": options.weights or "shipped",
            "steps": options.steps,
            "results": results,
        },
    )
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.step", description=__doc__)
    parser.add_argument("--model", default=DEFAULT_MODEL)
    parser.add_argument("--weights", default="", help="weight file, or 'random'; default: those that ship")
    parser.add_argument("--sizes", type=machine.size_of, nargs="+", default=[(480, 360), (960, 540)], metavar="WxH")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="CPU threads, 0: one per core")
    parser.add_argument("--device", default="cpu", help="auto, cpu, cuda or cuda:N")
    parser.add_argument("--precision", default="auto", help="auto, fp32, bf16 or fp16")
    parser.add_argument("--runtime", default="auto", help="auto, eager, compile, cudagraph, onnx or tensorrt")
    parser.add_argument("--steps", type=int, default=100, help="of each kind")
    machine.add_common_arguments(parser)
    return parser.parse_args(arguments)


def _segmenter(options: argparse.Namespace, height: int, threads: int) -> Segmenter:
    weights: Any = options.weights or None
    if weights == "random":
        torch.manual_seed(_SEED)
        weights = build_network(options.model).state_dict()
    return Segmenter(options.model, weights, options.device, options.precision, height, threads, options.runtime)


def _measure(segmenter: Segmenter, height: int, width: int, steps: int) -> dict[str, Any]:
    """The figures of one size and number of threads."""
    return {
        "size": [width, height],
        "device": segmenter.runtime.describe_device(),
        "precision": segmenter.runtime.precision,
        "runtime": segmenter.runtime.engine,
        **_summary(_stage_times(segmenter, height, width, steps)),
    }


def _stage_times(segmenter: Segmenter, height: int, width: int, steps: int) -> dict[str, dict[str, list[float]]]:
    """Milliseconds by kind and stage."""
    pictures = panning_pictures(height, width, _PICTURES)
    streams = {name: segmenter.stream() for name in (_WINDOW, _SINGLE)}
    streams[_SINGLE].memory = ScoreMemory(0.0)  # with one, a frame without a past is looked at twice
    times: dict[str, dict[str, list[float]]] = {name: {stage: [] for stage in _STAGES} for name in streams}
    warm_up = _WARM_UP * segmenter.network.info.subnetworks
    for index in range(warm_up + steps):
        frame = Frame(pictures[index % _PICTURES], stamp_ns=1 + index * 33_000_000)
        for name, stream in streams.items():
            if name == _SINGLE:
                stream.reset()
            result = stream.step(frame)
            if index < warm_up:
                continue
            assert result.warm == (name == _WINDOW), f"{name}: step {index} is warm: {result.warm}"
            stages = vars(result.times)
            for stage in _STAGES:
                value_ms = result.times.total_ms if stage == "step_ms" else stages[stage]
                times[name][stage].append(0.0 if math.isnan(value_ms) else value_ms)
    return times


def _summary(times: dict[str, dict[str, list[float]]]) -> dict[str, Any]:
    # Neighbours in time are compared: what slows the machine down for a while slows both.
    extra = np.array(times[_WINDOW]["network_ms"]) - np.array(times[_SINGLE]["network_ms"])
    ratio = np.array(times[_WINDOW]["step_ms"]) / np.array(times[_SINGLE]["step_ms"])
    return {
        "stages": {
            kind: {stage: machine.percentiles(values) for stage, values in stages.items()}
            for kind, stages in times.items()
        },
        "window_adds_network_ms": [round(float(value), 3) for value in np.percentile(extra, (50, 5, 95))],
        "step_ratio": [round(float(value), 3) for value in np.percentile(ratio, (50, 5, 95))],
    }


def _print(model: str, result: dict[str, Any]) -> None:
    width, height = result["size"]
    how = f"{result['device']}, {result['precision']}, {result['runtime']}"
    print(f"{model}, {width}x{height}, {how}; milliseconds, p50 and p95")
    print(f"  {'':<16}" + "".join(f"{stage.removesuffix('_ms'):>18}" for stage in _STAGES))
    for kind, stages in result["stages"].items():
        cells = (f"{values['p50']:.2f} {values['p95']:7.2f}" for values in stages.values())
        print(f"  {kind:<16}" + "".join(f"{cell:>18}" for cell in cells))
    extra, ratio = result["window_adds_network_ms"], result["step_ratio"]
    print(
        f"  the window adds {extra[0]:.2f} ms ({extra[1]:.2f} to {extra[2]:.2f}) to the network's step: the whole step "
        f"takes {ratio[0]:.2f} ({ratio[1]:.2f} to {ratio[2]:.2f}) times as long; median (p5 to p95)"
    )
    print()


if __name__ == "__main__":
    machine.run(main)
