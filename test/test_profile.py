"""The profile accounts for a step's whole time, knows the network's modules, and leaves no trace in the network."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from recordings import write_folder

from tdnet_ros.cli import main
from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.profile import OTHER, Profile, format_profile, profile_frames
from tdnet_ros.streaming import Segmenter
from tdnet_ros.video.frame import Frame


@pytest.fixture(scope="module")
def segmenter() -> Segmenter:
    return Segmenter(device="cpu", input_height=96, runtime="eager")


def pictures(count: int) -> list[Frame]:
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    return [Frame(np.roll(noise, index, axis=1), 1 + index * 33_000_000) for index in range(count)]


def test_stages_and_modules_are_those_of_the_network(segmenter: Segmenter) -> None:
    found = profile_frames(segmenter, pictures(7), 3, depth=4)
    assert set(found.stages) == {"preprocess", "motion", "network", "postprocess", OTHER}
    assert all(len(values) == 3 for values in found.stages.values())
    assert all(value > 0 for value in found.stages["network"])
    names = [module.name for module in found.modules]
    known = [name for name, _ in segmenter.network.named_modules()]
    assert len(names) > 3 and names == [name for name in known if name in set(names)], "in the network's order"
    assert all(module.calls > 0 and module.ms > 0 for module in found.modules)
    assert max(name.count(".") for name in names) == 3
    # A module's time holds those of its own modules.
    for outer in found.modules:
        inner = [module.ms for module in found.modules if module.name.startswith(f"{outer.name}.")]
        assert sum(inner) <= 1.001 * outer.ms
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in segmenter.network.modules())


def test_too_few_frames_are_refused(segmenter: Segmenter) -> None:
    with pytest.raises(SourceError, match="there are 5 frames, expected at least 7"):
        profile_frames(segmenter, islice(pictures(7), 5), 3)


def test_a_runtime_without_modules_says_so() -> None:
    said = format_profile(Profile(1, {"network": [2.0], "motion": [float("nan")]}, []))
    assert "network" in said and "motion" not in said and "does not run them one by one" in said


def test_the_command_prints_both_and_writes_a_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folder(tmp_path / "drive", 7)
    trace = tmp_path / "trace.json"
    options = ["--frames", "2", "--input-height", "96", "--trace", str(trace), "--depth", "3"]
    assert main(["profile", str(tmp_path / "drive"), *options]) == 0
    said = capsys.readouterr().out
    assert "2 frames of 64x48" in said and "preprocess" in said and "share" in said
    assert any("module: " in event.get("name", "") for event in json.loads(trace.read_text())["traceEvents"])
