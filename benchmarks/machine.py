"""The machine that a benchmark runs on: whether it is quiet enough to measure on, and what it is."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from tdnet_ros.errors import TdnetRosError
from tdnet_ros.evaluation.machine_load import BUSY_LIMIT, ProcessorTime
from tdnet_ros.evaluation.provenance import describe_machine, versions_of

#: Exit codes: a limit was missed, or nothing was measured because the machine was busy.
MISSED, BUSY = 1, 2

_WATCH_S = 1.0
_QUANTILES = (50, 95, 99)
#: Keys of ``percentiles``.
NAMES = (*(f"p{quantile}" for quantile in _QUANTILES), "max")

#: A ROS distribution brings them under other names; then they are left out.
_ROS_VERSIONS = ("ros-rclpy", "ros-rmw-fastrtps-cpp", "ros-fastdds")


def size_of(text: str) -> tuple[int, int]:
    """An option's ``WIDTHxHEIGHT`` -> (width, height) in px."""
    width, _, height = text.partition("x")
    return int(width), int(height)


def run(main: Callable[[], int]) -> NoReturn:
    """End the program with what ``main`` returns, or with one line for an error of ours."""
    try:
        sys.exit(main())
    except TdnetRosError as error:
        sys.exit(f"error: {error}")


def begin(options: argparse.Namespace) -> Watch:
    """Wait for a quiet moment, print the heading of the output, and watch the machine from here on.

    ``options`` are those of add_common_arguments. Ends the program with BUSY when patience ends first.
    """
    watch = Watch(options.force, options.patience)
    watch.begin()
    _print_machine(watch.machine, watch.load)
    return watch


class Watch:
    """Keeps figures that are others' doing out of a benchmark.

    A part of the benchmark during which others used too much of the machine is measured again, until patience ends;
    then the program ends with BUSY. ``force`` takes everything and says so.
    """

    def __init__(self, force: bool, patience_s: float) -> None:
        self._force = force
        self._give_up_s = time.monotonic() + patience_s
        self.load: dict[str, Any] = {"disturbed_parts": 0}
        self.machine = describe()

    @property
    def circumstances(self) -> dict[str, Any]:
        """The machine and its load, for the file with the figures."""
        return {"machine": self.machine, "load": self.load}

    def begin(self) -> None:
        """Wait for a quiet moment, describe the load before the start in ``load`` and print it if it is forced."""
        share = self._wait_until_quiet()
        forced = share > BUSY_LIMIT
        self.load |= {
            "foreign_share_before": round(share, 3),
            "load_average": os.getloadavg(),
            "forced_on_busy_machine": forced,
        }
        if forced:
            print(f"FORCED on a busy machine: others use {share:.0%} of it, these figures are not to be quoted\n")

    def measure(self, part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What that part of a benchmark measured when it was undisturbed, with others' share of the machine."""
        while True:
            before = ProcessorTime.now()
            result = part()
            result["foreign_share"] = share = round(ProcessorTime.now().foreign_share_since(before), 3)
            if share <= BUSY_LIMIT:
                return result
            self.load["disturbed_parts"] += 1
            if self._force:
                print(f"DISTURBED: others used {share:.0%} of the machine meanwhile")
                return result
            print(f"disturbed, does not count: others used {share:.0%} of the machine", flush=True)
            if time.monotonic() > self._give_up_s:
                _end_busy(share)
            self._wait_until_quiet()

    def _wait_until_quiet(self) -> float:
        """Others' share of the machine, 0 to 1, over the last second."""
        while True:
            before = ProcessorTime.now()
            time.sleep(_WATCH_S)
            share = ProcessorTime.now().foreign_share_since(before)
            if share <= BUSY_LIMIT or self._force:
                return share
            if time.monotonic() > self._give_up_s:
                _end_busy(share)


def _end_busy(share: float) -> NoReturn:
    print(
        f"others use {share:.0%} of this machine, expected at most {BUSY_LIMIT:.0%}: the figures would be theirs; "
        "measure when it is quiet, or anyway with --force",
        file=sys.stderr,
    )
    raise SystemExit(BUSY)


def describe() -> dict[str, Any]:
    """Processor, cores, memory, system and the versions of what takes part."""
    found = describe_machine()
    found["memory_gib"] = round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    found["versions"] |= versions_of(_ROS_VERSIONS)
    return found


def _print_machine(description: Mapping[str, Any], load: Mapping[str, Any]) -> None:
    versions = ", ".join(f"{name} {version}" for name, version in description["versions"].items())
    averages = " ".join(f"{average:.2f}" for average in load["load_average"])
    print(f"{description['processor']}, {description['cores']} cores, {description['memory_gib']} GiB")
    print(f"{description['system']}, Python {description['python']}, {versions}")
    print(f"load average {averages}; others used {load['foreign_share_before']:.0%} of the machine before the start\n")


def percentiles(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """p50, p95, p99 and max, to a thousandth; NaN without values."""
    if not len(values):
        return dict.fromkeys(NAMES, float("nan"))
    found = [*np.percentile(values, _QUANTILES), np.max(values)]
    return {name: round(float(value), 3) for name, value in zip(NAMES, found, strict=True)}


def spread(values: Sequence[float]) -> str:
    """Median and range of a figure over runs, e.g. ``2.31 (2.20 to 2.95)``."""
    return f"{np.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of every benchmark."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured there")
    parser.add_argument("--force", action="store_true", help="measure on a busy machine, too, and say so")
    parser.add_argument(
        "--patience", type=float, default=0.0, metavar="S", help="wait, and repeat what was disturbed, for so long"
    )


def write_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write the figures, if a file was asked for. NaN, which JSON does not have, becomes null."""
    if path is not None:
        path.write_text(json.dumps(_without_nan(content), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _without_nan(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
