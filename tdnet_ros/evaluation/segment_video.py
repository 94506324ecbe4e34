"""Segmentation of a whole source without ROS: every frame, in order, as fast as the machine goes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import cv2

from tdnet_ros.errors import SourceError, StaleFrame
from tdnet_ros.evaluation.motion_overlay import describe_plan, draw_motion
from tdnet_ros.evaluation.overlay_video import OverlayVideo, annotate, as_rgb, blend
from tdnet_ros.streaming import Segmenter
from tdnet_ros.video.image_source import ImageSource
from tdnet_ros.video.read_ahead import read_ahead
from tdnet_ros.video.source_frames import moving_frames


def segment_video(
    source: ImageSource,
    segmenter: Segmenter,
    overlay: Path | None = None,
    masks: Path | None = None,
    progress: Callable[[int], None] = lambda done: None,
    motion_drawn: bool = False,
) -> tuple[int, int]:
    """Stream the source; write an overlay video, class ids as PNG files (H, W) in a folder, or both.

    H.264 files bring the motion of their bitstream along. ``motion_drawn``: keyframes, the motion to them and the
    resolution are drawn into the overlay.

    Returns (frames segmented, frames passed over because their stamp was not newer than the one before).
    ``progress`` is told the number of frames after each. Raises SourceError when something cannot be read or
    written.
    """
    stream = segmenter.stream()
    done = stale = 0
    with ExitStack() as stack:
        if masks is not None:
            masks.mkdir(parents=True, exist_ok=True)
        video = stack.enter_context(OverlayVideo(overlay, source.rate_hz)) if overlay is not None else None
        for index, frame in enumerate(read_ahead(moving_frames(source))):
            try:
                result = stream.step(frame)
            except StaleFrame:
                stale += 1
                continue
            if video is not None:
                text = f"frame {index}   sub-network {result.plan.subnetwork}   {result.times.total_ms:.1f} ms"
                picture = blend(as_rgb(frame), result.mask, segmenter.labels)
                if motion_drawn:
                    text += f"   {describe_plan(result.plan)}"
                    picture = draw_motion(picture, as_rgb(frame), result)
                video.add(annotate(picture, segmenter.labels, text))
            if masks is not None and not cv2.imwrite(str(masks / f"{index:06d}.png"), result.mask):
                raise SourceError(f"{masks / f'{index:06d}.png'} cannot be written")
            done += 1
            progress(done)
    return done, stale
