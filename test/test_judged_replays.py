"""What is made of a replay in the graph, from the bag that it leaves: lost masks, doubled stamps, other sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from labelled_bags import (
    MS,
    START,
    Picture,
    images,
    labels,
    stamps,
    write,
)
from test_bags import diagnostics_cdr

from tdnet_ros.evaluation.bags import LATENCY_TYPE, BagWriter
from tdnet_ros.evaluation.evaluate import EvaluationSettings
from tdnet_ros.evaluation.in_graph import judge_replay, open_recording
from tdnet_ros.evaluation.replay import ReplayResult
from tdnet_ros.evaluation.result import Evaluation
from tdnet_ros.labels import CITYSCAPES
from tdnet_ros.video.messages.types import IMAGE_TYPE


def replayed(path: Path, masks: Sequence[Picture], sent: Sequence[tuple[int, int]]) -> ReplayResult:
    """The bag that a replay leaves, without latencies: they were lost."""
    counted = {"images received": len(sent), "masks published": len(masks), "dropped for a newer image": 0}
    zeros = {"images rejected": 0, "stale stamps": 0, "failures": 0, "last error": "it was too dark"}
    with BagWriter(path) as bag:
        bag.add_topic("/segmentation/mask", IMAGE_TYPE)
        bag.add_topic("/segmentation/latency", LATENCY_TYPE)
        bag.add_topic("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray")
        arrival = 0
        for mask in masks:
            arrival = max(arrival + 1, mask.stamp_ns + 60 * MS)
            bag.write("/segmentation/mask", arrival, mask.cdr)
        bag.write("/diagnostics", START, diagnostics_cdr({**counted, **zeros}))
    return ReplayResult(path, [{"index": index, "stamp_ns": stamp} for index, stamp in sent], 0, "7")


def judged(bag: Path, result: ReplayResult) -> Evaluation:
    settings = EvaluationSettings(bag, labels="/labels", image_topic="/image")
    return judge_replay(settings, open_recording(settings, CITYSCAPES), result, CITYSCAPES, 1.0)[0]


def test_in_the_graph_every_mask_goes_to_the_image_that_it_was_made_of(tmp_path: Path) -> None:
    """Two images were sent with one stamp, the clock went back, a mask was lost, and the player ended early."""
    truth = [labels([time], value=index)[0] for index, time in enumerate(stamps(6))]
    bag = write(tmp_path / "bag", images(stamps(6)), truth)
    sent = [(0, 100 * MS), (1, 200 * MS), (2, 200 * MS), (3, 150 * MS), (4, 180 * MS)]
    masks = [labels([stamp], value=value)[0] for stamp, value in ((100 * MS, 0), (200 * MS, 1), (180 * MS, 4))]
    evaluation = judged(bag, replayed(tmp_path / "result", masks, sent))
    assert [frame.index for frame in evaluation.frames] == [0, 1, 4]
    assert evaluation.scores.miou == 1.0
    assert (evaluation.delivery.resets, evaluation.scores.by_distance) == (0, [])
    assert "the node's last error: it was too dark" in evaluation.warnings


def test_in_the_graph_no_mask_at_all_is_all_wrong_in_time(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", images(stamps(3)), labels(stamps(3)))
    evaluation = judged(bag, replayed(tmp_path / "result", [], list(enumerate(stamps(3)))))
    assert evaluation.latency_aware_miou == 0 and math.isnan(evaluation.scores.miou)
    assert "none of the 3 images that were sent got a mask" in evaluation.warnings


def test_in_the_graph_masks_may_change_their_size(tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", images(stamps(4)), labels(stamps(4)))
    times = stamps(4)
    masks = labels(times[:2]) + labels(times[2:], size=(24, 32))
    evaluation = judged(bag, replayed(tmp_path / "result", masks, list(enumerate(times))))
    assert evaluation.scores.miou == 1.0 and 0 < evaluation.latency_aware_miou < 1
