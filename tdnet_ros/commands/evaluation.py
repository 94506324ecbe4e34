"""The commands ``tdnet-ros evaluate``, ``compare``, ``accuracy`` and ``make-bag``."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tdnet_ros.commands.options import Run, add_model_options
from tdnet_ros.commands.output import Progress, say

if TYPE_CHECKING:
    from tdnet_ros.evaluation.evaluate import EvaluationSettings
    from tdnet_ros.evaluation.limits import Limit
    from tdnet_ros.evaluation.result import Evaluation
    from tdnet_ros.evaluation.worst_frames import WorstFrame


def evaluate(parser: argparse.ArgumentParser) -> Run:
    """score a model on a recording with labels: accuracy, stability, latency"""
    parser.add_argument("recordings", type=Path, nargs="+", metavar="RECORDING", help="rosbag2, video or image folder")
    parser.add_argument("--image", default="", metavar="TOPIC", help="image topic of a bag that has several")
    parser.add_argument(
        "--labels", default="", metavar="TOPIC|FOLDER", help="topic of mono8 label images, or folder of label PNGs"
    )
    parser.add_argument("--label-map", type=Path, help="yaml: what the network's classes and label ids are scored as")
    parser.add_argument(
        "--label-tolerance-ms", type=float, default=0.0, help="pair labels with the nearest image within so much"
    )
    parser.add_argument("--graph", action="store_true", help="through the real node over DDS, at the bag's rate")
    parser.add_argument("--rate", type=float, default=1.0, help="with --graph: speed; 2 plays twice as fast")
    parser.add_argument("--rate-hz", type=float, default=0.0, help="frames per second instead of the recording's times")
    parser.add_argument("--workers", type=int, default=1, help="several recordings: so many at a time")
    parser.add_argument("--ray", default="", metavar="ADDRESS", help="several recordings: on this Ray cluster")
    parser.add_argument("--limits", type=Path, metavar="YAML", help="exit code 1 unless all of these limits are kept")
    parser.add_argument("-o", "--output", type=Path, default=Path("evaluation"), help="folder for the report")
    add_model_options(parser)

    def run(arguments: argparse.Namespace) -> int:
        from tdnet_ros.evaluation.evaluate import EvaluationSettings
        from tdnet_ros.evaluation.limits import read_limits

        if arguments.rate != 1.0 and not arguments.graph:
            parser.error("--rate is for --graph: offline every frame is segmented, as fast as the machine goes")
        if arguments.graph and (len(arguments.recordings) > 1 or arguments.workers > 1 or arguments.ray):
            parser.error("--graph is for one recording: several at a time would measure each other")
        limits = read_limits(arguments.limits) if arguments.limits else []

        def settings_of(recording: Path) -> EvaluationSettings:
            return EvaluationSettings(
                recording=recording,
                labels=arguments.labels,
                image_topic=arguments.image,
                label_map=arguments.label_map,
                label_tolerance_ms=arguments.label_tolerance_ms,
                rate_hz=arguments.rate_hz,
                model=arguments.model,
                weights=arguments.weights,
                device=arguments.device,
            )

        if len(arguments.recordings) > 1 or arguments.ray:
            return _evaluate_many(arguments, settings_of, limits)
        settings, output = settings_of(arguments.recordings[0]), arguments.output
        output.mkdir(parents=True, exist_ok=True)
        if arguments.graph:
            from tdnet_ros.evaluation.in_graph import evaluate_in_graph
            from tdnet_ros.evaluation.processes import require_ros

            require_ros()
            evaluation, worst = evaluate_in_graph(settings, output, arguments.rate, say, Progress())
        else:
            from tdnet_ros.evaluation.offline import evaluate_offline

            evaluation, worst = evaluate_offline(settings, Progress())
        return _report(evaluation, worst, output, limits)

    return run


def _report(evaluation: Evaluation, worst: Sequence[WorstFrame], output: Path, limits: list[Limit]) -> int:
    """Write one evaluation and say what is in it; the exit code: 1 when it fell short of a limit."""
    from tdnet_ros.evaluation.limits import shortfalls
    from tdnet_ros.evaluation.report import headline_table, write_page

    evaluation.write(output / "report.json")
    say(f"\n{headline_table(evaluation)}\n")
    for text in evaluation.warnings:
        say(f"WARNING        {text}")
    say(f"terms          {evaluation.configuration.get('terms', 'terms not stated')}")
    say(f"these numbers  {output / 'report.json'}")
    write_page(evaluation, worst, output / "report.html")
    say(f"report page    {output / 'report.html'}")
    missed = shortfalls(evaluation, limits)
    for line in missed:
        say(f"FELL SHORT     {line}")
    return 1 if missed else 0


def _evaluate_many(
    arguments: argparse.Namespace, settings_of: Callable[[Path], EvaluationSettings], limits: list[Limit]
) -> int:
    """Evaluate several recordings; the exit code: 1 when one failed or fell short of a limit."""
    from tdnet_ros.evaluation.fleet import evaluate_all, jobs_of, on_ray, on_this_machine, summary, table
    from tdnet_ros.evaluation.limits import shortfalls

    jobs = jobs_of(arguments.recordings, settings_of, arguments.output)
    execute = on_ray(arguments.ray) if arguments.ray else on_this_machine(max(1, arguments.workers))
    outcomes, code, started_s = [], 0, time.perf_counter()
    for outcome in evaluate_all(jobs, execute):
        outcomes.append(outcome)
        left_s = (time.perf_counter() - started_s) / len(outcomes) * (len(jobs) - len(outcomes))
        how = "failed" if outcome.error else "was finished before" if outcome.resumed else "done"
        say(f"{len(outcomes)} of {len(jobs)}: {outcome.job.output.name} {how}, about {left_s:.0f} s left")
    order = {job.output: position for position, job in enumerate(jobs)}
    outcomes.sort(key=lambda outcome: order[outcome.job.output])
    say(f"\n{table(outcomes)}\n")
    for terms in sorted({outcome.evaluation.configuration["terms"] for outcome in outcomes if outcome.evaluation}):
        say(f"terms          {terms}")
    for outcome in outcomes:
        for text in outcome.evaluation.warnings if outcome.evaluation else []:
            say(f"WARNING        {outcome.job.output.name}: {text}")
        missed = shortfalls(outcome.evaluation, limits) if outcome.evaluation else [f"failed: {outcome.error}"]
        for line in missed:
            say(f"FELL SHORT     {outcome.job.output.name}: {line}")
        code = 1 if missed else code
    path = arguments.output / "summary.json"
    path.write_text(json.dumps(summary(outcomes), indent=1) + "\n", encoding="utf-8")
    say(f"these numbers  {path}")
    return code


def compare(parser: argparse.ArgumentParser) -> Run:
    """put several reports side by side on one page"""
    parser.add_argument("reports", type=Path, nargs="+", metavar="REPORT.json", help="written by 'tdnet-ros evaluate'")
    parser.add_argument("-o", "--output", type=Path, default=Path("comparison.html"), help="page to write")

    def run(arguments: argparse.Namespace) -> int:
        from tdnet_ros.evaluation.report import comparison_table, write_comparison
        from tdnet_ros.evaluation.result import read_evaluation

        reports: list[Path] = arguments.reports
        evaluations = [read_evaluation(report) for report in reports]
        names = [report.parent.name if report.stem == "report" else report.stem for report in reports]
        say(comparison_table(evaluations, names))
        write_comparison(evaluations, names, arguments.output)
        say(f"\npage written: {arguments.output}")
        return 0

    return run


def accuracy(parser: argparse.ArgumentParser) -> Run:
    """one table of several models on the same clips: accuracy with its intervals, stability, cost, time"""
    parser.add_argument("settings", type=Path, metavar="YAML", help="rows and clips, such as config/accuracy.yaml")
    parser.add_argument("-o", "--output", type=Path, default=Path("accuracy"), help="folder for the tables")
    parser.add_argument("--device", default="auto", help="for the masks: auto, cpu, cuda or cuda:N")
    parser.add_argument("--no-times", action="store_true", help="leave out the times, which are of one CPU thread")
    parser.add_argument("--force", action="store_true", help="measure times on a busy machine, too, and say so")

    def run(arguments: argparse.Namespace) -> int:
        from tdnet_ros.evaluation.accuracy import measure_accuracy
        from tdnet_ros.evaluation.accuracy_settings import read_accuracy_settings
        from tdnet_ros.evaluation.accuracy_table import as_markdown, write_accuracy
        from tdnet_ros.evaluation.accuracy_times import measure_times

        settings, output = read_accuracy_settings(arguments.settings), arguments.output
        found, times = measure_accuracy(settings, output, arguments.device, say, Progress), None
        write_accuracy(found, times, output)  # kept even where times are refused
        if not arguments.no_times:
            say(f"times: {settings.timing.rounds} rounds")
            times = measure_times(settings, arguments.force)
            write_accuracy(found, times, output)
        say(f"\n{as_markdown(found, times)}")
        say(f"written: {output / 'accuracy.md'} and {output / 'accuracy.json'}")
        return 0

    return run


def make_bag(parser: argparse.ArgumentParser) -> Run:
    """build a rosbag2 of images and labels from a video, an image folder or an index of labelled frames"""
    parser.add_argument("source", type=Path, help="video file, image folder, or a sequences.csv that lists frames")
    parser.add_argument("--labels", type=Path, metavar="FOLDER", help="label PNGs beside a video or an image folder")
    parser.add_argument("--split", default="", help="rows of a sequences.csv to take")
    parser.add_argument("--sequence", default="", help="rows of a sequences.csv to take")
    parser.add_argument("--rate-hz", type=float, default=0.0, help="frames per second of a video or folder")
    parser.add_argument("--image-topic", default="/camera/image", help="'/compressed' is added unless --raw is given")
    parser.add_argument("--label-topic", default="/camera/labels")
    parser.add_argument("--frame-id", default="camera")
    parser.add_argument("--raw", action="store_true", help="store decoded pixels (rgb8) instead of JPEG or PNG")
    parser.add_argument("--storage", choices=("mcap", "sqlite3"), default="mcap")
    parser.add_argument("--overwrite", action="store_true")
    parser.add_argument("-o", "--output", type=Path, required=True, help="bag to write")

    def run(arguments: argparse.Namespace) -> int:
        from tdnet_ros.evaluation.make_bag import BagLayout, from_index, from_source
        from tdnet_ros.evaluation.make_bag import make_bag as write
        from tdnet_ros.video.sources import open_source

        if arguments.source.suffix == ".csv":
            if arguments.labels or arguments.rate_hz:
                parser.error("a sequences.csv names labels and times itself: --labels and --rate-hz are not for it")
            images, total = from_index(arguments.source, arguments.split, arguments.sequence), None
        else:
            source = open_source(arguments.source, arguments.rate_hz or None)
            images, total = from_source(source, arguments.labels), source.frame_count
        layout = BagLayout(
            arguments.image_topic, arguments.label_topic, arguments.frame_id, arguments.raw, arguments.storage
        )
        progress = Progress()
        counts = write(images, arguments.output, layout, arguments.overwrite, lambda done: progress(done, total))
        for topic, count in counts.items():
            say(f"{count:6} {topic}")
        say(f"written: {arguments.output}")
        return 0

    return run
