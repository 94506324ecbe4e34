"""The table of accuracy from end to end: yaml in, tables, figures and confusion by frame out."""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import save_file
from tiny_network import TinyUnitedVariant, TinyVariant, tiny_weights

from tdnet_ros.cli import main
from tdnet_ros.errors import MachineBusy
from tdnet_ros.evaluation import accuracy_times
from tdnet_ros.evaluation.accuracy_frontier import Point, value_at
from tdnet_ros.evaluation.accuracy_settings import AccuracySettings, ClipSettings, read_accuracy_settings
from tdnet_ros.evaluation.clip_scores import score_clip, true_masks
from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.labels import CAMVID
from tdnet_ros.networks.catalog import CATALOG

HEIGHT, WIDTH, DENSE, SPARSE = 48, 64, 10, 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A ``sequences.csv`` of a dense and a 1 Hz clip, a tiny network's weights, and a yaml of three rows."""
    folder = tmp_path_factory.mktemp("accuracy")
    random = np.random.default_rng(0)
    ground = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    classes = cv2.resize(random.integers(0, 12, (4, 5), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
    with (folder / "sequences.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("split", "sequence", "frame", "timestamp_s", "image", "label"))
        for split, count, rate_hz in (("val", DENSE, 15), ("test", SPARSE, 1)):
            for index in range(count):
                names = [f"{split}_{kind}_{index}.png" for kind in ("image", "label")]
                rows.writerow((split, split, index, f"{index / rate_hz:.4f}", *names))
                for name, picture in zip(names, (ground, classes), strict=True):
                    cv2.imwrite(str(folder / name), np.roll(picture, index, axis=1))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "tiny2", TinyVariant(subnetworks=2, labels=CAMVID))
        patch.setitem(CATALOG, "united", TinyUnitedVariant(subnetworks=2, labels=CAMVID, keyframe_interval=3))
        for name, file in (("tiny2", "a.safetensors"), ("united", "u.safetensors")):
            save_file({key: value.contiguous() for key, value in tiny_weights(name).items()}, folder / file)
        (folder / "accuracy.yaml").write_text(yaml.safe_dump(settings_of(folder)))
        yield folder
    torch.set_num_threads(before)


def settings_of(folder: Path) -> dict[str, Any]:
    tiny = {"model": "tiny2", "weights": str(folder / "a.safetensors"), "score_memory": 0}
    united = {"model": "united", "weights": str(folder / "u.safetensors"), "score_memory": 0}
    index = str(folder / "sequences.csv")
    return {
        "clips": [
            {"name": "dense", "index": index, "split": "val", "block_frames": 3},
            {"name": "sparse, 1 Hz", "index": index, "split": "test"},
        ],
        "rows": [
            {"name": "one", **tiny, "runs": "frame by frame", "curve": "single"},
            {"name": "two", **tiny, "note": "with its window"},
            {"name": "half", **tiny, "input_height": 32, "against": "two"},
            {"name": "memory", **tiny, "score_memory": 0.9},
            {"name": "united", **united, "by_distance": True, "curve": "united"},
            {"name": "still", **united, "motion": "zero", "keyframe_interval": 2, "curve": "united"},
            {"name": "to come", "model": "tiny2", "weights": "$NOWHERE/b.safetensors"},
        ],
        "baseline": "one",
        "bootstrap": {"resamples": 50, "seed": 5},
        "timing": {"size": [HEIGHT, WIDTH], "rounds": 2},
        "peers": {
            "source": "as measured elsewhere, not run here.",
            "rows": [
                {
                    "name": "Peer",
                    "parameters_m": 0.49,
                    "miou": [85.5, 65.7],
                    "seen": [True, False],
                    "tc": 0.897,
                    "ms": "116 / 140",
                }
            ],
        },
    }


@pytest.fixture(scope="module")
def tables(folder: Path) -> tuple[dict[str, Any], str]:
    """What the command has written: JSON and Markdown."""
    output = folder / "out"
    assert main(["accuracy", str(folder / "accuracy.yaml"), "-o", str(output), "--force"]) == 0
    return json.loads((output / "accuracy.json").read_text()), (output / "accuracy.md").read_text()


def test_figures_are_those_of_the_confusion_that_is_kept(folder: Path, tables: tuple[dict[str, Any], str]) -> None:
    content, _ = tables
    assert list(content["rows"]) == ["one", "two", "half", "memory", "united", "still"] and list(
        content["not_trained_yet"]
    ) == ["to come"]
    for row in content["rows"].values():
        for name, frames in (("dense", DENSE), ("sparse, 1 Hz", SPARSE)):
            clip = row["clips"][name]
            with np.load(folder / "out" / clip["confusion"]) as kept:
                by_frame = kept["confusion"]
            assert by_frame.shape == (frames, 11, 11)
            matrix = ConfusionMatrix(11)
            matrix.counts += by_frame.sum(0)
            assert clip["miou"]["value"] == clip["scores"]["miou"] == pytest.approx(matrix.miou(), abs=1e-12)
            assert clip["scores"]["confusion"] == by_frame.sum(0).tolist()
            low, high = clip["miou"]["frames"]
            assert low <= high and 0 <= low <= 1
            assert (clip["miou"]["blocks"] is None) == (name != "dense")


def test_rows_differ_as_they_run(tables: tuple[dict[str, Any], str]) -> None:
    rows = tables[0]["rows"]
    one, two, half = (rows[name]["clips"] for name in ("one", "two", "half"))
    assert one["dense"]["scores"]["miou"] != two["dense"]["scores"]["miou"]
    # At 1 Hz the gap empties the window: a stream is frame by frame.
    assert one["sparse, 1 Hz"]["scores"]["confusion"] == two["sparse, 1 Hz"]["scores"]["confusion"]
    assert rows["memory"]["clips"]["dense"]["scores"]["confusion"] != two["dense"]["scores"]["confusion"]
    assert one["dense"]["difference"] is None
    for own, other in ((two, one), (half, two)):
        gain = own["dense"]["scores"]["miou"] - other["dense"]["scores"]["miou"]
        assert own["dense"]["difference"]["value"] == pytest.approx(gain, abs=1e-12)
    assert [rows[name]["compared_with"] for name in ("one", "two", "half")] == ["one", "one", "two"]
    assert half["dense"]["scores"]["labelled_frames"] == DENSE
    assert rows["half"]["network_size"] == [32, 43]  # as low as this network goes
    assert rows["one"]["gmac"] < rows["two"]["gmac"] and rows["one"]["parameters"] < rows["two"]["parameters"]


def test_temporal_measures_stand_beside_their_controls(tables: tuple[dict[str, Any], str]) -> None:
    content, _ = tables
    for name in ("one", "two"):  # also where the network itself forgets: the video has no gap
        scores = content["rows"][name]["clips"]["dense"]["scores"]
        assert scores["controls"]["constant"]["temporal_consistency"] == 1
        assert 0 < scores["stability"]["temporal_consistency"] <= 1 and scores["stability"]["vc8"] is not None
        sparse = content["rows"][name]["clips"]["sparse, 1 Hz"]["scores"]
        assert sparse["stability"]["temporal_consistency"] is None and sparse["stability"]["flicker"] is None
    truth = content["labels_as_masks"]["dense"]
    assert truth["flicker"] == 0 and truth["vc8"] == 1 and truth["temporal_consistency"] > 0.7


def test_the_table_for_people(tables: tuple[dict[str, Any], str]) -> None:
    content, text = tables
    one = content["rows"]["one"]["clips"]["dense"]["scores"]["miou"]
    first = next(line for line in text.splitlines() if line.startswith("| one |"))
    assert f"{100 * one:.2f} [" in first
    assert "two (with its window)" in text and "not trained yet: `$NOWHERE/b.safetensors`" in text
    assert "| *Peer* | (85.5) | 65.7 | (0.897) | – | – | – | 0.49 | – | 116 / 140 |" in text
    assert "as measured elsewhere, not run here." in text
    assert "the labels themselves" in text and "95 % over blocks of 3 frames" in text
    assert "| IoU %, sparse, 1 Hz | sky | building |" in text
    assert set(content["times"]["ms"]) == set(content["times"]["mean_ms"]) == set(content["rows"])
    assert content["times"]["forced"] == ("FORCED" in text)


def test_rows_with_keyframes_have_accuracy_by_distance_and_cost_on_average(
    folder: Path, tables: tuple[dict[str, Any], str]
) -> None:
    content, text = tables
    united, still = (content["rows"][name] for name in ("united", "still"))
    assert (united["keyframe_interval"], still["keyframe_interval"]) == (3, 2)
    assert united["gmac"] < still["gmac"] < still["worst_gmac"] == united["worst_gmac"]
    by_distance = united["clips"]["dense"]["miou_by_distance"]
    assert len(by_distance) == 3 and all(0 < value <= 1 for value in by_distance)
    runs = [np.load(file) for file in (folder / "out" / "scored").glob("*.npz")]
    runs = [run for run in runs if '"model": "united"' in str(run["described"]) and len(run["distances"]) == DENSE]
    runs = [run for run in runs if '"keyframe_interval": 0' in str(run["described"])]
    assert sorted(run["distances"].tolist()[:4] for run in runs) == [[0, 0, 1, 2], [0, 1, 0, 1], [0, 1, 2, 0]]
    for distance, value in enumerate(by_distance):
        matrix = ConfusionMatrix(11)
        for run in runs:
            matrix.counts += run["confusion"][run["distances"] == distance].sum(0)
        assert value == pytest.approx(matrix.miou())
    assert still["clips"]["dense"]["miou_by_distance"] is None
    assert "| mIoU %, dense: frames behind the keyframe | mean | 0 | 1 | 2 |" in text
    assert f"{united['gmac']:.2f} ({united['worst_gmac']:.2f})" in text


def test_the_chart_has_every_row_that_is_on_a_curve(folder: Path, tables: tuple[dict[str, Any], str]) -> None:
    chart = (folder / "out" / "frontier.svg").read_text()
    panels = 4
    assert all(chart.count(f"<title>{name}</title>") == panels for name in ("one", "united", "still"))
    assert "<title>two</title>" not in chart and chart.count("<polyline") == 2 * panels
    assert "points of mIoU above the first curve" in tables[1]


def test_a_curve_is_the_best_that_a_cost_buys() -> None:
    def point(gmac: float, miou: float) -> Point:
        return Point("", "", miou, math.nan, gmac, gmac, math.nan, math.nan)

    curve = [point(4, 0.7), point(1, 0.5), point(2, 0.4), point(3, 0.6)]
    found = [value_at(curve, lambda each: each.gmac, at) for at in (1, 2, 3.5, 4, 9)]
    assert found == pytest.approx([0.5, 0.55, 0.65, 0.7, 0.7])
    assert math.isnan(value_at(curve, lambda each: each.gmac, 0.5))
    assert math.isnan(value_at(curve, lambda each: each.mean_ms, 2))


def test_what_is_scored_needs_no_second_run(
    folder: Path, tables: tuple[dict[str, Any], str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["accuracy", str(folder / "accuracy.yaml"), "-o", str(folder / "out"), "--no-times"]
    assert main(command) == 0
    assert "two: dense" not in capsys.readouterr().out
    again = json.loads((folder / "out" / "accuracy.json").read_text())
    assert again["rows"] == tables[0]["rows"] and again["times"] is None
    for file in (folder / "out" / "scored").glob("*.npz"):
        file.write_bytes(file.read_bytes()[:-100])  # a copy that broke off
    assert main(command) == 0
    assert "two: dense" in capsys.readouterr().out
    assert json.loads((folder / "out" / "accuracy.json").read_text())["rows"] == tables[0]["rows"]


def test_a_busy_machine_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy_times, "_WATCH_S", 0.0)
    monkeypatch.setattr(accuracy_times.ProcessorTime, "foreign_share_since", lambda self, before: 0.4)
    settings = read_accuracy_settings(folder / "accuracy.yaml")
    with pytest.raises(MachineBusy, match="others use 40% of this machine, expected at most 10%"):
        accuracy_times.measure_times(settings)
    forced = accuracy_times.measure_times(settings, force=True)
    assert forced.forced and forced.foreign_share == 0.4 and torch.get_num_threads() == 1
    assert all(p5 <= p50 <= p95 for p50, p5, p95 in forced.ms.values())
    assert all(0 < least <= p50 for least, p50 in forced.processor_ms.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"baselin": "one"}, "baselin is unknown, expected one of"),
        ({"rows": [{"name": "a", "weight": "b"}]}, r"rows\[0\].weight is unknown, expected one of"),
        ({"rows": [{"model": "tiny2"}]}, r"rows\[0\].name is missing, expected text"),
        ({"rows": [{"name": "a"}, {"name": "a"}], "baseline": ""}, "expected at least one and no name twice"),
        ({"rows": []}, r"rows are named \[\], expected at least one"),
        ({"rows": [{"name": "one", "runs": "backwards"}]}, "rows.0..runs is 'backwards', expected 'stream' or"),
        ({"rows": [{"name": "one", "input_height": -1}]}, "input_height is -1, expected 0 or more"),
        ({"baseline": "none"}, "baseline is 'none', expected one of"),
        ({"rows": [{"name": "one", "against": "b"}]}, r"rows\[0\].against is 'b', expected one of"),
        ({"bootstrap": {"resamples": 0}}, "bootstrap.resamples is 0, expected at least 1"),
        ({"timing": {"size": [480]}}, r"timing.size is \[480\], expected a list of two numbers"),
        ({"peers": {"rows": [{"name": "p", "miou": [1.0]}]}}, r"peers.rows\[0\].miou has 1 values, expected one for"),
        ({"rows": [{"name": "one", "motion": "guessed"}]}, "motion is 'guessed', expected one of"),
        ({"rows": [{"name": "one", "score_memory": 2}]}, "score_memory is 2.0, expected 0 to 0.95"),
        ({"rows": [{"name": "one", "model": "tiny2", "weights": "nowhere"}]}, "none of which exists"),
        ({"rows": [{"name": "one", "model": "tiny2"}]}, "model 'tiny2' ships without weights"),
    ],
)
def test_a_wrong_file_is_named(
    folder: Path, tmp_path: Path, change: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(settings_of(folder) | change))
    assert main(["accuracy", str(file), "-o", str(tmp_path / "out")]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_configurations_that_ship_are_read() -> None:
    for file in (Path(__file__).parents[1] / "config").glob("accuracy*.yaml"):
        assert isinstance(read_accuracy_settings(file), AccuracySettings)


def test_the_labels_themselves_on_real_frames(data_pack: Path, tmp_path: Path) -> None:
    """The first frames of the dense clip: what a perfect stream of masks scores there."""
    rows = (data_pack / "camvid" / "sequences.csv").read_text().splitlines()
    dense = [line for line in rows if line.startswith("val,")][:9]
    for line in dense:
        for name in line.split(",")[-2:]:
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).symlink_to(data_pack / "camvid" / name)
    (tmp_path / "sequences.csv").write_text("\n".join([rows[0], *dense]) + "\n")
    clip = ClipSettings("dense", str(tmp_path / "sequences.csv"), "val")
    scores, by_frame = score_clip(clip, CAMVID, true_masks)
    assert by_frame.shape == (9, 11, 11) and scores.miou == 1.0
    assert scores.stability.flicker == 0 and scores.stability.vc8 == 1
    assert 0.8 < scores.stability.temporal_consistency < 1 and not math.isnan(scores.boundary_f)
