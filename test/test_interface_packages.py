"""Stand-ins for interface packages that the Python registry lacks: as others on the wire know the real ones."""

from __future__ import annotations

import importlib.util
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")
pytest.importorskip("ffmpeg_image_transport_msgs.msg", reason="interface packages are not installed: make does that")
pytest.importorskip("foxglove_msgs.msg", reason="interface packages are not installed: make does that")
pytest.importorskip("vision_msgs.msg", reason="interface packages are not installed: make does that")

import rclpy
from ffmpeg_image_transport_msgs.msg import FFMPEGPacket
from foxglove_msgs.msg import CompressedVideo
from rclpy.context import Context
from rclpy.serialization import deserialize_message, serialize_message
from running_process import PATIENCE_S
from vision_msgs.msg import LabelInfo, VisionClass

INTERFACES = Path(__file__).with_name("interfaces")

#: The first two are what rosidl_generator_type_description 4.9.5 computes from the upstream definitions:
#: msg/FFMPEGPacket.msg of ros-misc-utilities/ffmpeg_image_transport_msgs at a4b3f19 (Apache-2.0), and
#: ros2/CompressedVideo.msg of foxglove/foxglove-sdk at ca8a1ce (MIT). Comments don't enter into a hash. The others
#: stand so in C code that builds of the real vision_msgs (ros-perception, Apache-2.0) have generated,
#: label_info__description.c and vision_class__description.c; its definitions at e77fa2d give the same.
HASHES = {
    FFMPEGPacket: "648d84e0d33cbf76daf54b094d8f06154b8a24800a19c14371754df799fbaf79",
    CompressedVideo: "32039eafc3770e589c86c4dabff9c392ce9955ebffd43f5f60763011d43d8d1d",
    LabelInfo: "3d37df4015cdf660cc851c51897f2acd957e1ca6205ba0a99aebffb9406b0783",
    VisionClass: "1e4a11f0fed50b5623cb8ff26ca0e37952a48a9c074d16f804b44e9164c2037a",
}


def test_type_hashes_are_those_of_the_real_packages(ros_domain: dict[str, str]) -> None:
    """As the middleware tells them to other participants."""
    context = Context()
    rclpy.init(context=context, domain_id=int(ros_domain["ROS_DOMAIN_ID"]))
    try:
        node = rclpy.create_node("type_hashes", context=context)
        for kind in HASHES:
            node.create_publisher(kind, kind.__name__, 1)
        for kind, expected in HASHES.items():
            deadline = time.monotonic() + PATIENCE_S
            while not (found := node.get_publishers_info_by_topic(kind.__name__)) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert found[0].topic_type_hash.version == 1
            assert bytes(found[0].topic_type_hash.value).hex() == expected, kind.__name__
        node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)


def test_messages_survive_serialisation() -> None:
    packet = FFMPEGPacket(width=640, height=480, encoding="h264;yuv420p;bgr8;bgr8", pts=2**40, flags=1, data=b"\0\0\1")
    video = CompressedVideo(frame_id="camera", data=b"\0\0\1\x65", format="h264")
    info = LabelInfo(class_map=[VisionClass(class_id=0, class_name="road")], threshold=0.5)
    for message in (packet, video, info):
        assert deserialize_message(serialize_message(message), type(message)) == message


def test_real_packages_are_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own may be installed anew, though: a second build found them taken for real ones, and installed none."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    spec = importlib.util.spec_from_file_location("interfaces_setup", INTERFACES / "setup.py")
    assert spec is not None and spec.loader is not None
    setup = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(setup)
    names = ["ffmpeg_image_transport_msgs", "foxglove_msgs", "vision_msgs"]
    assert setup.missing_packages() == names
    (tmp_path / "vision_msgs").mkdir()
    (tmp_path / "vision_msgs" / "__init__.py").write_text("# the real one\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "vision_msgs")
    assert setup.missing_packages() == names[:2]
