"""Starts the segmentation node, and on request a player that acts as its camera and a window with the overlay.

ros2 launch tdnet_ros segment.launch.py image:=/camera/image_raw
ros2 launch tdnet_ros segment.launch.py play:=drive.mp4 overlay:=true
ros2 launch tdnet_ros segment.launch.py cameras:=front=/front/image_raw,left=/left/image_raw
"""

from __future__ import annotations

from typing import Any

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch import LaunchContext, LaunchDescription
from launch.action import Action
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction, SetEnvironmentVariable
from launch.substitutions import EnvironmentVariable, LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from tdnet_ros.node.transport import profile_variable

#: Arguments that go to the node's parameters of the same name; an empty one leaves what params_file says.
_PARAMETERS = {
    "input_transport": "How images arrive: raw, compressed, ffmpeg or foxglove.",
    "model": "Network (`tdnet-ros models` lists them); auto: the one that the weight file is of.",
    "weights": "Weight file of the network.",
    "device": "auto, cpu, cuda or cuda:N.",
    "autostart": "true: configure and activate at start; false: a lifecycle manager does that.",
    "use_sim_time": "true: take the time from /clock.",
}
_SHARE = FindPackageShare("tdnet_ros")


def generate_launch_description() -> LaunchDescription:
    """Environment for large messages first: processes started after it inherit it, a camera driver too."""
    profile = PathJoinSubstitution([_SHARE, "config", "fastdds_shm.xml"])
    return LaunchDescription(
        [
            DeclareLaunchArgument(
                "image",
                default_value="/camera/image_raw",
                description="Topic of the camera's images; compressed transport adds /compressed.",
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
                for name, text in _PARAMETERS.items()
            ),
            DeclareLaunchArgument(
                "play",
                default_value="",
                description="Video file, image folder or rosbag to play as the camera. Empty: there is a camera.",
            ),
            DeclareLaunchArgument(
                "play_transport",
                default_value="",
                description="How the player sends it, e.g. compressed_video. Empty: as input_transport says.",
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

    given: dict[str, Any] = {name: _typed(value(name)) for name in _PARAMETERS if value(name)}
    topics = {"image": value("image")}
    if value("cameras"):
        cameras = [camera.partition("=")[::2] for camera in value("cameras").split(",")]
        if not all(name and topic for name, topic in cameras):
            raise RuntimeError(f"cameras is '{value('cameras')}', expected NAME=TOPIC,NAME=TOPIC...")
        given["cameras"] = [name for name, _ in cameras]
        topics = {f"{name}/image": topic for name, topic in cameras}
    segmentation = Node(
        package="tdnet_ros",
        executable="segmentation_node",
        name="segmentation_node",
        namespace=value("namespace"),
        parameters=[value("params_file"), given],
        remappings=list(topics.items()),
        output="screen",
    )
    actions: list[Action] = [segmentation]
    if value("play"):
        transport = value("play_transport") or value("input_transport") or "raw"
        actions.append(_player(value("play"), transport, value("image"), _typed(value("loop")) is True))
    if _typed(value("overlay")) is True:
        first = f"{given['cameras'][0]}/" if "cameras" in given else ""
        actions.append(_viewer(f"/{value('namespace').strip('/')}/{first}overlay"))
    return actions


def _player(source: str, transport: str, image: str, loop: bool) -> Action:
    return Node(
        package="tdnet_ros",
        executable="player_node",
        name="player",
        parameters=[{"source": source, "transport": transport, "loop": loop}],
        remappings=[("image", image)],
        output="screen",
    )


def _viewer(topic: str) -> Action:
    try:
        get_package_prefix("rqt_image_view")
    except PackageNotFoundError:
        return LogInfo(msg=f"overlay: rqt_image_view is not installed; show {topic} with a viewer of your choice")
    return Node(package="rqt_image_view", executable="rqt_image_view", arguments=[topic])


def _typed(text: str) -> bool | str:
    return {"true": True, "false": False}.get(text.lower(), text)
