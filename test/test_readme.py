"""What the README shows must run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from running_process import python_environment

from tdnet_ros.training.street import write_clip

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
WITHOUT_ROS = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"rclpy", "sensor_msgs", "std_msgs", "diagnostic_msgs", "ament_index_python"}:
            raise ImportError(f"{name} is not to be had here")

sys.meta_path.insert(0, Blocker())
"""
CHECK = """
assert picture.shape == (360, 480, 3) and result.warm, (picture.shape, result.warm)
print("the example ran")
"""


def test_python_example_runs_without_ros(tmp_path: Path) -> None:
    example = re.search(r"<!-- test/test_readme.py runs this -->\n```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    code = example[1]
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    write_clip(tmp_path / "drive.mp4", 4)
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_ROS + code + CHECK],
        cwd=tmp_path,
        env=python_environment({"PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.stdout.endswith("the example ran\n"), result.stdout + result.stderr


def test_files_that_the_documents_link_to_exist() -> None:
    documents = [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *(REPOSITORY / "docs").glob("*.md")]
    for document in documents:
        for target in re.findall(r"\]\(([^)#\s]+)", document.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (document.parent / target).exists(), f"{document.name} links to {target}"


def test_the_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"`?make (\w+)", README))
    assert {"demo", "test"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
