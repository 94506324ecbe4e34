"""Evaluation without ROS: every frame of a recording in order, as fast as the machine goes, the same result twice."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

from tdnet_ros.errors import DecodeError, ImageError, StaleFrame, TdnetRosError
from tdnet_ros.evaluation.evaluate import EvaluationSettings, Judge, Progress, open_recording
from tdnet_ros.evaluation.result import Delivery, Evaluation, FrameResult
from tdnet_ros.evaluation.worst_frames import WorstFrame
from tdnet_ros.networks import AUTO
from tdnet_ros.streaming import Segmentation, Segmenter
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.image_source import ImageSource, SourceImage
from tdnet_ros.video.read_ahead import read_ahead
from tdnet_ros.video.source_frames import frame_of


def evaluate_offline(
    settings: EvaluationSettings, progress: Progress = lambda done, total: None
) -> tuple[Evaluation, list[WorstFrame]]:
    """Stream the recording through the network; labelled frames are scored. The next frames are decoded meanwhile.

    Frames that cannot be decoded, or are not newer than the one before, are counted as rejected, as in the node.
    ``progress`` is told the number of frames done after each, and that of all where it is known. Raises SourceError
    for a recording or labels that cannot be used, ConfigurationError and CheckpointError for the model.
    """
    segmenter = Segmenter(settings.model or AUTO, settings.weights or None, settings.device or "auto")
    recording = open_recording(settings, segmenter.labels)
    judge, stream = Judge(recording), segmenter.stream()
    frames = 0
    with closing(read_ahead(_decoded(recording.source))) as decoded:
        for frames, (image, frame) in enumerate(decoded, start=1):
            try:
                if isinstance(frame, TdnetRosError):
                    raise frame
                result = stream.step(frame)
            except (DecodeError, ImageError, StaleFrame) as error:
                judge.reject(error)
            else:
                judge.judge(image, frame, result.mask, _facts(image, result))
            progress(frames, recording.source.frame_count)
    judge.require_masks()
    configuration = {
        "model": segmenter.network.info.name,
        "weights": settings.weights or "shipped",
        "terms": segmenter.network.info.stated_terms,
        "device": segmenter.runtime.describe(),
        "precision": segmenter.runtime.precision,
        "network_size": list(segmenter.network_size(*recording.source.size[::-1])),
    }
    delivery = Delivery(frames, frames - judge.rejected, 0, judge.rejected, 0, stream.resets)
    return judge.conclude("offline", settings, segmenter.labels, configuration, delivery), judge.worst.worst()


def _decoded(source: ImageSource) -> Iterator[tuple[SourceImage, Frame | TdnetRosError]]:
    """Every image with its frame, or with the error that says why there is none."""
    for image in source:
        try:
            frame = frame_of(image)
        except (DecodeError, ImageError) as error:
            yield image, error
            continue
        # Without a stamp a frame would be judged by when it is segmented: another result on a slower machine.
        yield image, frame if frame.stamp_ns is not None else replace(frame, stamp_ns=image.stamp_ns)


def _facts(image: SourceImage, result: Segmentation) -> FrameResult:
    plan, times = result.plan, result.times
    stages = {
        "preprocess": times.preprocess_ms,
        "motion": times.motion_ms,
        "network": times.network_ms,
        "postprocess": times.postprocess_ms,
    }
    return FrameResult(
        index=image.index,
        stamp_ns=image.stamp_ns,
        subnetwork=plan.subnetwork,
        scale=plan.scale,
        keyframe=plan.keyframe,
        keyframe_distance=plan.keyframe_distance,
        warm=result.warm,
        resets=result.resets,
        miou=math.nan,
        times_ms={**stages, "step": sum(stages.values())},
    )
