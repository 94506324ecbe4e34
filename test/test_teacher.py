"""The grouped teacher: parts that add up to the whole, laid out as the students' paths are."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from lively_weights import make_lively
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.catalog import CATALOG, build_network, network_info
from tdnet_ros.networks.heads import PyramidPooling
from tdnet_ros.networks.layers import fold_batch_norm
from tdnet_ros.networks.single_frame import SingleFrame
from tdnet_ros.networks.variants import Variant
from tdnet_ros.training.teacher import GroupedTeacher, group_of_path


def teacher_network(hidden: int = 24) -> SingleFrame:
    """A small-headed PSPNet18 with seeded weights and batch norm statistics that matter."""
    variant = Variant(summary="a small head", path="pyramid", depth=18, head_channels=hidden)
    network = variant.build(replace(network_info("td4_psp18"), name="psp"))
    assert isinstance(network, SingleFrame)
    image = torch.randn(2, 3, 65, 97, generator=torch.Generator().manual_seed(3))
    make_lively(network, 1, lambda: network.advance(image, network.initial_state()))
    return network


@pytest.fixture(scope="module")
def network() -> SingleFrame:
    return teacher_network()


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.randn(2, 3, 65, 97, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_groups_add_up_to_the_convolution(network: SingleFrame, image: Tensor, groups: int) -> None:
    teacher = GroupedTeacher(network, groups)
    with torch.no_grad():
        whole = network.head.conv.conv(network.path(image).z)
        scores = network.advance(image, network.initial_state()).scores
    shares = teacher.contributions(image)
    assert shares.shape == (2, groups, *whole.shape[1:])
    tolerance = 1e-5 * float(whole.abs().max())
    torch.testing.assert_close(shares.sum(1), whole, rtol=0, atol=tolerance)
    ours = teacher(image)
    assert ours.groups.shape == (2, groups, *scores.shape[1:])
    torch.testing.assert_close(ours.full, scores, rtol=0, atol=1e-5 * float(scores.abs().max()))
    if groups == 1:
        torch.testing.assert_close(ours.groups[:, 0], ours.full)


@pytest.mark.parametrize("groups", [2, 4])
def test_a_group_is_what_a_path_of_that_group_computes(network: SingleFrame, image: Tensor, groups: int) -> None:
    """Each group by itself: the feature of a student's path, and the rows of the 3x3 that belong to it."""
    shares = GroupedTeacher(network, groups).contributions(image)
    channels = network.path.backbone.channels
    with torch.no_grad():
        x = network.path.backbone(image)
        where = torch.arange(2 * channels, dtype=torch.float32).view(1, -1, 1, 1)
        for group in range(groups):
            pyramid = PyramidPooling(channels, group, groups).eval()
            pyramid.load_state_dict(network.path.pyramid.state_dict())
            parts = [where[:, :channels], *where[:, channels:].chunk(4, dim=1)]
            rows = torch.cat([pyramid._share(part) for part in parts], dim=1).flatten().long()
            weight = network.head.conv.conv.weight[:, rows]
            expected = nn.functional.conv2d(pyramid(x), weight, padding=1)
            torch.testing.assert_close(shares[:, group], expected, rtol=0, atol=1e-5 * float(expected.abs().max()))


def test_groups_that_say_the_same_say_what_the_whole_says(network: SingleFrame, image: Tensor) -> None:
    """With all groups alike, G times one of them is the whole sum; one of them alone is not."""
    alike = teacher_network()
    pyramid, conv = alike.path.pyramid, alike.head.conv.conv
    channels = alike.path.backbone.channels
    with torch.no_grad():
        for stage in alike.path.backbone.layer4.modules():  # the second half of the channels repeats the first
            if isinstance(stage, (nn.Conv2d, nn.BatchNorm2d)):
                _repeat_outputs(stage)
        for reduce in pyramid.pooled:
            _repeat_outputs(reduce.conv)
            _repeat_outputs(reduce.norm)
        for start, width in [(0, channels)] + [(channels + index * channels // 4, channels // 4) for index in range(4)]:
            half = width // 2
            conv.weight[:, start + half : start + width] = conv.weight[:, start : start + half]
    ours = GroupedTeacher(alike, 2)(image)
    tolerance = 1e-5 * float(ours.full.abs().max())
    for group in range(2):
        torch.testing.assert_close(ours.groups[:, group], ours.full, rtol=0, atol=tolerance)
    one = GroupedTeacher(alike, 2).contributions(image)[:, 0]
    unscaled = alike.head.classifier(alike.head.conv.activation(alike.head.conv.norm(one)))
    assert (unscaled - ours.full).abs().max() > 0.1 * ours.full.abs().max()


def _repeat_outputs(module: nn.Conv2d | nn.BatchNorm2d) -> None:
    for tensor in (module.weight, module.bias, *(module.buffers() if isinstance(module, nn.BatchNorm2d) else ())):
        if tensor is not None and tensor.dim():
            half = tensor.shape[0] // 2
            tensor[half:] = tensor[:half]


def test_folded_batch_norms_change_nothing(network: SingleFrame, image: Tensor) -> None:
    expected = GroupedTeacher(network, 2)(image)
    folded = teacher_network()
    fold_batch_norm(folded)
    ours = GroupedTeacher(folded, 2)(image)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-4 * float(other.abs().max()))


def test_a_teacher_does_not_learn(image: Tensor) -> None:
    teacher = GroupedTeacher(teacher_network(), 2)
    before = {key: value.clone() for key, value in teacher.state_dict().items()}
    around = nn.ModuleList([teacher]).train()
    first, second = teacher(image), teacher(image)
    assert around.training and not any(module.training for module in teacher.modules())
    assert torch.equal(first.groups, second.groups), "no dropout"
    assert not first.full.requires_grad and not any(p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(value, before[key]) for key, value in teacher.state_dict().items())


def test_paths_learn_from_groups_within_their_channels() -> None:
    assert [group_of_path(path, 2, 4) for path in range(4)] == [0, 2, 1, 3]
    assert [group_of_path(path, 2, 2) for path in range(4)] == [0, 1, 0, 1]
    for feature_groups, teacher_groups in ((2, 4), (2, 2), (4, 4), (1, 4)):
        for path in range(teacher_groups):
            group = group_of_path(path, feature_groups, teacher_groups)
            assert group * feature_groups // teacher_groups == path % feature_groups
        paths = range(teacher_groups)
        assert sorted(group_of_path(path, feature_groups, teacher_groups) for path in paths) == list(paths)
    with pytest.raises(ConfigurationError, match="teacher_groups is 3, expected a multiple of 2"):
        group_of_path(0, 2, 3)


def test_only_pspnets_with_groups_that_fit_can_teach(network: SingleFrame) -> None:
    light = build_network("td2_mnv2")
    detail = SingleFrame(light.subnetwork(0).path, light.subnetwork(0).head, light.info)
    with pytest.raises(ConfigurationError, match="teacher is 'td2_mnv2', expected a single-frame PSPNet"):
        GroupedTeacher(detail, 2)
    half = build_network("td4_psp18").subnetwork(0)
    with pytest.raises(ConfigurationError, match="expected a single-frame PSPNet"):
        GroupedTeacher(SingleFrame(half.path, half.head, network.info), 2)
    for groups in (0, 3):
        with pytest.raises(ConfigurationError, match=f"groups is {groups}, expected a divisor of 128"):
            GroupedTeacher(network, groups)


def test_the_catalog_names_the_groups_that_paths_compute() -> None:
    variant = CATALOG["td4_psp18"]
    student = build_network("td4_psp18")
    for path in range(4):
        group = group_of_path(path, variant.feature_groups, 4)
        assert student.subnetwork(path).path.pyramid.group == group // 2
