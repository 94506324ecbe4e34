"""Imports go down only, and ROS stays in the node: what CONTRIBUTING.md says of the structure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "tdnet_ros"
GROUND = {"errors", "yaml_settings", "labels"}
#: What each part may import beside itself.
BELOW = {
    "errors": set(),
    "yaml_settings": {"errors"},
    "labels": {"errors", "yaml_settings"},
    "video": GROUND,
    "networks": GROUND,
    "streaming": GROUND | {"video", "networks"},
    "evaluation": GROUND | {"video", "networks", "streaming"},
    "training": GROUND | {"video", "networks", "streaming", "evaluation"},
    "commands": GROUND | {"video", "networks", "streaming", "evaluation", "training", "node", "demo"},
    "node": GROUND | {"video", "networks", "streaming", "evaluation", "msg"},
}
ROS = re.compile(
    r"rclpy|ament_\w+|launch(_ros)?|rosidl_\w+|rcl_interfaces|\w+_msgs|std_srvs|builtin_interfaces|cv_bridge"
)


def imports(path: Path) -> Iterator[str]:
    """Names of the modules that a file imports, also within functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None and node.level == 0, f"{path} imports by a relative name"
            # `from tdnet_ros import labels` names a part, too.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(part: str) -> list[Path]:
    folder = PACKAGE / part
    return sorted(folder.rglob("*.py")) if folder.is_dir() else [folder.with_suffix(".py")]


@pytest.mark.parametrize("part", BELOW)
def test_imports_go_down_only(part: str) -> None:
    wrong = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in files(part)
        for name in imports(path)
        if name.startswith("tdnet_ros.") and name.split(".")[1] not in {part, "__version__", *BELOW[part]}
    }
    assert not wrong


def test_every_folder_has_its_place() -> None:
    folders = {path.name for path in PACKAGE.iterdir() if any(path.glob("*.py"))}
    assert folders - {"msg"} <= set(BELOW)


@pytest.mark.parametrize("part", sorted(set(BELOW) - {"node"}))
def test_only_the_node_imports_ros(part: str) -> None:
    found = {
        f"{path.name}: {name}" for path in files(part) for name in imports(path) if ROS.fullmatch(name.split(".")[0])
    }
    assert not found
