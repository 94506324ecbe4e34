"""The main job as real processes: a video through player, node and recorder, and the account of what became of it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import cv2
import pytest
from recordings import write_folder, write_video
from running_process import PATIENCE_S, RunningProcess

from tdnet_ros.demo import run_demo, street_clip
from tdnet_ros.errors import CheckpointError, SourceError
from tdnet_ros.evaluation.bags import read_latencies, read_masks
from tdnet_ros.evaluation.processes import PARENT_VARIABLE, NodeProcess, NodeProcessError, free_domain
from tdnet_ros.evaluation.replay import LATENCY_TOPIC, MASK_TOPIC, ReplaySettings
from tdnet_ros.evaluation.segment_video import segment_video
from tdnet_ros.streaming import Segmenter
from tdnet_ros.video.sources import open_source

FRAMES = 12
#: A small network input and one thread: these tests are about the way there and back.
LIGHT = {"input_height": 64, "threads": 1}


@pytest.fixture
def settings(tmp_path: Path, ros_domain: dict[str, str]) -> ReplaySettings:
    write_video(tmp_path / "drive.mp4", count=FRAMES, rate=10)
    return ReplaySettings(tmp_path / "drive.mp4", tmp_path / "output", node_parameters=LIGHT)


def test_every_frame_of_the_video_is_accounted_for(settings: ReplaySettings) -> None:
    lines: list[str] = []
    run_demo(settings, lines.append)
    output = settings.output
    report = json.loads((output / "latency.json").read_text())
    frames = report["frames"]
    parts = ("masks", "dropped", "rejected", "lost_images", "lost_masks", "unaccounted")
    assert frames["sent"] == FRAMES == sum(frames[part] for part in parts)
    assert frames["consistent"] and frames["unaccounted"] == 0, frames
    assert frames["masks"] >= 1
    assert report["latency_ms"]["node"]["p50"] > 0
    masks = list(read_masks(output / "bag", MASK_TOPIC))
    latencies = read_latencies(output / "bag", LATENCY_TOPIC)
    assert [mask.stamp_ns for mask in masks] == [latency.stamp_ns for latency in latencies]
    assert {mask.ids.shape for mask in masks} == {(48, 64)}
    with av.open(str(output / "overlay.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == FRAMES
    assert cv2.imread(str(output / "overlay.png")) is not None
    said = "\n".join(lines)
    assert "12 frames of 64x48 at 10.00 Hz" in said
    assert "sent by the camera                      12    100.0" in said
    assert str(output / "overlay.mp4") in said
    assert "terms of the weights: non-commercial" in said

    # Once more into the same folder, compressed: the old results make way.
    run_demo(replace(settings, transport="compressed", duration_s=0.5), lines.append)
    assert json.loads((output / "latency.json").read_text())["frames"]["sent"] == 5


def test_a_node_that_cannot_start_is_quoted(settings: ReplaySettings) -> None:
    with pytest.raises(NodeProcessError, match=r"segmentation .*exit code 1.*(.|\n)*device is 'cuda:99'"):
        run_demo(replace(settings, device="cuda:99"), lambda line: None)


def test_nothing_is_started_for_a_file_that_is_not_there(settings: ReplaySettings) -> None:
    lines: list[str] = []
    with pytest.raises(CheckpointError, match=r"weights is 'nowhere\.safetensors', expected an existing weight file"):
        run_demo(replace(settings, weights="nowhere.safetensors"), lines.append)
    with pytest.raises(SourceError, match=r"missing\.mp4 does not exist"):
        run_demo(replace(settings, source=Path("missing.mp4")), lines.append)
    assert lines == []


def children_of(process: RunningProcess) -> list[int]:
    """Processes that NodeProcess started on behalf of this one."""
    mark = f"{PARENT_VARIABLE}={process.pid}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in environment:
            found.append(int(entry.name))
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_node_outlives_the_demo(
    start_process: Callable[..., RunningProcess], tmp_path: Path, number: signal.Signals, code: int
) -> None:
    write_folder(tmp_path / "pictures", 3)
    demo = start_process("tdnet_ros.cli", "demo", "--video", str(tmp_path / "pictures"))
    demo.wait_for("starting segmentation node")
    give_up_s = time.monotonic() + PATIENCE_S
    while len(children := children_of(demo)) < 2:
        assert time.monotonic() < give_up_s
        time.sleep(0.05)
    os.kill(demo.pid, number)
    assert demo.wait() == code
    give_up_s = time.monotonic() + PATIENCE_S
    while any(Path(f"/proc/{child}").exists() for child in children):
        assert time.monotonic() < give_up_s, "a node is still there"
        time.sleep(0.05)
    assert "Traceback" not in demo.output


def test_node_processes_get_their_parameters_as_they_are(tmp_path: Path, ros_domain: dict[str, str]) -> None:
    source = tmp_path / "007: a #name"
    node = NodeProcess(
        "player",
        "tdnet_ros.node.player_node",
        tmp_path,
        "/camera",
        {"source": str(source)},
        {},
        ros_domain,
    )
    with pytest.raises(NodeProcessError, match="007: a #name does not exist"):
        node.require_success()
    with pytest.raises(NodeProcessError, match="player process ended, exit code 1"):
        node.require_running()


def test_a_domain_in_use_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        domain = free_domain()
        taken.bind(("", 7410 + 250 * domain))
        monkeypatch.setattr("tdnet_ros.evaluation.processes._DOMAINS", range(domain, domain + 1))
        with pytest.raises(NodeProcessError, match="in use"):
            free_domain()


def test_video_is_segmented_without_ros(tmp_path: Path) -> None:
    write_video(tmp_path / "drive.mp4", count=3)
    segmenter = Segmenter(input_height=64, threads=1)
    seen: list[int] = []
    done = segment_video(
        open_source(tmp_path / "drive.mp4"), segmenter, tmp_path / "out.mp4", tmp_path / "masks", seen.append
    )
    assert done == (3, 0) and seen == [1, 2, 3]
    with av.open(str(tmp_path / "out.mp4")) as video:
        assert sum(1 for _ in video.decode(video=0)) == 3
    mask = cv2.imread(str(tmp_path / "masks" / "000002.png"), cv2.IMREAD_UNCHANGED)
    assert mask.shape == (48, 64) and mask.max() < len(segmenter.labels)


def test_rendered_clip_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tdnet_ros.demo._CLIP_SECONDS", 0.2)
    lines: list[str] = []
    clip = street_clip(tmp_path, lines.append)
    made = clip.stat().st_mtime_ns
    assert open_source(clip).frame_count == 3
    assert street_clip(tmp_path, lines.append) == clip
    assert clip.stat().st_mtime_ns == made and len(lines) == 1
