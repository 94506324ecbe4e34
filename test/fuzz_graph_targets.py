"""What anybody in the ROS graph can send beside pictures, as fuzz_targets has it: calibrations, parameters, names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import numpy as np
from fuzz_seeds import jpeg_pictures, video_stream
from fuzz_targets import Target
from hostile import EDGES, mutated
from hypothesis import strategies as st

from tdnet_ros.errors import TdnetRosError

#: Of what names of formats and encodings are made.
_PIECES = (
    *("h264", "hevc", "vp9", "av1", "libx264", "jpeg", "png", "rgb8", "bgr8", "mono8", "8UC1", "bayer_rggb8"),
    *("yuv420p", "nv12", "gray", ";", ";;", " ", "; jpeg compressed bgr8", "\0", "\n", "%s", "{}", "\u2028", "é"),
)


def targets() -> dict[str, Callable[[], Target]]:
    """By name, as those of fuzz_targets."""
    return {"names of formats": _names_of_formats, "camera info": _camera_info, "parameters": _parameters}


def _camera_info() -> Target:
    """A calibration is passed on for a mask of any share of the picture, or refused."""
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import CameraInfo
    from std_msgs.msg import Header

    from tdnet_ros.node import camera_info
    from tdnet_ros.video.messages.types import CAMERA_INFO_TYPE, typestore

    info = CameraInfo(height=480, width=640, distortion_model="plumb_bob", d=[0.1, -0.2], header=Header(frame_id="cam"))
    little = bytes(serialize_message(info))
    store = typestore()
    parsed = store.deserialize_cdr(little, CAMERA_INFO_TYPE)
    big = bytes(store.serialize_cdr(parsed, CAMERA_INFO_TYPE, little_endian=False))

    def run(example: tuple[bytes, float]) -> None:
        message, scale = example
        serialize_message(camera_info.scaled(camera_info.camera_info(message), Header(), scale, scale))

    # rclpy's deserialiser reads on behind the end of the last two.
    found = ((b"\0\0\0\1", 1.0), (b"\0\1\0\3\0", 1.0))
    return Target(run, st.tuples(mutated([little, big], 4, 80), st.sampled_from([1.0, 0.5, 0.01])), found)


def _parameters() -> Target:
    """Whatever `set_parameters` asks for: what is taken keeps types, ranges and choices, and the rest has a reason."""
    import rclpy
    from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
    from rcl_interfaces.srv import SetParameters
    from rclpy.parameter_service import ParameterService

    from tdnet_ros.node.segmentation_node import SegmentationNode
    from tdnet_ros.node.settings import checked

    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "OFF"  # nobody's graph should see this node
    rclpy.init()
    node = SegmentationNode()
    names = list(vars(node.parameters))
    fixed = [item.name for item in fields(node.parameters) if not item.metadata["live"]]
    set_parameters = vars(ParameterService)["_set_parameters_callback"]

    def run(example: tuple[bool, list[tuple[str, dict[str, Any]]]]) -> None:
        working, wanted = example
        before = node.parameters
        node._cameras = [SimpleNamespace(change=lambda parameters: None)] if working else []
        request = SetParameters.Request(
            parameters=[Parameter(name=name, value=ParameterValue(**value)) for name, value in wanted]
        )
        answer = set_parameters(node._parameter_service, request, SetParameters.Response())
        assert len(answer.results) == len(wanted)
        assert all(result.successful or result.reason for result in answer.results)
        taken = checked(node.parameters)
        for name in names:
            value = node.get_parameter(name).value
            assert value == getattr(taken, name) and type(value) is type(getattr(before, name)), (name, value)
        assert not working or all(getattr(taken, name) == getattr(before, name) for name in fixed)
        with contextlib.suppress(TdnetRosError):
            assert taken.camera_names
        assert taken.limits.max_gap_s > 0 and taken.stream_settings.cut_threshold > 0

    texts = st.text(max_size=8) | st.sampled_from([*_PIECES, "auto", "cpu", "/nowhere", "x" * 1_000_000])
    numbers = st.floats() | st.sampled_from([0.5, 1.0, -0.0, 1e-300, float("nan"), float("inf")])
    integers = st.integers(-(2**63), 2**63 - 1) | st.integers(0, 8) | st.sampled_from(EDGES)
    contents = {
        ParameterType.PARAMETER_NOT_SET: st.just({}),
        ParameterType.PARAMETER_BOOL: st.fixed_dictionaries({"bool_value": st.booleans()}),
        ParameterType.PARAMETER_INTEGER: st.fixed_dictionaries({"integer_value": integers}),
        ParameterType.PARAMETER_DOUBLE: st.fixed_dictionaries({"double_value": numbers}),
        ParameterType.PARAMETER_STRING: st.fixed_dictionaries({"string_value": texts}),
        ParameterType.PARAMETER_INTEGER_ARRAY: st.fixed_dictionaries(
            {"integer_array_value": st.lists(integers, max_size=3)}
        ),
        ParameterType.PARAMETER_STRING_ARRAY: st.fixed_dictionaries(
            {"string_array_value": st.lists(texts, max_size=3)}
        ),
    }
    # Types that there are not: rclpy raises, which process.py ends with a line in the log (test_faults).
    value = st.sampled_from(sorted(contents)).flatmap(
        lambda kind: contents[kind].map(lambda content: {"type": kind, **content})
    )
    name = st.sampled_from([*names, "bogus", "", "a..b"])
    return Target(run, st.tuples(st.booleans(), st.lists(st.tuples(name, value), min_size=1, max_size=3)))


def _names_of_formats() -> Target:
    """CompressedImage.format and the packets' encodings are anybody's text: a picture comes, or an error of ours."""
    from rclpy.serialization import serialize_message
    from sensor_msgs.msg import CompressedImage

    from tdnet_ros.node.inputs import INPUTS
    from tdnet_ros.video.messages.types import FFMPEG_TYPE, FOXGLOVE_TYPE, typestore

    store, picture, packet = typestore(), jpeg_pictures()[0], video_stream()[0]
    stamp = store.types["builtin_interfaces/msg/Time"](1, 2)
    header = store.types["std_msgs/msg/Header"](stamp, "cam")

    def message(transport: str, name: str, data: bytes) -> bytes:
        content = np.frombuffer(data, np.uint8)
        if transport == "ffmpeg":
            packet = store.types[FFMPEG_TYPE](header, 64, 48, name, 0, 1, False, content)
            return bytes(store.serialize_cdr(packet, FFMPEG_TYPE))
        if transport == "foxglove":
            video = store.types[FOXGLOVE_TYPE](stamp, "cam", content, name)
            return bytes(store.serialize_cdr(video, FOXGLOVE_TYPE))
        return bytes(serialize_message(CompressedImage(format=name, data=data)))

    def run(example: tuple[str, list[tuple[str, bytes]]]) -> None:
        transport, messages = example
        decoder = INPUTS[transport].make_decoder(False)
        for name, data in messages:
            decoder.feed(message(transport, name, data))
            newest = decoder.newest()
            if newest is not None:
                _, frame = newest
                assert frame.image.dtype == np.uint8 and frame.image.size
                decoder.segmented()
        assert all(isinstance(value, str) for value in decoder.facts.values())

    names = st.lists(st.sampled_from(_PIECES) | st.text(max_size=4), max_size=6).map("".join)
    encodings = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=5).map(";".join)
    texts = st.sampled_from(["h264", "jpeg", "x" * 100_000]) | names | encodings
    sent = st.tuples(texts, st.sampled_from([picture, packet]))
    transports = st.sampled_from(["compressed", "ffmpeg", "foxglove"])
    return Target(run, st.tuples(transports, st.lists(sent, min_size=1, max_size=3)))
