"""Where ament, `ros2 run` and `ros2 launch` look for this package's files below an installation prefix."""

from __future__ import annotations

from pathlib import Path

PACKAGE = "tdnet_ros"
ROOT = Path(__file__).resolve().parents[1]

#: Directory below the prefix -> pattern of the files that belong there, relative to the source tree.
LAYOUT = {
    "share/ament_index/resource_index/packages": "resource/packages/*",
    "share/ament_index/resource_index/rosidl_interfaces": "resource/rosidl_interfaces/*",
    f"share/{PACKAGE}": "package.xml",
    f"share/{PACKAGE}/launch": "launch/*",
    f"share/{PACKAGE}/config": "config/*",
    f"share/{PACKAGE}/msg": "msg/*.msg",
    f"lib/{PACKAGE}": "scripts/*",
}


def data_files() -> list[tuple[str, list[str]]]:
    """Returns the layout as setuptools wants it: (directory below the prefix, files in the source tree)."""
    return [
        (directory, [str(path.relative_to(ROOT)) for path in _files(pattern)]) for directory, pattern in LAYOUT.items()
    ]


def link_into(prefix: Path) -> None:
    """Links the files into `prefix`, for an editable installation: pip leaves them out of that."""
    for directory, pattern in LAYOUT.items():
        target = prefix / directory
        target.mkdir(parents=True, exist_ok=True)
        for path in _files(pattern):
            link = target / path.name
            link.unlink(missing_ok=True)
            link.symlink_to(path)


def _files(pattern: str) -> list[Path]:
    return [path for path in sorted(ROOT.glob(pattern)) if path.is_file()]
