"""Several cameras in one node: names, one step for what arrives together, and nobody pays for another's trouble."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

from diagnostic_msgs.msg import DiagnosticArray
from faulty_node import EXCEPTION
from running_process import RunningProcess
from segmentation_graph import Graph, image, running_node, stamp_of, wait_for
from sensor_msgs.msg import Image

from tdnet_ros.msg import FrameLatency

NAMES = ("front", "left", "right", "rear")
FLOOD_S = 3.0


class Rig(Graph):
    """Four cameras, and a listener to all of their topics."""

    def __init__(self, process: RunningProcess, domain: int) -> None:
        super().__init__(process, domain)
        self.cameras = {name: self.node.create_publisher(Image, f"{name}/image", 5) for name in NAMES}
        self.seen: dict[str, list[Image]] = {name: [] for name in NAMES}
        self.told: dict[str, list[FrameLatency]] = {name: [] for name in NAMES}
        self.reports: list[dict[str, dict[str, str]]] = []
        for name in NAMES:
            self.node.create_subscription(Image, f"{name}/mask", self.seen[name].append, 10)
            self.node.create_subscription(FrameLatency, f"{name}/latency", self.told[name].append, 10)
        self.node.create_subscription(DiagnosticArray, "/diagnostics", self._reported, 10)

    def _reported(self, array: DiagnosticArray) -> None:
        report = {}
        for status in array.status:
            values = {value.key: value.value for value in status.values}
            report[status.name] = {**values, "message": status.message}
        self.reports.append(report)

    def shoot(self, *names: str, faulty: str = "") -> int:
        """One image of each of these cameras, all with the same stamp; the stamp in ns."""
        stamp_ns = self.next_stamp()
        for name in names or NAMES:
            picture = image(NAMES.index(name))
            if name == faulty:
                picture.data = bytes(EXCEPTION) + bytes(picture.data)[3:]
            picture.header.frame_id = name
            picture.header.stamp.sec, picture.header.stamp.nanosec = divmod(stamp_ns, 1_000_000_000)
            self.cameras[name].publish(picture)
        return stamp_ns

    def has_masks(self, stamp_ns: int, *names: str) -> bool:
        return all(any(stamp_of(mask) == stamp_ns for mask in self.seen[name]) for name in names or NAMES)

    def report(self) -> dict[str, dict[str, str]]:
        """The next diagnostics, by camera."""
        seen = len(self.reports)
        found = wait_for(lambda: self.reports[seen:], "diagnostics", self)[0]
        return {name: found[f"segmentation_node: {name}"] for name in NAMES}


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    parameters = (f"cameras:=[{','.join(NAMES)}]", "max_gap_s:=1000.0")
    with running_node(*parameters, module="faulty_node") as (process, domain):
        graph = Rig(process, domain)
        try:
            for camera in graph.cameras.values():
                wait_for(lambda camera=camera: camera.get_subscription_count() == 1, "the subscriptions", graph)
            for name in NAMES:
                wait_for(partial(graph.node.count_publishers, f"{name}/mask"), "the masks' publishers", graph)

            def answered() -> bool:
                graph.shoot()
                time.sleep(0.1)
                return all(graph.seen.values())

            wait_for(answered, "masks of all cameras", graph)
            yield graph
        finally:
            graph.close()


def test_every_camera_has_topics_and_messages_of_its_own(rig: Rig) -> None:
    stamp_ns = rig.shoot()
    wait_for(lambda: rig.has_masks(stamp_ns), "the masks", rig)
    for name in NAMES:
        mask = next(mask for mask in rig.seen[name] if stamp_of(mask) == stamp_ns)
        assert (mask.header.frame_id, mask.encoding, mask.step) == (name, "mono8", mask.width)
        told = wait_for(
            lambda name=name: [message for message in rig.told[name] if stamp_of(message) == stamp_ns], "latency", rig
        )[0]
        assert told.camera == name and told.header == mask.header


def test_images_that_come_together_go_through_the_network_together(rig: Rig) -> None:
    """Also when one camera leaves an image out now and then."""
    for index in range(12):
        there = NAMES if index % 5 else NAMES[:3]
        stamp_ns = rig.shoot(*there)
        wait_for(lambda stamp_ns=stamp_ns, there=there: rig.has_masks(stamp_ns, *there), "the masks", rig)
    assert float(rig.report()["front"]["images per step"]) > 1.5


def test_camera_that_lost_an_image_is_back_in_the_others_batch(rig: Rig) -> None:
    stamp_ns = rig.shoot("front", "left", "right")
    wait_for(lambda: rig.has_masks(stamp_ns, "front", "left", "right"), "the masks", rig)

    def at_one_sub_network() -> bool:
        stamp_ns = rig.shoot()
        wait_for(lambda: rig.has_masks(stamp_ns), "the masks", rig)
        told = [message for name in NAMES for message in rig.told[name] if stamp_of(message) == stamp_ns]
        return len(told) == len(NAMES) and len({message.subnetwork for message in told}) == 1

    wait_for(at_one_sub_network, "all cameras at the same sub-network", rig)


def test_trouble_is_told_by_camera_and_costs_the_others_nothing(rig: Rig) -> None:
    before = rig.report()
    bad = Image(height=4, width=4, encoding="rgb565_by_hand", step=12, data=bytes(48))
    rig.cameras["left"].publish(bad)
    stamp_ns = rig.shoot("front", "right", "rear")
    wait_for(lambda: rig.has_masks(stamp_ns, "front", "right", "rear"), "the other masks", rig)
    wait_for(lambda: rig.report()["left"]["images rejected"] != before["left"]["images rejected"], "the refusal", rig)
    after = rig.report()
    assert "rgb565_by_hand" in after["left"]["message"]
    for name in ("front", "right", "rear"):
        assert after[name]["images rejected"] == before[name]["images rejected"]
        assert rig.told[name][-1].warm and after[name]["resets"] == before[name]["resets"]


def test_an_exception_in_the_network_costs_the_camera_at_fault_alone(rig: Rig) -> None:
    before = rig.report()
    others = ("front", "right", "rear")
    stamp_ns = rig.shoot(faulty="left")
    wait_for(lambda: rig.has_masks(stamp_ns, *others), "the others' masks of the same moment", rig)
    wait_for(lambda: rig.report()["left"]["failures"] != before["left"]["failures"], "the failure", rig)
    after = rig.report()
    assert after["left"]["message"] == "ZeroDivisionError: in the middle of the network"
    failed = [int(report["front"]["common steps that failed"]) for report in (before, after)]
    assert failed[1] - failed[0] <= 1
    for name in others:
        assert (after[name]["failures"], after[name]["resets"]) == (before[name]["failures"], before[name]["resets"])
    stamp_ns = rig.shoot()
    wait_for(lambda: rig.has_masks(stamp_ns), "masks of all", rig)


def test_no_camera_starves_while_one_floods_the_node(rig: Rig) -> None:
    before = {name: len(rig.seen[name]) for name in NAMES}
    end_s, sent = time.monotonic() + FLOOD_S, 0
    while time.monotonic() < end_s:
        stamp_ns = rig.shoot()
        sent += 1
        for _ in range(10):
            rig.shoot("front")
            time.sleep(0.003)
    wait_for(lambda: rig.has_masks(stamp_ns, "left", "right", "rear"), "the last masks", rig)
    got = {name: len(rig.seen[name]) - before[name] for name in NAMES}
    for name in ("left", "right", "rear"):
        assert got[name] >= 0.6 * min(sent, got["front"]), (sent, got)
    report = rig.report()
    assert int(report["front"]["dropped for a newer image"]) > int(report["left"]["dropped for a newer image"])
