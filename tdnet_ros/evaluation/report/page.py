"""Puts figures, tables and pictures of evaluations into one self-contained HTML page."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.evaluation.report.headline import headline, percent, stability
from tdnet_ros.evaluation.result import Evaluation
from tdnet_ros.evaluation.worst_frames import PICTURE_WIDTH, WorstFrame

_TEMPLATES = Path(__file__).resolve().parent


def write_page(evaluation: Evaluation, worst: Sequence[WorstFrame], path: Path) -> None:
    """Write the report of one evaluation. Raises ConfigurationError where Plotly or Jinja is not installed."""
    _require_plotting()
    from tdnet_ros.evaluation.report import figures

    drawn = [figures.latency_timeline(evaluation), figures.latency_histogram([evaluation], [evaluation.mode])]
    if evaluation.scores.labelled_frames:
        drawn = [
            figures.class_bars([evaluation], ["IoU"]),
            figures.accuracy_timeline(evaluation),
            *drawn,
            figures.distance_curve([evaluation], ["mIoU"]),
            figures.confusion_heatmap(evaluation),
        ]
    title = f"{evaluation.configuration.get('model', '?')} on {evaluation.source['name']}"
    _write(
        path,
        title=title,
        columns=[title],
        headline=headline([evaluation]),
        warnings=evaluation.warnings,
        stability=stability(evaluation),
        stages=evaluation.latency_ms,
        facts=_facts(evaluation),
        mapping=evaluation.label_map,
        figures=_embedded(drawn),
        legend=list(zip(evaluation.classes, evaluation.colours, strict=True)),
        worst=[_pictures(frame, evaluation) for frame in worst],
    )


def write_comparison(evaluations: Sequence[Evaluation], names: Sequence[str], path: Path) -> None:
    """Write a page with several evaluations side by side. Raises ConfigurationError when they can't be compared."""
    _require_plotting()
    from tdnet_ros.evaluation.report import figures

    if len({tuple(evaluation.classes) for evaluation in evaluations}) != 1:
        sets = sorted({str(evaluation.label_map.get("scored")) for evaluation in evaluations})
        raise ConfigurationError(f"the reports are scored in different classes ({sets}), expected the same ones")
    drawn = [figures.latency_histogram(evaluations, names)]
    if all(evaluation.scores.labelled_frames for evaluation in evaluations):
        drawn += [figures.class_bars(evaluations, names), figures.distance_curve(evaluations, names)]
    _write(
        path,
        title=f"Comparison of {len(evaluations)} evaluations",
        columns=list(names),
        headline=headline(evaluations),
        warnings=differences(evaluations),
        figures=_embedded(drawn),
    )


def differences(evaluations: Sequence[Evaluation]) -> list[str]:
    """In words, what makes the evaluations hard to compare."""
    found = [f"{evaluation.source['name']}: {text}" for evaluation in evaluations for text in evaluation.warnings]
    for name, values in (
        ("recordings", [evaluation.source["sha256"] for evaluation in evaluations]),
        ("processors", [evaluation.machine["processor"] for evaluation in evaluations]),
        ("modes", [evaluation.mode for evaluation in evaluations]),
        ("package versions", [evaluation.package_version for evaluation in evaluations]),
    ):
        if len(set(values)) > 1:
            found.append(f"Different {name}: {', '.join(str(value)[:60] for value in values)}")
    return found


def _facts(evaluation: Evaluation) -> dict[str, Any]:
    versions = evaluation.machine.get("versions", {})
    machine = {key: value for key, value in evaluation.machine.items() if key != "versions"}
    return {
        "mode": evaluation.mode,
        "created": evaluation.created,
        "tdnet_ros": evaluation.package_version,
        **evaluation.configuration,
        **{f"recording {key}": value for key, value in evaluation.source.items()},
        **machine,
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def _pictures(frame: WorstFrame, evaluation: Evaluation) -> dict[str, Any]:
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(evaluation.colours)] = evaluation.colours
    return {
        "caption": f"frame {frame.index}: mIoU {percent(frame.miou)}, {percent(frame.wrong_share)} of it wrong",
        "pictures": [
            ("image", _data_url(frame.picture, ".jpg")),
            ("labels", _data_url(palette[frame.labels], ".png")),
            ("prediction", _data_url(palette[frame.mask], ".png")),
        ],
    }


def _data_url(rgb: npt.NDArray[np.uint8], suffix: str) -> str:
    height = round(rgb.shape[0] * PICTURE_WIDTH / rgb.shape[1])
    way = cv2.INTER_AREA if suffix == ".jpg" else cv2.INTER_NEAREST
    small = cv2.cvtColor(cv2.resize(rgb, (PICTURE_WIDTH, height), interpolation=way), cv2.COLOR_RGB2BGR)
    data = base64.b64encode(cv2.imencode(suffix, small)[1].tobytes()).decode("ascii")
    return f"data:image/{'jpeg' if suffix == '.jpg' else 'png'};base64,{data}"


def _embedded(drawn: Sequence[Any]) -> list[str]:
    from plotly.io import to_html

    options = {"displayModeBar": False, "responsive": True}
    return [to_html(figure, full_html=False, include_plotlyjs=False, config=options) for figure in drawn]


def _write(path: Path, **content: Any) -> None:
    from jinja2 import Environment, FileSystemLoader
    from plotly.offline import get_plotlyjs

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True)
    page = environment.get_template("page.html.jinja").render(plotly=get_plotlyjs(), **content)
    path.write_text(page, encoding="utf-8")


def _require_plotting() -> None:
    try:
        import jinja2  # noqa: F401
        import plotly  # noqa: F401
    except ImportError as error:
        raise ConfigurationError(
            f"the report page needs {error.name}, which is not installed: pip install 'tdnet_ros[report]'. "
            "report.json holds the same figures"
        ) from error
