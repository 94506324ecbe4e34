"""Generates rclpy type support for the package's messages with nothing but the ROS 2 generator wheels.

In a ROS workspace CMake and ament do this (see CMakeLists.txt). A pip installation has neither, so setup.py
calls the same generators as Python modules and compiles everything they write, C structs, Fast CDR and
introspection type support and the Python converters, into ONE extension module
`<package>_s__rosidl_typesupport_c`: the name that the generated Python classes import.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from setuptools import Extension

GENERATOR_MODULES = (
    "rosidl_adapter",
    "rosidl_generator_c",
    "rosidl_generator_py",
    "rosidl_generator_type_description",
    "rosidl_pycommon",
    "rosidl_typesupport_fastrtps_c",
    "rosidl_typesupport_introspection_c",
)

# Those whose headers lack the one that CMake would write.
GENERATORS_OF_HEADERS = (
    "rosidl_generator_c",
    "rosidl_typesupport_fastrtps_c",
    "rosidl_typesupport_introspection_c",
)

# Libraries that every type support links, after those of the interface packages it depends on.
RUNTIME_LIBRARIES = (
    "rosidl_typesupport_fastrtps_c",
    "rosidl_typesupport_fastrtps_cpp",
    "rosidl_typesupport_introspection_c",
    "rosidl_typesupport_c",
    "rosidl_runtime_c",
    "rcutils",
    "fastcdr",
)

# rosidl_typesupport_c's own generated dispatch opens one shared library per type support by name. Here they
# all live in one extension module, so the choice is made by a function instead. Both are needed: the
# middleware of ROS 2 Kilted is content with fastrtps, that of Jazzy asks for introspection as well.
DISPATCH_SOURCE = Template(r"""
#include <string.h>
#include "rosidl_runtime_c/message_type_support_struct.h"
#include "$package/msg/detail/${file}__struct.h"
#include "$package/msg/detail/${file}__functions.h"
#include "$package/msg/detail/${file}__type_support.h"

#define HANDLE_OF(typesupport) \
  ROSIDL_TYPESUPPORT_INTERFACE__MESSAGE_SYMBOL_NAME(typesupport, $package, msg, $message)

const rosidl_message_type_support_t * HANDLE_OF(rosidl_typesupport_fastrtps_c)(void);
const rosidl_message_type_support_t * HANDLE_OF(rosidl_typesupport_introspection_c)(void);

static const rosidl_message_type_support_t *
select_handle(const rosidl_message_type_support_t * handle, const char * identifier)
{
  if (0 == strcmp(identifier, handle->typesupport_identifier)) {
    return handle;
  }
  if (0 == strcmp(identifier, "rosidl_typesupport_fastrtps_c")) {
    return HANDLE_OF(rosidl_typesupport_fastrtps_c)();
  }
  if (0 == strcmp(identifier, "rosidl_typesupport_introspection_c")) {
    return HANDLE_OF(rosidl_typesupport_introspection_c)();
  }
  return NULL;
}

static const rosidl_message_type_support_t static_handle = {
  "rosidl_typesupport_c", NULL, select_handle,
  &${package}__msg__${message}__get_type_hash,
  &${package}__msg__${message}__get_type_description,
  &${package}__msg__${message}__get_type_description_sources,
};

const rosidl_message_type_support_t * HANDLE_OF(rosidl_typesupport_c)(void)
{
  return &static_handle;
}
""")


@dataclass(frozen=True)
class GeneratedTypeSupport:
    """What the generators wrote: the messages' Python classes and the sources of the extension module."""

    python_dir: Path
    sources: list[Path]
    include_dirs: list[Path]


def missing_generators() -> list[str]:
    """Returns the generator modules that cannot be imported here; an empty list means that all are there."""
    return [name for name in GENERATOR_MODULES if importlib.util.find_spec(name) is None]


def ros_prefix() -> Path:
    """Returns the directory under which the generators' lib/, include/ and share/ lie.

    It is derived from a generator's own location, `<prefix>/lib/python3.x/site-packages/rosidl_generator_py`.
    Not from sys.prefix: under pip's build isolation that is the outer environment, while the wheels lie in an
    overlay.
    """
    spec = importlib.util.find_spec("rosidl_generator_py")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("rosidl_generator_py is not installed: no ROS 2 to build messages with")
    return Path(spec.origin).resolve().parents[4]


def link_libraries(interface_packages: Sequence[str]) -> list[str]:
    """Returns the library names to link against, for messages that use types of `interface_packages`."""
    kinds = ("generator_c", "generator_py", "typesupport_fastrtps_c", "typesupport_introspection_c")
    of_packages = [f"{package}__rosidl_{kind}" for package in interface_packages for kind in kinds]
    return of_packages + list(RUNTIME_LIBRARIES)


def prepare_extension(
    extension: Extension, generated: GeneratedTypeSupport, interface_packages: Sequence[str], root: Path
) -> None:
    """Gives the extension module of a package below `root` its sources, and what to compile and link them with."""
    import numpy

    # distutils mirrors the sources' paths below its temporary directory, hence relative ones.
    extension.sources = [os.path.relpath(source, root) for source in generated.sources]
    extension.include_dirs = [*map(str, generated.include_dirs), numpy.get_include()]
    extension.library_dirs = [str(ros_prefix() / "lib")]
    extension.libraries = link_libraries(interface_packages)
    # From site-packages/PACKAGE up to the environment's lib/, where the ROS wheels keep theirs.
    extension.extra_link_args = ["-Wl,-rpath,$ORIGIN/../../..", "-Wl,--as-needed"]
    extension.extra_compile_args = ["-O2", "-g0", "-w"]


class TypeSupportGenerator:
    """Runs the generators for all msg/*.msg of one package, each into its own directory below `work_dir`."""

    def __init__(self, package: str, package_dir: Path, work_dir: Path, interface_packages: Sequence[str]) -> None:
        """`interface_packages` must list every package whose types occur, nested ones included."""
        self.package = package
        self.package_dir = package_dir.resolve()
        self.work_dir = work_dir.resolve()
        self.interface_packages = interface_packages
        self.messages = sorted((self.package_dir / "msg").glob("*.msg"))
        self.prefix = ros_prefix()
        self.share = self.prefix / "share"

    def generate(self) -> GeneratedTypeSupport:
        """Generates everything afresh; what an earlier run left in `work_dir` is removed."""
        from rosidl_generator_c import generate_c
        from rosidl_generator_py.generate_py_impl import generate_py
        from rosidl_generator_type_description import generate_type_hash
        from rosidl_typesupport_fastrtps_c import generate_typesupport_fastrtps_c
        from rosidl_typesupport_introspection_c import generate_c as generate_introspection_c

        shutil.rmtree(self.work_dir, ignore_errors=True)
        self._convert_to_idl()

        include_paths = [f"{name}:{self.share / name}" for name in self.interface_packages]
        arguments = self._arguments("rosidl_generator_type_description", include_paths=include_paths)
        generate_type_hash(arguments)

        descriptions = self._output_dir("rosidl_generator_type_description") / "msg"
        arguments = self._arguments(
            "rosidl_generator_c",
            type_description_tuples=[
                f"msg/{message.stem}.idl:{descriptions / message.stem}.json" for message in self.messages
            ],
            ros_interface_files=[str(message) for message in self.messages],
        )
        generate_c(arguments)
        generate_typesupport_fastrtps_c(self._arguments("rosidl_typesupport_fastrtps_c"))
        generate_introspection_c(self._arguments("rosidl_typesupport_introspection_c"))
        generate_py(self._arguments("rosidl_generator_py"), ["rosidl_typesupport_c"])
        self._write_dispatch()

        for generator in GENERATORS_OF_HEADERS:
            self._write_visibility_header(generator)
        generated = [self._output_dir(name) for name in (*GENERATORS_OF_HEADERS, "rosidl_generator_py")]
        return GeneratedTypeSupport(
            python_dir=self._output_dir("rosidl_generator_py") / "msg",
            sources=sorted(path for path in self.work_dir.rglob("*") if path.suffix in (".c", ".cpp")),
            include_dirs=[directory.parent for directory in generated] + self._ros_include_dirs(),
        )

    def _output_dir(self, generator: str) -> Path:
        """The generators want `#include <package/...>` to work, hence a level named like the package."""
        directory = self.work_dir / generator / self.package
        directory.mkdir(parents=True, exist_ok=True)
        return directory

    def _convert_to_idl(self) -> None:
        from rosidl_adapter.msg import convert_msg_to_idl

        directory = self._output_dir("idl") / "msg"
        directory.mkdir()
        for message in self.messages:
            convert_msg_to_idl(self.package_dir, self.package, message.relative_to(self.package_dir), directory)

    def _arguments(self, generator: str, **extra: list[str]) -> str:
        """Writes the JSON file through which a generator takes its arguments and returns its path."""
        idl_dir = self._output_dir("idl")
        arguments: dict[str, object] = {
            "package_name": self.package,
            "output_dir": str(self._output_dir(generator)),
            "template_dir": str(self.share / generator / "resource"),
            "idl_tuples": [f"{idl_dir}:msg/{message.stem}.idl" for message in self.messages],
            "ros_interface_dependencies": [
                f"{name}:{idl}"
                for name in self.interface_packages
                for idl in sorted((self.share / name).glob("*/*.idl"))
            ],
            "target_dependencies": [],
            **extra,
        }
        path = self.work_dir / f"{generator}.json"
        path.write_text(json.dumps(arguments), encoding="utf-8")
        return str(path)

    def _write_dispatch(self) -> None:
        from rosidl_pycommon import convert_camel_case_to_lower_case_underscore as snake_case

        for message in self.messages:
            source = DISPATCH_SOURCE.substitute(
                package=self.package, message=message.stem, file=snake_case(message.stem)
            )
            path = self._output_dir("dispatch") / f"{snake_case(message.stem)}__dispatch.c"
            path.write_text(source, encoding="utf-8")

    def _write_visibility_header(self, generator: str) -> None:
        """CMake would fill in this header template; the generators themselves leave it alone."""
        name = f"{generator}__visibility_control.h"
        template = (self.share / generator / "resource" / f"{name}.in").read_text(encoding="utf-8")
        header = template.replace("@PROJECT_NAME@", self.package)
        header = header.replace("@PROJECT_NAME_UPPER@", self.package.upper())
        (self._output_dir(generator) / "msg" / name).write_text(header, encoding="utf-8")

    def _ros_include_dirs(self) -> list[Path]:
        """ROS packages install their headers as include/<name>/<name>/*.h, a few as include/<name>/*.h."""
        root = self.prefix / "include"
        nested = [path for path in sorted(root.iterdir()) if (path / path.name).is_dir()]
        return [*nested, root]
