"""How a network does on the selection sequence, while it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.networks import SegmentationNetwork
from tdnet_ros.streaming.alternation import AlternationSchedule
from tdnet_ros.streaming.network_motion import NetworkMotion
from tdnet_ros.training.datasets import LabelledFrame
from tdnet_ros.training.normalisation import normalise
from tdnet_ros.video.frame import Frame
from tdnet_ros.video.optical_flow import FlowMotion


@torch.inference_mode()
def stream_miou(
    network: SegmentationNetwork,
    frames: Sequence[LabelledFrame],
    device: torch.device,
    windows: bool = True,
    dense_gap_s: float = 0.0,
) -> float:
    """mIoU over frames in their order, each sequence as one stream: its window is kept over any gap in time.

    A network with keyframes has them as a stream would where frames are at most ``dense_gap_s`` apart, with motion by
    optical flow; over a longer gap every frame is one. Without ``windows`` every frame stands alone, as in a stage on
    single frames.
    """
    matrix = ConfusionMatrix(len(network.info.labels))
    alternates = network.info.keyframe_interval > 1 and windows
    rotation = AlternationSchedule(network.info.subnetworks, network.info.keyframe_interval if alternates else 1)
    state, source, to_network = network.initial_state(), FlowMotion(), NetworkMotion()
    before: LabelledFrame | None = None
    for frame in frames:
        if before is None or frame.sequence != before.sequence or not windows:
            state = network.initial_state()
            source.reset()
        elif alternates and not 0 < frame.timestamp_s - before.timestamp_s <= dense_gap_s:
            source.reset()
        size = (frame.image.shape[0], frame.image.shape[1])
        motion = source.advance(Frame(frame.image, round(frame.timestamp_s * 1e9))) if alternates else None
        plan = rotation.plan(motion)
        image = normalise(_pixels(frame, device), network.info)
        told = None
        if motion is not None and not plan.keyframe:
            told = torch.from_numpy(to_network(motion, size, size)).to(device)
        scale = None if plan.keyframe else network.info.low_resolution
        step = network.step(image, state, plan.subnetwork, plan.keyframe, told, scale)
        rotation.advance(plan)
        if plan.keyframe:
            source.make_keyframe()
        state, before = step.state, frame
        matrix.add(frame.labels, step.scores.argmax(1)[0].to(torch.uint8).cpu().numpy().astype(np.uint8))
    return float(matrix.miou())


def _pixels(frame: LabelledFrame, device: torch.device) -> Tensor:
    """RGB (1, 3, H, W) in 0..1."""
    return torch.from_numpy(frame.image).to(device).permute(2, 0, 1)[None].float() / 255
