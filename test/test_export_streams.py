"""Streams on an export: any number of cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_network import TinyVariant, tiny_weights

from benchmarks.analytic_clip import DriveClip
from tdnet_ros.networks import load_network
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.export import export_network
from tdnet_ros.streaming import Segmentation, Segmenter
from tdnet_ros.video.frame import Frame


def test_an_export_for_two_pictures_serves_any_number_of_cameras(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Second looks at a first frame included, which are single pictures or as many as there are cameras."""
    monkeypatch.setitem(CATALOG, "tiny2", TinyVariant(subnetworks=2))
    weights = tiny_weights("tiny2")
    export_network(load_network("tiny2", weights), tmp_path, (64, 96), batch=2)
    exported, eager = Segmenter(weights=tmp_path), Segmenter("tiny2", weights, "cpu")
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
