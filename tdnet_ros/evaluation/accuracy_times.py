"""How long a step of every row of a table of accuracy takes: one thread, all rows in turn, on a quiet machine."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch

from tdnet_ros.errors import MachineBusy
from tdnet_ros.evaluation.accuracy_settings import AccuracySettings
from tdnet_ros.evaluation.clip_scores import limits_of, open_row
from tdnet_ros.evaluation.machine_load import BUSY_LIMIT, ProcessorTime
from tdnet_ros.evaluation.step_times import measure_in_turn

_WATCH_S = 1.0


@dataclass(frozen=True)
class Times:
    """Steps on one thread: ``ms`` (p50, p5, p95) and ``processor_ms`` (least, p50) by row, and how busy others were.

    ``mean_ms`` is the mean, to which keyframes count as often as they come.
    ``foreign_share_before`` and ``foreign_share`` meanwhile are shares of the machine, 0 to 1, that others used.
    """

    ms: dict[str, tuple[float, float, float]]
    processor_ms: dict[str, tuple[float, float]]
    mean_ms: dict[str, float]
    foreign_share_before: float
    foreign_share: float
    load_average: tuple[float, float, float]
    forced: bool


def measure_times(settings: AccuracySettings, force: bool = False) -> Times:
    """Times of the trained rows' steps on one thread of the CPU, in turn.

    Raises MachineBusy when others use more than BUSY_LIMIT of the machine before or meanwhile, unless ``force``.
    """
    before = ProcessorTime.now()
    time.sleep(_WATCH_S)
    share_before = ProcessorTime.now().foreign_share_since(before)
    _refuse_if_busy(share_before, force)
    load = os.getloadavg()
    trained = [row for row in settings.rows if row.is_trained]
    with _one_thread():
        streams = [open_row(row, "cpu").stream(limits_of(row.runs)) for row in trained]
        started = ProcessorTime.now()
        passed, used = measure_in_turn(streams, *settings.timing.size, settings.timing.rounds)
        share = ProcessorTime.now().foreign_share_since(started)
    _refuse_if_busy(share, force)
    names = [row.name for row in trained]
    return Times(
        dict(zip(names, map(_floats, np.percentile(passed, (50, 5, 95), axis=0).T), strict=True)),
        dict(zip(names, map(_floats, np.percentile(used, (0, 50), axis=0).T), strict=True)),
        dict(zip(names, map(float, passed.mean(axis=0)), strict=True)),
        share_before,
        share,
        load,
        max(share_before, share) > BUSY_LIMIT,
    )


def _floats(values: npt.NDArray[np.float64]) -> Any:
    return tuple(map(float, values))


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    torch_threads, cv2_threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(torch_threads)
        cv2.setNumThreads(cv2_threads)


def _refuse_if_busy(share: float, force: bool) -> None:
    if share > BUSY_LIMIT and not force:
        raise MachineBusy(
            f"others use {share:.0%} of this machine, expected at most {BUSY_LIMIT:.0%}: times would be theirs; "
            "measure when it is quiet, or anyway with --force"
        )
