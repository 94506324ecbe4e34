"""The type hash of FrameLatency as other ROS participants see it, from a process of a given installation."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

# What goes over the wire is what counts, so the hash is asked of the middleware and not of a generated file.
PRINT_TYPE_HASH = """
import rclpy
from rclpy.serialization import deserialize_message, serialize_message

from tdnet_ros.msg import FrameLatency

sent = FrameLatency(camera="front", sequence=2**40, scale=0.5, keyframe=True, age_ms=float("nan"))
sent.header.stamp.nanosec = 999_999_999
assert repr(deserialize_message(serialize_message(sent), FrameLatency)) == repr(sent)

rclpy.init()
node = rclpy.create_node("type_hash")
publisher = node.create_publisher(FrameLatency, "latency", 1)
endpoints = []
while not endpoints:
    rclpy.spin_once(node, timeout_sec=0.05)
    endpoints = node.get_publishers_info_by_topic("latency")
print(f"RIHS{endpoints[0].topic_type_hash.version:02}_{bytes(endpoints[0].topic_type_hash.value).hex()}")
"""


def type_hash(python: list[str], environment: Mapping[str, str], working_dir: Path) -> str:
    """The hash ("RIHS01_..."), after a round trip of a message through that installation's serialisation."""
    result = subprocess.run(
        [*python, "-c", PRINT_TYPE_HASH],
        env=dict(environment),
        cwd=working_dir,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()
