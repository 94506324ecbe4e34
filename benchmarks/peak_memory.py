"""What a stream needs of the memory, in MiB: its loaded weights, and the peak of its steps above them.

Each stream is measured in a process of its own, that has done nothing else. On a CPU the operating system counts: the
resident set that loading has added, and then the peak of the resident set during the steps (``VmHWM``, which
``/proc/self/clear_refs`` sets back before them). A small product and a small convolution come before all that: they
load the libraries and start the threads. The process runs with ``ALLOCATOR``: the C library returns what is freed at
once, so that the peak is what the steps have in use at one time; by default it holds some of that back, depending on
the order in which it was freed. On CUDA torch's allocator counts what is allocated.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

#: For the environment of the process: from 256 KiB on each block is mapped on its own.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}


class Memory(NamedTuple):
    """MiB that the weights take as they are loaded, and at most above that during the steps."""

    weights: float
    peak: float


def measure_memory(open_stream: Callable[[], Callable[[], None]], device: torch.device) -> Memory:
    """``open_stream`` loads the weights and returns what runs the steps."""
    _load_libraries(device)
    used, peak = (_allocated, _peak_allocated) if device.type == "cuda" else (_resident, _peak_resident)
    at_first = used(device)
    run = open_stream()
    gc.collect()
    loaded = used(device)
    _reset_peak(device)
    run()
    return Memory(loaded - at_first, peak(device) - loaded)


def _allocated(device: torch.device) -> float:
    torch.cuda.synchronize(device)
    return torch.cuda.memory_allocated(device) / 2**20


def _peak_allocated(device: torch.device) -> float:
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) / 2**20


def _resident(device: torch.device) -> float:
    ctypes.CDLL(None).malloc_trim(0)
    return _status_kib("VmRSS") / 1024


def _peak_resident(device: torch.device) -> float:
    return _status_kib("VmHWM") / 1024


def _reset_peak(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # 5: the peak starts anew from here


def _load_libraries(device: torch.device) -> None:
    image, kernel = torch.rand(1, 16, 32, 32, device=device), torch.rand(16, 16, 3, 3, device=device)
    with torch.inference_mode():
        F.conv2d(image, kernel, padding=1)
        image[0, 0] @ image[0, 1]
        F.scaled_dot_product_attention(image, image, image)
        F.interpolate(image, (65, 65), mode="bilinear")


def _status_kib(field: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    raise KeyError(field)
