"""MobileNetV2 (Sandler et al., CVPR 2018) as a feature extractor with output stride 16."""

from __future__ import annotations

from torch import Tensor, nn

from tdnet_ros.networks.layers import ConvNorm

#: Expansion, channels, repeats, stride of each stage (table 2 of the paper); the last stage keeps stride 16.
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 1), (6, 320, 1, 1))
#: Stages from here on are dilated, in place of the stride that they gave up.
_FIRST_DILATED = 5


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 linear projection (section 3.3): (B, Cin, H, W) -> (B, Cout, H/s, W/s)."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int, dilation: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand: nn.Module = nn.Identity()
        if expansion != 1:
            self.expand = ConvNorm(inputs, hidden, activation=nn.ReLU6(inplace=True))
        self.dw = ConvNorm(
            hidden, hidden, 3, stride, dilation, groups=hidden, activation=nn.ReLU6(inplace=True), same=True
        )
        self.project = ConvNorm(hidden, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.dw(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Image (B, 3, H, W) in [-1, 1] -> features (B, 24, H/4, W/4), (B, 32, H/8, W/8), (B, 320, H/16, W/16)."""

    #: Channels at strides 4, 8 and 16.
    channels = (24, 32, 320)

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, 2, activation=nn.ReLU6(inplace=True), same=True)
        blocks: list[nn.Module] = []
        inputs = 32
        self.taps: list[int] = []  # index of the last block of a stride
        for stage, (expansion, outputs, repeats, stride) in enumerate(_STAGES):
            dilation = 2 if stage >= _FIRST_DILATED else 1
            for repeat in range(repeats):
                blocks.append(InvertedResidual(inputs, outputs, expansion, stride if repeat == 0 else 1, dilation))
                inputs = outputs
            if stage in (1, 2):
                self.taps.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(image)
        details: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                details.append(x)
        return details[0], details[1], x
