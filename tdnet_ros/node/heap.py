"""One heap for all threads of a node's process, and when it is to shrink. Imports nothing that starts a thread."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Hashable, Mapping

#: So many rounds after the last change of a picture's size the heap gives back what the old size has left.
SETTLED_ROUNDS = 15
_M_ARENA_MAX = -8  # glibc's malloc.h


def share_one_heap() -> bool:
    """Let all threads allocate from glibc's main heap; says whether that was done, other C libraries are left alone.

    By default threads have heaps of their own, and none gets what another one has freed: what loading and warm-up leave
    in the main thread's lies idle, while that of the thread that segments grows with every new size of picture.
    Call it before rclpy is imported: its tracing library starts threads, and heaps that are there stay in use.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1))


def give_back_unused() -> bool:
    """Return to the system all pages of the heap that nothing lies on; whether there were any.

    Holes too, which glibc never returns by itself. It takes some 10 ms, and what is used again is faulted in anew.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    return bool(ctypes.CDLL(None).malloc_trim(0))


class Settling:
    """Tells once when all pictures have kept their sizes for a while after one has changed.

    Blocks of two sizes lie in the heap in whatever order they came, and what is left between them when one size is gone
    fits the other badly: it would stay, and after some changes another layout might want still more.
    """

    def __init__(self) -> None:
        self._sizes: dict[Hashable, tuple[int, int]] = {}
        self._rounds_left = 0

    def observe(self, sizes: Mapping[Hashable, tuple[int, int]]) -> bool:
        """``sizes``: (height, width) of the pictures of this round, by camera. A camera's first one is no change."""
        if any(self._sizes.get(camera, size) != size for camera, size in sizes.items()):
            self._rounds_left = SETTLED_ROUNDS
        self._sizes.update(sizes)
        if not self._rounds_left or not sizes:
            return False
        self._rounds_left -= 1
        return self._rounds_left == 0
