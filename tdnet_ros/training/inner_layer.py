"""D_inn of BDNet: the teacher corrects the warped feature itself.

The text that defines D_inn was not at hand. These are the three readings that the poster's word and its purpose, to
correct the tails that warped features draw, allow; none is claimed to be the paper's. The likeliest is ``layer``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import UNLABELLED
from tdnet_ros.networks.layers import lift

READINGS = ("layer", "product", "class")


class InnerDistillation(nn.Module):
    """Distance of the student's warped feature to the teacher's feature of the current frame, both at one grid.

    ``reading``:

    * ``layer``, the hint of an inner layer: D = 1/N sum_i ||phi(F_i) - F^T_i||^2 / C, phi a 1x1 convolution where the
      widths differ (FitNets, Romero et al., ICLR 2015, equation 3; the plain mean squared error between fused and
      high-resolution features is AR-Seg's feature similarity training, CVPR 2023);
    * ``product``, the inner products of channels: D = mean (G^S - G^T)^2, G = F^T F / (h w) (Yim et al., "A gift from
      knowledge distillation", CVPR 2017, equation 1, of one layer with itself);
    * ``class``, the variation inside a class: D = mean (m^S - m^T)^2, m_i the cosine of place i and the mean feature of
      its class in its image (IFVD, Wang et al., ECCV 2020). It needs labels, no phi.
    """

    def __init__(self, reading: str, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        if reading not in READINGS:
            raise ConfigurationError(f"inner is '{reading}', expected one of {list(READINGS)}")
        self.reading = reading
        self.adapt: nn.Module = nn.Identity()
        if reading != "class" and student_channels != teacher_channels:
            self.adapt = nn.Conv2d(student_channels, teacher_channels, 1)

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Features (B, C_s, h, w) and (B, C_t, h', w') and labels (B, H, W) -> loss; none reaches the teacher."""
        teacher = lift(teacher.detach().float(), student)
        adapted = self.adapt(student).float()
        if self.reading == "layer":
            return F.mse_loss(adapted, teacher)
        if self.reading == "product":
            return F.mse_loss(_products(adapted), _products(teacher))
        size = (student.shape[2], student.shape[3])
        small = F.interpolate(labels[:, None].float(), size, mode="nearest")[:, 0].long()
        known = (small != UNLABELLED).float()
        difference = _similarity_to_class(adapted, small) - _similarity_to_class(teacher, small)
        return (difference.square() * known).sum() / known.sum().clamp(min=1)


def _products(feature: Tensor) -> Tensor:
    """(B, C, h, w) -> inner products of channels over the places, (B, C, C)."""
    flat = feature.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def _similarity_to_class(feature: Tensor, labels: Tensor) -> Tensor:
    """(B, C, h, w) and labels (B, h, w) -> cosine of each place with the mean of its class in its image, (B, h, w)."""
    classes = UNLABELLED + 1
    flat, ids = feature.flatten(2), labels.flatten(1)
    index = ids[:, None].expand_as(flat)
    sums = flat.new_zeros(flat.shape[0], flat.shape[1], classes).scatter_add(2, index, flat)
    counts = flat.new_zeros(flat.shape[0], classes).scatter_add(1, ids, torch.ones_like(ids, dtype=flat.dtype))
    means = sums / counts[:, None].clamp(min=1)
    return F.cosine_similarity(flat, means.gather(2, index), dim=1).view_as(labels)
