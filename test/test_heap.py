"""What one thread of a node's process has freed serves the others."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from running_process import python_environment

pytest.importorskip("rclpy", reason="rclpy is not installed")

import tdnet_ros

PACKAGE = str(Path(tdnet_ros.__file__).parents[1])
BLOCKS = 32

# As in a node: the main thread has loaded and freed before others begin to work. All of them live on, or a later one
# would get the heap of an earlier one.
PROGRAM = f"""if True:
    import resource
    import threading
    from tdnet_ros.node.process import tune_allocator

    def use_and_free():
        blocks = [bytearray(b"x" * (1 << 20)) for _ in range({BLOCKS})]

    def work(done, over):
        use_and_free()
        done.set()
        over.wait()

    assert tune_allocator()
    use_and_free()
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    over = threading.Event()
    for _ in range(4):
        done = threading.Event()
        threading.Thread(target=work, args=(done, over)).start()
        done.wait()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib) / 1024)
    over.set()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_threads_share_one_heap() -> None:
    """MiB by which the process grows when four threads want, one after the other, what the main thread has had."""
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=python_environment({"PYTHONPATH": PACKAGE, "MALLOC_ARENA_MAX": ""}),
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(result.stdout) < BLOCKS / 4
