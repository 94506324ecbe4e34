"""Builds the message type support and says where ROS 2 looks for files; everything else is in pyproject.toml.

The type support is C and must match the ROS 2 that loads it, so it is built only when that ROS 2 is known:

* with the generator wheels (Linux x86-64; pyproject.toml asks for them): for the ROS of the `[ros]` extra;
* inside a sourced ROS distribution (ROS_DISTRO is set): only with that distribution's own generators, that is
  with `pip install --no-build-isolation`. Its usual way is colcon and CMakeLists.txt, not this file;
* anywhere else, or with TDNET_ROS_TYPE_SUPPORT=skip: not at all. The Python core works without it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOT / "tools"))
from install_layout import PACKAGE, data_files  # noqa: E402
from rosidl_type_support import (  # noqa: E402
    TypeSupportGenerator,
    missing_generators,
    prepare_extension,
    ros_prefix,
)

INTERFACE_PACKAGES = ("builtin_interfaces", "std_msgs")


class BuildTypeSupport(build_ext):
    """Generates and compiles the one extension module and puts the messages' Python classes beside it."""

    def run(self) -> None:
        if shutil.which(os.environ.get("CXX", "g++").split()[0]) is None:
            sys.exit(
                "tdnet_ros: no C++ compiler to build the message type support with. Install one "
                "(Debian, Ubuntu: apt install g++ python3-dev), or set TDNET_ROS_TYPE_SUPPORT=skip to "
                "install the Python core without the ROS 2 nodes."
            )
        generated = TypeSupportGenerator(PACKAGE, ROOT, Path(self.build_temp) / "rosidl", INTERFACE_PACKAGES).generate()
        (extension,) = self.extensions
        prepare_extension(extension, generated, INTERFACE_PACKAGES, ROOT)
        super().run()

        package_dir = ROOT / PACKAGE if self.inplace else Path(self.build_lib) / PACKAGE
        (package_dir / "msg").mkdir(parents=True, exist_ok=True)
        for module in generated.python_dir.glob("*.py"):
            shutil.copy2(module, package_dir / "msg")


def reason_to_skip_type_support() -> str | None:
    """Returns why this environment cannot build type support that fits its ROS 2, or None if it can."""
    if os.environ.get("TDNET_ROS_TYPE_SUPPORT", "build") == "skip":
        return "TDNET_ROS_TYPE_SUPPORT=skip"
    missing = missing_generators()
    if missing:
        return f"no ROS 2 message generators for this platform ({', '.join(missing)})"
    distribution = os.environ.get("ROS_DISTRO")
    prefixes = [Path(entry) for entry in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if entry]
    if distribution and ros_prefix() not in [prefix.resolve() for prefix in prefixes]:
        return (
            f"ROS 2 {distribution} is sourced and the generators are not its own; "
            "build with colcon, or pip install --no-build-isolation"
        )
    return None


def extensions() -> list[Extension]:
    reason = reason_to_skip_type_support()
    if reason is not None:
        sys.stderr.write(f"tdnet_ros: building without ROS 2 message type support: {reason}\n")
        return []
    return [Extension(f"{PACKAGE}.{PACKAGE}_s__rosidl_typesupport_c", sources=[], language="c++")]


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": BuildTypeSupport},
    data_files=data_files(),
)
