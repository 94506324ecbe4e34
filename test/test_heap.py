"""What one thread of a node's process has freed serves the others, and what nobody uses goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys
from pathlib import Path

import pytest
from running_process import python_environment

pytest.importorskip("rclpy", reason="rclpy is not installed")

import tdnet_ros
from tdnet_ros.node.heap import SETTLED_ROUNDS, Settling

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

# Every second block stays, so that what is freed lies in holes.
HOLES = f"""if True:
    from pathlib import Path
    from tdnet_ros.node.heap import give_back_unused
    from tdnet_ros.node.process import tune_allocator

    def resident_mib():
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / (1 << 20)

    assert tune_allocator()
    blocks = [bytearray(b"x" * (1 << 20)) for _ in range(2 * {BLOCKS})]
    del blocks[::2]
    before_mib = resident_mib()
    assert give_back_unused()
    print(before_mib - resident_mib())
"""


def mib_of(program: str) -> float:
    """What a process of its own prints."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=python_environment({"PYTHONPATH": PACKAGE, "MALLOC_ARENA_MAX": ""}),
        capture_output=True,
        text=True,
        check=True,
    )
    return float(result.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_threads_share_one_heap() -> None:
    """MiB by which the process grows when four threads want, one after the other, what the main thread has had."""
    assert mib_of(PROGRAM) < BLOCKS / 4


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_holes_go_back_to_the_system() -> None:
    assert mib_of(HOLES) > BLOCKS * 3 / 4


def test_pictures_have_settled_once_after_a_change_of_size() -> None:
    settling = Settling()
    large, small = {"front": (360, 480)}, {"front": (180, 240)}
    assert not any(settling.observe(large) for _ in range(3 * SETTLED_ROUNDS))
    assert [settling.observe(small) for _ in range(3 * SETTLED_ROUNDS)].index(True) == SETTLED_ROUNDS - 1
    assert not any(settling.observe(small) for _ in range(3 * SETTLED_ROUNDS))


def test_pictures_that_go_on_changing_have_not_settled() -> None:
    settling = Settling()
    sizes = [{"front": (360, 480)}, {"front": (360, 960)}]
    assert not any(settling.observe(sizes[turn % 2]) for turn in range(6 * SETTLED_ROUNDS))


def test_rounds_without_a_picture_do_not_count() -> None:
    settling = Settling()
    settling.observe({"front": (360, 480)})
    settling.observe({"front": (180, 240)})
    assert not any(settling.observe({}) for _ in range(3 * SETTLED_ROUNDS))


def test_cameras_of_different_sizes_are_no_change() -> None:
    settling = Settling()
    rounds = [{"front": (360, 480)}, {"rear": (180, 240)}] * 3 * SETTLED_ROUNDS
    assert not any(settling.observe(sizes) for sizes in rounds)
