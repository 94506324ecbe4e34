"""How long a step of the engine takes on this machine, by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import count

import numpy as np
import numpy.typing as npt

from tdnet_ros.networks.cost import count_cost
from tdnet_ros.streaming import SegmentationStream, Segmenter, StageTimes
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
    stream, frames = segmenter.stream(), _noise(height, width)
    warm_up = 2 * segmenter.network.info.subnetworks
    measured: list[StageTimes] = []
    for index in range(warm_up + steps):
        done = stream.step(next(frames))
        if index >= warm_up:
            measured.append(done.times)
    names = [field.name for field in fields(StageTimes)]
    by_stage = {name.removesuffix("_ms"): [getattr(times, name) for times in measured] for name in names}
    if not segmenter.score_memory:
        del by_stage["motion"]
    by_stage[STEP] = [times.total_ms for times in measured]
    stages = {
        name: (float(np.percentile(values, 50)), float(np.percentile(values, 95))) for name, values in by_stage.items()
    }
    size = segmenter.network_size(height, width)
    gmac = count_cost(segmenter.network.info, size).steady_gmac
    return StepTimes(size, stages, gmac, 2e3 * gmac / stages["network"][0])


def measure_in_turn(
    streams: Sequence[SegmentationStream], height: int, width: int, rounds: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Milliseconds of whole steps on frames of noise at that size, and of the processor's time in them.

    Both (rounds, streams). Each round is one step of every stream, and begins with another one each time: what slows
    the machine down for a while slows them all. Rounds before every window is full do not count. The processor's time
    is that of all threads of this process.
    """
    for segmenter in {stream.segmenter for stream in streams}:
        segmenter.warm_up(height, width)
    frames = _noise(height, width)
    warm_up = 2 * max(stream.segmenter.network.info.subnetworks for stream in streams)
    passed, used = np.empty((2, warm_up + rounds, len(streams)))
    for number in range(len(passed)):
        frame = next(frames)
        for turn in range(len(streams)):
            index = (number + turn) % len(streams)
            started_s = time.process_time()
            passed[number, index] = streams[index].step(frame).times.total_ms
            used[number, index] = 1e3 * (time.process_time() - started_s)
    return passed[warm_up:], used[warm_up:]


def _noise(height: int, width: int) -> Iterator[Frame]:
    """A camera of 30 Hz that sees noise."""
    rng = np.random.default_rng(_SEED)
    pictures = [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(_PICTURES)]
    for index in count():
        yield Frame(pictures[index % _PICTURES], stamp_ns=1 + index * 33_000_000)
