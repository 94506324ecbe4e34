"""The package as others get it: what is in the wheel, what it installs, and what works without ROS."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest
from conftest import REPOSITORY
from running_process import python_environment
from type_hash import type_hash

import tdnet_ros

# Another hash means that recorded bags and running nodes of the last release no longer understand each other.
TYPE_HASH = "RIHS01_1306d9d7d7baa7f66f48bb79eb80b89dbfc0997a0399adbd0e3ffa101147eea3"

BUILD_SDIST = "import sys; from setuptools import build_meta; print(build_meta.build_sdist(sys.argv[1]))"

IMPORT_CORE_WITHOUT_ROS = """
import importlib, pkgutil, re, sys

class NoRos:
    names = re.compile(
        "(rclpy|ament_.*|launch.*|rosidl_.*|rcl_interfaces|.*_msgs|std_srvs|builtin_interfaces|cv_bridge)$"
    )
    def find_spec(self, name, path=None, target=None):
        if self.names.match(name.partition(".")[0]) or name == "tdnet_ros.msg":
            raise ModuleNotFoundError(f"{name} is hidden by the test", name=name)

sys.meta_path.insert(0, NoRos())
import tdnet_ros

def core(path, prefix):
    for module in pkgutil.iter_modules(path, prefix):
        if module.name in ("tdnet_ros.node", "tdnet_ros.msg") or "typesupport" in module.name:
            continue
        imported = importlib.import_module(module.name)
        print(module.name)
        if module.ispkg:
            core(imported.__path__, module.name + ".")

core(tdnet_ros.__path__, "tdnet_ros.")
"""


def run(*command: str, environment: dict[str, str] | None = None, cwd: Path = REPOSITORY) -> str:
    """The standard output of a command that must succeed."""
    result = subprocess.run(
        command, cwd=cwd, env=python_environment(environment or {}), capture_output=True, text=True, timeout=3000
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A source distribution of this tree."""
    folder = tmp_path_factory.mktemp("sdist")
    return folder / run(sys.executable, "-c", BUILD_SDIST, str(folder)).splitlines()[-1]


def build_wheel(sdist: Path, folder: Path, environment: dict[str, str] | None = None) -> Path:
    """A wheel of the source distribution, built by this environment's generators."""
    if importlib.util.find_spec("rosidl_generator_py") is None:
        pytest.skip("rosidl_generator_py is not installed: pip install 'tdnet_ros[ros]'")
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-index", "--no-build-isolation"]
    run(*pip, "-w", str(folder), str(sdist), environment=environment)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel with type support, built from the source distribution alone."""
    return build_wheel(sdist, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def prefix(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory into which the wheel is installed as into a virtual environment."""
    target = tmp_path_factory.mktemp("prefix")
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--no-compile", "-I"]
    run(*pip, "--prefix", str(target), str(wheel))
    return target


def test_type_hash_is_stable(ros_domain: dict[str, str], tmp_path: Path) -> None:
    environment = {**ros_domain, "PYTHONPATH": str(REPOSITORY)}
    assert type_hash([sys.executable], environment, tmp_path) == TYPE_HASH


def test_installed_wheel_has_working_messages(prefix: Path, ros_domain: dict[str, str], tmp_path: Path) -> None:
    (package,) = prefix.rglob("tdnet_ros/__init__.py")
    environment = {**ros_domain, "PYTHONPATH": str(package.parents[1])}
    assert type_hash([sys.executable], environment, tmp_path) == TYPE_HASH


def test_wheel_has_all_modules_weights_and_licences(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for path in (REPOSITORY / "tdnet_ros").rglob("*.py"):
        assert str(path.relative_to(REPOSITORY)) in names
    shipped = sorted((REPOSITORY / "tdnet_ros" / "weights").glob("*.safetensors"))
    assert shipped
    for path in shipped:
        assert f"tdnet_ros/weights/{path.name}" in names
        assert f"tdnet_ros/weights/{path.stem}.md" in names, "weights without a model card"
    for name in ("LICENSE", "LICENSE-WEIGHTS"):
        assert any(entry.endswith(f"dist-info/licenses/{name}") for entry in names)
    assert sum("typesupport" in entry and entry.endswith(".so") for entry in names) == 1


def test_wheel_installs_what_ros2_looks_for(prefix: Path) -> None:
    share = prefix / "share" / "tdnet_ros"
    index = prefix / "share" / "ament_index" / "resource_index"
    assert (share / "package.xml").is_file()
    assert (index / "packages" / "tdnet_ros").is_file()
    assert (index / "rosidl_interfaces" / "tdnet_ros").read_text().split() == ["msg/FrameLatency.msg"]
    for folder in ("launch", "config", "msg"):
        source = {path.name for path in (REPOSITORY / folder).iterdir() if path.is_file()}
        assert source
        assert {path.name for path in (share / folder).iterdir()} == source
    for name in ("segmentation_node", "player_node", "recorder_node"):
        assert os.access(prefix / "lib" / "tdnet_ros" / name, os.X_OK)


def test_editable_installation_gets_the_same_layout(prefix: Path, tmp_path: Path) -> None:
    code = "import sys; from pathlib import Path; from install_layout import link_into; link_into(Path(sys.argv[1]))"
    run(sys.executable, "-c", code, str(tmp_path), environment={"PYTHONPATH": str(REPOSITORY / "tools")})
    linked = {path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()}
    installed = {
        path.relative_to(prefix)
        for folder in ("share", "lib/tdnet_ros")
        for path in (prefix / folder).rglob("*")
        if path.is_file()
    }
    assert linked == installed


@pytest.mark.parametrize(
    "environment",
    [{"TDNET_ROS_TYPE_SUPPORT": "skip"}, {"ROS_DISTRO": "jazzy", "AMENT_PREFIX_PATH": "/opt/ros/jazzy"}],
    ids=["asked for", "generators of another ROS"],
)
def test_wheel_without_type_support_is_pure_python(sdist: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    core = build_wheel(sdist, tmp_path, environment)
    assert core.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(core).namelist()
    assert not [name for name in names if name.endswith(".so") or name.startswith("tdnet_ros/msg/")]


def test_core_imports_without_ros(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(REPOSITORY)}
    imported = run(sys.executable, "-c", IMPORT_CORE_WITHOUT_ROS, environment=environment, cwd=tmp_path)
    for package in ("cli", "errors", "evaluation", "labels", "networks", "streaming", "training", "video"):
        assert f"tdnet_ros.{package}" in imported.split()


def test_versions_agree() -> None:
    assert ET.parse(REPOSITORY / "package.xml").findtext("version") == tdnet_ros.__version__


def test_ros_versions_of_build_run_and_constraints_agree() -> None:
    """The type support is C: it must be built with the versions that it will run with."""
    exact = re.compile(r'"?(ros-[a-z-]+)(?:\[\w+\])?==([\d.]+)')
    pyproject = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    pins = exact.findall(pyproject)
    tested = dict(exact.findall((REPOSITORY / "constraints.txt").read_text(encoding="utf-8")))
    assert {"ros-rclpy", "ros-std-msgs", "ros-rosidl-generator-py"} <= {name for name, _ in pins}
    assert {name: version for name, version in pins if tested.get(name) != version} == {}


def test_setup_names_the_missing_compiler_before_it_does_anything(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, str(REPOSITORY / "tools" / "setup_environment.py"), "dependencies"],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 1
    assert "apt install g++" in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(("reason", "code"), [("no CUDA device", 0), ("not today", 1)])
def test_only_listed_reasons_may_skip_a_test(reason: str, code: int, tmp_path: Path) -> None:
    test = tmp_path / "test_skipped.py"
    test.write_text(f"import pytest\ndef test_it():\n    pytest.skip({reason!r})\n", encoding="utf-8")
    pytest_here = [sys.executable, "-m", "pytest", "-p", "conftest", "--forbid-unlisted-skips", str(test)]
    search_path = os.pathsep.join(map(str, (Path(__file__).parent, REPOSITORY)))
    result = subprocess.run(
        pytest_here,
        cwd=tmp_path,
        env=python_environment({"PYTHONPATH": search_path}),
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert result.returncode == code, result.stdout + result.stderr
    assert ("test_skipped.py::test_it: not today" in result.stdout) == (code == 1)
