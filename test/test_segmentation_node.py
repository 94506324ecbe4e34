"""The node, as a process of its own, with real messages over the middleware."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

from segmentation_graph import (
    PERIOD_NS,
    Graph,
    image,
    picture,
    segmentation_graph,
    stamp_of,
    wait_for,
)
from sensor_msgs.msg import Image
from std_srvs.srv import SetBool, Trigger

from tdnet_ros.node.transport import OVERLAY
from tdnet_ros.streaming import Segmenter
from tdnet_ros.streaming.runtime import Runtime
from tdnet_ros.video.frame import Frame

STAGES = ("receive_ms", "decode_ms", "motion_ms", "preprocess_ms", "network_ms", "postprocess_ms", "publish_ms")


@pytest.fixture(scope="module")
def graph() -> Iterator[Graph]:
    with segmentation_graph() as running:
        yield running


def pixels(mask: Image) -> np.ndarray:
    return np.frombuffer(mask.data, np.uint8).reshape(mask.height, mask.width)


def counted(graph: Graph, name: str) -> int:
    return int(graph.status(lambda status: True, "diagnostics")[name])


def reset(graph: Graph) -> None:
    assert graph.call(Trigger, "segmentation_node/reset", Trigger.Request()).success


def test_mask_has_the_header_and_size_of_its_image(graph: Graph) -> None:
    sent = image(1)
    sent.header.frame_id = "front_left_camera_optical_frame"
    mask = graph.mask_of(sent)
    assert mask.header == sent.header
    assert (mask.encoding, mask.height, mask.width, mask.step, mask.is_bigendian) == (
        "mono8",
        90,
        120,
        120,
        0,
    )
    assert len(mask.data) == 90 * 120 and pixels(mask).max() < 11


def test_masks_are_those_of_the_engine(graph: Graph) -> None:
    stream = Segmenter(device="cpu", input_height=96).stream()
    reset(graph)
    for index in range(4):
        expected = stream.step(Frame(picture(index), stamp_ns=(index + 1) * PERIOD_NS)).mask
        got = pixels(graph.mask_of(image(index)))
        # Another number of threads may round a tie differently.
        assert np.mean(got != expected) < 1e-3


def test_latency_tells_where_the_time_went(graph: Graph) -> None:
    reset(graph)
    stamps = [stamp_of(graph.mask_of(image(index))) for index in range(3)]
    told = [graph.latency_of(stamp) for stamp in stamps]
    assert [message.subnetwork for message in told] == [0, 1, 0]
    assert [message.warm for message in told] == [False, True, True]
    assert [message.sequence - told[0].sequence for message in told] == [0, 1, 2]
    for message in told:
        assert message.motion_ms > 0 and message.scale == 1.0 and not message.keyframe
        assert sum(getattr(message, stage) for stage in STAGES) == pytest.approx(message.node_ms, rel=1e-4)
        assert message.network_ms > 0.1


def test_age_is_the_time_since_the_stamp(graph: Graph) -> None:
    # The test's stamps may have run ahead of the clock, and an older one would be dropped as stale.
    time.sleep(max(0.0, (graph.stamp_ns - time.time_ns()) / 1e9) + 0.01)
    stamp_ns = graph.stamp_ns = time.time_ns()
    graph.mask_of(image(), stamp_ns)
    age_ms, node_ms = graph.latency_of(stamp_ns).age_ms, graph.latency_of(stamp_ns).node_ms
    assert node_ms <= age_ms < (time.time_ns() - stamp_ns) / 1e6


def test_image_without_a_stamp_gets_a_mask_and_no_age(graph: Graph) -> None:
    before = len(graph.masks)
    graph.send(image(), stamp_ns=0)
    wait_for(lambda: len(graph.masks) > before, "the mask of an image without a stamp", graph)
    assert stamp_of(graph.masks[-1]) == 0
    assert math.isnan(graph.latency_of(0).age_ms)


@pytest.mark.parametrize("encoding", ["rgb8", "mono8"])
def test_padded_rows_give_the_same_mask(graph: Graph, encoding: str) -> None:
    reset(graph)
    plain = graph.mask_of(image(3, encoding=encoding))
    reset(graph)
    padded = graph.mask_of(image(3, encoding=encoding, padding=24))
    assert np.array_equal(pixels(padded), pixels(plain))


def test_bgr_gives_the_mask_of_rgb(graph: Graph) -> None:
    reset(graph)
    rgb = graph.mask_of(image(4))
    swapped = image(4, encoding="rgb8")
    swapped.encoding = "bgr8"
    swapped.data = np.ascontiguousarray(picture(4)[..., ::-1]).tobytes()
    assert np.array_equal(pixels(graph.mask_of(swapped)), pixels(rgb))
    assert graph.latency_of(graph.stamp_ns).reason.startswith("reset: encoding changed")


def unknown_encoding() -> Image:
    return Image(height=4, width=4, encoding="rgb565_by_hand", step=12, data=bytes(48))


def short_data() -> Image:
    whole = image()
    return Image(height=90, width=120, encoding="rgb8", step=360, data=bytes(whole.data)[:-1])


def zero_size() -> Image:
    return Image(height=0, width=0, encoding="rgb8", step=0, data=b"")


def step_too_small() -> Image:
    return Image(height=90, width=120, encoding="rgb8", step=120, data=bytes(90 * 120))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (unknown_encoding, "rgb565_by_hand"),
        (short_data, "data"),
        (zero_size, "0"),
        (step_too_small, "step"),
    ],
)
def test_bad_image_is_counted_and_the_node_goes_on(graph: Graph, make: Callable[[], Image], named: str) -> None:
    graph.mask_of(image())
    before = counted(graph, "images rejected")
    bad = graph.send(make())
    status = graph.status(lambda status: int(status["images rejected"]) == before + 1, "the rejection")
    assert named in status["message"] and status["level"] == "1"
    graph.mask_of(image(1))
    assert bad not in [stamp_of(mask) for mask in graph.masks]


def test_change_of_size_empties_the_window(graph: Graph) -> None:
    graph.mask_of(image(0))
    graph.mask_of(image(1))
    mask = graph.mask_of(image(2, height=60, width=80))
    told = graph.latency_of(stamp_of(mask))
    assert (mask.height, mask.width) == (60, 80)
    assert not told.warm and told.reason == "reset: size changed from 120x90 to 80x60"
    graph.mask_of(image(3))


def test_stamp_that_goes_back_a_little_is_dropped_and_counted(graph: Graph) -> None:
    graph.mask_of(image(0))
    before, resets = counted(graph, "stale stamps"), counted(graph, "resets")
    late = graph.send(image(1), graph.stamp_ns - PERIOD_NS // 2)
    graph.status(lambda status: int(status["stale stamps"]) == before + 1, "the stale stamp")
    graph.mask_of(image(2))
    assert late not in [stamp_of(mask) for mask in graph.masks]
    assert graph.latency_of(graph.stamp_ns).warm and counted(graph, "resets") == resets


def test_bag_loop_empties_the_window(graph: Graph) -> None:
    graph.mask_of(image(0))
    graph.mask_of(image(1))
    start_ns = graph.stamp_ns - 60_000_000_000
    graph.mask_of(image(2), start_ns)
    told = graph.latency_of(start_ns)
    assert not told.warm and told.reason.startswith("reset: stamps went back by")
    graph.stamp_ns = start_ns
    graph.mask_of(image(3))
    assert graph.latency_of(graph.stamp_ns).warm


def test_gap_in_time_empties_the_window(graph: Graph) -> None:
    graph.mask_of(image(0))
    graph.stamp_ns += 10_000_000_000
    graph.mask_of(image(1))
    told = graph.latency_of(graph.stamp_ns)
    assert not told.warm and told.reason.startswith("reset: gap of 10.")


def test_newest_image_wins_and_every_image_is_accounted_for(graph: Graph) -> None:
    graph.mask_of(image(0))
    before = graph.status(lambda status: True, "diagnostics")
    for index in range(40):
        last = graph.send(image(index))
    wait_for(lambda: any(stamp_of(mask) == last for mask in graph.masks), "the newest mask", graph)
    names = ("masks published", "dropped for a newer image", "lost before arrival")

    def change(status: dict[str, str]) -> dict[str, int]:
        return {name: int(status[name]) - int(before[name]) for name in names}

    status = graph.status(lambda status: sum(change(status).values()) == 40, "40 images accounted for")
    assert change(status)["masks published"] < 40, "the burst was no burst"


def test_diagnostics_tell_how_a_step_runs(graph: Graph) -> None:
    status = graph.status(lambda status: True, "diagnostics")
    expected = Runtime()
    assert (status["runtime"], status["precision"]) == (expected.engine, expected.precision)
    assert status["device"].startswith(str(expected.device))


def test_terms_of_the_weights_are_told(graph: Graph) -> None:
    assert graph.process.output.count("terms of the weights: non-commercial research use only (CamVid)") == 1
    status = graph.status(lambda status: True, "diagnostics")
    assert status["terms"].startswith("non-commercial")


def test_images_lost_before_arrival_are_reported(graph: Graph) -> None:
    for index in range(31):  # fills the memory of periods: the test before this one was no steady camera
        graph.mask_of(image(index))
    before = graph.latency_of(graph.stamp_ns).lost_upstream_total
    graph.stamp_ns += 3 * PERIOD_NS
    graph.mask_of(image(0))
    assert graph.latency_of(graph.stamp_ns).lost_upstream_total == before + 3
    status = graph.status(lambda status: "missing by their stamps" in status["message"], "the warning")
    assert status["level"] == "1"


def test_disabled_node_rests_and_comes_back_with_an_empty_window(graph: Graph) -> None:
    graph.mask_of(image(0))
    graph.mask_of(image(1))
    lost = graph.latency_of(graph.stamp_ns).lost_upstream_total
    graph.call(SetBool, "segmentation_node/enable", SetBool.Request(data=False))
    graph.send(image(2))
    unheard = graph.send(image(2))
    graph.status(lambda status: status["message"] == "disabled by ~/enable", "the disabled node")
    graph.call(SetBool, "segmentation_node/enable", SetBool.Request(data=True))
    graph.mask_of(image(3))
    assert unheard not in [stamp_of(mask) for mask in graph.masks]
    latency = graph.latency_of(graph.stamp_ns)
    assert latency.reason == "reset: resumed after a pause"
    assert latency.lost_upstream_total == lost, "what came in the pause was not lost on the way"


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("max_gap_s", -1.0, "max_gap_s"),
        ("overlay_opacity", 1.5, "overlay_opacity"),
        ("model", "td4_psp18", "fixed while the node is configured"),
        ("timeout_s", "soon", ""),
    ],
)
def test_wrong_parameter_update_is_refused_with_a_reason(graph: Graph, name: str, value: object, reason: str) -> None:
    successful, said = graph.parameter(name, value)
    assert not successful and said and reason in said
    graph.mask_of(image())


def test_live_parameter_takes_effect(graph: Graph) -> None:
    graph.mask_of(image(0))
    assert graph.parameter("max_gap_s", 0.05) == (True, "")
    graph.mask_of(image(1))
    assert graph.latency_of(graph.stamp_ns).reason.startswith("reset: gap of 0.1")
    assert graph.parameter("max_gap_s", 0.9) == (True, "")


def test_keyframes_begin_and_end_while_the_node_runs(graph: Graph) -> None:
    graph.mask_of(image(0))
    assert graph.latency_of(graph.stamp_ns).reason == "rotation"
    assert graph.parameter("keyframe_interval", 3) == (True, "")
    told = []
    for index in range(1, 5):
        graph.mask_of(image(index))
        told.append(graph.latency_of(graph.stamp_ns))
    assert [each.keyframe for each in told] == [True, False, False, True]
    assert [each.scale for each in told] == [1, 0.5, 0.5, 1]
    assert [each.keyframe_distance for each in told] == [0, 1, 2, 0]
    assert [each.reason for each in told[1:]] == ["between keyframes", "between keyframes", "keyframe interval"]
    assert all(each.motion_ms > 0 for each in told)
    successful, said = graph.parameter("low_resolution", 0.05)
    assert not successful and said.startswith("low_resolution is 0.05, expected 0.1 to 1")
    assert graph.parameter("keyframe_interval", 0) == (True, "")
    graph.mask_of(image(5))
    assert graph.latency_of(graph.stamp_ns).reason == "rotation"


def test_confidence_and_overlay_come_when_somebody_listens(graph: Graph) -> None:
    confidences: list[Image] = []
    overlays: list[Image] = []
    subscriptions = [
        graph.node.create_subscription(Image, "confidence", confidences.append, 5),
        graph.node.create_subscription(Image, "overlay", overlays.append, OVERLAY),
    ]
    wait_for(lambda: all(graph.node.count_publishers(name) for name in ("confidence", "overlay")), "publishers")

    def both() -> bool:
        graph.mask_of(image(1))
        return bool(confidences and overlays)

    wait_for(both, "confidence and overlay", graph)
    mask = next(mask for mask in graph.masks if mask.header == overlays[-1].header)
    assert (confidences[-1].encoding, confidences[-1].step) == ("mono8", 120)
    assert len(set(confidences[-1].data)) > 1
    assert (overlays[-1].encoding, overlays[-1].height, overlays[-1].width) == ("rgb8", 90, 120)
    assert mask.header == overlays[-1].header
    for subscription in subscriptions:
        graph.node.destroy_subscription(subscription)
