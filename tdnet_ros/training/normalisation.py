"""Images as a network wants them."""

from __future__ import annotations

import torch
from torch import Tensor

from tdnet_ros.networks.info import NetworkInfo


def normalise(images: Tensor, info: NetworkInfo) -> Tensor:
    """RGB images (B, 3, H, W) in 0..1 as that network wants them."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (info.mean, info.std))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)
