"""Streams on an export: any number of cameras, and no frames between keyframes but the exported ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tiny_network import TinyVariant, tiny_weights

from benchmarks.analytic_clip import DriveClip
from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import load_network
from tdnet_ros.networks.catalog import CATALOG, network_info
from tdnet_ros.networks.export import export_network
from tdnet_ros.streaming import Segmentation, Segmenter, StreamSettings
from tdnet_ros.video.frame import Frame


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An export for two pictures of a tiny network, which stands in the catalog meanwhile."""
    folder = tmp_path_factory.mktemp("export")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "tiny2", TinyVariant(subnetworks=2))
        export_network(load_network("tiny2", tiny_weights("tiny2")), folder, (64, 96), batch=2)
        yield folder


def test_an_export_for_two_pictures_serves_any_number_of_cameras(folder: Path) -> None:
    """Second looks at a first frame included, which are single pictures or as many as there are cameras."""
    exported, eager = Segmenter(weights=folder), Segmenter("tiny2", tiny_weights("tiny2"), "cpu")
    for cameras in (1, 2, 3):
        exported.warm_up(64, 96, cameras)
        streams = [[segmenter.stream() for _ in range(cameras)] for segmenter in (exported, eager)]
        clips = [DriveClip(64, 96, seed=seed) for seed in range(cameras)]
        for index in range(3):
            frames = [Frame(clip.picture(index), stamp_ns=index + 1) for clip in clips]
            found, expected = (
                segmenter.step_together(list(zip(own, frames, strict=True)))
                for segmenter, own in zip((exported, eager), streams, strict=True)
            )
            for ours, theirs in zip(found, expected, strict=True):
                assert isinstance(ours, Segmentation) and isinstance(theirs, Segmentation), (ours, theirs)
                assert np.mean(ours.mask != theirs.mask) < 2e-3


def test_frames_between_keyframes_that_were_not_exported_are_refused_before_there_are_any(folder: Path) -> None:
    exported = Segmenter(weights=folder)
    exported.check(StreamSettings(keyframe_interval=1, low_resolution=0.3))
    with pytest.raises(ConfigurationError, match=r"has no frames between keyframes.*keyframe_interval 0 or 1"):
        exported.check(StreamSettings(keyframe_interval=3))
    with pytest.raises(ConfigurationError, match="has no frames between keyframes"):
        Segmenter(weights=folder, settings=StreamSettings(keyframe_interval=3))


def test_of_an_export_with_keyframes_the_scales_are_named() -> None:
    network, there = network_info("tdar_mnv2"), frozenset({0.5})
    for fits in (StreamSettings(), StreamSettings(4, 0.5), StreamSettings(1, 0.3, latency_budget_ms=50)):
        fits.check_scales(network, there)
    for other in (StreamSettings(low_resolution=0.4), StreamSettings(latency_budget_ms=50)):
        with pytest.raises(
            ConfigurationError, match=r"has 0\.5.*expected low_resolution 0 or one of them, and latency"
        ):
            other.check_scales(network, there)
        other.check_scales(network, None)  # an engine that makes them ready when they come
    StreamSettings(latency_budget_ms=50).check_scales(network_info("carried_mnv2"), frozenset({1.0}))


def test_a_budget_that_changes_nothing_is_said_to() -> None:
    budget = StreamSettings(latency_budget_ms=50)
    (remark,) = budget.remarks(network_info("td2_mnv2"))
    assert "latency_budget_ms is 50" in remark and "'td2_mnv2' computes every frame in full" in remark
    assert budget.remarks(network_info("tdar_mnv2")) == budget.remarks(network_info("carried_mnv2")) == []
    assert StreamSettings(3, latency_budget_ms=50).remarks(network_info("td2_mnv2")) == []
    assert StreamSettings().remarks(network_info("td2_mnv2")) == []
