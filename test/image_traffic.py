"""Two ends of an image stream as processes of their own: `python -m image_traffic send|receive COUNT`.

Each image waits for the word that the one before has arrived, so that what a slow machine overtakes is not taken for
what the transport loses.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from tdnet_ros.node.transport import IMAGE_INPUT, tune_allocator, use_shared_memory_profile
from tdnet_ros.video.messages.cdr import peek_header, serialize_image

TOPIC, ARRIVED = "image", "arrived"
WIDTH, HEIGHT = 1280, 720
# Best effort: what the transport loses stays lost.
_OUTPUT = QoSProfile(depth=1, history=HistoryPolicy.KEEP_LAST, reliability=ReliabilityPolicy.BEST_EFFORT)
#: For the other side to be found, and for one image to arrive before it counts as lost.
_MATCH_S, _LOST_S = 120.0, 3.0


def say(line: str) -> None:
    """A line for the test that started this process."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def send(count: int) -> None:
    """Publish ``count`` numbered rgb8 images as soon as there is a subscriber; say how many have arrived."""
    node = rclpy.create_node("sender")
    publisher = node.create_publisher(Image, TOPIC, _OUTPUT)
    arrived: set[int] = set()
    node.create_subscription(Header, ARRIVED, lambda header: arrived.add(header.stamp.sec), count)

    def wait_for(condition: Callable[[], bool], patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while not condition() and time.monotonic() < deadline:
            rclpy.spin_once(node, timeout_sec=0.02)

    image = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)

    def sent(number: int) -> bool:
        publisher.publish(serialize_image(number, 0, "camera", HEIGHT, WIDTH, "rgb8", 3 * WIDTH, image))
        wait_for(lambda: number in arrived, _LOST_S)
        return number in arrived

    wait_for(lambda: publisher.get_subscription_count() > 0 and node.count_publishers(ARRIVED) > 0, _MATCH_S)
    deadline = time.monotonic() + _MATCH_S
    while not sent(0) and time.monotonic() < deadline:  # the other side has to match us as well
        pass
    say("sending")
    say(f"arrived {sum(sent(number) for number in range(1, count + 1))}")
    while publisher.get_subscription_count() > 0:
        rclpy.spin_once(node, timeout_sec=0.05)


def receive(count: int) -> None:
    """Tell the sender of every image that arrives, until SIGINT."""
    node = rclpy.create_node("receiver")
    answers = node.create_publisher(Header, ARRIVED, count)

    def arrived(message: bytes) -> None:
        answer = Header()
        answer.stamp.sec = peek_header(message)[0]
        answers.publish(answer)

    node.create_subscription(Image, TOPIC, arrived, IMAGE_INPUT, raw=True)
    say("listening")
    with contextlib.suppress(KeyboardInterrupt, ExternalShutdownException):
        rclpy.spin(node)


def main() -> None:
    role, count = sys.argv[1], int(sys.argv[2])
    say(str(asdict(use_shared_memory_profile())))
    tune_allocator()
    rclpy.init()
    {"send": send, "receive": receive}[role](count)
    rclpy.try_shutdown()


if __name__ == "__main__":
    main()
