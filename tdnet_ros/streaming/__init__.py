"""The engine: frames in, masks out. Needs torch, numpy and OpenCV, and no ROS."""

from tdnet_ros.streaming.continuity import ContinuityLimits
from tdnet_ros.streaming.models import DEFAULT_MODEL, model_info
from tdnet_ros.streaming.schedule import Plan
from tdnet_ros.streaming.segmenter import SCORE_MEMORY, Segmenter
from tdnet_ros.streaming.settings import StreamSettings
from tdnet_ros.streaming.stream import Segmentation, SegmentationStream, StageTimes

__all__ = [
    "DEFAULT_MODEL",
    "SCORE_MEMORY",
    "ContinuityLimits",
    "Plan",
    "Segmentation",
    "SegmentationStream",
    "Segmenter",
    "StageTimes",
    "StreamSettings",
    "model_info",
]
