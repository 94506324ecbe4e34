"""Looks up the pinned dependencies in PyPI's database of advisories, and says how many of them were really looked up.

    audit.py PYTHON    PYTHON is that of an environment with pip-audit

pip-audit calls a package that it could not find "skipped", and all of them skipped "no known vulnerabilities". So its
exit code is not believed: 0 only when every dependency was found there and none has an advisory, 1 for an advisory or a
dependency without an exact version, 2 when some could not be looked up. Mirrors of PyPI answer, but may leave the
advisories out; so a release that has some is asked for, too, and without them nothing counts as looked up.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
CLEAN, AFFECTED, UNKNOWN = 0, 1, 2
#: Has had advisories since 2022 (CVE-2022-22817 for one).
KNOWN_BAD = "pillow==9.0.0"

_PINNED = re.compile(r"[A-Za-z0-9._-]+==[^;\s]+")


def unpinned(lines: Sequence[str]) -> list[str]:
    """Requirements that are not pinned to one version."""
    requirements = [line.split("#")[0].strip() for line in lines]
    return [requirement for requirement in requirements if requirement and not _PINNED.match(requirement)]


def judge(report: Mapping[str, Any], control: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Exit code, and what to say of a report of `pip-audit --format json`; ``control`` is the one on KNOWN_BAD."""
    affected, skipped = [], []
    for dependency in report["dependencies"]:
        if "skip_reason" in dependency:
            skipped.append(dependency["name"])
        for advisory in dependency.get("vulns", []):
            fixed = ", ".join(advisory.get("fix_versions", [])) or "no version"
            affected.append(f"{dependency['name']} {dependency['version']}: {advisory['id']}, fixed in {fixed}")
    count = len(report["dependencies"])
    said = [*affected, f"{count - len(skipped)} of {count} dependencies were looked up, {len(affected)} advisories"]
    if skipped:
        named = ", ".join(skipped[:8]) + (", ..." if len(skipped) > 8 else "")
        said.append(f"NOT looked up: {len(skipped)} ({named})")
    has_advisories = any(dependency.get("vulns") for dependency in control["dependencies"])
    if not has_advisories:
        said.append(
            f"The audit has NOT been done: no advisory was found for {KNOWN_BAD} either, which has some. Nothing, or a "
            "mirror without advisories, answers here for https://pypi.org/pypi/NAME/VERSION/json"
        )
    if affected or not count:
        return AFFECTED, said
    return (UNKNOWN if skipped or not has_advisories else CLEAN), said


def ask(python: str, requirements: Path) -> dict[str, Any]:
    """pip-audit's report on a file of requirements; raises ValueError, with its last words, where it gives none."""
    command = [python, "-m", "pip_audit", "--no-deps", "--disable-pip", "-r", str(requirements), "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        raise ValueError((done.stderr.strip().splitlines() or ["nothing"])[-1]) from error
    return report


def main() -> int:
    """Audit constraints.txt; the exit code."""
    python = sys.argv[1]
    loose = unpinned(CONSTRAINTS.read_text(encoding="utf-8").splitlines())
    for requirement in loose:
        sys.stdout.write(f"{CONSTRAINTS.name}: '{requirement}' is not pinned to one version\n")
    try:
        with tempfile.TemporaryDirectory() as folder:
            known_bad = Path(folder) / "requirements.txt"
            known_bad.write_text(f"{KNOWN_BAD}\n", encoding="utf-8")
            code, said = judge(ask(python, CONSTRAINTS), ask(python, known_bad))
    except ValueError as error:
        code, said = UNKNOWN, [f"The audit has NOT been done, the database could not be asked: {error}"]
    sys.stdout.write("\n".join(said) + "\n")
    return AFFECTED if loose else code


if __name__ == "__main__":
    sys.exit(main())
