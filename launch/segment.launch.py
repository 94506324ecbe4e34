"""Starts the segmentation node, and on request a player that acts as its camera and a window with the overlay.

ros2 launch tdnet_ros segment.launch.py image:=/camera/image_raw
ros2 launch tdnet_ros segment.launch.py play:=drive.mp4 overlay:=true
ros2 launch tdnet_ros segment.launch.py cameras:=front=/front/image_raw,left=/left/image_raw
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.evaluation.processes import PARENT_VARIABLE
from tdnet_ros.node.parameters import camera_topics
from tdnet_ros.node.transport import profile_variable

#: Arguments that go to the node's parameters of the same name; an empty one leaves what params_file says.
_TEXTS = {
    "input_transport": "How images arrive: raw, compressed, ffmpeg or foxglove.",
    "model": "Network (`tdnet-ros models` lists them); auto: the one that the weight file is of.",
    "weights": "Weight file of the network.",
    "device": "auto, cpu, cuda or cuda:N.",
}
_SWITCHES = {
    "autostart": "true: configure and activate at start; false: a lifecycle manager does that.",
    "use_sim_time": "true: take the time from /clock; with play, the player tells it.",
}
_SHARE = FindPackageShare("tdnet_ros")
_CLOCK_HZ = 100.0
_RESPAWN_S = 2.0


def generate_launch_description() -> LaunchDescription:
    """Environment for large messages first: processes started after it inherit it, a camera driver too."""
    profile = PathJoinSubstitution([_SHARE, "config", "fastdds_shm.xml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "image",
                default_value="/camera/image_raw",
                description="Topic of the camera's images; transports other than raw add their name, as /compressed.",
            ),
            DeclareLaunchArgument(
                "cameras",
                default_value="",
                description="Several cameras, NAME=TOPIC,NAME=TOPIC...; empty: the one of the argument image.",
            ),
            DeclareLaunchArgument(
                "namespace",
                default_value="segmentation",
                description="Namespace of the node and of what it publishes.",
            ),
            DeclareLaunchArgument(
                "params_file",
                default_value=PathJoinSubstitution([_SHARE, "config", "segmentation.yaml"]),
                description="Parameter file; the default documents every parameter.",
            ),
            *(
                DeclareLaunchArgument(name, default_value="", description=f"{text} Empty: as in params_file.")
                for name, text in {**_TEXTS, **_SWITCHES}.items()
            ),
            DeclareLaunchArgument(
                "respawn",
                default_value="false",
                description="Whether to start the node again when it has ended, as it does when its GPU is gone.",
            ),
            DeclareLaunchArgument(
                "play",
                default_value="",
                description="Video file, image folder or rosbag to play as the camera, or as each. Empty: none.",
            ),
            DeclareLaunchArgument(
                "play_transport",
                default_value="",
                description="How the player sends it, e.g. compressed_video. Empty: as input_transport, or raw.",
            ),
            DeclareLaunchArgument("loop", default_value="false", description="Whether to play it again at its end."),
            DeclareLaunchArgument(
                "overlay", default_value="false", description="Whether to show the overlay in rqt_image_view."
            ),
            SetEnvironmentVariable(profile_variable(), EnvironmentVariable(profile_variable(), default_value=profile)),
            OpaqueFunction(function=_start),
        ]
    )


def _start(context: LaunchContext) -> list[Action]:
    def value(name: str) -> str:
        return LaunchConfiguration(name).perform(context)

    if not Path(value("params_file")).is_file():
        # launch_ros says so too, and then starts the node with the defaults.
        raise ConfigurationError(f"params_file is '{value('params_file')}', expected a file")
    cameras = camera_topics(value("cameras")) or {"": value("image")}
    given: dict[str, Any] = {name: _text(value(name)) for name in _TEXTS if value(name)}
    given |= {name: _truth(name, value(name)) for name in _SWITCHES if value(name)}
    if value("cameras"):
        given["cameras"] = list(cameras)
    # At SIGTERM launch ends and leaves its processes behind: they end with it, unless something else starts them.
    environment = {} if "launch-prefix" in context.launch_configurations else {PARENT_VARIABLE: str(os.getpid())}
    prefixes = {name: f"{name}/" if name else "" for name in cameras}
    segmentation = Node(
        package="tdnet_ros",
        executable="segmentation_node",
        name="segmentation_node",
        namespace=value("namespace"),
        parameters=[value("params_file"), given],
        remappings=[(f"{prefixes[name]}image", topic) for name, topic in cameras.items()],
        additional_env=environment,
        output="screen",
        respawn=_truth("respawn", value("respawn")),
        respawn_delay=_RESPAWN_S,
    )
    actions: list[Action] = [segmentation]
    if value("play"):
        transport = value("play_transport") or value("input_transport") or "raw"
        playback = {
            "source": _text(value("play")),
            "transport": _text(transport),
            "loop": _truth("loop", value("loop")),
        }
        for name, topic in cameras.items():
            tells_time = given.get("use_sim_time", False) and len(actions) == 1  # one clock for all
            actions.append(
                _player(name, topic, playback | ({"clock_hz": _CLOCK_HZ} if tells_time else {}), environment)
            )
    if _truth("overlay", value("overlay")):
        namespace = value("namespace").strip("/")
        actions.append(_viewer(f"{namespace and '/'}{namespace}/{next(iter(prefixes.values()))}overlay"))
    return actions


def _player(camera: str, image: str, playback: dict[str, Any], environment: dict[str, str]) -> Action:
    name = camera.replace("/", "_")
    return Node(
        package="tdnet_ros",
        executable="player_node",
        name=f"{name}_player" if name else "player",
        parameters=[{**playback, "frame_id": _text(camera or "camera")}],
        remappings=[("image", image)],
        additional_env=environment,
        output="screen",
    )


def _viewer(topic: str) -> Action:
    try:
        get_package_prefix("rqt_image_view")
    except PackageNotFoundError:
        return LogInfo(msg=f"overlay: rqt_image_view is not installed; show {topic} with a viewer of your choice")
    return Node(package="rqt_image_view", executable="rqt_image_view", arguments=[topic])


def _text(value: str) -> ParameterValue:
    """Launch reads texts as YAML: a folder named 2024 would be a number, a camera named on a truth."""
    return ParameterValue(value, value_type=str)


def _truth(name: str, value: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise ConfigurationError(f"{name} is '{value}', expected true or false")
    return value.lower() == "true"
