"""The command line: what it lists, what it refuses, and with which exit code."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from recordings import Recording, read_decoded, write_folder
from running_process import RunningProcess

from tdnet_ros import __version__
from tdnet_ros.cli import COMMANDS, main


def test_help_needs_neither_torch_nor_ros() -> None:
    script = (
        "import sys\n"
        "from tdnet_ros.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'rclpy', 'av', 'cv2', 'rosbags'} & set(sys.modules)))\n"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"
    for command in COMMANDS:
        assert command.__doc__ and command.__doc__ in " ".join(said.split())


def test_models_are_listed_with_their_classes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("td4_psp18") and "cityscapes (19 classes)" in line for line in lines)
    assert sum("(default)" in line for line in lines) == 1


def test_benchmark_times_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["benchmark", "--size", "96x64", "--steps", "2"]) == 0
    said = capsys.readouterr().out
    for stage in ("preprocess", "network", "postprocess", "step"):
        assert f"  {stage} " in said
    assert "through the network at 540x360" in said
    assert "GMAC" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["segment", "nowhere.mp4", "-o", "out.mp4"], "nowhere.mp4 does not exist"),
        (["segment", "{pictures}", "-o", "out.mp4", "--model", "td9"], "model is 'td9', expected one of"),
        (["segment", "{pictures}", "-o", "no/such/folder/out.mp4"], "out.mp4 cannot be written"),
        (["demo", "--video", "nowhere.mp4"], "nowhere.mp4 does not exist"),
        (["play", "nowhere.mp4"], "nowhere.mp4 does not exist"),
    ],
)
def test_errors_are_one_line_and_exit_code_1(
    ros_domain: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write_folder(tmp_path / "pictures", 1)
    assert main([argument.format(pictures=tmp_path / "pictures") for argument in arguments]) == 1
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert "error: " in line and message in line


def test_wrong_usage_is_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["fly"], ["segment", str(tmp_path)]):
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        assert stopped.value.code == 2
    assert "nothing to write: give --output, --masks or both" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and __version__ in capsys.readouterr().out


def test_play_is_a_camera_on_any_topic(start_process: Callable[..., RunningProcess], tmp_path: Path) -> None:
    write_folder(tmp_path / "pictures", 2)
    recording = Recording(start_process, tmp_path, topics=["/front/image"])
    player = start_process(
        "tdnet_ros.cli",
        "play",
        str(tmp_path / "pictures"),
        "--image-topic",
        "/front/image",
        "--loop",
        "--ros-args",
        "-p",
        "encoding:=bgr8",
    )
    recording.wait_until("/front/image", 3)
    assert player.stop(signal.SIGINT) == 0, player.output
    recording.process.stop()
    assert read_decoded(recording.bag, "/front/image")[0].encoding == "bgr8"
