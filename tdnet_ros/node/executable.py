"""What `ros2 run` and `ros2 launch` start."""

from __future__ import annotations

import os
import signal
from importlib import import_module


def run(name: str) -> int:
    """Run the node whose module has that name; the exit code.

    Loading its libraries takes seconds. A signal in these ends the process as one to the node would, with 0 and
    without a word; left to itself Python shows which import it was at.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: os._exit(0))
    code: int = import_module(f"tdnet_ros.node.{name}").main()
    return code
