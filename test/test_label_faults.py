"""Labels of a recording that do not fit, say nothing or are damaged: refused, or counted and named."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from labelled_bags import (
    HEIGHT,
    START,
    WIDTH,
    Picture,
    evaluate,
    images,
    labels,
    stamps,
    tiny_weight_file,
    write,
)

from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.bags import LATENCY_TYPE, BagWriter
from tdnet_ros.video.messages.types import IMAGE_TYPE

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_weight_file(tmp_path_factory.mktemp("tiny")) as weights:
        yield weights


def test_labels_of_another_type_are_refused(tiny: Path, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", images(stamps(2)))
    with pytest.raises(SourceError, match=r"labels are '/labels'.*Topics there are: /image"):
        evaluate(bag, tiny)
    with BagWriter(tmp_path / "other") as other:
        other.add_topic("/image", IMAGE_TYPE)
        other.write("/image", START, images([START])[0].cdr)
        other.add_topic("/labels", LATENCY_TYPE)
    with pytest.raises(SourceError, match=r"expected a topic of type sensor_msgs/msg/Image.*FrameLatency"):
        evaluate(tmp_path / "other", tiny)


def test_labels_of_another_size_are_resized_and_of_other_proportions_refused(tiny: Path, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", images(stamps(3)), labels(stamps(3), size=(96, 128)))
    evaluation = evaluate(bag, tiny)
    assert np.sum(evaluation.scores.confusion) == 3 * HEIGHT * WIDTH and evaluation.warnings == []
    nearly = write(tmp_path / "nearly", images(stamps(3)), labels(stamps(3), size=(49, 64)))
    assert evaluate(nearly, tiny).scores.labelled_frames == 3, "a pixel may come from rounding"
    other = write(tmp_path / "other", images(stamps(3)), labels(stamps(3), size=(48, 48)))
    with pytest.raises(SourceError, match=r"labels of image 0 are 48x48, the mask is 64x48: expected the same prop"):
        evaluate(other, tiny)


def test_ids_that_are_no_class_count_as_unlabelled_and_are_named(tiny: Path, tmp_path: Path) -> None:
    truth = labels(stamps(4), value=3)
    for picture in truth:
        assert picture.pixels is not None
        picture.pixels[:12] = 77
        picture.pixels[12:24] = 255
    evaluation = evaluate(write(tmp_path / "bag", images(stamps(4)), truth), tiny)
    assert np.sum(evaluation.scores.confusion) == 4 * (HEIGHT - 24) * WIDTH
    assert evaluation.warnings == ["label ids 77 are not of 'cityscapes': counted as unlabelled, 25.00 % of the pixels"]
    mapping = tmp_path / "map.yaml"
    mapping.write_text("labels: {3: wall, 77: void}\n")
    assert evaluate(tmp_path / "bag", tiny, label_map=mapping).warnings == []


def test_labels_that_say_nothing_at_all_are_named(tiny: Path, tmp_path: Path) -> None:
    evaluation = evaluate(write(tmp_path / "bag", images(stamps(2)), labels(stamps(2), value=255)), tiny)
    assert evaluation.warnings == ["all labels are unlabelled"] and math.isnan(evaluation.scores.miou)


@pytest.mark.parametrize("encoding", ["mono16", "rgb8", "rainbow"])
def test_labels_that_are_no_ids_are_refused(tiny: Path, tmp_path: Path, encoding: str) -> None:
    bag = write(tmp_path / "bag", images(stamps(2)), labels(stamps(2), encoding=encoding))
    with pytest.raises(SourceError, match=f"labels '/labels' of .*bag are {encoding}, expected mono8"):
        evaluate(bag, tiny)


def test_labels_under_opencvs_name_are_read_and_damaged_ones_left_out(tiny: Path, tmp_path: Path) -> None:
    truth = labels(stamps(4), encoding="8UC1")
    truth[2] = Picture(truth[2].stamp_ns, None, "8UC1")
    evaluation = evaluate(write(tmp_path / "bag", images(stamps(4)), truth), tiny)
    assert evaluation.scores.labelled_frames == 3
    assert evaluation.warnings == ["1 labels of '/labels' are damaged, their frames are not scored"]


def test_labels_of_no_frame_are_an_error(tiny: Path, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", images(stamps(2)), labels([7]))
    with pytest.raises(SourceError, match="none of the 1 labels of '/labels' has the stamp of an image"):
        evaluate(bag, tiny)


def test_labels_may_come_in_any_order(tiny: Path, tmp_path: Path) -> None:
    times = stamps(8)
    truth = [labels([time], value=index)[0] for index, time in enumerate(times)]
    shuffled = [truth[index] for index in (3, 0, 7, 1, 2, 6, 4, 5)]
    evaluation = evaluate(write(tmp_path / "bag", images(times), shuffled), tiny)
    assert [sum(row) for row in evaluation.scores.confusion[:8]] == [HEIGHT * WIDTH] * 8
    in_order = evaluate(write(tmp_path / "ordered", images(times), truth), tiny)
    assert repr(in_order.scores) == repr(evaluation.scores)
