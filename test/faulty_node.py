"""Process: the segmentation node with a network in which a picture's first pixel sets off a fault.

It comes from where the network is computed, on the worker's thread, as one of the device would.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from tdnet_ros.node.segmentation_node import SegmentationNode, main
from tdnet_ros.streaming import Segmenter
from tdnet_ros.streaming.together import Turn

#: First pixel, RGB, by fault.
OUT_OF_MEMORY, EXCEPTION, SLOW, GONE = (250, 0, 250), (250, 0, 251), (250, 0, 252), (250, 0, 253)
SLOW_S = 0.4


class FaultySegmenter(Segmenter):
    """The real one, whose network fails or dawdles where a picture asks for it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._asked: set[tuple[int, ...]] = set()
        self._compute, self.engine.compute = self.engine.compute, self._compute_or_fail

    def _outcomes(self, batch: Sequence[Turn], confidence: bool) -> Any:
        """As the real one, of a batch or of a frame that is tried again."""
        frames = [turn.frame for turn in batch]
        self._asked = {tuple(map(int, frame.image[0, 0])) for frame in frames if frame.encoding == "rgb8"}
        return super()._outcomes(batch, confidence)

    def _compute_or_fail(self, *step: Any) -> Any:
        if OUT_OF_MEMORY in self._asked:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        if EXCEPTION in self._asked:
            raise ZeroDivisionError("in the middle of the network")
        if GONE in self._asked:
            self.runtime.synchronise = _gone  # type: ignore[method-assign]
        self.runtime.synchronise()
        if SLOW in self._asked:
            time.sleep(SLOW_S)
        return self._compute(*step)


def _gone() -> None:
    """What CUDA says to every call once a device does not recover."""
    raise RuntimeError("CUDA error: an illegal memory access was encountered")


class FaultyNode(SegmentationNode):
    """The node itself, with that engine."""

    segmenter_type = FaultySegmenter


if __name__ == "__main__":
    sys.exit(main(FaultyNode))
