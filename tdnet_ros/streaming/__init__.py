"""The engine: frames in, masks out. Needs torch, numpy and OpenCV, and no ROS."""

from tdnet_ros.streaming.continuity import ContinuityLimits
from tdnet_ros.streaming.schedule import Plan
from tdnet_ros.streaming.segmenter import (
    DEFAULT_MODEL,
    Segmentation,
    SegmentationStream,
    Segmenter,
    StageTimes,
)

__all__ = [
    "DEFAULT_MODEL",
    "ContinuityLimits",
    "Plan",
    "Segmentation",
    "SegmentationStream",
    "Segmenter",
    "StageTimes",
]
