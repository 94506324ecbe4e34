"""Bad recordings: what can be used is evaluated, what cannot is named, and nothing is passed over in silence."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from test_bags import diagnostics_cdr
from tiny_network import TinyVariant, tiny_weights

from tdnet_ros.cli import main
from tdnet_ros.errors import SourceError
from tdnet_ros.evaluation.bags import LATENCY_TYPE, BagWriter
from tdnet_ros.evaluation.evaluate import EvaluationSettings
from tdnet_ros.evaluation.fleet import Job, run_job
from tdnet_ros.evaluation.in_graph import judge_replay, open_recording
from tdnet_ros.evaluation.offline import evaluate_offline
from tdnet_ros.evaluation.replay import ReplayResult
from tdnet_ros.evaluation.result import Evaluation, read_evaluation
from tdnet_ros.labels import CITYSCAPES
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.video.messages.cdr import serialize_image
from tdnet_ros.video.messages.types import IMAGE_TYPE

HEIGHT, WIDTH = 48, 64
MS = 1_000_000
START = 1_000_000_000_000


@pytest.fixture(scope="module", autouse=True)
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Weights of a network that steps in a millisecond."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    weights = tmp_path_factory.mktemp("tiny") / "tiny2.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "tiny2", TinyVariant(subnetworks=2))
        save_file({name: tensor.contiguous() for name, tensor in tiny_weights("tiny2").items()}, weights)
        yield weights
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Picture:
    """A message of an image or label topic; ``pixels`` None is a message that breaks off."""

    stamp_ns: int
    pixels: np.ndarray | None
    encoding: str

    @property
    def cdr(self) -> bytes:
        stamp = divmod(self.stamp_ns, 1_000_000_000)
        if self.pixels is None:
            whole = bytes(serialize_image(*stamp, "camera", HEIGHT, WIDTH, self.encoding, WIDTH, bytes(HEIGHT * WIDTH)))
            return whole[:200]
        height, width = self.pixels.shape[:2]
        step = self.pixels.nbytes // height
        return bytes(serialize_image(*stamp, "camera", height, width, self.encoding, step, self.pixels.tobytes()))


def stamps(count: int) -> list[int]:
    return [START + index * 50 * MS for index in range(count)]


def images(times: Sequence[int], size: tuple[int, int] = (HEIGHT, WIDTH), encoding: str = "rgb8") -> list[Picture]:
    random = np.random.default_rng(0)
    ground = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    return [Picture(time, np.roll(ground, index, axis=1), encoding) for index, time in enumerate(times)]


def labels(
    times: Sequence[int], size: tuple[int, int] = (HEIGHT, WIDTH), value: int = 3, encoding: str = "mono8"
) -> list[Picture]:
    return [Picture(time, np.full(size, value, np.uint8), encoding) for time in times]


def write(path: Path, pictures: Sequence[Picture], truth: Sequence[Picture] | None = None) -> Path:
    recorded = {"/image": pictures} if truth is None else {"/image": pictures, "/labels": truth}
    with BagWriter(path) as bag:
        for topic in recorded:
            bag.add_topic(topic, IMAGE_TYPE)
        for index in range(max(map(len, recorded.values()))):
            for topic, messages in recorded.items():
                if index < len(messages):
                    bag.write(topic, START + index * 50 * MS, messages[index].cdr)
    return path


def evaluate(bag: Path, tiny: Path, **settings: object) -> Evaluation:
    given = {"image_topic": "/image", "labels": "/labels", "model": "tiny2", "weights": str(tiny), **settings}
    return evaluate_offline(EvaluationSettings(bag, **given))[0]  # type: ignore[arg-type]


def said(evaluation: Evaluation) -> str:
    return "\n".join(evaluation.warnings)


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
