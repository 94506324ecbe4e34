"""The node as a process: one clear line where it cannot start, and a clean end in the middle of the work."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable

import pytest
from running_process import RunningProcess

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

from segmentation_graph import image, segmentation_graph

from tdnet_ros.node.segmentation_node import main
from tdnet_ros.node.transport import PROFILE_VARIABLES


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("weights:=/nowhere/td4.pkl", "weights is '/nowhere/td4.pkl', expected an existing weight file"),
        ("model:=unet", "model is 'unet', expected one of"),
        ("device:=cuda:31", "device is 'cuda:31'"),
        ("runtime:=warp", "parameter 'runtime' is 'warp', expected one of auto, eager, compile, cudagraph"),
        ("input_height:=-5", "parameter 'input_height' is -5, expected 0 to 4096"),
        (
            "input_transport:=carrier_pigeon",
            "parameter 'input_transport' is 'carrier_pigeon', expected one of raw",
        ),
        ("timeout_s:=fast", "parameter 'timeout_s'"),
        ("cameras:=[front, front]", "parameter 'cameras' names 'front' 2 times, expected once"),
    ],
)
def test_wrong_setting_at_start_ends_with_one_clear_line(
    ros_domain: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    parameter: str,
    said: str,
) -> None:
    """Without a process for each: the next test has one, and it takes seconds to load torch."""
    for name in PROFILE_VARIABLES:
        monkeypatch.setenv(name, "")  # main chooses a profile; it goes when the test ends
    monkeypatch.setattr(sys, "argv", ["segmentation_node", "--ros-args", "-p", parameter])
    assert main() == 1
    output = "".join(capfd.readouterr())
    errors = [line for line in output.splitlines() if line.startswith("segmentation_node: error: ")]
    assert len(errors) == 1 and said in errors[0], output
    assert "Traceback" not in output


def test_weights_that_do_not_fit_say_what_they_look_like(
    start_process: Callable[..., RunningProcess],
) -> None:
    from tdnet_ros.streaming.models import shipped_weights

    process = start_process(
        "tdnet_ros.node.segmentation_node",
        *("--ros-args", "-p", "model:=td4_psp18", "-p", f"weights:={shipped_weights('td2_mnv2')}"),
    )
    assert process.wait() == 1
    errors = [line for line in process.output.splitlines() if line.startswith("segmentation_node: error: ")]
    assert len(errors) == 1 and "looks like 'td2_mnv2'" in errors[0], process.output
    assert "Traceback" not in process.output


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_while_the_libraries_load_ends_the_process_in_silence(number: signal.Signals) -> None:
    interrupted = (
        "import os; from tdnet_ros.node import executable\n"
        f"executable.import_module = lambda name: os.kill(os.getpid(), {number.value})\n"
        "executable.run('segmentation_node')"
    )
    child = subprocess.run([sys.executable, "-c", interrupted], capture_output=True, text=True, check=False)
    assert (child.returncode, child.stdout, child.stderr) == (0, "", "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_in_the_middle_of_the_work_ends_the_node_cleanly(number: signal.Signals) -> None:
    with segmentation_graph() as running:
        running.mask_of(image())
        for index in range(5):
            running.send(image(index, height=720, width=1280))
        assert running.process.stop(number) == 0, running.process.output
        assert "Traceback" not in running.process.output
