"""Motion between two pictures of a clip as optical flow finds it, where a network is to run without a bitstream."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from tdnet_ros.video.frame import Frame
from tdnet_ros.video.optical_flow import FlowMotion


def measure_motion(earlier: Tensor, later: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) in 0..1 -> motion from the later to the earlier ones, (B, 3, ceil(H/8), ceil(W/8)).

    dx and dy in px and 1 where they can be trusted, found on the CPU in one leap; a stream adds up its own from frame
    to frame.
    """
    fields = []
    for first, second in zip(_bytes(earlier), _bytes(later), strict=True):
        source = FlowMotion(cut_share=1.0)
        source.step(Frame(first))
        field = source.step(Frame(second))
        fields.append(np.concatenate([field.displacement_px.transpose(2, 0, 1), field.valid[None]]))
    return torch.from_numpy(np.stack(fields).astype(np.float32)).to(earlier.device)


def _bytes(pictures: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """(B, H, W, 3)."""
    return (255 * pictures).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous().cpu().numpy()
