"""MobileNetV2 (Sandler et al., CVPR 2018) as a feature extractor at four strides."""

from __future__ import annotations

from torch import Tensor, nn

from tdnet_ros.networks.layers import ConvNorm

#: Expansion, channels, repeats, stride of each stage (table 2 of the paper).
_STAGES = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
#: The stages after which a feature is taken: the last of strides 4, 8, 16 and 32.
_TAPPED = (1, 2, 4, 6)


class InvertedResidual(nn.Module):
    """1x1 expansion, 3x3 depthwise, 1x1 linear projection (section 3.3): (B, Cin, H, W) -> (B, Cout, H/s, W/s)."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand: nn.Module = nn.Identity()
        if expansion != 1:
            self.expand = ConvNorm(inputs, hidden, activation=nn.ReLU6(inplace=True))
        self.dw = ConvNorm(hidden, hidden, 3, stride, groups=hidden, activation=nn.ReLU6(inplace=True), same=True)
        self.project = ConvNorm(hidden, outputs)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.dw(self.expand(x)))
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Image (B, 3, H, W) in [-1, 1] -> features (B, channels[i], H/s, W/s) for the strides s = 4, 8, 16 and 32."""

    #: Channels at strides 4, 8, 16 and 32.
    channels = (24, 32, 96, 320)

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, 3, 2, activation=nn.ReLU6(inplace=True), same=True)
        blocks: list[nn.Module] = []
        inputs = 32
        self.taps: list[int] = []  # index of the last block of a stride
        for stage, (expansion, outputs, repeats, stride) in enumerate(_STAGES):
            for repeat in range(repeats):
                blocks.append(InvertedResidual(inputs, outputs, expansion, stride if repeat == 0 else 1))
                inputs = outputs
            if stage in _TAPPED:
                self.taps.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)

    def forward(self, image: Tensor) -> list[Tensor]:
        x = self.stem(image)
        features: list[Tensor] = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in self.taps:
                features.append(x)
        return features
