"""The same source tree in a ROS 2 workspace: `colcon build`, then what its install space offers.

The ament and colcon wheels in .venv-colcon stand in for a ROS 2 distribution; `make colcon-environment` installs
them. The build directory is kept between runs, the install space is always a new one.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import REPOSITORY
from running_process import ReservedDomain, python_environment
from type_hash import type_hash

VENV = REPOSITORY / ".venv-colcon"
EXECUTABLES = ("segmentation_node", "player_node", "recorder_node")


@dataclass(frozen=True)
class Workspace:
    """What colcon has installed, and an environment in which its setup.bash can be sourced."""

    install: Path
    environment: dict[str, str]

    @property
    def python(self) -> list[str]:
        """A command that runs the underlay's Python with the workspace sourced, as a user would."""
        setup = str(self.install / "setup.bash")
        return ["bash", "-c", 'source "$0" && exec "$@"', setup, str(VENV / "bin" / "python")]

    @property
    def package(self) -> Path:
        """The prefix that holds tdnet_ros alone."""
        return self.install / "tdnet_ros"

    @property
    def modules(self) -> Path:
        """The directory of the Python package."""
        (package,) = self.package.glob("lib/python3*/site-packages/tdnet_ros")
        return package


def copy_source_tree(target: Path) -> None:
    """Puts the repository into a workspace: CMake refuses an underlay that lies inside the source tree."""
    ignore = shutil.ignore_patterns(".*", "build", "install", "log", "runs", "demo_output", "__pycache__")
    shutil.copytree(REPOSITORY, target, ignore=ignore)


@pytest.fixture(scope="module")
def workspace() -> Iterator[Workspace]:
    if not (VENV / ".installed").is_file():
        pytest.skip(".venv-colcon is not there: make colcon-environment")
    if shutil.which("cmake") is None:
        pytest.skip("cmake is not installed: sudo apt install cmake")
    base = VENV / "workspace"
    for folder in ("install", "src"):
        shutil.rmtree(base / folder, ignore_errors=True)
    copy_source_tree(base / "src" / "tdnet_ros")
    with ReservedDomain() as domain:
        environment = python_environment(
            {
                "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
                "AMENT_PREFIX_PATH": str(VENV),
                "CMAKE_PREFIX_PATH": str(VENV),
                "ROS_DOMAIN_ID": str(domain),
                "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            }
        )
        environment.pop("PYTHONPATH", None)
        build = subprocess.run(
            ["colcon", "build"], cwd=base, env=environment, capture_output=True, text=True, timeout=300
        )
        assert build.returncode == 0, build.stdout + build.stderr
        yield Workspace(base / "install", environment)


def test_message_type_is_the_one_of_the_pip_build(
    workspace: Workspace, ros_domain: dict[str, str], tmp_path: Path
) -> None:
    assert type_hash(workspace.python, workspace.environment, tmp_path) == type_hash(
        [sys.executable], {**ros_domain, "PYTHONPATH": str(REPOSITORY)}, tmp_path
    )


def test_every_module_and_weight_file_is_installed(workspace: Workspace) -> None:
    source = REPOSITORY / "tdnet_ros"
    wanted = {path.relative_to(source) for path in source.rglob("*.py") if path.parent.name != "msg"}
    wanted |= {path.relative_to(source) for path in source.glob("weights/*")}
    installed = {path.relative_to(workspace.modules) for path in workspace.modules.rglob("*")}
    assert wanted - installed == set()
    assert any(path.suffix == ".safetensors" for path in installed)
    assert (workspace.modules / "__init__.py").read_bytes() == (source / "__init__.py").read_bytes()


def test_ros2_run_and_launch_find_their_files(workspace: Workspace) -> None:
    for name in EXECUTABLES:
        executable = workspace.package / "lib" / "tdnet_ros" / name
        assert os.access(executable, os.X_OK), executable
    for folder in ("launch", "config", "msg"):
        source = {path.name for path in (REPOSITORY / folder).iterdir() if path.is_file()}
        assert source
        assert source <= set(os.listdir(workspace.package / "share" / "tdnet_ros" / folder))


def test_package_is_in_the_index(workspace: Workspace, tmp_path: Path) -> None:
    code = (
        "from ament_index_python.packages import get_package_share_directory as share; import tdnet_ros.node;"
        "from ament_index_python.resources import get_resource;"
        "print(share('tdnet_ros'), tdnet_ros.__file__, 'msg/FrameLatency.msg' in"
        " get_resource('rosidl_interfaces', 'tdnet_ros')[0].splitlines())"
    )
    result = subprocess.run(
        [*workspace.python, "-c", code],
        env=workspace.environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
    )
    share, module, has_message = result.stdout.split()
    assert Path(share) == workspace.package / "share" / "tdnet_ros"
    assert Path(module) == workspace.modules / "__init__.py"
    assert has_message == "True"
