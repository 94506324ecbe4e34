"""Evaluation from end to end: recordings with labels in, reports out, offline and through real processes."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from sklearn.metrics import jaccard_score

from tdnet_ros.cli import main
from tdnet_ros.errors import ConfigurationError, SourceError
from tdnet_ros.evaluation.evaluate import EvaluationSettings
from tdnet_ros.evaluation.metrics import ConfusionMatrix
from tdnet_ros.evaluation.offline import evaluate_offline
from tdnet_ros.evaluation.report import comparison_table, write_comparison, write_page
from tdnet_ros.evaluation.result import Evaluation, read_evaluation
from tdnet_ros.training.street import Street

FRAMES, RATE_HZ = 20, 10
SIZE = (144, 192)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures of a rendered street and their exact labels; every fourth frame is without."""
    folder = tmp_path_factory.mktemp("street")
    for name in ("images", "labels"):
        (folder / name).mkdir()
    video = Street(seed=4, height=SIZE[0], width=SIZE[1], rate_hz=RATE_HZ)
    for index in range(FRAMES):
        rendered = video.render(index)
        cv2.imwrite(str(folder / "images" / f"{index:03d}.png"), rendered.image[..., ::-1])
        if index % 4 != 3:
            cv2.imwrite(str(folder / "labels" / f"{index:03d}.png"), rendered.labels)
    return folder


def settings_of(street: Path) -> EvaluationSettings:
    return EvaluationSettings(street / "images", labels=str(street / "labels"), rate_hz=RATE_HZ)


@pytest.fixture(scope="module")
def offline(street: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    """An evaluation and the folder of its report."""
    folder = tmp_path_factory.mktemp("offline")
    evaluation, worst = evaluate_offline(settings_of(street))
    evaluation.write(folder / "report.json")
    write_page(evaluation, worst, folder / "report.html")
    return evaluation, folder


def test_every_frame_is_streamed_and_labelled_ones_are_scored(offline: tuple[Evaluation, Path]) -> None:
    evaluation, _ = offline
    assert (evaluation.scores.frames, evaluation.scores.labelled_frames) == (FRAMES, FRAMES - FRAMES // 4)
    assert [frame.index for frame in evaluation.frames] == list(range(FRAMES))
    assert [math.isnan(frame.miou) for frame in evaluation.frames] == [index % 4 == 3 for index in range(FRAMES)]
    assert 0.2 < evaluation.scores.miou < 1
    assert math.isnan(evaluation.latency_aware_miou) and math.isnan(evaluation.scores.stability.vc8)
    assert [frame.warm for frame in evaluation.frames] == [False] + [True] * (FRAMES - 1)
    assert (evaluation.delivery.masks, evaluation.delivery.dropped) == (FRAMES, 0)


def test_twice_gives_the_same_scores(street: Path, offline: tuple[Evaluation, Path]) -> None:
    again, _ = evaluate_offline(settings_of(street))
    assert repr(again.scores) == repr(offline[0].scores)
    assert again.source["sha256"] == offline[0].source["sha256"]


def test_a_report_is_read_back_as_it_was(offline: tuple[Evaluation, Path]) -> None:
    evaluation, folder = offline
    assert repr(read_evaluation(folder / "report.json")) == repr(evaluation)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read as a report"),
        ("{}", "schema is None, expected 1"),
        ('{"schema": 1}', "not a whole report"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "report.json").write_text(content)
    with pytest.raises(SourceError, match=message):
        read_evaluation(tmp_path / "report.json")


def test_iou_agrees_with_scikit_learn() -> None:
    random = np.random.default_rng(2)
    matrix, seen = ConfusionMatrix(11), []
    for _ in range(3):
        labels = random.integers(0, 12, (60, 80)).astype(np.uint8)
        labels[labels == 11] = 255
        mask = np.where(random.random((60, 80)) < 0.6, labels % 11, random.integers(0, 11, (60, 80))).astype(np.uint8)
        matrix.add(labels, mask)
        seen.append((labels[labels != 255], mask[labels != 255]))
    truth, predicted = (np.concatenate(ids) for ids in zip(*seen, strict=True))
    expected = jaccard_score(truth, predicted, labels=range(11), average=None)
    np.testing.assert_allclose(matrix.iou(), expected, atol=1e-9, rtol=0)
    assert matrix.miou() == pytest.approx(jaccard_score(truth, predicted, average="macro"), abs=1e-9)


def test_a_page_needs_no_network_and_shows_pictures(offline: tuple[Evaluation, Path]) -> None:
    page = (offline[1] / "report.html").read_text(encoding="utf-8")
    head = page.split("</script>", 1)[1]  # behind Plotly's own code
    assert 'src="http' not in head and 'href="http' not in head
    assert page.count('src="data:image/jpeg') == page.count('alt="prediction"') >= 1


def test_reports_side_by_side(offline: tuple[Evaluation, Path], tmp_path: Path) -> None:
    evaluation, folder = offline
    other = replace(evaluation, mode="offline", source={**evaluation.source, "sha256": "0" * 64})
    other.write(tmp_path / "other.json")
    assert (
        main(["compare", str(folder / "report.json"), str(tmp_path / "other.json"), "-o", str(tmp_path / "c.html")])
        == 0
    )
    page = (tmp_path / "c.html").read_text(encoding="utf-8")
    assert "Different recordings" in page and "Different processors" not in page
    table = comparison_table([evaluation, other], ["first", "second"])
    assert "first" in table and table.count(f"{100 * evaluation.scores.miou:.2f} %") >= 2
    strange = replace(evaluation, classes=["a"])
    with pytest.raises(ConfigurationError, match="scored in different classes"):
        write_comparison([evaluation, strange], ["a", "b"], tmp_path / "no.html")


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("kind", ["report", "comparison"])
def test_a_browser_shows_the_page_without_errors(offline: tuple[Evaluation, Path], tmp_path: Path, kind: str) -> None:
    evaluation, folder = offline
    page, figures = folder / "report.html", 6
    if kind == "comparison":
        page, figures = tmp_path / "comparison.html", 3
        write_comparison([evaluation, evaluation], ["a", "b"], page)
    assert BROWSER is not None
    ran = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-logging=stderr",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=20000",
            "--dump-dom",
            page.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    said = [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
    assert not said, said
    assert ran.stdout.count('class="main-svg"') >= figures  # what Plotly has drawn
    assert "Headline" in ran.stdout


def test_in_the_graph_the_same_recording_is_judged_by_what_arrived(
    street: Path, tmp_path: Path, ros_domain: dict[str, str]
) -> None:
    bag = tmp_path / "bag"
    made = ["make-bag", str(street / "images"), "--labels", str(street / "labels"), "--rate-hz", "2.5", "-o", str(bag)]
    assert main(made) == 0
    output = tmp_path / "graph"
    assert main(["evaluate", str(bag), "--labels", "/camera/labels", "--graph", "-o", str(output)]) == 0
    content = json.loads((output / "report.json").read_text())
    delivery = content["delivery"]
    assert content["mode"] == "graph" and delivery["frames"] == FRAMES
    assert delivery["masks"] + delivery["dropped"] + delivery["rejected"] + delivery["lost"] == FRAMES
    assert delivery["masks"] > 0
    assert 0 < content["latency_aware_miou"] <= content["scores"]["miou"] + 0.02
    assert content["latency_ms"]["age"]["p50"] > 0 and content["age_jitter_ms"] > 0
    assert content["configuration"]["model"] == "td2_mnv2"
    assert (output / "report.html").stat().st_size > 1_000_000


def test_a_rate_is_for_the_graph(street: Path) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", str(street / "images"), "--rate", "2"])


def test_errors_are_one_line(street: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(street / "images"), "--labels", str(tmp_path), "-o", str(tmp_path / "out")]) == 1
    assert "expected a folder with PNG label images" in capsys.readouterr().err
