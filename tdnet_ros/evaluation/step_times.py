"""How long a step of the engine takes on this machine, by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import count

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.networks.cost import count_cost
from tdnet_ros.streaming import SegmentationStream, Segmenter, StageTimes
from tdnet_ros.video.frame import Frame

#: The sum of all stages, in the tables beside them.
STEP = "step"
_PICTURES = 4
_SEED = 1
_PAN_PX = 2


@dataclass(frozen=True)
class StepTimes:
    """``stages``: (p50, p95) in ms by stage and for the whole STEP. ``gmac`` is the network's arithmetic for a frame
    at ``network_size`` (height, width) with its whole window, ``gflops`` what its p50 makes of that per second."""

    network_size: tuple[int, int]
    stages: dict[str, tuple[float, float]]
    gmac: float
    gflops: float


def measure_steps(segmenter: Segmenter, height: int, width: int, steps: int) -> StepTimes:
    """Times of ``steps`` steps of one stream at that size, after its window is full."""
    segmenter.warm_up(height, width)
    stream, frames = segmenter.stream(), _panning(height, width)
    warm_up = 2 * segmenter.network.info.subnetworks
    measured: list[StageTimes] = []
    for index in range(warm_up + steps):
        done = stream.step(next(frames))
        if index >= warm_up:
            measured.append(done.times)
    names = [field.name for field in fields(StageTimes)]
    by_stage = {name.removesuffix("_ms"): [getattr(times, name) for times in measured] for name in names}
    if np.isnan(by_stage["motion"]).all():
        del by_stage["motion"]  # nothing wanted any
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
    """Milliseconds of whole steps on frames at that size, and of the processor's time in them.

    Both (rounds, streams). Each round is one step of every stream, and begins with another one each time: what slows
    the machine down for a while slows them all. Rounds before every window is full do not count. The processor's time
    is that of all threads of this process.
    """
    for segmenter in {stream.segmenter for stream in streams}:
        segmenter.warm_up(height, width)
    frames = _panning(height, width)
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


def panning_pictures(height: int, width: int, number: int) -> list[npt.NDArray[np.uint8]]:
    """RGB pictures (H, W, 3) of blurred noise that moves to the left by 2 px a picture: motion finds something."""
    coarse = np.random.default_rng(_SEED).integers(0, 256, (-(-height // 8), -(-width // 8) + 1, 3), np.uint8)
    size = (width + _PAN_PX * number, height)
    canvas = np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.uint8)
    return [np.ascontiguousarray(canvas[:, _PAN_PX * each : _PAN_PX * each + width]) for each in range(number)]


def _panning(height: int, width: int) -> Iterator[Frame]:
    """A camera of 30 Hz that pans, and begins anew every few frames."""
    pictures = panning_pictures(height, width, _PICTURES)
    for index in count():
        yield Frame(pictures[index % _PICTURES], stamp_ns=1 + index * 33_000_000)
