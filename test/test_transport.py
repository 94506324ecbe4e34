"""The Fast DDS profile is found, applied and never forced on anyone; images then arrive."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from running_process import RunningProcess, python_environment

pytest.importorskip("rclpy", reason="rclpy is not installed")

from rclpy.qos import QoSCompatibility, QoSProfile, ReliabilityPolicy, qos_check_compatible

from tdnet_ros.node import transport

SEGMENT_BYTES = 64 << 20
SETTINGS = (*transport.PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS", "RMW_IMPLEMENTATION")
# For child processes: the package under test, wherever it lies, and the modules beside this one.
IMPORT_PATH = os.pathsep.join(str(path) for path in (Path(transport.__file__).parents[2], Path(__file__).parent))
FASTDDS, FASTRTPS = transport.PROFILE_VARIABLES


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment and a working directory in which nobody has chosen anything; both come back afterwards."""
    for name in SETTINGS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def largest_shared_memory(pid: int) -> int:
    """Bytes of the largest Fast DDS segment that the process has mapped."""
    maps = Path(f"/proc/{pid}/maps").read_text()
    ranges = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) .*/dev/shm/fast\w+$", maps, re.MULTILINE)
    return max((int(end, 16) - int(start, 16) for start, end in ranges), default=0)


def test_large_images_arrive_with_our_profile(start_process: Callable[..., RunningProcess]) -> None:
    """With Fast DDS's defaults none of 10 arrived where this was measured, one at a time as here."""
    count = 40
    environment = {"PYTHONPATH": IMPORT_PATH, **dict.fromkeys(transport.PROFILE_VARIABLES, "")}
    receiver = start_process("image_traffic", "receive", str(count), environment=environment)
    receiver.wait_for("'origin': 'tdnet_ros'")
    receiver.wait_for("listening")
    sender = start_process("image_traffic", "send", str(count), environment=environment)
    arrived = int(sender.wait_for(r"arrived (\d+)")[1])
    assert largest_shared_memory(sender.pid) >= SEGMENT_BYTES
    assert (receiver.stop(), sender.wait()) == (0, 0)
    assert arrived >= 0.9 * count, f"{arrived} of {count} arrived"


@pytest.mark.parametrize(("distribution", "variable"), [("kilted", FASTDDS), ("jazzy", FASTRTPS), ("", FASTDDS)])
def test_our_profile_is_set_for_the_installed_generation(
    untouched: Path, monkeypatch: pytest.MonkeyPatch, distribution: str, variable: str
) -> None:
    monkeypatch.setenv("ROS_DISTRO", distribution)
    settings = transport.use_shared_memory_profile()
    own = transport.profile_path()
    assert own is not None and own.is_file()
    assert (settings.origin, settings.profile) == ("tdnet_ros", own)
    assert {name: os.environ.get(name) for name in (FASTDDS, FASTRTPS) if name in os.environ} == {variable: str(own)}
    assert transport.use_shared_memory_profile().origin == "tdnet_ros"


@pytest.mark.parametrize("variable", transport.PROFILE_VARIABLES)
def test_the_users_profile_stays(untouched: Path, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    mine = untouched / "mine.xml"
    mine.write_text("<dds><profiles/></dds>")
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    monkeypatch.setenv(variable, str(mine))
    assert transport.use_shared_memory_profile() == transport.TransportSettings("user", mine)
    assert os.environ[FASTDDS] == str(mine)


@pytest.mark.parametrize("content", [None, "<dds>"], ids=["missing", "broken"])
def test_a_profile_that_cannot_be_read_is_told(
    untouched: Path, monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    mine = untouched / "mine.xml"
    if content is not None:
        mine.write_text(content)
    monkeypatch.setenv(FASTDDS, str(mine))
    settings = transport.use_shared_memory_profile()
    assert (settings.origin, settings.profile) == ("user", mine)
    assert re.match(rf"Fast DDS profile {mine} cannot be read \(.*\): large images will be lost", settings.warning)


def test_other_ways_to_choose_transports_are_left_alone(untouched: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTDDS_BUILTIN_TRANSPORTS", "LARGE_DATA")
    assert transport.use_shared_memory_profile() == transport.TransportSettings("user")
    monkeypatch.delenv("FASTDDS_BUILTIN_TRANSPORTS")
    (untouched / "DEFAULT_FASTDDS_PROFILES.xml").write_text("<dds/>")
    assert transport.use_shared_memory_profile() == transport.TransportSettings("user")
    monkeypatch.setenv("RMW_IMPLEMENTATION", "rmw_cyclonedds_cpp")
    assert transport.use_shared_memory_profile() == transport.TransportSettings("middleware")
    assert not any(name in os.environ for name in transport.PROFILE_VARIABLES)


@pytest.mark.parametrize(
    ("module", "profile", "prefix"),
    [
        ("checkout/tdnet_ros", "checkout/config", ""),
        ("venv/lib/python3.12/site-packages/tdnet_ros", "venv/share/tdnet_ros/config", ""),
        ("ws/install/tdnet_ros/local/lib/python3.12/dist-packages/tdnet_ros",
         "ws/install/tdnet_ros/share/tdnet_ros/config", ""),
        ("elsewhere/tdnet_ros", "ws/install/tdnet_ros/share/tdnet_ros/config", "ws/install/tdnet_ros"),
    ],
    ids=["checkout", "pip", "colcon", "ament index"],
)  # fmt: skip
def test_the_profile_is_found_in_every_kind_of_install(
    untouched: Path, monkeypatch: pytest.MonkeyPatch, module: str, profile: str, prefix: str
) -> None:
    monkeypatch.setattr(transport, "__file__", str(untouched / module / "node" / "transport.py"))
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join((str(untouched / "none"), str(untouched / prefix))))
    assert transport.profile_path() is None
    assert "not installed: large images will be lost" in transport.use_shared_memory_profile().warning
    (untouched / profile).mkdir(parents=True)
    (untouched / profile / transport.PROFILE_NAME).write_text("<dds/>")
    assert transport.profile_path() == untouched / profile / transport.PROFILE_NAME


@pytest.mark.parametrize(("free_mib", "warned"), [(63, True), (200, False)])
def test_too_little_shared_memory_is_told(
    untouched: Path, monkeypatch: pytest.MonkeyPatch, free_mib: int, warned: bool
) -> None:
    room = SimpleNamespace(f_bavail=free_mib << 8, f_frsize=4096)
    monkeypatch.setattr(transport.os, "statvfs", lambda path: room)
    warning = transport.use_shared_memory_profile().warning
    assert bool(warning) == warned
    if warned:
        assert "/dev/shm has 63 MiB free, expected at least 67 MiB per process" in warning
        assert "--shm-size" in warning


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_image_sized_blocks_stay_in_the_heap() -> None:
    """Page faults of 100 images: without tuning nearly every page of every one."""
    program = """if True:
        import resource
        from tdnet_ros.node.transport import tune_allocator
        assert tune_allocator()
        image = bytes(1280 * 720 * 3)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(100):
            copies = bytearray(image), bytearray(image)
            del copies
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=python_environment({"PYTHONPATH": IMPORT_PATH}),
        capture_output=True,
        text=True,
        check=True,
    )
    pages = 2 * 100 * 1280 * 720 * 3 // os.sysconf("SC_PAGE_SIZE")
    assert int(result.stdout) < 0.1 * pages


@pytest.mark.parametrize("reliability", [ReliabilityPolicy.BEST_EFFORT, ReliabilityPolicy.RELIABLE])
def test_our_topics_match_whatever_the_other_side_asks_for(reliability: ReliabilityPolicy) -> None:
    other = QoSProfile(depth=10, reliability=reliability)
    pairs = [(other, transport.IMAGE_INPUT), (transport.CAMERA, other), (transport.MASK, other)]
    assert all(qos_check_compatible(*pair)[0] != QoSCompatibility.ERROR for pair in pairs)
    reliable = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
    assert qos_check_compatible(transport.OVERLAY, reliable)[0] == QoSCompatibility.ERROR
    assert transport.IMAGE_INPUT.depth == transport.OVERLAY.depth == transport.LATCHED.depth == 1
