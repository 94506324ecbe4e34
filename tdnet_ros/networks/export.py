"""A network as a folder of ONNX files: one for each plan, and a manifest that says what they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from tdnet_ros import __version__
from tdnet_ros.errors import CheckpointError, ConfigurationError
from tdnet_ros.labels import LabelSet
from tdnet_ros.networks.catalog import build_network, network_info
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan
from tdnet_ros.networks.onnx_step import OPSET, input_names, onnx_step, output_names
from tdnet_ros.networks.plan_walk import Met, walk_plans

MANIFEST = "manifest.json"
#: Precisions that ONNX runtimes compute in, everywhere.
EXPORT_PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16}
_FORMAT = 1
_Number = TypeVar("_Number", int, float)


@dataclass(frozen=True)
class ExportedTensor:
    """Name and shape of an input or output."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ExportedStep:
    """One file: the computation of ``plan``, its inputs and outputs in the order of ``SegmentationNetwork.compute``."""

    plan: StepPlan
    file: str
    inputs: tuple[ExportedTensor, ...]
    outputs: tuple[ExportedTensor, ...]


@dataclass(frozen=True)
class Manifest:
    """What stands in an export's manifest.json. ``info.input_size`` is the size that was exported."""

    info: NetworkInfo
    batch: int
    precision: str
    opset: int
    weights: str
    weights_sha256: str
    version: str
    steps: tuple[ExportedStep, ...]


def export_network(
    network: SegmentationNetwork,
    folder: Path | str,
    size: tuple[int, int],
    batch: int = 1,
    weights: str = "",
    weights_sha256: str = "",
    report: Callable[[ExportedStep], None] | None = None,
) -> Manifest:
    """Write every step that a stream can meet, for images (batch, 3, *size); ``size`` is (height, width).

    The precision is that of the network's weights. ``weights`` and ``weights_sha256`` say in the manifest where
    they come from. ``report`` is called after each file. Raises ConfigurationError for a size below the network's
    minimum, a batch below one or a precision that ONNX runtimes lack, and where torch's exporter is missing.
    """
    if min(size) < network.info.minimum_size:
        raise ConfigurationError(
            f"size is {size[1]}x{size[0]}, expected at least {network.info.minimum_size} px per side"
        )
    if batch < 1:
        raise ConfigurationError(f"batch is {batch}, expected at least 1")
    weight = next(network.parameters())
    precision = next((name for name, dtype in EXPORT_PRECISIONS.items() if dtype == weight.dtype), None)
    if precision is None:
        raise ConfigurationError(f"precision is {weight.dtype}, expected one of {list(EXPORT_PRECISIONS)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST).unlink(missing_ok=True)  # written last: a folder with a manifest is complete
    image = torch.zeros(batch, 3, *size, dtype=weight.dtype, device=weight.device)
    steps = []
    for plan, (cached, results) in meet_every_plan(network, image).items():
        step = ExportedStep(
            plan,
            _file_name(plan),
            _describe(input_names(network, plan), (image, *cached)),
            _describe(output_names(network, plan), results),
        )
        (folder / step.file).write_bytes(onnx_step(network, plan, image, cached))
        steps.append(step)
        if report is not None:
            report(step)
    info = replace(network.info, input_size=size)
    manifest = Manifest(info, batch, precision, OPSET, weights, weights_sha256, __version__, tuple(steps))
    (folder / MANIFEST).write_text(json.dumps(_to_json(manifest), indent=1) + "\n", encoding="utf-8")
    return manifest


def meet_every_plan(network: SegmentationNetwork, image: Tensor) -> dict[StepPlan, Met]:
    """By plan what a step reads and what it gives, for every plan that a stream meets, wherever it starts.

    Frames between keyframes have the scale of the weights, ``info.low_resolution``.
    """
    info = network.info
    scales = [info.low_resolution] if info.keyframe_interval > 1 else None
    with torch.no_grad():
        return walk_plans(network, image, scales, firsts=range(info.subnetworks))


def export_folder(weights: object) -> Path | None:
    """The folder, when the weights are one."""
    return Path(weights) if isinstance(weights, Path | str) and Path(weights).is_dir() else None


def read_manifest(folder: Path | str) -> Manifest:
    """The manifest of an export. Raises CheckpointError when the folder is none, or none that this version reads."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        raise CheckpointError(f"weights is '{folder}', which has no {MANIFEST}: expected a folder of tdnet-ros export")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise CheckpointError(
                f"'{path}' has format {content['format']}, expected {_FORMAT}: export again with this version"
            )
        return _from_json(content)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"'{path}' is not a manifest of tdnet-ros export: {error!r}") from error


def network_without_weights(manifest: Manifest) -> SegmentationNetwork:
    """The network of an export for its state and its masks; the arithmetic of a step is in the files alone."""
    with torch.device("meta"):
        network = build_network(manifest.info)
    return network.eval().requires_grad_(False)


def _file_name(plan: StepPlan) -> str:
    past = "".join(f"_{source}" for source in plan.sources)
    reduced = f"_at_{plan.scale:g}" if plan.scale != 1 or plan.fused else ""
    return f"subnetwork_{plan.subnetwork}{'_after' + past if past else '_alone'}{reduced}.onnx"


def _describe(names: Sequence[str], tensors: Sequence[Tensor]) -> tuple[ExportedTensor, ...]:
    return tuple(ExportedTensor(name, tuple(x.shape)) for name, x in zip(names, tensors, strict=True))


def _to_json(manifest: Manifest) -> dict[str, Any]:
    info = manifest.info
    return {
        "format": _FORMAT,
        "tdnet_ros": manifest.version,
        "model": info.name,
        "weights": {"name": manifest.weights, "sha256": manifest.weights_sha256, "terms": info.terms},
        "opset": manifest.opset,
        "precision": manifest.precision,
        "input": {"batch": manifest.batch, "height": info.input_size[0], "width": info.input_size[1]},
        "normalisation": {"mean": info.mean, "std": info.std, "colour_order": info.colour_order},
        "scores": {"stride": info.stride, "align_corners": info.align_corners},
        "keyframes": {"interval": info.keyframe_interval, "low_resolution": info.low_resolution},
        "labels": {
            "name": info.labels.name,
            "classes": [
                {"id": index, "name": name, "colour": colour}
                for index, (name, colour) in enumerate(zip(info.labels.names, info.labels.colours, strict=True))
            ],
        },
        "plans": [{**step.plan._asdict(), **_files(step)} for step in manifest.steps],
    }


def _files(step: ExportedStep) -> dict[str, Any]:
    return {
        "file": step.file,
        "inputs": [asdict(tensor) for tensor in step.inputs],
        "outputs": [asdict(tensor) for tensor in step.outputs],
    }


def _from_json(content: Mapping[str, Any]) -> Manifest:
    size, normalisation, classes = content["input"], content["normalisation"], content["labels"]["classes"]
    labels = LabelSet(
        content["labels"]["name"],
        tuple(each["name"] for each in classes),
        tuple(_triple(each["colour"]) for each in classes),
    )
    keyframes = content.get("keyframes", {})  # exports of before there were any have none
    info = replace(
        network_info(content["model"]),
        labels=labels,
        mean=_triple(normalisation["mean"]),
        std=_triple(normalisation["std"]),
        colour_order=normalisation["colour_order"],
        stride=content["scores"]["stride"],
        align_corners=content["scores"]["align_corners"],
        input_size=(size["height"], size["width"]),
        terms=content["weights"].get("terms", ""),  # nor terms
        low_resolution=keyframes.get("low_resolution", 1.0),
        keyframe_interval=keyframes.get("interval", 1),
    )
    steps = tuple(
        ExportedStep(
            StepPlan(
                each["subnetwork"], tuple(each["sources"]), float(each.get("scale", 1)), bool(each.get("fused", False))
            ),
            _bare_name(each["file"]),
            _tensors(each["inputs"]),
            _tensors(each["outputs"]),
        )
        for each in content["plans"]
    )
    weights = content["weights"]
    return Manifest(
        info,
        size["batch"],
        content["precision"],
        content["opset"],
        weights["name"],
        weights["sha256"],
        content["tdnet_ros"],
        steps,
    )


def _bare_name(file: str) -> str:
    """A file beside the manifest: the manifest cannot point elsewhere."""
    if Path(file).name != file:
        raise ValueError(f"file is '{file}', expected a name without a folder")
    return file


def _tensors(content: Sequence[Mapping[str, Any]]) -> tuple[ExportedTensor, ...]:
    return tuple(ExportedTensor(each["name"], tuple(each["shape"])) for each in content)


def _triple(values: Sequence[_Number]) -> tuple[_Number, _Number, _Number]:
    first, second, third = values
    return first, second, third
