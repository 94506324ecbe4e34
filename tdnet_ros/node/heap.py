"""One heap for all threads of a node's process. Imports nothing that starts a thread."""

from __future__ import annotations

import ctypes
import platform

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
