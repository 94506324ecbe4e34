"""A short run of the fuzzer over every decoder; `make fuzz` is the long one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fuzz
import fuzz_targets
import pytest
from hypothesis import strategies as st

from tdnet_ros.errors import ConfigurationError, DecodeError
from tdnet_ros.yaml_settings import read_yaml


def test_decoders_raise_nothing_but_our_errors(capfd: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--examples", "20"]) == 0, "".join(capfd.readouterr())
    table = capfd.readouterr().out
    assert all(name in table for name in fuzz_targets.targets())


def targets() -> dict[str, Any]:
    """Decoders as they must not be, for the fuzzer to find: this module takes the place of fuzz_targets."""

    def refuse(data: bytes) -> None:
        raise DecodeError("as it should be")

    def fail(data: bytes) -> None:
        raise KeyError("not ours")

    def crash(data: bytes) -> None:
        import ctypes

        ctypes.string_at(0)

    def swell(data: bytes) -> None:
        bytearray((fuzz.MEMORY_MIB + 64) << 20)

    some = st.binary(max_size=4)
    named = {"refuse": refuse, "crash": crash, "fail": fail, "swell": swell}
    return {name: lambda run=run: fuzz_targets.Target(run, some) for name, run in named.items()}


def test_what_is_broken_is_found(capfd: pytest.CaptureFixture[str]) -> None:
    assert fuzz.main(["--targets", "test_fuzz", "--examples", "3"]) == 1
    said = capfd.readouterr().out
    assert "crash: the process ended" in said and "Segmentation fault" in said
    assert "KeyError: 'not ours'" in said and "MemoryError" in said
    assert "as it should be" not in said


def test_a_target_that_does_not_exist_is_named() -> None:
    with pytest.raises(SystemExit, match=r"target is 'image', expected one of .*'image message'"):
        fuzz.main(["image"])


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"[" * 3000, "nested too deep"),
        (b"a: !!python/object/apply:os.system ['touch /nowhere/pwned']", "could not determine a constructor"),
        (b"2001-99-99", "month must be in 1..12"),
        (fuzz_targets.ALIASES, "holds more than 200000 values"),
    ],
)
def test_a_yaml_file_is_data_of_a_bounded_size(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "settings.yaml"
    file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=reason):
        read_yaml(file, "settings")
