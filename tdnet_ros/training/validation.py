"""How a network does on the selection sequence, while it is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.networks import SegmentationNetwork
from tdnet_ros.training.datasets import LabelledFrame
from tdnet_ros.training.normalisation import normalise


@torch.inference_mode()
def stream_miou(
    network: SegmentationNetwork, frames: Sequence[LabelledFrame], device: torch.device, windows: bool = True
) -> float:
    """mIoU over frames in their order, each sequence as one stream: its window is kept over any gap in time.

    Without ``windows`` every frame stands alone, as in a stage on single frames.
    """
    matrix = ConfusionMatrix(len(network.info.labels))
    state, sequence = network.initial_state(), None
    for number, frame in enumerate(frames):
        if frame.sequence != sequence or not windows:
            state, sequence = network.initial_state(), frame.sequence
        pixels = torch.from_numpy(frame.image).to(device).permute(2, 0, 1)[None].float() / 255
        step = network.step(normalise(pixels, network.info), state, number % network.info.subnetworks)
        state = step.state
        matrix.add(frame.labels, step.scores.argmax(1)[0].to(torch.uint8).cpu().numpy().astype(np.uint8))
    return float(matrix.miou())
