"""Exported networks: ONNX Runtime gives what torch gives, a folder says what it is, and what does not fit is named."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from seeded_weights import seeded_picture
from tiny_network import TinyUnitedVariant, tiny_weights
from torch import Tensor, nn

from benchmarks.analytic_clip import DriveClip
from tdnet_ros.cli import main
from tdnet_ros.errors import CheckpointError, ConfigurationError
from tdnet_ros.networks import SegmentationNetwork, StepPlan, TDNet, build_network, load_network
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.export import MANIFEST, export_network, network_without_weights, read_manifest
from tdnet_ros.networks.layers import fold_batch_norm
from tdnet_ros.networks.network import image_size
from tdnet_ros.streaming import Segmenter, model_info
from tdnet_ros.streaming.engines.onnx_runtime import OnnxRuntimeEngine
from tdnet_ros.streaming.models import shipped_weights
from tdnet_ros.video.frame import Frame

REPOSITORY = Path(__file__).resolve().parents[1]
SEED = 5
#: Not of the form 8k + 1: every resize and every bin of the pyramid is an uneven one.
SIZE = (60, 90)
CPU = torch.device("cpu")

Compute = Callable[..., tuple[Tensor, ...]]


@pytest.fixture(scope="module")
def light() -> SegmentationNetwork:
    return load_network("td2_mnv2", shipped_weights("td2_mnv2"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "td2"
    assert main(["export", "td2_mnv2", "--size", f"{SIZE[1]}x{SIZE[0]}", "-o", str(path)]) == 0
    return path


def _stream(
    network: SegmentationNetwork, compute: Compute, frames: int, first: int = 0, batch: int = 1
) -> list[Tensor]:
    """Scores of a stream that starts with that sub-network and feeds on its own state."""
    state, scores = network.initial_state(), []
    with torch.inference_mode():
        for index in range(frames):
            pictures = [seeded_picture(index + 50 * camera, *SIZE, SEED) for camera in range(batch)]
            image = torch.cat(pictures).contiguous(memory_format=torch.channels_last)
            plan = network.plan(state, (first + index) % network.info.subnetworks)
            result, *kept = compute(plan, image, *network.cached(state, plan))
            state = network.remember(state, plan, image_size(image), tuple(kept))
            scores.append(result)
    return scores


def _largest_difference(expected: list[Tensor], found: list[Tensor]) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(expected, found, strict=True))


def _short_td4_psp18() -> TDNet:
    """With one block for each stage of its ResNets: all that it computes with, in half the operations to export.

    Random weights with batch norm statistics of their own: else the signal dies within the first dozen layers.
    """
    torch.manual_seed(SEED)
    network = build_network("td4_psp18").train()
    assert isinstance(network, TDNet)
    for path in (network.subnetwork(index).path for index in range(4)):
        for stage in (path.backbone.layer1, path.backbone.layer2, path.backbone.layer3, path.backbone.layer4):
            del stage[1:]
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the statistics become the average over the steps below
    _stream(network, network.compute, 2 * network.info.subnetworks, batch=2)
    network.eval()
    fold_batch_norm(network)
    return network.requires_grad_(False)


@pytest.mark.parametrize("first", [0, 1])
def test_a_folder_gives_what_torch_gives(light: SegmentationNetwork, folder: Path, first: int) -> None:
    exported = network_without_weights(read_manifest(folder))
    engine = OnnxRuntimeEngine(exported, CPU, folder)
    expected = _stream(light, light.compute, 12, first)
    found = _stream(exported, engine.compute, 12, first)
    assert _largest_difference(expected, found) < 1e-4
    alone = light.compute(StepPlan((first + 11) % 2), seeded_picture(11, *SIZE, SEED))[0]
    assert _largest_difference([alone], found[-1:]) > 1e-2  # the window took part
    assert len(engine.prepared) == 3


def test_every_sub_network_of_td4_psp18_gives_what_torch_gives() -> None:
    network = _short_td4_psp18()
    engine = OnnxRuntimeEngine(network, CPU)  # exports in memory

    def compute(plan: StepPlan, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        # An export takes seconds, and a step without a window is a part of one with it.
        return (engine if plan.sources else network).compute(plan, image, *cached)

    found = _stream(network, compute, 12)
    assert _largest_difference(_stream(network, network.compute, 12), found) < 1e-4
    assert float(found[-1].std()) > 0.05
    assert set(engine.prepared) == {
        StepPlan(3, (0, 1, 2)),
        StepPlan(0, (1, 2, 3)),
        StepPlan(1, (2, 3, 0)),
        StepPlan(2, (3, 0, 1)),
    }


def test_several_cameras_at_once_through_an_export_of_one(light: SegmentationNetwork, folder: Path) -> None:
    engine = OnnxRuntimeEngine(light, CPU, folder)
    assert (
        _largest_difference(_stream(light, light.compute, 3, batch=2), _stream(light, engine.compute, 3, batch=2))
        < 1e-4
    )


def test_the_manifest_says_what_a_stranger_needs(folder: Path) -> None:
    content = json.loads((folder / MANIFEST).read_text())
    assert content["model"] == "td2_mnv2"
    assert content["input"] == {"batch": 1, "height": 60, "width": 90}
    assert content["precision"] == "fp32"
    assert len(content["weights"]["sha256"]) == 64
    assert content["normalisation"] == {"mean": [0.5] * 3, "std": [0.5] * 3, "colour_order": "rgb"}
    assert content["labels"]["classes"][3] == {"id": 3, "name": "road", "colour": [128, 64, 128]}
    assert [(plan["subnetwork"], plan["sources"]) for plan in content["plans"]] == [
        (0, []),
        (1, [0]),
        (0, [1]),
        (1, []),
    ]
    plan = content["plans"][1]
    assert plan["inputs"] == [
        {"name": "image", "shape": [1, 3, 60, 90]},
        {"name": "query_0", "shape": [1, 6, 64]},
        {"name": "key_0", "shape": [1, 6, 64]},
        {"name": "value_0", "shape": [1, 6, 128]},
    ]
    assert [output["name"] for output in plan["outputs"]] == ["scores", "query", "key", "value"]
    for plan in content["plans"]:
        model = onnx.load(folder / plan["file"])
        onnx.checker.check_model(model, full_check=True)
        assert [(each.domain, each.version) for each in model.opset_import] == [("", content["opset"])]
        for side, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
            shapes = [[size.dim_value for size in value.type.tensor_type.shape.dim] for value in values]
            assert [{"name": v.name, "shape": s} for v, s in zip(values, shapes, strict=True)] == plan[side]


def test_a_segmenter_takes_the_folder_in_place_of_weights(folder: Path) -> None:
    exported, eager = Segmenter(weights=folder), Segmenter(input_height=60)
    assert exported.runtime.engine == "onnx"
    assert exported.labels.name == "camvid"
    assert model_info(weights=folder).input_size == SIZE
    streams = exported.stream(), eager.stream()
    for index in range(4):
        pixels = np.asarray(255 * torch.sigmoid(seeded_picture(index, 120, 180, SEED)[0]).permute(1, 2, 0)).astype(
            np.uint8
        )
        found, expected = (stream.step(Frame(pixels, stamp_ns=index + 1)) for stream in streams)
        assert found.mask.shape == (120, 180)
        assert np.mean(found.mask != expected.mask) < 1e-3


def test_a_network_with_keyframes_is_exported_with_the_frames_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CATALOG, "united2", TinyUnitedVariant(subnetworks=2))
    weights = tiny_weights("united2")
    manifest = export_network(load_network("united2", weights), tmp_path, (64, 96))
    plans = {(step.plan.subnetwork, step.plan.sources, step.plan.scale, step.plan.fused) for step in manifest.steps}
    between = {(0, (1,), 0.5, True), (1, (0,), 0.5, True)}
    assert plans >= between | {(0, (), 1.0, False), (0, (1,), 1.0, False), (1, (0,), 1.0, False)}
    assert read_manifest(tmp_path) == manifest
    streams = Segmenter(weights=tmp_path).stream(), Segmenter("united2", weights, "cpu").stream()
    clip = DriveClip(64, 96, seed=1)
    for index in range(5):
        frame = Frame(clip.picture(index), stamp_ns=index + 1)
        found, expected = (stream.step(frame) for stream in streams)
        assert found.plan == expected.plan and found.plan.keyframe == (index == 0)
        assert np.mean(found.mask != expected.mask) < 2e-3


def test_half_precision_is_exported_as_such(tmp_path: Path) -> None:
    network = load_network("td2_mnv2", shipped_weights("td2_mnv2"), dtype=torch.float16)
    network.info = replace(network.info, subnetworks=1)  # one step will do
    manifest = export_network(network, tmp_path, SIZE)
    assert manifest.precision == "fp16"
    engine = OnnxRuntimeEngine(network, CPU, tmp_path)
    picture = seeded_picture(0, *SIZE, SEED)
    scores = engine.compute(StepPlan(0), picture.half())[0]
    expected = network.float().compute(StepPlan(0), picture)[0]
    assert scores.dtype == torch.float16
    assert 1e-5 < _largest_difference([expected], [scores.float()]) < 0.05 * float(expected.abs().max())


def test_what_does_not_fit_an_export_is_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"image is 180x60.*is for 90x60.*--size 180x60"):
        Segmenter(weights=folder).stream().step(Frame(np.zeros((120, 360, 3), np.uint8), stamp_ns=1))
    with pytest.raises(ConfigurationError, match=r"runtime is 'eager' and weights is an export"):
        Segmenter(weights=folder, runtime="eager")
    with pytest.raises(
        ConfigurationError, match=r"model is 'td4_psp18' and weights is an export with model 'td2_mnv2'"
    ):
        Segmenter("td4_psp18", weights=folder)
    with pytest.raises(ConfigurationError, match=r"precision is 'bf16' and weights is an export with precision 'fp32'"):
        Segmenter(weights=folder, precision="bf16")
    with pytest.raises(CheckpointError, match=r"has no manifest.json: expected a folder of tdnet-ros export"):
        Segmenter(weights=tmp_path)
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "subnetwork_0_alone.onnx").unlink()
    with pytest.raises(ConfigurationError, match=r"cannot open '.*subnetwork_0_alone.onnx'"):
        Segmenter(weights=copy).warm_up(60, 90)
    (copy / MANIFEST).write_text('{"format": 1}')
    with pytest.raises(CheckpointError, match=r"not a manifest of tdnet-ros export"):
        Segmenter(weights=copy)


def test_a_plan_that_was_not_exported_is_named(light: SegmentationNetwork, folder: Path) -> None:
    engine = OnnxRuntimeEngine(light, CPU, folder)
    with pytest.raises(ConfigurationError, match=r"has no StepPlan\(subnetwork=2"):
        engine.compute(StepPlan(2), seeded_picture(0, *SIZE, SEED))


def test_without_onnxruntime_the_extra_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigurationError, match=r"needs the Python package onnxruntime.*tdnet_ros\[onnx\]"):
        Segmenter(weights=folder)


def test_tensorrt_wants_a_gpu() -> None:
    with pytest.raises(ConfigurationError, match=r"device is 'cpu', expected one of \['cuda'\] for TensorRTEngine"):
        Segmenter(runtime="tensorrt", device="cpu")


def test_settings_out_of_range_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, complaint in (
        (["--size", "480x16"], "size is 480x16, expected at least 32 px"),
        (["--batch", "0"], "batch is 0, expected at least 1"),
        (["--weights", "missing.pth"], "weights is 'missing.pth'"),
    ):
        assert main(["export", "td2_mnv2", "-o", str(tmp_path), *options]) == 1
        assert complaint in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["export", "td2_mnv2", "-o", str(tmp_path), "--size", "480"])
    assert "expected WIDTHxHEIGHT" in capsys.readouterr().err


def test_an_int8_export_is_an_export_with_nearly_the_same_labels(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = ["image,label,split,sequence,frame,timestamp_s"]
    for index in range(8):
        picture = 255 * torch.sigmoid(seeded_picture(index, *SIZE, SEED)[0]).permute(1, 2, 0)
        cv2.imwrite(str(tmp_path / f"{index}.png"), np.asarray(picture).astype(np.uint8))
        cv2.imwrite(str(tmp_path / f"label{index}.png"), np.zeros(SIZE, np.uint8))
        rows.append(f"{index}.png,label{index}.png,{'train' if index < 4 else 'val'},street,{index},{0.1 * index}")
    (tmp_path / "sequences.csv").write_text("\n".join(rows))
    target = tmp_path / "int8"
    arguments = [str(folder), "--data", str(tmp_path), "-o", str(target), "--calibration-frames", "2"]
    monkeypatch.setattr(sys, "argv", ["int8", *arguments])
    monkeypatch.syspath_prepend(REPOSITORY)
    assert importlib.import_module("benchmarks.int8").main() == 0
    model = onnx.load(target / "subnetwork_0_after_1.onnx")
    weights = [x for x in model.graph.initializer if x.data_type == onnx.TensorProto.INT8 and len(x.dims) == 4]
    exact = onnx.load(folder / "subnetwork_0_after_1.onnx")
    assert len(weights) == sum(node.op_type == "Conv" for node in exact.graph.node) > 0
    assert read_manifest(target) == read_manifest(folder)
    agreement = float(capsys.readouterr().out.split("equal to fp32's on ")[-1].split(" %")[0])
    assert 80 < agreement < 100
