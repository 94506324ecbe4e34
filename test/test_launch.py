"""The launch file, as far as it can be tested where launch is: it builds, and says what it takes."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("launch", reason="launch is not installed: it comes with a ROS 2 distribution")
pytest.importorskip("launch_ros", reason="launch_ros is not installed: it comes with a ROS 2 distribution")

from launch import LaunchContext, LaunchDescription
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch_ros.actions import Node
from launch_ros.utilities import evaluate_parameters

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.evaluation.processes import PARENT_VARIABLE

LAUNCH_FILE = Path(__file__).resolve().parents[1] / "launch" / "segment.launch.py"
CONFIG = LAUNCH_FILE.parents[1] / "config" / "segmentation.yaml"
EXPECTED_ARGUMENTS = [
    *("image", "cameras", "namespace", "params_file", "input_transport", "model", "weights", "device", "autostart"),
    *("use_sim_time", "respawn", "play", "play_transport", "loop", "overlay"),
]


@pytest.fixture
def description() -> LaunchDescription:
    spec = importlib.util.spec_from_file_location("segment_launch", LAUNCH_FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.generate_launch_description()


def actions(description: LaunchDescription, **given: str) -> tuple[LaunchContext, list[Any]]:
    """What is started, in its context."""
    context = LaunchContext()
    context.launch_configurations.update({"params_file": str(CONFIG), **given})
    started: list[Any] = []
    for entity in description.entities:
        if isinstance(entity, DeclareLaunchArgument | SetEnvironmentVariable):
            entity.visit(context)
        elif isinstance(entity, OpaqueFunction):
            started += entity.execute(context) or []
    return context, started


def executables(description: LaunchDescription, **given: str) -> list[str]:
    return [action.node_executable for action in actions(description, **given)[1] if isinstance(action, Node)]


def parameters(description: LaunchDescription, **given: str) -> list[dict[str, Any]]:
    """What each process is given beside its parameter file."""
    context, started = actions(description, **given)
    evaluated = [evaluate_parameters(context, action._Node__parameters) for action in started]
    return [dict(values[-1]) for values in evaluated]


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


def test_texts_stay_texts(description: LaunchDescription) -> None:
    node, player = parameters(description, weights="2024", autostart="false", play="1e3", loop="True")
    assert node == {"weights": "2024", "autostart": False}
    assert player == {"source": "1e3", "transport": "raw", "loop": True, "frame_id": "camera"}


def test_each_of_several_cameras_is_played(description: LaunchDescription) -> None:
    cameras = "on=/on/image_raw, rig/left=/left/image_raw"
    node, *players = parameters(description, cameras=cameras, play="drive.mp4", input_transport="ffmpeg")
    assert node == {"input_transport": "ffmpeg", "cameras": ("on", "rig/left")}
    assert [player["frame_id"] for player in players] == ["on", "rig/left"]
    assert {player["transport"] for player in players} == {"ffmpeg"}


def test_processes_end_with_launch(description: LaunchDescription) -> None:
    for given, parent in (({}, str(os.getpid())), ({"launch-prefix": "gdb --args"}, None)):
        context, started = actions(description, play="drive.mp4", **given)
        for action in started:
            added = {name[0].perform(context): value[0].perform(context) for name, value in action.additional_env or []}
            assert added.get(PARENT_VARIABLE) == parent


def test_the_node_alone_is_started_again_and_on_request(description: LaunchDescription) -> None:
    for given, expected in (({}, [False, False]), ({"respawn": "true"}, [True, False])):
        _, started = actions(description, play="drive.mp4", **given)
        assert [action._ExecuteLocal__respawn for action in started] == expected


def test_one_player_tells_simulated_time(description: LaunchDescription) -> None:
    _, *players = parameters(description, cameras="a=/a,b=/b", play="drive.mp4", use_sim_time="true")
    assert [player.get("clock_hz") for player in players] == [100.0, None]


@pytest.mark.parametrize(
    ("namespace", "cameras", "topic"),
    [
        ("/segmentation/", "", "/segmentation/overlay"),
        ("", "", "/overlay"),
        ("rig", "left=/l,right=/r", "/rig/left/overlay"),
    ],
)
def test_the_viewer_is_shown_the_first_overlay(
    description: LaunchDescription, namespace: str, cameras: str, topic: str
) -> None:
    context, (_, viewer) = actions(description, namespace=namespace, cameras=cameras, overlay="true")
    assert isinstance(viewer, LogInfo), "rqt_image_view is installed here"
    assert f" {topic} " in "".join(part.perform(context) for part in viewer.msg)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"params_file": "nowhere.yaml"}, "params_file is 'nowhere.yaml', expected a file"),
        ({"cameras": "front"}, "cameras is 'front', expected NAME=TOPIC"),
        ({"loop": "often", "play": "drive.mp4"}, "loop is 'often', expected true or false"),
        ({"respawn": "yes"}, "respawn is 'yes', expected true or false"),
        ({"autostart": "1"}, "autostart is '1', expected true or false"),
    ],
)
def test_what_cannot_be_meant_is_refused(description: LaunchDescription, given: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        actions(description, **given)
