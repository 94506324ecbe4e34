"""Builds stand-ins for interface packages that the Python registry does not have, under their real names.

Only `make` installs them (tools/setup_environment.py), so that tests and the demo have video packets and label_info
without a ROS distribution. Where the real package can be imported, it is left alone. Fields and names, and with them
the type hashes, are those of the real ones; of their messages there are only those that this package uses.
"""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tools"))
from rosidl_type_support import TypeSupportGenerator, prepare_extension  # noqa: E402

DISTRIBUTION = "tdnet-ros-test-interfaces"
DEPENDENCIES = ("builtin_interfaces", "std_msgs")
#: What the packages that are built here begin with. Metadata of what is installed would not do to tell them from the
#: real ones: while pip builds, it finds those of the build.
OURS = f'"""{DISTRIBUTION}:'


class BuildInterfaces(build_ext):
    """Every extension module with the generated Python classes beside it, as importable packages."""

    def run(self) -> None:
        for extension in self.extensions:
            package = extension.name.partition(".")[0]
            work_dir = Path(self.build_temp).resolve() / "rosidl" / package
            generated = TypeSupportGenerator(package, HERE / package, work_dir, DEPENDENCIES).generate()
            prepare_extension(extension, generated, DEPENDENCIES, HERE)
            folder = Path(self.build_lib) / package
            (folder / "msg").mkdir(parents=True, exist_ok=True)
            (folder / "__init__.py").write_text(f'{OURS} see test/interfaces of tdnet_ros."""\n')
            for module in generated.python_dir.glob("*.py"):
                (folder / "msg" / module.name).write_bytes(module.read_bytes())
        super().run()


def missing_packages() -> list[str]:
    """The packages here whose real counterparts are not installed; ours may be, from an earlier time."""
    names = sorted(path.parent.name for path in HERE.glob("*/msg"))
    return [name for name in names if not _is_installed(name)]


def _is_installed(name: str) -> bool:
    """Whether the real package is there: neither the folder beside this file, which has no __init__.py, nor ours."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        return False
    return not Path(spec.origin).read_text(encoding="utf-8").startswith(OURS)


if __name__ == "__main__":
    build = ROOT / "build" / "interfaces"
    setup(
        name=DISTRIBUTION,
        version="0.1.0",
        packages=[],
        ext_modules=[
            Extension(f"{name}.{name}_s__rosidl_typesupport_c", [], language="c++") for name in missing_packages()
        ],
        cmdclass={"build_ext": BuildInterfaces},
        options={"build": {"build_base": str(build)}},
    )
