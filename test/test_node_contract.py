"""The node's contract with a ROS graph: what Nav2's costmap layer reads, simulated time, quality of service, words."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")
pytest.importorskip("vision_msgs.msg", reason="interface packages are not installed: make does that")

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from segmentation_graph import Graph, greet, image, running_node, stamp_of, wait_for
from sensor_msgs.msg import CameraInfo, Image
from vision_msgs.msg import LabelInfo

from tdnet_ros.labels import CAMVID

IMAGE, CAMERA_INFO = "/rig/image_raw", "/rig/camera_info"
HEIGHT, WIDTH = 45, 60
SECOND = 1_000_000_000
SENSOR_DATA = QoSProfile(depth=10, reliability=ReliabilityPolicy.BEST_EFFORT)
LATCHED = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)


class Rig(Graph):
    """The graph with a simulated clock, and everything that there is to hear from the node in the order it came."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.heard: list[tuple[str, Any]] = []
        self.clock = self.node.create_publisher(Clock, "/clock", 10)
        self.camera = self.node.create_publisher(Image, IMAGE, 10)
        self.calibration = self.node.create_publisher(CameraInfo, CAMERA_INFO, SENSOR_DATA)
        self._diagnosed_ns = -1
        for topic, message_type, qos in (
            ("label_info", LabelInfo, LATCHED),
            ("mask", Image, SENSOR_DATA),
            ("confidence", Image, SENSOR_DATA),
            ("overlay", Image, SENSOR_DATA),
            ("camera_info", CameraInfo, SENSOR_DATA),
        ):
            self.node.create_subscription(message_type, topic, lambda m, t=topic: self.heard.append((t, m)), qos)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._note_time, 10)

    def _note_time(self, array: DiagnosticArray) -> None:
        self._diagnosed_ns = stamp_of(array)

    def set_clock(self, now_ns: int) -> None:
        """Publish the time until the node has it."""

        def is_set() -> bool:
            message = Clock()
            message.clock.sec, message.clock.nanosec = divmod(now_ns, SECOND)
            self.clock.publish(message)
            time.sleep(0.05)
            return self._diagnosed_ns == now_ns

        wait_for(is_set, f"the clock at {now_ns}", self)

    def of_stamp(self, topic: str, stamp_ns: int) -> Any:
        """The message with that stamp on a topic."""

        def found() -> list[Any]:
            return [message for name, message in self.heard if name == topic and stamp_of(message) == stamp_ns]

        return wait_for(found, f"{topic} of {stamp_ns}", self)[0]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    bonnet = np.zeros((90, 120), np.uint8)
    bonnet[80:] = 255
    path: Path = tmp_path_factory.mktemp("rig") / "bonnet.png"
    cv2.imwrite(str(path), bonnet)
    parameters = (
        *(f"ignore_mask:={path}", "output_scale:=0.5", "use_sim_time:=true", "min_confidance:=0.5"),
        "qos_overrides./confidence.publisher.reliability:=best_effort",
    )
    with running_node(*parameters, remappings=[f"image:={IMAGE}"]) as (process, domain):
        graph = Rig(process, domain)
        try:
            wait_for(lambda: graph.camera.get_subscription_count() == 1, "the node's subscription", graph)
            wait_for(lambda: graph.node.count_publishers("mask") == 1, "the node's mask", graph)
            wait_for(lambda: graph.heard, "the labels, before there is an image", graph)
            greet(graph)
            yield graph
        finally:
            graph.close()


def test_without_a_clock_there_are_masks_but_no_ages_and_the_node_says_so(rig: Rig) -> None:
    told = rig.latency_of(stamp_of(rig.mask_of(image(0))))
    assert math.isnan(told.age_ms)
    status = rig.status(lambda status: True, "diagnostics")
    assert status["message"] == "no clock: use_sim_time is true and nothing has come on /clock"
    assert status["level"] == "1"


def test_misspelt_parameter_is_reported(rig: Rig) -> None:
    text = "parameter 'min_confidance' is unknown: 'min_confidence' is meant?"
    assert rig.process.output.count(text) == 1
    assert rig.status(lambda status: True, "diagnostics")["unknown parameters"] == text


def test_quality_of_service_of_one_topic_can_be_overridden(rig: Rig) -> None:
    def reliability(topic: str) -> ReliabilityPolicy:
        return wait_for(lambda: rig.node.get_publishers_info_by_topic(topic), topic, rig)[0].qos_profile.reliability

    assert reliability("confidence") == ReliabilityPolicy.BEST_EFFORT
    assert reliability("mask") == reliability("camera_info") == ReliabilityPolicy.RELIABLE


def test_labels_come_before_the_first_mask_and_to_those_who_come_late(rig: Rig) -> None:
    late: list[LabelInfo] = []
    rig.node.create_subscription(LabelInfo, "label_info", late.append, LATCHED)
    wait_for(lambda: late, "the labels", rig)
    expected = list(enumerate(CAMVID.names))
    assert [(each.class_id, each.class_name) for each in late[0].class_map] == expected
    assert late[0].threshold == 0.0
    wait_for(lambda: any(topic == "mask" for topic, _ in rig.heard), "a mask", rig)
    assert rig.heard[0][0] == "label_info"


def test_what_nav2_reads_is_where_it_reads_it(rig: Rig) -> None:
    """As semantic_segmentation_layer does, at b269885: data[v * width + u] of mask and confidence, sizes unchecked."""
    rig.set_clock(rig.next_stamp())
    wait_for(lambda: rig.node.count_publishers("confidence"), "the confidence's publisher", rig)

    def both() -> bool:
        stamp_ns = stamp_of(rig.mask_of(image(1)))
        return any(topic == "confidence" and stamp_of(message) == stamp_ns for topic, message in rig.heard)

    wait_for(both, "mask and confidence of one image", rig)
    mask, confidence = (rig.of_stamp(topic, rig.stamp_ns) for topic in ("mask", "confidence"))
    for message in (mask, confidence):
        assert (message.encoding, message.height, message.width) == ("mono8", HEIGHT, WIDTH)
        assert message.step == message.width and message.is_bigendian == 0
        assert len(message.data) == message.width * message.height
    assert mask.header == confidence.header and mask.header.frame_id == "camera_optical"
    known = {each.class_id for topic, labels in rig.heard if topic == "label_info" for each in labels.class_map}
    for v in range(HEIGHT):
        for u in range(WIDTH):
            class_id, certainty = mask.data[v * mask.width + u], confidence.data[v * mask.width + u]
            if v >= 40:  # the bonnet: an id without a cost, never taken for what is seen best of a tile
                assert (class_id, certainty) == (255, 0)
            else:
                assert class_id in known and certainty >= 255 // len(known)


def test_overlay_is_of_the_masks_size(rig: Rig) -> None:
    rig.mask_of(image(2))
    overlay = wait_for(lambda: [message for topic, message in rig.heard if topic == "overlay"], "an overlay", rig)[-1]
    assert (overlay.encoding, overlay.height, overlay.width, overlay.step) == ("rgb8", HEIGHT, WIDTH, 3 * WIDTH)


def test_calibration_is_that_of_the_mask(rig: Rig) -> None:
    info = CameraInfo(height=90, width=120)
    info.k = [100.0, 0.0, 60.0, 0.0, 100.0, 45.0, 0.0, 0.0, 1.0]

    def passed_on() -> bool:
        rig.calibration.publish(info)
        stamp_ns = stamp_of(rig.mask_of(image(3)))
        return any(topic == "camera_info" and stamp_of(message) == stamp_ns for topic, message in rig.heard)

    wait_for(passed_on, "the calibration", rig)
    got = rig.of_stamp("camera_info", rig.stamp_ns)
    assert (got.height, got.width, got.header.frame_id) == (HEIGHT, WIDTH, "camera_optical")
    assert list(got.k) == [50.0, 0.0, 30.0, 0.0, 50.0, 22.5, 0.0, 0.0, 1.0]


def test_pixels_below_the_confidence_asked_for_are_unlabelled_at_once(rig: Rig) -> None:
    assert rig.parameter("min_confidence", 0.9) == (True, "")
    stamp_ns = stamp_of(rig.mask_of(image(4)))
    mask, confidence = (
        np.asarray(rig.of_stamp(topic, stamp_ns).data)[: 40 * WIDTH] for topic in ("mask", "confidence")
    )
    below = confidence < round(0.9 * 255)
    assert below.any() and (mask[below] == 255).all() and (mask[~below] < 255).all()
    labels = [message for topic, message in rig.heard if topic == "label_info"]
    assert labels[-1].threshold == pytest.approx(0.9)
    assert rig.parameter("min_confidence", 0.0) == (True, "")


def test_image_of_another_size_than_the_ignore_mask_is_refused_in_words(rig: Rig) -> None:
    rig.send(image(5, height=60, width=80))
    status = rig.status(lambda status: "ignore_mask" in status["message"], "the refusal")
    assert "image is 80x60, expected 120x90" in status["message"] and status["level"] == "1"
    rig.mask_of(image(5))


def test_a_step_of_the_clock_within_a_wider_gap_is_none(rig: Rig) -> None:
    rig.set_clock(rig.stamp_ns + SECOND)
    rig.mask_of(image(4))
    rig.mask_of(image(5))
    assert rig.parameter("max_gap_s", 60.0) == (True, "")
    try:
        rig.set_clock(rig.stamp_ns + 31 * SECOND)
        rig.mask_of(image(6))
        assert rig.latency_of(rig.stamp_ns).warm
    finally:
        assert rig.parameter("max_gap_s", 0.9) == (True, "")


def test_age_is_by_the_simulated_clock(rig: Rig) -> None:
    stamp_ns = rig.next_stamp()
    rig.set_clock(stamp_ns + SECOND // 4)
    rig.mask_of(image(6), stamp_ns)
    assert rig.latency_of(stamp_ns).age_ms == pytest.approx(250.0)


@pytest.mark.parametrize("jump_s", [-3600, 3600])
def test_jump_of_the_clock_empties_the_window_and_masks_go_on(rig: Rig, jump_s: int) -> None:
    """As when a bag is played again: stamps and clock go back, and diagnostics do not wait for the old time."""
    rig.set_clock(rig.stamp_ns + SECOND)
    rig.mask_of(image(0))
    rig.mask_of(image(1))
    assert rig.latency_of(rig.stamp_ns).warm
    rig.stamp_ns += jump_s * SECOND
    rig.set_clock(rig.stamp_ns)
    rig.mask_of(image(2))
    told = rig.latency_of(rig.stamp_ns)
    assert not told.warm and told.reason.startswith("reset: clock jumped by ")
    assert float(told.reason.split()[-2]) == pytest.approx(jump_s, abs=2)
    rig.mask_of(image(3))
    assert rig.latency_of(rig.stamp_ns).warm


def test_subscriber_that_asks_for_too_much_is_told_in_words(rig: Rig) -> None:
    subscription = rig.node.create_subscription(Image, "overlay", lambda _: None, 5)
    text = "/camera gets nothing from /overlay: it asks for reliability reliable, offered is best_effort"
    status = rig.status(lambda status: text in status["quality of service"], "the disagreement")
    assert status["level"] == "1" and "qos_overrides./overlay.publisher.reliability" in status["message"]
    assert rig.process.output.count(text) == 1
    rig.node.destroy_subscription(subscription)
    rig.status(lambda status: status["quality of service"] == "agreed", "agreement")


def test_second_camera_on_the_topic_is_told_in_words(rig: Rig) -> None:
    second = rig.node.create_publisher(Image, IMAGE, 10)
    status = rig.status(lambda status: "publishers on" in status["message"], "the second publisher")
    assert status["message"] == f"2 publishers on {IMAGE} (/camera, /camera), expected one"
    rig.node.destroy_publisher(second)
