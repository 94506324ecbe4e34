"""How long a step of the engine takes on this machine, by stage."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from tdnet_ros.networks.cost import count_cost
from tdnet_ros.streaming import Segmenter, StageTimes
from tdnet_ros.video.frame import Frame

#: The sum of all stages, in the tables beside them.
STEP = "step"
_PICTURES = 4
_SEED = 1


@dataclass(frozen=True)
class StepTimes:
    """``stages``: (p50, p95) in ms by stage and for the whole STEP. ``gmac`` is the network's arithmetic for a frame
    at ``network_size`` (height, width) with its whole window, ``gflops`` what its p50 makes of that per second."""

    network_size: tuple[int, int]
    stages: dict[str, tuple[float, float]]
    gmac: float
    gflops: float


def measure_steps(segmenter: Segmenter, height: int, width: int, steps: int) -> StepTimes:
    """Times of ``steps`` steps of one stream of noise at that size, after its window is full."""
    segmenter.warm_up(height, width)
    rng = np.random.default_rng(_SEED)
    pictures = [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(_PICTURES)]
    stream = segmenter.stream()
    warm_up = 2 * segmenter.network.info.subnetworks
    measured: list[StageTimes] = []
    for index in range(warm_up + steps):
        done = stream.step(Frame(pictures[index % _PICTURES], stamp_ns=1 + index * 33_000_000))
        if index >= warm_up:
            measured.append(done.times)
    names = [field.name for field in fields(StageTimes)]
    by_stage = {name.removesuffix("_ms"): [getattr(times, name) for times in measured] for name in names}
    by_stage[STEP] = [sum(stages) for stages in zip(*by_stage.values(), strict=True)]
    stages = {
        name: (float(np.percentile(values, 50)), float(np.percentile(values, 95))) for name, values in by_stage.items()
    }
    size = segmenter.network_size(height, width)
    gmac = count_cost(segmenter.network.info, size).steady_gmac
    return StepTimes(size, stages, gmac, 2e3 * gmac / stages["network"][0])
