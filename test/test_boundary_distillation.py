"""BDNet's losses against their definitions: boundary stream, pair-wise and inner distillation."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import UNLABELLED
from tdnet_ros.networks import build_network
from tdnet_ros.networks.bdnet import BDNet
from tdnet_ros.training.boundary_loss import boundary_labels, class_balanced_loss
from tdnet_ros.training.boundary_stream import GatedBoundaryStream, SideFeatures
from tdnet_ros.training.inner_layer import InnerDistillation
from tdnet_ros.training.pairwise import pairwise_distillation


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_boundaries_are_where_classes_meet_and_void_hides_them() -> None:
    labels = torch.zeros(1, 9, 12, dtype=torch.uint8)
    labels[:, :, 4:] = 1
    labels[:, 6:] = UNLABELLED
    found = boundary_labels(labels, width_px=1)[0]
    assert found[0].tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0]
    assert found[3].tolist() == found[0].tolist()
    assert found[4].tolist() == [255, 255, 1, 1, 1, 1, 255, 255, 255, 255, 255, 255]  # void is 2 px away
    assert bool((found[6:] == UNLABELLED).all())
    thin = boundary_labels(labels, width_px=0)[0]
    assert thin[0].tolist() == [0, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0]
    assert not bool((boundary_labels(torch.full((1, 4, 4), 3)) != 0).any())
    assert bool((boundary_labels(torch.full((1, 4, 4), UNLABELLED)) == UNLABELLED).all())


def test_boundary_loss_is_balanced_over_known_pixels() -> None:
    logits = random(2, 1, 6, 7, seed=1).requires_grad_()
    boundary = torch.randint(0, 5, (2, 6, 7), generator=torch.Generator().manual_seed(2))
    boundary = torch.where(boundary == 0, 1, torch.where(boundary == 4, UNLABELLED, 0)).to(torch.uint8)
    edges, others = int((boundary == 1).sum()), int((boundary == 0).sum())
    beta = others / (edges + others)
    expected = 0.0
    for logit, label in zip(logits.flatten().tolist(), boundary.flatten().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        expected -= {1: beta * math.log(p), 0: (1 - beta) * math.log(1 - p), UNLABELLED: 0.0}[label]
    loss = class_balanced_loss(logits, boundary)
    assert float(loss.detach()) == pytest.approx(expected / (edges + others), rel=1e-5)
    loss.backward()
    assert logits.grad is not None and not logits.grad[:, 0][boundary == UNLABELLED].any()
    assert float(class_balanced_loss(logits, torch.full((2, 6, 7), UNLABELLED, dtype=torch.uint8)).detach()) == 0


def test_the_stream_is_its_equations() -> None:
    """With the 1x1 convolution of the gate taken over the two features beside each other, as the paper writes it."""
    torch.manual_seed(3)
    stream = GatedBoundaryStream((4, 6), channels=5).eval()
    fine, coarse = random(1, 4, 8, 10, seed=4), random(1, 6, 4, 5, seed=5)
    begun = stream.enter(fine)
    raised = F.interpolate(coarse, (8, 10), mode="bilinear", align_corners=False)
    joint = nn.Conv2d(11, 1, 1)
    of_stream, of_side = stream.gate_stream[0], stream.gate_side[0]
    with torch.no_grad():
        joint.weight.copy_(torch.cat([of_stream.weight, of_side.weight], 1))
        joint.bias.copy_(of_stream.bias)
    gate = torch.sigmoid(joint(torch.cat([begun, raised], 1)))
    expected = stream.leave(stream.residual[0](begun * (1 + gate)))
    torch.testing.assert_close(stream([fine, coarse]), expected)
    with pytest.raises(ConfigurationError, match="at least two"):
        GatedBoundaryStream((4,))


@pytest.mark.parametrize("model", ["bdnet18", "bdnet_mnv2"])
def test_the_stream_reaches_the_trunk_alone_and_leaves_no_trace(model: str) -> None:
    """Its gradients reach the shared stages and not the head; the network's weights and hooks are what they were."""
    network = build_network(model)
    assert isinstance(network, BDNet)
    before = list(network.state_dict())
    sides = SideFeatures(network.trunk)
    stream = GatedBoundaryStream(sides.widths)
    picture, labels = random(2, 3, 64, 64), torch.randint(0, 3, (2, 64, 64))
    with sides.listening() as features:
        network.trunk(picture)
        network.trunk(picture)  # the newest count
        assert [feature.shape[1] for feature in features] == list(sides.widths)
        class_balanced_loss(stream(features), boundary_labels(labels)).backward()
    assert next(network.trunk.parameters()).grad is not None
    assert all(parameter.grad is None for parameter in network.head.parameters())
    assert list(network.state_dict()) == before
    assert not any(module._forward_hooks for module in network.modules())
    with pytest.raises(ConfigurationError, match="no ResNet or MobileNetV2"):
        SideFeatures(network.head)


def test_pairwise_distillation_compares_similarities_of_nodes() -> None:
    student, teacher = random(2, 5, 4, 8, seed=6).requires_grad_(), random(2, 9, 8, 16, seed=7).requires_grad_()
    expected = 0.0
    for image in range(2):
        maps = []
        for feature in (student, teacher):
            pooled = F.adaptive_avg_pool2d(feature[image].detach(), (2, 4)).flatten(1).T
            maps.append([[float(F.cosine_similarity(a, b, dim=0)) for b in pooled] for a in pooled])
        expected += float((torch.tensor(maps[0]) - torch.tensor(maps[1])).square().sum()) / 8**2 / 2
    loss = pairwise_distillation(student, teacher, nodes=8)
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-4)
    loss.backward()
    assert student.grad is not None and bool(student.grad.any()) and teacher.grad is None
    assert float(pairwise_distillation(student, 3 * student, nodes=8).detach()) == pytest.approx(0, abs=1e-9)
    with pytest.raises(ConfigurationError, match="of 1 images, expected 2"):
        pairwise_distillation(student, teacher[:1])


def test_inner_distillation_has_three_readings() -> None:
    student, teacher, labels = random(1, 4, 4, 4, seed=8), random(1, 4, 4, 4, seed=9), torch.zeros(1, 8, 8)
    labels[:, 4:] = 1
    labels[:, :2] = UNLABELLED
    layer = InnerDistillation("layer", 4, 4)
    assert not list(layer.parameters()), "features of one width need no convolution between them"
    assert float(layer(student, teacher, labels)) == pytest.approx(float((student - teacher).square().mean()), rel=1e-5)
    gram = [torch.einsum("bchw,bdhw->bcd", x, x) / 16 for x in (student, teacher)]
    product = InnerDistillation("product", 4, 4)(student, teacher, labels)
    assert float(product) == pytest.approx(float((gram[0] - gram[1]).square().mean()), rel=1e-4)
    cosines = []
    for x in (student, teacher):
        upper, lower = x[0, :, 1], x[0, :, 2:].flatten(1)
        of_class = [F.cosine_similarity(part, part.mean(1, keepdim=True), dim=0) for part in (upper, lower)]
        cosines.append(torch.cat(of_class))
    inside = InnerDistillation("class", 4, 4)(student, teacher, labels)
    assert float(inside) == pytest.approx(float((cosines[0] - cosines[1]).square().mean()), rel=1e-4)
    wide = InnerDistillation("layer", 4, 7)
    assert float(wide(student, random(1, 7, 8, 8), labels).detach()) > 0 and len(list(wide.parameters())) == 2
    with pytest.raises(ConfigurationError, match=r"inner is 'outer', expected one of"):
        InnerDistillation("outer", 4, 4)
