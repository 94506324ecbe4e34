"""Many recordings, one table: evaluated side by side on this machine or on a Ray cluster, restartable."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tdnet_ros.errors import ConfigurationError, TdnetRosError
from tdnet_ros.evaluation.evaluate import EvaluationSettings
from tdnet_ros.evaluation.limits import measures
from tdnet_ros.evaluation.result import Evaluation, read_evaluation

#: Columns of the table, of what ``limits.measures`` has.
COLUMNS = ("frames", "labelled_frames", "miou", "boundary_f", "tc", "flicker", "step_p50_ms", "step_p95_ms", "rejected")


@dataclass(frozen=True)
class Job:
    """One recording and the folder of its report. ``threads`` 0: torch decides."""

    settings: EvaluationSettings
    output: Path
    threads: int = 0

    @property
    def fingerprint(self) -> str:
        """Of everything that decides the result: a report with the same one need not be made again."""
        recording = self.settings.recording
        parts = [recording] if recording.is_file() else sorted(recording.rglob("*")) if recording.is_dir() else []
        files = [(str(part.name), part.stat().st_size, part.stat().st_mtime_ns) for part in parts if part.is_file()]
        return json.dumps([asdict(self.settings), files], default=str)


@dataclass(frozen=True)
class Outcome:
    """What became of a job: ``evaluation``, or ``error`` in words. ``resumed``: the report was there already."""

    job: Job
    evaluation: Evaluation | None
    error: str = ""
    resumed: bool = False


Executor = Callable[[Sequence[Job]], Iterator[tuple[Job, str]]]


def jobs_of(recordings: Sequence[Path], settings: Callable[[Path], EvaluationSettings], output: Path) -> list[Job]:
    """A job for each recording; folders are named after the recordings, with a number where two have one name."""
    jobs: list[Job] = []
    taken: set[str] = set()
    for recording in recordings:
        name, count = recording.name or "recording", 1
        while name in taken:
            count += 1
            name = f"{recording.name}-{count}"
        taken.add(name)
        jobs.append(Job(settings(recording), output / name))
    return jobs


def evaluate_all(jobs: Sequence[Job], execute: Executor) -> Iterator[Outcome]:
    """The outcome of every job as it comes; those that an earlier run has finished come first, from their reports."""
    left = []
    for job in jobs:
        if _is_finished(job):
            yield Outcome(job, read_evaluation(job.output / "report.json"), resumed=True)
        else:
            left.append(job)
    for job, error in execute(left):
        yield Outcome(job, None if error else read_evaluation(job.output / "report.json"), error)


def run_job(job: Job) -> str:
    """Evaluate one recording and write its report; what went wrong in words, empty when nothing did."""
    if job.threads:
        import torch

        torch.set_num_threads(job.threads)
    from tdnet_ros.evaluation.offline import evaluate_offline
    from tdnet_ros.evaluation.report import write_page

    try:
        job.output.mkdir(parents=True, exist_ok=True)
        evaluation, worst = evaluate_offline(job.settings)
        evaluation.write(job.output / "report.json")
        write_page(evaluation, worst, job.output / "report.html")
        _mark(job).write_text(job.fingerprint, encoding="utf-8")
    except (TdnetRosError, OSError) as error:
        return str(error)
    except Exception as error:  # one recording must not take the others with it
        return f"{type(error).__name__}: {error}"
    return ""


def on_this_machine(workers: int) -> Executor:
    """Jobs in ``workers`` processes that share the machine's cores."""

    def execute(jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
        threads = max(1, (os.cpu_count() or 1) // workers)
        shared = [Job(job.settings, job.output, threads) for job in jobs]
        # Forked children would inherit torch's thread pools in whatever state they are.
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            running = {pool.submit(run_job, job): job for job in shared}
            for done in as_completed(running):
                error = done.exception()
                yield running[done], done.result() if error is None else f"the worker ended: {error}"

    return execute


def on_ray(address: str) -> Executor:
    """Jobs on an existing Ray cluster, which must see recordings and output folder under the same paths.

    ``local`` starts one on this machine. Raises ConfigurationError when Ray is not installed or does not answer.
    """
    try:
        import ray
    except ImportError as error:
        raise ConfigurationError("--ray needs ray, which is not installed: pip install 'tdnet_ros[ray]'") from error

    def execute(jobs: Sequence[Job]) -> Iterator[tuple[Job, str]]:
        started = not ray.is_initialized()
        try:
            ray.init(address=address, ignore_reinit_error=True, log_to_driver=False, include_dashboard=False)
        except Exception as error:  # ray's many ways to say that there is no cluster
            raise ConfigurationError(
                f"ray is '{address}', expected the address of a running cluster: {error}"
            ) from error
        try:
            remote = ray.remote(num_cpus=1, max_retries=0)(run_job)
            running = {remote.remote(Job(job.settings, job.output, 1)): job for job in jobs}
            while running:
                (done,), _ = ray.wait(list(running), num_returns=1)
                job = running.pop(done)
                try:
                    yield job, ray.get(done)
                except ray.exceptions.RayError as error:
                    yield job, f"the worker ended: {error}"
        finally:
            if started:
                ray.shutdown()

    return execute


def table(outcomes: Sequence[Outcome]) -> str:
    """One line for each recording, and what failed, as text."""
    width = max([len(outcome.job.output.name) for outcome in outcomes] + [9])
    lines = [f"{'recording':<{width}}" + "".join(f"{name:>16}" for name in COLUMNS)]
    for outcome in outcomes:
        name = f"{outcome.job.output.name:<{width}}"
        if outcome.evaluation is None:
            lines.append(f"{name}  FAILED: {outcome.error}")
            continue
        values = measures(outcome.evaluation)
        lines.append(name + "".join(f"{values[column]:>16.4g}" for column in COLUMNS))
    return "\n".join(lines)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The same for summary.json."""
    return {
        outcome.job.output.name: {"error": outcome.error}
        if outcome.evaluation is None
        else {name: None if value != value else value for name, value in measures(outcome.evaluation).items()}
        for outcome in outcomes
    }


def _mark(job: Job) -> Path:
    return job.output / "finished.json"


def _is_finished(job: Job) -> bool:
    try:
        if _mark(job).read_text(encoding="utf-8") != job.fingerprint:
            return False
        read_evaluation(job.output / "report.json")
    except (OSError, TdnetRosError):
        return False
    return True
