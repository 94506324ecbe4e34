"""What a camera node meets in the field, one test for each row of docs/faults.md that no other test has.

One node lives through all of them, one after the other. A test is sent undisturbed images first and last, so that the
next one finds the node as this one did: segmenting, its window full.
"""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

from faulty_node import EXCEPTION, GONE, OUT_OF_MEMORY, SLOW
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from rosgraph_msgs.msg import Clock
from segmentation_graph import (
    PERIOD_NS,
    Graph,
    image,
    segmentation_graph,
    stamp_of,
    wait_for,
)
from sensor_msgs.msg import Image

from tdnet_ros.msg import FrameLatency

#: Sub-networks of the network under test: so many frames after a reset the window is full.
WINDOW = 2


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    with segmentation_graph(module="faulty_node") as running:
        yield running


@pytest.fixture(autouse=True)
def steady(graph: Graph) -> Iterator[None]:
    """Before and after each test masks come, and at the latest the window's last frame is warm."""
    for wanted in range(2):
        told = [graph.latency_of(stamp_of(graph.mask_of(image(index)))) for index in range(WINDOW)]
        assert told[-1].warm, f"{'after' if wanted else 'before'}: {[message.reason for message in told]}"
        if not wanted:
            yield


def marked(pixel: tuple[int, int, int], index: int = 0) -> Image:
    """An image that sets off a fault."""
    message = image(index)
    message.data = bytes(pixel) + bytes(message.data)[3:]
    return message


def told(graph: Graph, message: Image, stamp_ns: int | None = None) -> FrameLatency:
    """What the node says of the frame whose mask it is."""
    return graph.latency_of(stamp_of(graph.mask_of(message, stamp_ns)))


def now(graph: Graph) -> dict[str, str]:
    return graph.status(lambda status: True, "diagnostics")


@pytest.mark.parametrize(
    ("pixel", "said"),
    [
        (OUT_OF_MEMORY, "OutOfMemoryError: CUDA out of memory"),
        (EXCEPTION, "ZeroDivisionError: in the middle of the network"),
    ],
    ids=["out of memory", "exception"],
)
def test_what_fails_in_the_network_costs_its_frame_and_empties_the_window(
    graph: Graph, pixel: tuple[int, int, int], said: str
) -> None:
    failures = int(now(graph)["failures"])
    lost = graph.send(marked(pixel))
    status = graph.status(lambda status: int(status["failures"]) == failures + 1, "the failure")
    assert status["level"] == "1" and status["message"].startswith(said) and status["last error"].startswith(said)
    first = told(graph, image(1))
    assert not first.warm and first.reason == f"reset: {said.split(':')[0]} while segmenting"
    assert told(graph, image(2)).warm
    assert lost not in [stamp_of(mask) for mask in graph.masks]


@pytest.mark.parametrize(
    "encoding",
    ["yuv422", "yuv422_yuy2", "nv12", "bayer_rggb8", "bayer_grbg16", "mono16", "rgba8", "rgb16"],
)
def test_every_encoding_of_cameras_gives_masks_and_begins_a_new_window(graph: Graph, encoding: str) -> None:
    from tdnet_ros.video.messages.encodings import CONVERTED

    layout = CONVERTED[encoding]
    step = 120 * layout.pixel_bytes
    data = np.random.default_rng(0).integers(0, 256, int(step * 90 * layout.rows), np.uint8).tobytes()
    wide = layout.pixel_bytes > layout.channels
    message = Image(height=90, width=120, encoding=encoding, step=step, is_bigendian=int(wide), data=data)
    mask = graph.mask_of(message)
    assert (mask.height, mask.width, mask.encoding, mask.step) == (90, 120, "mono8", 120)
    assert graph.latency_of(stamp_of(mask)).reason == f"reset: encoding changed from rgb8 to {encoding}"


def test_bytes_that_are_no_message_are_refused(graph: Graph) -> None:
    """As a broken or hostile publisher sends them: cut off, with lengths beyond their end, of other encapsulations."""
    whole = bytes(serialize_message(image(0)))
    broken = [whole[:length] for length in (4, 10, 30, 60, len(whole) - 8)]
    broken += [whole[:start] + b"\xff" * 4 + whole[start + 4 :] for start in (12, 32)]
    broken += [b"\0\0" + whole[2:], b"\x13\x37" + whole[2:], b"\0\0\0I", b"\0\0\0\3\0"]
    rejected = int(now(graph)["images rejected"])
    for count, message in enumerate(broken, 1):
        graph.camera.publish(message)
        status = graph.status(
            lambda status, count=count: int(status["images rejected"]) == rejected + count, f"the refusal of {count}"
        )
        assert status["level"] == "1"
        graph.mask_of(image(count))


def test_another_frame_id_is_another_camera(graph: Graph) -> None:
    message = image(0)
    message.header.frame_id = "rear_optical"
    assert told(graph, message).reason == "reset: frame_id changed from camera_optical to rear_optical"


def test_stamps_that_jump_ahead_and_return_give_masks_all_the_way(graph: Graph) -> None:
    ahead_ns = [graph.next_stamp() + 5_000_000_000 for _ in range(3)]
    reasons = [told(graph, image(index), stamp_ns).reason for index, stamp_ns in enumerate(ahead_ns)]
    assert reasons[0].startswith("reset: gap of 5.") and not any("reset" in reason for reason in reasons[1:])
    assert told(graph, image(3)).reason.startswith("reset: stamps went back by 4.9")
    assert told(graph, image(4)).warm


def test_stamps_that_stand_still_reset_after_three(graph: Graph) -> None:
    """As of a camera whose clock has stopped: two are dropped, then the node believes them."""
    stale, last_ns = int(now(graph)["stale stamps"]), graph.stamp_ns
    for count in (1, 2):
        graph.send(image(count), last_ns - PERIOD_NS // 4)
        graph.status(lambda status, count=count: int(status["stale stamps"]) == stale + count, "the stale stamp")
    message = told(graph, image(3), last_ns - PERIOD_NS // 4)
    assert message.reason == "reset: stamps went back 3 times running"


def test_publisher_that_restarts_begins_a_new_window(graph: Graph) -> None:
    graph.restart_camera()
    message = told(graph, image(0))
    assert message.reason.startswith("reset: publisher changed from ") and not message.warm


def test_two_publishers_are_reported_and_never_share_a_window(graph: Graph) -> None:
    other = graph.node.create_publisher(Image, "image", 10)
    wait_for(lambda: other.get_subscription_count() == 1, "the node's subscription to the other", graph)
    status = graph.status(lambda status: status["publishers"] == "2", "the second publisher")
    resets = int(status["resets"])
    for index in range(2):
        stamp_ns = graph.next_stamp()
        message = image(index)
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
        message.header.frame_id = "camera_optical"
        other.publish(message)
        assert graph.latency_of(stamp_ns).reason.startswith("reset: publisher changed")
        assert told(graph, image(index)).reason.startswith("reset: publisher changed")
    graph.node.destroy_publisher(other)
    status = graph.status(lambda status: status["publishers"] == "1", "one publisher")
    assert int(status["resets"]) == resets + 4


def test_overload_costs_frames_and_never_time(graph: Graph) -> None:
    """Three times as many images as the network can take: the newest one is next, however many came meanwhile."""
    before = now(graph)
    stamps = []
    for index in range(24):
        stamps.append(graph.send(marked(SLOW, index)))
        time.sleep(0.4 / 3)  # the network takes SLOW_S for one of them
    wait_for(lambda: any(stamp_of(mask) == stamps[-1] for mask in graph.masks), "the newest mask", graph)
    done = [stamp_of(mask) for mask in graph.masks if stamp_of(mask) in set(stamps)]
    assert done == sorted(done) and 3 <= len(done) <= 12
    status = graph.status(
        lambda status: int(status["images received"]) - int(before["images received"]) == len(stamps), "all images"
    )
    counts = {name: int(status[name]) - int(before[name]) for name in ("dropped for a newer image", "masks published")}
    assert sum(counts.values()) == len(stamps)


def test_subscriber_that_does_not_read_holds_nobody_up(graph: Graph) -> None:
    quality = QoSProfile(history=HistoryPolicy.KEEP_ALL, reliability=ReliabilityPolicy.RELIABLE, depth=1)
    with graph.silent_node() as sleeper:
        sleeper.create_subscription(Image, "mask", lambda mask: None, quality)
        wait_for(lambda: graph.node.count_subscribers("mask") == 2, "the subscription that nobody serves", graph)
        for index in range(20):  # four times what the publisher keeps
            graph.mask_of(image(index))


def test_sim_time_without_a_clock_gives_masks_without_an_age_and_a_clock_that_goes_back_a_new_window(
    graph: Graph,
) -> None:
    clock = graph.node.create_publisher(Clock, "/clock", 10)

    def tick(seconds: float) -> None:
        message = Clock()
        message.clock.sec, message.clock.nanosec = divmod(round(seconds * 1e9), 1_000_000_000)
        clock.publish(message)

    def age_ms() -> float:
        return float(told(graph, image(0)).age_ms)

    try:
        assert graph.parameter("use_sim_time", True) == (True, "")
        wait_for(lambda: math.isnan(age_ms()), "a frame without an age", graph)
        status = graph.status(lambda status: "no clock" in status["message"], "the warning")
        assert status["level"] == "1"
        start_s = graph.stamp_ns / 1e9

        def aged() -> bool:
            tick(start_s + 100)
            return not math.isnan(age_ms())

        wait_for(aged, "an age by the clock", graph)

        def emptied() -> bool:
            tick(start_s + 50)
            return told(graph, image(1)).reason.startswith("reset: clock jumped by -50.0")

        wait_for(emptied, "the new window after the clock went back", graph)
    finally:
        assert graph.parameter("use_sim_time", False) == (True, "")
        graph.node.destroy_publisher(clock)


def test_a_device_that_is_gone_ends_the_node_for_a_supervisor_to_start_it_again() -> None:
    """Every later call raises again: counted as a failure of one frame it would be no masks for ever."""
    with segmentation_graph(module="faulty_node") as running:
        running.send(marked(GONE))
        assert running.process.wait() == 1
        assert "has ended, RuntimeError: CUDA error: an illegal memory access" in running.process.output
        assert "Traceback" not in running.process.output


def test_sigterm_in_the_middle_of_a_step_ends_the_node_cleanly(graph: Graph) -> None:
    """The frame in the network is finished, those that wait are not begun."""
    with segmentation_graph(module="faulty_node") as running:
        for index in range(3):
            running.send(marked(SLOW, index))
            time.sleep(0.1)
        begun = len(running.masks)
        assert running.process.stop(signal.SIGTERM) == 0, running.process.output
        assert "Traceback" not in running.process.output and "failed" not in running.process.output
        assert len(running.masks) <= begun + 1


def test_request_that_nobody_can_read_ends_nothing_but_itself(graph: Graph) -> None:
    name = "segmentation_node/set_parameters"
    client = graph.node.create_client(SetParameters, name)
    wait_for(client.service_is_ready, name, graph)
    unknown_type = Parameter(name="max_gap_s", value=ParameterValue(type=200))
    client.call_async(SetParameters.Request(parameters=[unknown_type]))
    wait_for(lambda: "given up: ValueError: 200 is not a valid" in graph.process.output, "the log", graph)
    assert graph.parameter("max_gap_s", 0.9) == (True, "")
