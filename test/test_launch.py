"""The launch file, as far as it can be tested where launch is: it builds, and says what it takes."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest

pytest.importorskip("launch", reason="launch is not installed: it comes with a ROS 2 distribution")
pytest.importorskip("launch_ros", reason="launch_ros is not installed: it comes with a ROS 2 distribution")

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, OpaqueFunction, SetEnvironmentVariable

LAUNCH_FILE = Path(__file__).resolve().parents[1] / "launch" / "segment.launch.py"
EXPECTED_ARGUMENTS = [
    *("image", "cameras", "namespace", "params_file", "input_transport", "model", "weights", "device", "autostart"),
    *("use_sim_time", "play", "play_transport", "loop", "overlay"),
]


@pytest.fixture
def description() -> LaunchDescription:
    spec = importlib.util.spec_from_file_location("segment_launch", LAUNCH_FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def executables(description: LaunchDescription, **given: str) -> list[str]:
    context = LaunchContext()
    context.launch_configurations.update(given)
    names: list[str] = []
    for entity in description.entities:
        if isinstance(entity, DeclareLaunchArgument | SetEnvironmentVariable):
            entity.visit(context)
        elif isinstance(entity, OpaqueFunction):
            names += [action.node_executable for action in entity.execute(context)]  # type: ignore[union-attr]
    return names


def test_every_argument_is_described(description: LaunchDescription) -> None:
    arguments = [entity for entity in description.entities if isinstance(entity, DeclareLaunchArgument)]
    assert [argument.name for argument in arguments] == EXPECTED_ARGUMENTS
    assert all(len(argument.description) > 15 for argument in arguments)


def test_the_player_comes_on_request(description: LaunchDescription) -> None:
    assert executables(description) == ["segmentation_node"]
    assert executables(description, play="drive.mp4") == ["segmentation_node", "player_node"]


def test_processes_inherit_the_shared_memory_profile(
    description: LaunchDescription, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FASTDDS_DEFAULT_PROFILES_FILE", raising=False)
    executables(description)
    assert os.environ["FASTDDS_DEFAULT_PROFILES_FILE"].endswith("config/fastdds_shm.xml")
