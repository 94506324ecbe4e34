"""The node with JPEG images: masks, and never the picture before in the place of a broken one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

from segmentation_graph import Graph, jpeg, segmentation_graph, stamp_of


@pytest.fixture(scope="module")
def compressed_graph() -> Iterator[Graph]:
    with segmentation_graph(transport="compressed") as running:
        yield running


def counted(graph: Graph, name: str) -> int:
    return int(graph.status(lambda status: True, "diagnostics")[name])


def test_compressed_images_give_masks(compressed_graph: Graph) -> None:
    mask = compressed_graph.mask_of(jpeg(0))
    assert (mask.height, mask.width) == (90, 120)
    assert compressed_graph.latency_of(stamp_of(mask)).decode_ms > 0


@pytest.mark.parametrize("cut", [1, 2, 200, 10_000])
def test_truncated_jpeg_never_shows_the_picture_before(compressed_graph: Graph, cut: int) -> None:
    compressed_graph.mask_of(jpeg(0))
    before = counted(compressed_graph, "images rejected")
    bad = compressed_graph.send(jpeg(1, cut=cut))
    compressed_graph.status(lambda status: int(status["images rejected"]) == before + 1, "the rejection")
    compressed_graph.mask_of(jpeg(2))
    assert bad not in [stamp_of(mask) for mask in compressed_graph.masks]
