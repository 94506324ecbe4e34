"""Labelled frames at another size than they were read at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from tdnet_ros.training.datasets import LabelledFrame, Pixels


def resize_image(image: Pixels, size: tuple[int, int]) -> Pixels:
    """RGB image (H, W, 3) at another ``size`` (h, w): averages of areas where it gets smaller, else bilinear."""
    if image.shape[:2] == size:
        return image
    method = cv2.INTER_AREA if size[0] < image.shape[0] else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (size[1], size[0]), interpolation=method), np.uint8)


def resize_frames(frames: Sequence[LabelledFrame], size: tuple[int, ...]) -> list[LabelledFrame]:
    """The frames at ``size`` (H, W), labels by the nearest; () leaves them as they are."""
    return [_resize_frame(frame, (size[0], size[1])) for frame in frames] if size else list(frames)


def _resize_frame(frame: LabelledFrame, size: tuple[int, int]) -> LabelledFrame:
    if frame.image.shape[:2] == size or frame.labels.shape != frame.image.shape[:2]:  # the store names the latter
        return frame
    labels = cv2.resize(frame.labels, (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT)
    return replace(frame, image=resize_image(frame.image, size), labels=np.asarray(labels, np.uint8))
