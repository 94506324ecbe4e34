"""The node's parameters: one dataclass, documented in one file, checked in one place."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
import yaml

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

from rclpy.parameter import Parameter

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.node.parameters import SegmentationParameters, camera_topics
from tdnet_ros.node.settings import changed, checked, describe

CONFIG = Path(__file__).resolve().parents[1] / "config" / "segmentation.yaml"


def test_the_configuration_file_holds_every_parameter_with_its_default() -> None:
    documented = yaml.safe_load(CONFIG.read_text())["/**"]["ros__parameters"]
    assert documented == asdict(SegmentationParameters())


def test_every_parameter_is_described_and_every_number_has_a_range() -> None:
    for item in fields(SegmentationParameters):
        descriptor = describe(item)
        assert len(descriptor.description) > 20, item.name
        if isinstance(item.default, float):
            assert descriptor.floating_point_range, item.name
        elif isinstance(item.default, int) and not isinstance(item.default, bool):
            assert descriptor.integer_range, item.name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_gap_s": float("nan")}, "parameter 'max_gap_s' is nan, expected 0.001 to 3600.0"),
        ({"threads": 257}, "parameter 'threads' is 257, expected 0 to 256"),
        ({"precision": "int8"}, "parameter 'precision' is 'int8', expected one of auto, fp32, bf16, fp16"),
        ({"warn_rate_hz": -1.0}, "parameter 'warn_rate_hz' is -1.0, expected at least 0.0"),
    ],
)
def test_value_out_of_range_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        checked(replace(SegmentationParameters(), **changes))  # type: ignore[arg-type]


def test_a_scale_too_small_to_be_meant_is_refused() -> None:
    assert replace(SegmentationParameters(), low_resolution=0.5).stream_settings.low_resolution == 0.5
    with pytest.raises(ConfigurationError, match=r"low_resolution is 0\.05, expected 0\.1 to 1"):
        _ = checked(replace(SegmentationParameters(), low_resolution=0.05)).stream_settings


def test_a_working_node_takes_live_changes_only() -> None:
    parameters = SegmentationParameters()
    update = [Parameter("max_gap_s", value=1.0), Parameter("use_sim_time", value=True)]
    after = changed(parameters, update, working=True)
    assert after == replace(parameters, max_gap_s=1.0)
    model = [Parameter("model", value="td4_psp18")]
    with pytest.raises(ConfigurationError, match="'model' is fixed while the node is configured"):
        changed(parameters, model, working=True)
    assert changed(parameters, model, working=False).model == "td4_psp18"


def test_one_wrong_change_refuses_all() -> None:
    parameters = [Parameter("max_gap_s", value=1.0), Parameter("max_back_s", value=0.0)]
    with pytest.raises(ConfigurationError, match="max_back_s"):
        changed(SegmentationParameters(), parameters, working=True)


def test_cameras_of_a_launch_argument() -> None:
    assert camera_topics(" ") == {}
    assert camera_topics("front=/front/image_raw, rig/left = left") == {"front": "/front/image_raw", "rig/left": "left"}


@pytest.mark.parametrize("text", ["front", "=/image", "front=", "front=/a,", "1=/a", "front=/a,front=/b"])
def test_cameras_that_cannot_be_meant_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"cameras is '{text}', expected"):
        camera_topics(text)
