"""Real processes for tests: their output is captured and waited for, and they always end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from tdnet_ros.evaluation.processes import free_domain

SHARED_MEMORY = Path("/dev/shm")
#: How long tests wait for what has to happen: far longer than it takes, on a slow and busy machine too.
PATIENCE_S = 180.0


class ReservedDomain:
    """A domain from 1 to 100, locked against test runs beside this one until the block is left."""

    def __enter__(self) -> int:
        while True:
            domain = free_domain()
            path = Path(tempfile.gettempdir()) / f"tdnet_ros_test_domain_{domain}.lock"
            self._lock = path.open("w")
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._lock.close()
                continue
            return domain

    def __exit__(self, *_: object) -> None:
        self._lock.close()


class RunningProcess:
    """A child process in a session of its own; stdout and stderr are collected together as they come."""

    def __init__(self, command: list[str], environment: Mapping[str, str], working_dir: Path) -> None:
        self.command = command
        self.killed = False
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            env=dict(environment),
            cwd=working_dir,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """False once the process has ended."""
        return self._process.poll() is None

    @property
    def output(self) -> str:
        """What the process has printed so far."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str, timeout_s: float = PATIENCE_S) -> re.Match[str]:
        """Waits until the output matches the regular expression; fails when the process ends or is late."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                match = re.search(pattern, "".join(self._lines))
                if match is not None:
                    return match
                remaining = deadline - time.monotonic()
                if remaining <= 0 or not self._reader.is_alive():
                    reason = "in time" if remaining <= 0 else f"before it ended with {self._process.wait()}"
                    said = "".join(self._lines)
                    raise AssertionError(f"{self.command} did not print {pattern!r} {reason}:\n{said}")
                self._changed.wait(min(remaining, 0.5))

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Waits for the process to end by itself and returns its exit code."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} still runs after {timeout_s} s:\n{self.output}") from None
        self._reader.join(timeout_s)
        return code

    def stop(self, number: signal.Signals = signal.SIGINT, timeout_s: float = PATIENCE_S) -> int:
        """Sends the signal and returns the exit code; fails when the process does not end in time."""
        if self.running:
            self._process.send_signal(number)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """Ends the process and its children whatever it takes."""
        if self.running:
            self.killed = True
        # A child may have outlived its parent, hence the whole group, also when the process has ended.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        self._reader.join(5.0)

    def _collect(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()


def python_environment(changes: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with `changes`, fit to start an interpreter of another environment, too.

    The ROS wheels restart Python once with a library path of their own and remember that in the environment.
    An inherited mark would make another environment's Python keep the libraries of this one.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    if environment.pop("_ROS_WHEELS_BOOTSTRAP_COMPLETE", None) is not None:
        own_libraries = (sys.prefix, str(Path(sys.prefix).resolve()))
        paths = environment.pop("LD_LIBRARY_PATH", "").split(os.pathsep)
        foreign = [path for path in paths if path and not path.startswith(own_libraries)]
        if foreign:
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(foreign)
    return {**environment, **changes}


def remove_abandoned_shared_memory() -> None:
    """Removes Fast DDS shared memory whose owner was killed: up to 64 MB for every process.

    An owner holds a lock on a file beside each segment; a lock that can be had means that there is no owner.
    A file younger than a few seconds is left alone: its owner may be about to take the lock.
    """
    for lock_file in SHARED_MEMORY.glob("fast*_el"):
        with contextlib.suppress(OSError):
            if time.time() - lock_file.stat().st_mtime < 5.0:
                continue
            with lock_file.open("rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (SHARED_MEMORY / lock_file.name.removesuffix("_el")).unlink(missing_ok=True)
                lock_file.unlink()
