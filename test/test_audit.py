"""What the audit of dependencies makes of pip-audit's report: that nothing was looked up is no clean result."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))

from audit import AFFECTED, CLEAN, CONSTRAINTS, UNKNOWN, ask, judge, unpinned

FOUND: dict[str, Any] = {"name": "av", "version": "17.1.0", "vulns": []}
SKIPPED = {"name": "torch", "skip_reason": "Dependency not found on PyPI"}
BAD = {"name": "pillow", "version": "1.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}]}


@pytest.mark.parametrize(
    ("dependencies", "code", "line"),
    [
        ([FOUND], CLEAN, "1 of 1 dependencies were looked up, 0 advisories"),
        ([FOUND, SKIPPED], UNKNOWN, "NOT looked up: 1 (torch)"),
        ([FOUND, SKIPPED, BAD], AFFECTED, "pillow 1.0: PYSEC-1, fixed in 1.1"),
        ([], AFFECTED, "0 of 0 dependencies were looked up, 0 advisories"),
    ],
)
def test_only_what_was_looked_up_counts(dependencies: list[dict[str, Any]], code: int, line: str) -> None:
    found, said = judge({"dependencies": dependencies}, {"dependencies": [BAD]})
    assert found == code and line in said
    assert not any("NOT been done" in text for text in said)


@pytest.mark.parametrize("known_bad", [{**BAD, "vulns": []}, SKIPPED])
def test_nothing_counts_where_even_a_known_advisory_is_not_found(known_bad: dict[str, Any]) -> None:
    found, said = judge({"dependencies": [FOUND]}, {"dependencies": [known_bad]})
    assert found == UNKNOWN and said[-1].startswith("The audit has NOT been done")


def test_no_report_is_no_clean_result() -> None:
    with pytest.raises(ValueError, match="nothing"):
        ask("false", CONSTRAINTS)


def test_every_dependency_is_pinned() -> None:
    assert unpinned(["# a comment", "", "av==17.1.0; python_version < '3.11'", "numpy>=1.24"]) == ["numpy>=1.24"]
    assert unpinned(CONSTRAINTS.read_text(encoding="utf-8").splitlines()) == []
