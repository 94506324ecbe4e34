"""The soak's verdicts, and a short one: the node lives through one of each fault. Nothing is timed here."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

from benchmarks.process_watch import Holdings
from benchmarks.soak import Line, Sample, judge, main, medians
from tdnet_ros.evaluation.machine_load import ProcessorTime

LENGTH_S, WARM_UP_S = 1800.0, 300.0


def holdings(resident_mib: float = 300.0, threads: int = 20, descriptors: int = 30) -> Holdings:
    return Holdings(resident_mib, 60.0, threads, descriptors, 0.0)


def judged(
    first: Holdings, last: Holdings, last_ms: float = 10.0, share: float = 0.0, change_s: float = LENGTH_S / 2
) -> dict[str, Line]:
    # Of two cores, one of which the node has; others take their share of the machine from the beginning to the change.
    samples = []
    busy_s = 0.0
    for at_s in range(0, int(LENGTH_S), 5):
        busy_s += 5 * (1 + (2 * share if at_s < change_s else 0.0))
        holds = replace(first if at_s < change_s else last, processor_s=float(at_s))
        samples.append(Sample(at_s, holds, ProcessorTime(2.0 * at_s, busy_s, 0.0)))
    times = [(at_s, 10.0 if at_s < change_s else last_ms) for at_s in range(int(LENGTH_S))]
    return {line.name: line for line in judge(samples, times, LENGTH_S)}


def test_what_stays_as_it_was_holds() -> None:
    lines = judged(holdings(), holdings(304.9), last_ms=10.9)
    assert [line.holds for line in lines.values()] == [True] * 4


@pytest.mark.parametrize(
    ("last", "name"),
    [
        (holdings(resident_mib=305.1), "resident memory (MiB)"),
        (holdings(threads=21), "threads"),
        (holdings(descriptors=31), "file descriptors"),
    ],
)
def test_what_grows_does_not_hold(last: Holdings, name: str) -> None:
    lines = judged(holdings(), last)
    assert [line.name for line in lines.values() if line.holds is False] == [name]


def test_what_grows_until_every_fault_has_happened_once_is_warm_up() -> None:
    more = holdings(resident_mib=400.0)
    assert judged(holdings(), more, 20.0, change_s=WARM_UP_S)["resident memory (MiB)"].holds is True
    assert judged(holdings(), more, 20.0, change_s=WARM_UP_S + 60)["resident memory (MiB)"].holds is False
    assert judged(holdings(), more, 20.0, change_s=WARM_UP_S)["median node_ms"].holds is True
    assert judged(holdings(), more, 20.0, change_s=LENGTH_S - 400)["median node_ms"].holds is False


def test_times_are_judged_on_a_quiet_machine_alone() -> None:
    assert judged(holdings(), holdings(), last_ms=11.1)["median node_ms"].holds is False
    assert judged(holdings(), holdings(), last_ms=11.1, share=0.05)["median node_ms"].holds is False
    assert judged(holdings(), holdings(), last_ms=11.1, share=0.2)["median node_ms"].holds is None, "in the first part"


def test_the_pace_of_every_part_is_told() -> None:
    assert medians([(0.0, 10.0), (59.0, 12.0), (60.0, 20.0), (125.0, 30.0)], 60.0) == [11.0, 20.0]


def test_holdings_are_those_of_the_process() -> None:
    before = Holdings.of(os.getpid())
    with Path(os.devnull).open() as _, Path(os.devnull).open() as _:
        ballast = bytearray(os.urandom(32 << 20))
        held = Holdings.of(os.getpid())
    assert held.descriptors == before.descriptors + 2
    assert held.resident_mib - before.resident_mib > 30 and len(ballast) == 32 << 20
    assert held.threads >= 1 and held.processor_s >= before.processor_s


def test_a_short_soak_through_one_of_each_fault(
    ros_domain: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE"):
        monkeypatch.setenv(name, "")
    file = tmp_path / "soak.json"
    size = ("--width", "96", "--height", "72", "--input-height", "96")
    # Growth is not to be judged within seconds: 1 says that there was some.
    assert main(["--minutes", "0.15", "--fault-period", "0.2", *size, "--json", str(file)]) in (0, 1)
    found = json.loads(file.read_text())
    assert len(found["faults"]) >= 5, "too few faults in the time"
    assert 0 < found["masks"] <= found["images_sent"]
    assert found["diagnostics"]["failures"] == "0"
    assert 0 <= found["foreign_share"] <= 1
    assert {line["name"] for line in found["lines"]} >= {"threads", "file descriptors", "median node_ms"}
