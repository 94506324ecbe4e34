"""Resident memory of a process whose pictures come in several sizes, in turn: does it grow with every change?

As in the node, one thread loads the network and makes its steps ready, and another one segments. Heaps are those of the
C library: ``MALLOC_ARENA_MAX=1`` in the environment gives both threads one, as the node's process has it.
"""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Sequence

import cv2
import numpy as np

from benchmarks import machine
from benchmarks.process_watch import Holdings
from tdnet_ros.streaming import Segmenter
from tdnet_ros.video.frame import Frame

_PERIOD_NS = 66_666_667
_FRAMES = 3  # of each size: one of them is warm


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and report."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.picture_sizes", description=__doc__)
    parser.add_argument("--sizes", type=int, default=2, help="the widths 160, 320, 152, 312, ... px")
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--input-height", type=int, default=96, help="of the network, px; pictures have 120")
    options = parser.parse_args(arguments)
    segmenter = Segmenter(input_height=options.input_height)
    segmenter.warm_up(*segmenter.network.info.input_size)
    pictures = [_picture(160 - 8 * (i // 2) + 160 * (i % 2)) for i in range(options.sizes)]
    thread = threading.Thread(target=_alternate, args=(segmenter, pictures, options.rounds))
    thread.start()
    thread.join()
    return 0


def _picture(width: int) -> np.ndarray:
    blots = np.random.default_rng(1).integers(0, 256, (9, 16, 3), np.uint8)
    return np.asarray(cv2.resize(blots, (width, 120)), np.uint8)


def _alternate(segmenter: Segmenter, pictures: Sequence[np.ndarray], rounds: int) -> None:
    stream, stamp_ns, before_s = segmenter.stream(), 0, time.process_time()
    print(f"{'ready':<12}{_resident_mib():8.1f} MiB")
    for turn in range(1, rounds + 1):
        for picture in pictures:
            for _ in range(_FRAMES):
                stamp_ns += _PERIOD_NS
                stream.step(Frame(picture, stamp_ns))
        if turn & (turn - 1) == 0 or turn == rounds:
            print(f"{f'round {turn}':<12}{_resident_mib():8.1f} MiB", flush=True)
    print(f"{time.process_time() - before_s:.1f} s of processor time for {rounds * len(pictures) * _FRAMES} frames")


def _resident_mib() -> float:
    return Holdings.of(os.getpid()).resident_mib


if __name__ == "__main__":
    machine.run(main)
