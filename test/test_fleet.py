"""Many recordings: side by side, one of them broken, resumed where it stopped, on a local Ray."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import pytest

from tdnet_ros.cli import main
from tdnet_ros.errors import ConfigurationError
from tdnet_ros.evaluation.evaluate import EvaluationSettings
from tdnet_ros.evaluation.fleet import Job, evaluate_all, jobs_of, on_ray, run_job
from tdnet_ros.training.street import Street


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two drives of three pictures, with labels of the same names in one folder, and a broken one."""
    root = tmp_path_factory.mktemp("fleet")
    for name in ("first", "second", "broken", "labels"):
        (root / name).mkdir()
    for seed, name in enumerate(("first", "second")):
        street = Street(seed=seed, height=72, width=96, rate_hz=10)
        for index in range(3):
            rendered = street.render(index)
            cv2.imwrite(str(root / name / f"{index}.png"), rendered.image[..., ::-1])
            cv2.imwrite(str(root / "labels" / f"{index}.png"), rendered.labels)
    (root / "broken" / "0.png").write_bytes(b"no picture")
    return root


def in_this_process(jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
    """For what does not depend on where the jobs run: another process takes seconds to load torch."""
    for job in jobs:
        yield job, run_job(job)


def test_a_failed_recording_is_named_and_the_others_are_finished(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recordings = [str(folders / name) for name in ("first", "broken", "second")]
    command = ["evaluate", *recordings, "--labels", str(folders / "labels"), "--workers", "2", "-o", str(tmp_path)]
    assert main(command) == 1
    said = capsys.readouterr().out
    assert "3 of 3" in said and re.search(r"^broken +FAILED: .*not a picture", said, re.MULTILINE)
    content = json.loads((tmp_path / "summary.json").read_text())
    assert list(content) == ["first", "broken", "second"]
    assert content["first"]["frames"] == content["second"]["labelled_frames"] == 3
    assert "not a picture" in content["broken"]["error"]
    before = (tmp_path / "first" / "report.json").stat().st_mtime_ns
    assert main(command) == 1
    assert capsys.readouterr().out.count("was finished before") == 2
    assert (tmp_path / "first" / "report.json").stat().st_mtime_ns == before


def test_a_job_is_done_again_when_its_recording_or_its_settings_changed(folders: Path, tmp_path: Path) -> None:
    shutil.copytree(folders / "first", tmp_path / "first")

    def resumed(labels: str) -> bool:
        jobs = jobs_of([tmp_path / "first"], lambda path: EvaluationSettings(path, labels=labels), tmp_path / "out")
        (outcome,) = evaluate_all(jobs, in_this_process)
        assert outcome.error == ""
        return outcome.resumed

    assert [resumed(""), resumed(""), resumed(str(folders / "labels"))] == [False, True, False]
    shutil.copy(tmp_path / "first" / "0.png", tmp_path / "first" / "3.png")
    assert not resumed(str(folders / "labels"))


def test_recordings_of_one_name_get_folders_of_their_own(tmp_path: Path) -> None:
    jobs = jobs_of([Path("a/bag"), Path("b/bag"), Path("bag-2")], EvaluationSettings, tmp_path)
    assert [job.output.name for job in jobs] == ["bag", "bag-2", "bag-2-2"]


def test_the_graph_is_for_one_recording(folders: Path) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", str(folders / "first"), str(folders / "second"), "--graph"])


def test_without_ray_the_way_to_get_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigurationError, match=r"pip install 'tdnet_ros\[ray\]'"):
        on_ray("local")


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_a_local_ray_gives_the_same_scores(folders: Path, tmp_path: Path) -> None:
    def settings(recording: Path) -> EvaluationSettings:
        return EvaluationSettings(recording, labels=str(folders / "labels"))

    recordings = [folders / "first", folders / "broken"]
    on_cluster = list(evaluate_all(jobs_of(recordings, settings, tmp_path / "ray"), on_ray("local")))
    (here,) = evaluate_all(jobs_of(recordings[:1], settings, tmp_path / "here"), in_this_process)
    by_name = {outcome.job.output.name: outcome for outcome in on_cluster}
    assert by_name["broken"].evaluation is None and "not a picture" in by_name["broken"].error
    there = by_name["first"].evaluation
    assert there is not None and here.evaluation is not None
    assert there.scores.confusion == here.evaluation.scores.confusion
