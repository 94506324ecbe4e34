"""Nodes as child processes: started with their parameters, watched, and stopped the way a user would."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tdnet_ros.errors import ConfigurationError, TdnetRosError

#: Domains whose ports lie below Linux's ephemeral ones, so that nothing else takes them by chance.
_DOMAINS = range(1, 101)
_STOP_TIMEOUT_S = 20.0
_LAST_LINES = 15
#: Environment variable of a node that must not outlive the process that started it: that one's id.
PARENT_VARIABLE = "TDNET_ROS_PARENT"


class NodeProcessError(TdnetRosError):
    """A node's process ended by itself, or with an exit code other than 0. Carries its last lines."""


def require_ros() -> None:
    """Raises ConfigurationError, with the way out, when ROS 2 or our message type is not installed."""
    if importlib.util.find_spec("rclpy") is None:
        raise ConfigurationError(
            "this needs ROS 2, and rclpy is not installed: pip install 'tdnet_ros[ros]' (Linux x86-64), or "
            "use the Python of a ROS 2 distribution. 'tdnet-ros segment' works without ROS"
        )
    if importlib.util.find_spec("tdnet_ros.msg") is None:
        raise ConfigurationError(
            "the type support of tdnet_ros/FrameLatency was not built: install the package again with g++ "
            "and the Python headers at hand"
        )


def free_domain() -> int:
    """A random ROS domain in which nobody on this machine listens (DDS uses port 7410 + 250 x domain)."""
    for domain in random.sample(_DOMAINS, len(_DOMAINS)):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(("", 7410 + 250 * domain))
            except OSError:
                continue
            return domain
    raise NodeProcessError("all ROS domains from 1 to 100 are in use on this machine; set ROS_DOMAIN_ID yourself")


class NodeProcess:
    """One ROS node, ``python -m module``, that writes its output to ``folder/name.log``."""

    def __init__(
        self,
        name: str,
        module: str,
        folder: Path,
        namespace: str,
        parameters: Mapping[str, Any],
        remaps: Mapping[str, str],
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        # JSON is YAML; a file keeps "007" or "a: b" the strings that they are.
        parameter_file = folder / f"{name}.yaml"
        parameter_file.write_text(json.dumps({"/**": {"ros__parameters": dict(parameters)}}), encoding="utf-8")
        command = [sys.executable, "-m", module, "--ros-args", "--params-file", str(parameter_file)]
        for source, target in {"__ns": namespace, **remaps}.items():
            command += ["-r", f"{source}:={target}"]
        with self.log.open("wb") as log:
            # A session of its own: Ctrl-C in the terminal reaches the parent, which stops its nodes in order.
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={
                    **os.environ,
                    "PYTHONUNBUFFERED": "1",
                    PARENT_VARIABLE: str(os.getpid()),
                    **environment,
                },
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """False once the process has ended."""
        return self._process.poll() is None

    def require_running(self) -> None:
        """Raises NodeProcessError when the process has ended."""
        if not self.running:
            raise self._ended("ended")

    def require_success(self) -> None:
        """Wait for the end; raises NodeProcessError when the exit code is not 0."""
        if self._process.wait(_STOP_TIMEOUT_S) != 0:
            raise self._ended("failed")

    def interrupt(self) -> None:
        """Ask for the end with SIGINT; raises NodeProcessError unless it comes in time, with exit code 0."""
        self.require_running()
        self._process.send_signal(signal.SIGINT)
        try:
            self.require_success()
        except subprocess.TimeoutExpired:
            self.kill()
            raise self._ended(f"did not end within {_STOP_TIMEOUT_S:g} s of SIGINT and was killed") from None

    def kill(self) -> None:
        """End the process whatever it takes; for cleaning up after an error."""
        for number in (signal.SIGINT, signal.SIGKILL):
            if self.running:
                self._process.send_signal(number)
                try:
                    self._process.wait(5.0)
                except subprocess.TimeoutExpired:
                    continue

    def _ended(self, how: str) -> NodeProcessError:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-_LAST_LINES:]
        said = "\n".join(f"    {line}" for line in lines) or "    (nothing)"
        return NodeProcessError(
            f"the {self.name} process {how}, exit code {self._process.poll()}. Last lines of {self.log}:\n{said}"
        )
