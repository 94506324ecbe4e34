"""Two ends of an image stream as processes of their own: `python -m image_traffic send|receive COUNT`."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict

import numpy as np
import rclpy
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from tdnet_ros.node.cdr import peek_header, serialize_image
from tdnet_ros.node.transport import IMAGE_INPUT, tune_allocator, use_shared_memory_profile

TOPIC = "image"
WIDTH, HEIGHT, RATE_HZ = 1280, 720, 30.0
# Best effort: what the transport loses stays lost.
_OUTPUT = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
_MATCH_S, _SILENCE_S = 20.0, 2.0


def say(line: str) -> None:
    """A line for the test that started this process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def send(count: int) -> None:
    """Publish ``count`` numbered rgb8 images as soon as there is a subscriber."""
    node = rclpy.create_node("sender")
    publisher = node.create_publisher(Image, TOPIC, _OUTPUT)
    deadline = time.monotonic() + _MATCH_S
    while publisher.get_subscription_count() == 0 and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # the other side has to match us as well
    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
    say("sending")
    due = time.monotonic()
    for number in range(count):
        publisher.publish(serialize_image(number, 0, "camera", HEIGHT, WIDTH, "rgb8", 3 * WIDTH, image))
        due += 1 / RATE_HZ
        time.sleep(max(due - time.monotonic(), 0))
    say(f"sent {count}")
    while publisher.get_subscription_count() > 0:
        time.sleep(0.05)


def receive(count: int) -> None:
    """Count images until all are there or nothing has come for a while."""
    node = rclpy.create_node("receiver")
    numbers: set[int] = set()
    last_arrival = time.monotonic() + _MATCH_S

    def arrived(message: bytes) -> None:
        nonlocal last_arrival
        numbers.add(peek_header(message)[0])
        last_arrival = time.monotonic()

    node.create_subscription(Image, TOPIC, arrived, IMAGE_INPUT, raw=True)
    say("listening")
    while len(numbers) < count and time.monotonic() < last_arrival + _SILENCE_S:
        rclpy.spin_once(node, timeout_sec=0.1)
    say(f"received {len(numbers)}")


def main() -> None:
    role, count = sys.argv[1], int(sys.argv[2])
    say(str(asdict(use_shared_memory_profile())))
    tune_allocator()
    rclpy.init()
    {"send": send, "receive": receive}[role](count)
    rclpy.shutdown()


if __name__ == "__main__":
    main()
