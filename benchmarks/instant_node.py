"""Process: the segmentation node with an engine that returns at once, so that only the ROS side takes time."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from tdnet_ros.node.segmentation_node import SegmentationNode, main
from tdnet_ros.streaming import Plan, Segmentation, SegmentationStream, Segmenter, StageTimes
from tdnet_ros.video.frame import Frame


class InstantSegmenter(Segmenter):
    """Holds the real network and never asks it: a mask of the frame's size lies ready, the picture is not looked at."""

    _ready = np.zeros((0, 0), np.uint8)

    def step_together(
        self, frames: Sequence[tuple[SegmentationStream, Frame]], confidence: bool = False
    ) -> list[Segmentation | Exception]:
        """Masks of the frames' sizes."""
        return [self._answer(frame) for _, frame in frames]

    def _answer(self, frame: Frame) -> Segmentation:
        size = (frame.height, frame.width)
        if self._ready.shape != size:
            self._ready = np.random.default_rng(1).integers(0, 11, size, np.uint8)
        return Segmentation(
            mask=self._ready,
            confidence=None,
            plan=Plan(0, reason="instant"),
            warm=False,
            resets=0,
            reset_reason=None,
            times=StageTimes(0.0, 0.0, 0.0, 0.0),
        )


class InstantNode(SegmentationNode):
    """The node itself, with another engine."""

    segmenter_type = InstantSegmenter


if __name__ == "__main__":
    sys.exit(main(InstantNode))
