"""Feeds the decoders hostile bytes: `python test/fuzz.py --examples 2000`, or `make fuzz`.

The decoders work in a child process, as a crash of native code ends it. The child may take only so much memory more
than it has after its imports, and only so long for an example; what it was at when it ended is in a file.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

#: More than any picture that is taken (64 megapixels of three bytes, decoded twice), and what decoders need beside it.
MEMORY_MIB = 1024
#: Of wall time: the slowest example takes seconds of processor time, and a busy machine gives little of it.
EXAMPLE_TIMEOUT_S = 300
_REPOSITORY = Path(__file__).resolve().parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print a line for every target; 0 when nothing but our own errors came out of any."""
    options = _parse(arguments)
    if options.at is not None:
        return _work(options)
    failed, results, known = [], [], list(_targets(options))
    names = options.names or known
    for name in names:
        if name not in known:
            sys.exit(f"error: target is '{name}', expected one of {known}")
    with tempfile.TemporaryDirectory() as folder:
        at = Path(folder) / "example"
        while names:
            done, output = _child(names, options, at)
            results += done
            names = names[len(done) :]
            if names:  # the child ended while it was at this one
                failed.append(names.pop(0))
                said = at.read_text(encoding="utf-8", errors="replace") if at.exists() else "none"
                _say(f"{failed[-1]}: the process ended. Its example:\n{said[:2000]}\n{output[-6000:]}")
    _print(results)
    failed += [result["target"] for result in results if result["error"]]
    return 1 if failed else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python test/fuzz.py", description=__doc__)
    parser.add_argument("names", nargs="*", help="of targets, default: all")
    parser.add_argument("--targets", default="fuzz_targets", help="module with a function targets()")
    parser.add_argument("--examples", type=int, default=2500, help="for each target; of slow ones a share")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other examples")
    parser.add_argument("--at", type=Path, help=argparse.SUPPRESS)  # of the child: where to note its example
    return parser.parse_args(arguments)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _targets(options: argparse.Namespace) -> dict[str, Callable[[], Any]]:
    found: dict[str, Callable[[], Any]] = importlib.import_module(options.targets).targets()
    return found


def _child(names: Sequence[str], options: argparse.Namespace, at: Path) -> tuple[list[dict[str, Any]], str]:
    """The targets that the child finished, and everything else that it said."""
    command = [sys.executable, __file__, *names, "--at", str(at)]
    command += ["--targets", options.targets, "--examples", str(options.examples), "--seed", str(options.seed)]
    paths = os.pathsep.join([str(_REPOSITORY), str(_REPOSITORY / "test"), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": paths.rstrip(os.pathsep), "OMP_NUM_THREADS": "1"}
    child = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    done, said = [], []
    for line in child.stdout.decode("utf-8", "replace").splitlines():
        with contextlib.suppress(ValueError):
            result = json.loads(line)
            if isinstance(result, dict) and "target" in result:
                done.append(result)
                continue
        said.append(line)
    return done, "\n".join([*said, f"exit code {child.returncode}"])


def _print(results: Sequence[dict[str, Any]]) -> None:
    heads = ("examples", "taken", "refused", "seconds", "MiB")
    _say(f"{'target':<20}" + "".join(f"{head:>10}" for head in heads))
    for result in results:
        figures = (result["taken"] + result["refused"], *(result[name] for name in ("taken", "refused")))
        row = "".join(f"{figure:>10}" for figure in figures)
        _say(f"{result['target']:<20}{row}{result['seconds']:>10.1f}{result['grown_mib']:>10.0f}")
        if result["error"]:
            _say(result["error"])
    _say(f"{'all':<20}{sum(result['taken'] + result['refused'] for result in results):>10}")


# The child


def _work(options: argparse.Namespace) -> int:
    logging.disable(logging.CRITICAL)
    with options.at.open("w+", encoding="utf-8") as note:
        faulthandler.enable()
        for name in options.names:
            _say(json.dumps({"target": name, **_fuzz(_targets(options)[name](), options, note)}))
    return 0


def _fuzz(target: Any, options: argparse.Namespace, note: Any) -> dict[str, Any]:
    """What became of the examples of one target; ``error`` is the traceback of the smallest one that failed."""
    import traceback

    from hypothesis import HealthCheck, Phase, example, given, seed, settings

    from tdnet_ros.errors import TdnetRosError

    fate: Counter[str] = Counter()

    def decode(data: Any) -> None:
        note.seek(0)
        note.truncate()
        note.write(repr(data))
        note.flush()
        faulthandler.dump_traceback_later(EXAMPLE_TIMEOUT_S, exit=True)
        try:
            target.run(data)
            fate["taken"] += 1
        except TdnetRosError:
            fate["refused"] += 1
        finally:
            faulthandler.cancel_dump_traceback_later()

    test = given(target.examples)(decode)
    for data in target.found:
        test = example(data)(test)
    rules = settings(
        max_examples=max(1, round(target.share * options.examples)),
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    before_mib, started_s, error = _limit_memory(), time.monotonic(), ""
    try:
        seed(options.seed)(rules(test))()
    except Exception:
        error = traceback.format_exc()
    return {
        "taken": fate["taken"],
        "refused": fate["refused"],
        "seconds": time.monotonic() - started_s,
        "grown_mib": _status_mib("VmHWM") - before_mib,
        "error": error[-4000:],
    }


def _limit_memory() -> float:
    """Resident memory in MiB; from here on its peak counts anew, and address space may grow by MEMORY_MIB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    limit = int((_status_mib("VmSize") + MEMORY_MIB) * (1 << 20))
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    return _status_mib("VmRSS")


def _status_mib(name: str) -> float:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


if __name__ == "__main__":
    sys.exit(main())
