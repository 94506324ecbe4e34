"""Puts ImageNet weights into a backbone."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tdnet_ros.errors import CheckpointError
from tdnet_ros.networks.layers import ConvNorm
from tdnet_ros.networks.mobilenet import MobileNetV2


def load_folded_mobilenet(backbone: MobileNetV2, path: Path, images: Tensor) -> None:
    """Load weights whose batch norm was folded into the convolutions, and set the norms so that nothing changes.

    The folded bias is all that is left of a norm. Mean and variance are measured on ``images`` (B, 3, H, W), in
    [-1, 1], and scale and offset are chosen so that the norm undoes its own normalisation: the network computes
    what the file's network computes, and batch norm can be trained from there.
    """
    if not path.is_file():
        raise CheckpointError(f"backbone weights are '{path}', expected an existing file")
    weights = torch.load(path, map_location="cpu", weights_only=True)
    with torch.no_grad():
        for name, module in backbone.named_modules():
            if not isinstance(module, ConvNorm):
                continue
            if f"{name}.weight" not in weights:
                raise CheckpointError(f"{path}: no key '{name}.weight', expected folded MobileNetV2 weights")
            module.conv.weight.copy_(weights[f"{name}.weight"].float())
            module.register_forward_hook(_Calibration(weights[f"{name}.bias"].float()))
        backbone.eval()
        backbone(images)
        for module in backbone.modules():
            module._forward_hooks.clear()


class _Calibration:
    """Forward hook that sets a ConvNorm's batch norm from its input and replaces its output accordingly."""

    def __init__(self, bias: Tensor) -> None:
        self.bias = bias

    def __call__(self, module: ConvNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
        norm = module.norm
        assert isinstance(norm, torch.nn.BatchNorm2d)
        norm.running_mean, norm.running_var = torch.zeros_like(self.bias), torch.ones_like(self.bias)
        norm.weight.fill_((1 + norm.eps) ** 0.5)
        norm.bias.zero_()
        module._forward_hooks.clear()
        activation, module.activation = module.activation, torch.nn.Identity()
        convolved = module(inputs[0])
        module.activation = activation
        mean, variance = convolved.mean((0, 2, 3)), convolved.var((0, 2, 3), unbiased=False)
        norm.running_mean, norm.running_var = mean, variance
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(self.bias + mean)
        calibrated: Tensor = module(inputs[0])
        return calibrated
