"""Bad recordings: what can be used is evaluated, what cannot is named, and nothing is passed over in silence."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from labelled_bags import (
    HEIGHT,
    MS,
    WIDTH,
    Picture,
    evaluate,
    images,
    labels,
    said,
    stamps,
    tiny_weight_file,
    write,
)

from tdnet_ros.cli import main
from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.evaluate import EvaluationSettings
from tdnet_ros.evaluation.fleet import Job, run_job
from tdnet_ros.evaluation.result import read_evaluation

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with tiny_weight_file(tmp_path_factory.mktemp("tiny")) as weights:
        yield weights


def test_a_sound_recording_gives_no_warning(tiny: Path, tmp_path: Path) -> None:
    evaluation = evaluate(write(tmp_path / "bag", images(stamps(4)), labels(stamps(4))), tiny)
    assert evaluation.warnings == []
    assert (evaluation.delivery.frames, evaluation.delivery.masks, evaluation.scores.labelled_frames) == (4, 4, 4)


def test_a_recording_that_breaks_off_is_evaluated_up_to_there(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write(tmp_path / "bag", images(stamps(200)), labels(stamps(200)))
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:1_900_000])
    output = tmp_path / "out"
    options = ["--labels", "/labels", "--model", "tiny2", "--weights", str(tiny), "-o", str(output)]
    assert main(["evaluate", str(bag), *options]) == 0
    evaluation = read_evaluation(output / "report.json")
    read = evaluation.delivery.frames
    assert 100 <= read < 200 and evaluation.scores.labelled_frames in (read - 1, read)
    assert re.search(r"bag\.mcap breaks off within the record at byte \d+ of 1900000", said(evaluation))
    assert f"{read} of 200 messages of '/image' could be read" in evaluation.warnings
    printed = capsys.readouterr().out
    assert f"WARNING        {read} of 200 messages of '/image'" in printed
    assert "terms          terms not stated" in printed
    assert f"{read} of 200 messages of" in (output / "report.html").read_text(encoding="utf-8")
    job = Job(
        EvaluationSettings(bag, labels="/labels", model="tiny2", weights=str(tiny)), tmp_path / "fleet", threads=1
    )
    assert run_job(job) == ""
    again = read_evaluation(tmp_path / "fleet" / "report.json")
    assert repr(again.scores) == repr(evaluation.scores) and again.warnings == evaluation.warnings


def test_missing_topics_are_named_with_those_there_are(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bag = write(tmp_path / "bag", images(stamps(2)), labels(stamps(2)))
    there = r"Topics there are: /image \[sensor_msgs/msg/Image\] 2, /labels \[sensor_msgs/msg/Image\] 2"
    for options, message in (
        (["--image", "/nowhere"], rf"topic is '/nowhere', expected an image topic of .*bag\. {there}"),
        (["--image", "/image", "--labels", "/truth"], rf"labels are '/truth', expected a topic .*bag.*{there}"),
        ([], rf"has 2 image topics: name one\. {there}"),
    ):
        assert main(["evaluate", str(bag), *options, "-o", str(tmp_path / "out")]) == 1
        assert re.search(message, capsys.readouterr().err)


def test_an_encoding_that_nobody_knows_is_an_error_when_every_frame_has_it(tiny: Path, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", images(stamps(3), encoding="rainbow"))
    with pytest.raises(SourceError, match=r"none of the 3 images of bag:/image could be used: image 0.*rainbow"):
        evaluate(bag, tiny, labels="")


def test_images_that_cannot_be_used_are_counted_and_the_first_is_named(tiny: Path, tmp_path: Path) -> None:
    pictures = images(stamps(6))
    strange = images(stamps(6), encoding="rainbow")
    broken = Picture(pictures[4].stamp_ns, None, "rgb8")
    recorded = [strange[0], strange[1], pictures[2], pictures[3], broken, pictures[5]]
    evaluation = evaluate(write(tmp_path / "bag", recorded, labels(stamps(6))), tiny)
    delivery = evaluation.delivery
    assert (delivery.frames, delivery.masks, delivery.rejected) == (6, 3, 3)
    assert [frame.index for frame in evaluation.frames] == [2, 3, 5]
    assert re.search(r"3 images could not be used; the first: image 0.*rainbow", said(evaluation))


def test_stale_stamps_are_counted_and_empty_nothing(tiny: Path, tmp_path: Path) -> None:
    times = stamps(6)
    times[3] = times[2]
    times[4] = times[2] - 10 * MS
    evaluation = evaluate(write(tmp_path / "bag", images(times), labels(stamps(6))), tiny)
    assert [frame.index for frame in evaluation.frames] == [0, 1, 2, 5]
    assert (evaluation.delivery.rejected, evaluation.delivery.resets) == (2, 0)
    assert "2 images had a stamp that was not newer; the first: stamp is" in said(evaluation)


def test_images_without_stamps_go_by_the_times_of_recording(tiny: Path, tmp_path: Path) -> None:
    bag = write(tmp_path / "bag", images([0] * 5))
    evaluation = evaluate(bag, tiny, labels="")
    assert [frame.stamp_ns for frame in evaluation.frames] == stamps(5)
    assert (evaluation.delivery.resets, evaluation.warnings) == (0, [])


def test_without_labels_stability_and_latency_are_left(tiny: Path, tmp_path: Path) -> None:
    bag, output = write(tmp_path / "bag", images(stamps(4))), tmp_path / "out"
    assert main(["evaluate", str(bag), "--model", "tiny2", "--weights", str(tiny), "-o", str(output)]) == 0
    content = json.loads((output / "report.json").read_text())
    scores = content["scores"]
    assert scores["miou"] is None and scores["stability"]["flicker"] is None and scores["stability"]["vc8"] is None
    assert scores["stability"]["temporal_consistency"] > 0 and content["latency_ms"]["step"]["p50"] > 0
    page = (output / "report.html").read_text(encoding="utf-8").split("</script>", 1)[1]
    assert "IoU by class" not in page and "Worst frames" not in page and "n/a" in page


def test_an_empty_bag_says_so(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"'/image' of .*bag holds no message"):
        evaluate(write(tmp_path / "bag", []), tiny, labels="")
    empty = write(tmp_path / "nothing", images(stamps(1)))
    (file,) = empty.glob("*.mcap")
    file.write_bytes(b"")
    with pytest.raises(SourceError, match=r"nothing cannot be opened as a rosbag2: .*empty"):
        evaluate(empty, tiny, labels="")


def test_images_may_change_their_size(tiny: Path, tmp_path: Path) -> None:
    times = stamps(8)
    larger = (96, 128)
    pictures = images(times[:4]) + images(times[4:], size=larger)
    truth = labels(times[:4]) + labels(times[4:], size=larger)
    evaluation = evaluate(write(tmp_path / "bag", pictures, truth), tiny)
    assert evaluation.delivery.resets == 1 and evaluation.warnings == []
    assert [frame.warm for frame in evaluation.frames] == [False, True, True, True] * 2
    assert np.sum(evaluation.scores.confusion) == 4 * HEIGHT * WIDTH + 4 * 96 * 128
    assert math.isnan(evaluation.scores.stability.vc8), "no run goes on across the change"
