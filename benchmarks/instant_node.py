"""Process: the segmentation node with an engine that returns at once, so that only the ROS side takes time."""

from __future__ import annotations

import sys

import numpy as np

from tdnet_ros.node.segmentation_node import SegmentationNode, main
from tdnet_ros.streaming import ContinuityLimits, Plan, Segmentation, SegmentationStream, Segmenter, StageTimes
from tdnet_ros.video.frame import Frame


class InstantStream(SegmentationStream):
    """Answers every frame with a mask that lies ready; the picture is not looked at."""

    def __init__(self, segmenter: Segmenter, limits: ContinuityLimits) -> None:
        super().__init__(segmenter, limits)
        self._ready = np.zeros((0, 0), np.uint8)

    def step(self, frame: Frame, confidence: bool = False) -> Segmentation:
        """A mask of the frame's size."""
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


class InstantSegmenter(Segmenter):
    """Holds the real network and never asks it."""

    def stream(self, limits: ContinuityLimits | None = None) -> SegmentationStream:
        """A stream that returns at once."""
        return InstantStream(self, limits or ContinuityLimits())


class InstantNode(SegmentationNode):
    """The node itself, with another engine."""

    segmenter_type = InstantSegmenter


if __name__ == "__main__":
    sys.exit(main(InstantNode))
