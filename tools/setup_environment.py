"""Sets up the virtual environments of the Makefile, with a line of progress for each step.

    setup_environment.py dependencies   creates .venv and installs what pyproject.toml lists
    setup_environment.py package        builds the messages, installs tdnet_ros into .venv (editable)
    setup_environment.py colcon         creates .venv-colcon, a ROS 2 for test_colcon_build.py to build on

Needs nothing but the standard library and runs on the system's Python.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from install_layout import ROOT, link_into

VENV = ROOT / ".venv"
COLCON_VENV = ROOT / ".venv-colcon"
CONSTRAINTS = ROOT / "constraints.txt"
INTERFACES = ROOT / "test" / "interfaces"
COLCON_REQUIREMENTS = ROOT / "test" / "colcon_requirements.txt"

OLDEST_PYTHON = (3, 10)
EXTRAS = ("ros", "report", "onnx", "train", "test", "lint")
LINES_OF_LOG_SHOWN = 25

# Run by the environment's own Python: tomllib came with 3.11, and before that pip brings it along.
READ_REQUIREMENTS = """
import json, sys
try:
    import tomllib
except ModuleNotFoundError:
    from pip._vendor import tomli as tomllib
with open(sys.argv[1], "rb") as file:
    pyproject = tomllib.load(file)
project = pyproject["project"]
extras = [line for name in sys.argv[2:] for line in project["optional-dependencies"][name]]
print(json.dumps(pyproject["build-system"]["requires"] + project["dependencies"] + extras))
"""


def missing_from_system() -> list[str]:
    """Returns a line for everything this machine lacks, with the Debian and Ubuntu package that has it."""
    missing = []
    if sys.version_info < OLDEST_PYTHON:
        missing.append(f"Python {OLDEST_PYTHON[0]}.{OLDEST_PYTHON[1]} or newer (this is {sys.version.split()[0]})")
    if sys.platform != "linux" or platform.machine() != "x86_64":
        missing.append(
            f"ROS 2 wheels for {sys.platform} on {platform.machine()}: they exist for Linux on x86-64 only "
            "(README.md has other ways: 'With ROS 2', 'Without ROS')"
        )
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    if shutil.which("g++") is None:
        missing.append("a C++ compiler: sudo apt install g++")
    if not (Path(sysconfig.get_path("include")) / "Python.h").is_file():
        missing.append(f"Python headers (Python.h): sudo apt install python{version}-dev")
    if find_spec("venv") is None or find_spec("ensurepip") is None:
        missing.append(f"virtual environments (venv, ensurepip): sudo apt install python{version}-venv")
    return missing


def check_system() -> None:
    """Ends the program with one line for each missing thing, before anything is downloaded."""
    missing = missing_from_system()
    if missing:
        sys.exit("\n".join(["tdnet_ros cannot be set up, this machine lacks:", *(f"  - {line}" for line in missing)]))


class Progress:
    """Numbers the steps, times them, and keeps their output in a log that is shown only when one fails."""

    def __init__(self, log: Path, steps: int, first: int = 1) -> None:
        self.log = log
        self.steps = steps
        self.step = first

    def run(self, title: str, *commands: list[str]) -> None:
        """Runs the commands of one step one after the other; ends the program when one of them fails."""

        def run_commands() -> None:
            for command in commands:
                with self.log.open("ab") as log:
                    code = subprocess.run(command, cwd=ROOT, stdout=log, stderr=subprocess.STDOUT).returncode
                if code != 0:
                    lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
                    said = "\n".join(lines[-LINES_OF_LOG_SHOWN:])
                    sys.exit(f"failed\n{said}\n\nThat was the end of {self.log}")

        self.do(title, run_commands)

    def do(self, title: str, action: Callable[[], None]) -> None:
        """Runs one step that is a function."""
        sys.stdout.write(f"[{self.step}/{self.steps}] {title} ... ")
        sys.stdout.flush()
        start = time.monotonic()
        action()
        sys.stdout.write(f"{time.monotonic() - start:.0f} s\n")
        self.step += 1


def create(venv: Path) -> list[str]:
    """Returns the command that creates a virtual environment, or completes a half-made one."""
    venv.mkdir(exist_ok=True)
    return [sys.executable, "-m", "venv", str(venv)]


def pip_install(venv: Path, *arguments: str) -> list[str]:
    """Returns a pip command that installs into `venv`, held to the versions of constraints.txt."""
    python = str(venv / "bin" / "python")
    return [python, "-m", "pip", "install", "--disable-pip-version-check", "-c", str(CONSTRAINTS), *arguments]


def install_dependencies() -> None:
    """Creates .venv with all that building, running and testing the package need, but not the package."""
    progress = Progress(VENV / "setup.log", steps=6)
    progress.run("creating .venv", create(VENV))
    progress.run("installing torch, the largest download", pip_install(VENV, "torch"))
    read = [str(VENV / "bin" / "python"), "-c", READ_REQUIREMENTS, str(ROOT / "pyproject.toml"), *EXTRAS]
    requirements = json.loads(subprocess.run(read, check=True, capture_output=True).stdout)
    progress.run("installing ROS 2 and the other dependencies", pip_install(VENV, *requirements))


def install_package() -> None:
    """Builds the message type support in the source tree and installs that tree into .venv.

    Editable, so that a changed module, launch or configuration file counts at once. Interface packages that the
    registry lacks come with it, for tests and demo: those of test/interfaces.
    """
    progress = Progress(VENV / "setup.log", steps=6, first=4)
    progress.run(
        "building the FrameLatency message",
        pip_install(VENV, "--no-build-isolation", "--no-deps", "--editable", str(ROOT)),
    )
    progress.run(
        "building the interface packages that the Python registry lacks",
        pip_install(VENV, "--no-build-isolation", "--no-deps", str(INTERFACES)),
    )
    progress.do("registering tdnet_ros for ros2 run and ros2 launch", lambda: link_into(VENV))


def install_colcon() -> None:
    """Creates .venv-colcon, where the ament and colcon wheels make up a ROS 2 to build a workspace on."""
    progress = Progress(COLCON_VENV / "setup.log", steps=2)
    progress.run("creating .venv-colcon", create(COLCON_VENV))
    progress.run("installing colcon and ament", pip_install(COLCON_VENV, "-r", str(COLCON_REQUIREMENTS)))
    repair_include_paths(COLCON_VENV)


def repair_include_paths(venv: Path) -> None:
    """Replaces the include paths of the machine that built the wheels: CMake refuses paths that don't exist.

    They are those of Python and numpy. What needs these finds them by itself, so the include directory of
    `venv`, which exists, may stand for both.
    """
    for exported in venv.glob("share/*/cmake/*Export.cmake"):
        text = exported.read_text(encoding="utf-8")
        repaired = re.sub(r"/opt/python/cp[^;\"]*", str(venv / "include"), text)
        if repaired != text:
            exported.write_text(repaired, encoding="utf-8")


COMMANDS = {"dependencies": install_dependencies, "package": install_package, "colcon": install_colcon}

if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit(__doc__)
    check_system()
    COMMANDS[sys.argv[1]]()
