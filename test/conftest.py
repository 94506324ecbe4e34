"""What all tests share: a ROS domain of their own, the data pack, real processes, a watch over skips."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from running_process import (
    ReservedDomain,
    RunningProcess,
    python_environment,
    remove_abandoned_shared_memory,
)

REPOSITORY = Path(__file__).resolve().parents[1]
ALLOWED_SKIPS = Path(__file__).with_name("allowed_skips.txt")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--forbid-unlisted-skips",
        action="store_true",
        help=f"fail when a test is skipped for a reason that is not listed in {ALLOWED_SKIPS.name}",
    )


def pytest_configure(config: pytest.Config) -> None:
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # As in a shell's background; the processes that tests interrupt would inherit it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--forbid-unlisted-skips"):
        config.pluginmanager.register(SkipWatch(read_allowed_skips(ALLOWED_SKIPS)), "skip-watch")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """For `pytest -n 2`: each file stays in one process, and all files with ROS graphs stay in the same one.

    So graphs run one after the other, as without -n: side by side they would share discovery and shared memory.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "graphs" if has_graph(config.rootpath / file) else file

    return ByFile(config, log)


@cache
def has_graph(path: Path) -> bool:
    """Whether tests of that file start processes in a ROS graph."""
    text = path.read_text(encoding="utf-8")
    return any(word in text for word in ("ros_domain", "start_process", "segmentation_graph"))


def read_allowed_skips(path: Path) -> list[re.Pattern[str]]:
    """Reads one regular expression per line; everything from ` # ` on says why that skip is allowed."""
    lines = [line.split(" # ")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return [re.compile(line) for line in lines if line and not line.startswith("#")]


class SkipWatch:
    """Fails the run when a test was skipped for a reason that no one has allowed."""

    def __init__(self, allowed: list[re.Pattern[str]]) -> None:
        self.allowed = allowed
        self.unlisted: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        self._note(report)

    def _note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        reason = reason.removeprefix("Skipped: ")
        if not any(pattern.search(reason) for pattern in self.allowed):
            self.unlisted.append(f"{report.nodeid}: {reason}")

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.unlisted and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self.unlisted:
            terminalreporter.section(f"skipped, and {ALLOWED_SKIPS.name} does not list why", red=True)
            for line in self.unlisted:
                terminalreporter.line(line)


@pytest.fixture
def data_pack() -> Path:
    """The folder of third-party videos, labels and weights that TDNET_ROS_DATA names; skips without it."""
    value = os.environ.get("TDNET_ROS_DATA")
    if not value:
        pytest.skip("TDNET_ROS_DATA is not set: this test needs the data pack")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"TDNET_ROS_DATA={value} is not a folder")
    return path


@pytest.fixture
def ros_domain(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """A ROS domain that no other test uses meanwhile, set for this process; yields it as an environment."""
    if importlib.util.find_spec("rclpy") is None:
        pytest.skip("rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")
    with ReservedDomain() as domain:
        settings = {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        yield python_environment(settings)


@pytest.fixture
def start_process(ros_domain: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., RunningProcess]]:
    """Starts `python -m MODULE ARGUMENTS...` as a process in the test's ROS domain; ended with the test.

    `start_process("tdnet_ros.node.player_node", "--ros-args", ..., environment={"NAME": "value"})` returns a
    RunningProcess: `wait_for(pattern)`, `stop()`, `wait()`, `output`.
    """
    processes: list[RunningProcess] = []

    def start(module: str, *arguments: str, environment: dict[str, str] | None = None) -> RunningProcess:
        command = [sys.executable, "-m", module, *arguments]
        process = RunningProcess(command, {**ros_domain, **(environment or {})}, tmp_path)
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
    if any(process.killed for process in processes):
        remove_abandoned_shared_memory()


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Steps of a millisecond are not worth waking other threads for."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
