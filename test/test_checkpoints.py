"""Weight files: what loads, and what is said of those that don't."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tdnet_ros.errors import CheckpointError, ConfigurationError
from tdnet_ros.labels import LabelSet
from tdnet_ros.networks import SegmentationNetwork, build_network, load_network, network_info
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.checkpoints import read_checkpoint, save_checkpoint
from tdnet_ros.networks.metadata import to_metadata
from tdnet_ros.networks.official_keys import rename_official
from tdnet_ros.networks.recognition import describe_likeness, recognise, shapes_of
from tdnet_ros.streaming import Segmenter
from tdnet_ros.streaming.runtime import Preprocessor
from tdnet_ros.video.frame import Frame

MODEL = "td2_mnv2"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return dict(build_network(MODEL).state_dict())


def _scores(source: Path | dict[str, Tensor]) -> Tensor:
    return _advance(load_network(MODEL, weights=source))


def _advance(network: SegmentationNetwork) -> Tensor:
    with torch.inference_mode():
        return network.advance(torch.linspace(-1, 1, 3 * 64 * 64).view(1, 3, 64, 64), network.initial_state(), 1)[0]


def test_unknown_model_names_the_catalog() -> None:
    with pytest.raises(ConfigurationError, match=r"model is 'td5', expected one of .*'td2_mnv2'.*'td4_psp18'"):
        load_network("td5")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.pkl', expected an existing weight file"):
        load_network(MODEL, weights=tmp_path / "none.pkl")


def test_folder_is_not_a_weight_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected an existing weight file"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pkl"])
def test_truncated_file(tmp_path: Path, weights: dict[str, Tensor], suffix: str) -> None:
    path = tmp_path / f"cut{suffix}"
    if suffix == ".safetensors":
        save_file(weights, path)
    else:
        torch.save(weights, path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=f"cut{suffix}'"):
        read_checkpoint(path)


@pytest.mark.parametrize("suffix", [".safetensors", ".pkl", ".pth"])
@pytest.mark.parametrize(
    "content",
    [b"", b"<!DOCTYPE html><html>Quota exceeded</html>", bytes(range(256)) * 20],
    ids=["empty", "html", "noise"],
)
def test_file_of_another_kind(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"download{suffix}"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"download{suffix}'"):
        read_checkpoint(path)


class _Hostile:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("container", ["torch", "pickle"])
def test_code_in_a_file_is_not_run(tmp_path: Path, container: str) -> None:
    path, trace = tmp_path / "hostile.pkl", tmp_path / "trace"
    if container == "torch":
        torch.save({"weight": _Hostile(trace)}, path)
    else:
        path.write_bytes(pickle.dumps({"weight": _Hostile(trace)}))
    with pytest.raises(CheckpointError, match=r"hostile\.pkl'") as caught:
        read_checkpoint(path)
    assert not trace.exists()
    assert "expected tensors alone" in str(caught.value) or container == "pickle"
    assert "trust" not in str(caught.value), "the message must not suggest to load it all the same"


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "as torch 1.5 and older write"])
def test_training_file_with_numpy_numbers(tmp_path: Path, weights: dict[str, Tensor], zipped: bool) -> None:
    """The official training code saves the best score as it comes from numpy."""
    path = tmp_path / "best_model.pkl"
    content = {"epoch": 9, "model_state": weights, "best_iou": np.float64(0.5)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    assert read_checkpoint(path).weights.keys() == weights.keys()
    if not zipped:  # numpy 1 wrote another name, which numpy 2 still reads
        names = b"numpy._core.multiarray", b"numpy.core.multiarray"
        path.write_bytes(path.read_bytes().replace(*names))
        assert read_checkpoint(path).weights.keys() == weights.keys()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "an empty dict"),
        ([torch.zeros(2)], "a list"),
        ({"epoch": 3, "weight": torch.zeros(2)}, "int at key 'epoch'"),
        ({"model_state": {"weight": "text"}}, "str at key 'weight'"),
    ],
)
def test_content_that_is_not_a_state_dict(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "odd.pkl"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=f"odd.pkl' hold {message}, expected a dict of tensors by key"):
        read_checkpoint(path)


def test_weights_of_another_model(weights: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_network("td4_psp18", weights=weights)
    message = str(caught.value)
    assert "do not fit model 'td4_psp18'" in message
    assert "missing, first: subnetworks.0.path.backbone.layer1.0.conv1.conv.weight" in message
    assert "unexpected, first: subnetworks.0.path.backbone.blocks." in message
    assert "mis-shaped, first: subnetworks.0.path.backbone.stem.conv.weight (32, 3, 3, 3) instead of" in message
    assert "looks like 'td2_mnv2' (100% of the keys, 100% in the same shape)" in message


#: Built as another one; only the number of classes tells them apart.
TWINS = {"arseg_bise18_cityscapes": "arseg_bise18_camvid"}


@pytest.mark.parametrize("model", sorted(CATALOG.keys() - TWINS))
def test_every_model_is_recognised_by_its_structure(model: str) -> None:
    """Also with other classes, another size and a missing key; never by a name in the file."""
    with torch.device("meta"):
        mine = LabelSet("mine", ("a", "b"), ((0, 0, 0), (1, 1, 1)))
        network = build_network(replace(network_info(model), labels=mine, input_size=(360, 480)))
    shapes = shapes_of(network.state_dict())
    assert recognise(shapes) == model
    shapes.popitem()
    assert recognise(shapes) is None
    assert describe_likeness(shapes).startswith(f"'{model}' (")


@pytest.mark.parametrize("model", [*TWINS.keys(), *TWINS.values()])
def test_twins_are_told_apart_by_their_classes(model: str) -> None:
    with torch.device("meta"):
        assert recognise(shapes_of(build_network(model).state_dict())) == model


def test_a_file_like_none_of_ours() -> None:
    with pytest.raises(CheckpointError, match="the file looks like none of our models"):
        load_network(MODEL, weights={"encoder.weight": torch.zeros(1)})


def test_one_bad_key_is_named(weights: dict[str, Tensor]) -> None:
    key = "subnetworks.1.head.classifier.bias"
    short = {k: v for k, v in weights.items() if k != key}
    with pytest.raises(CheckpointError, match=rf"\(1 missing, first: {key}\)"):
        load_network(MODEL, weights=short)
    with pytest.raises(CheckpointError, match=r"\(1 unexpected, first: extra\)"):
        load_network(MODEL, weights=weights | {"extra": torch.zeros(1)})
    with pytest.raises(CheckpointError, match=rf"\(1 mis-shaped, first: {key} \(19,\) instead of \(11,\)\)"):
        load_network(MODEL, weights=short | {key: torch.zeros(19)})
    broken = weights[key].clone()
    broken[4] = torch.nan
    with pytest.raises(CheckpointError, match=f"{key} holds numbers that are not finite"):
        load_network(MODEL, weights=short | {key: broken})


def test_state_dict_loads_as_it_is_and_is_not_changed(weights: dict[str, Tensor]) -> None:
    before = {key: value.clone() for key, value in weights.items()}
    scores = _scores(weights)
    assert all(torch.equal(weights[key], value) for key, value in before.items())
    prefixed = {f"module.{key}": value for key, value in weights.items()}
    assert torch.equal(_scores({"model_state": prefixed}), scores)  # type: ignore[dict-item]


def test_safetensors_round_trip_in_half_precision_with_metadata(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "light.safetensors"
    metadata = {"model": MODEL, "recipe": json.dumps({"steps": 3})}
    save_checkpoint(path, weights, metadata)
    checkpoint = read_checkpoint(path)
    assert checkpoint.metadata == metadata
    assert all(value.dtype == torch.float16 for value in checkpoint.weights.values())
    halves = {key: value.half() if value.is_floating_point() else value for key, value in weights.items()}
    assert torch.equal(_scores(path), _scores(halves))
    torch.testing.assert_close(_scores(path), _scores(weights), atol=1e-2, rtol=1e-2)


def test_the_model_is_taken_from_the_metadata_or_the_structure(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "some.safetensors"
    for said in (MODEL, "td9_of_a_later_version"):
        save_checkpoint(path, weights, {"model": said})
        assert load_network(None, path).info.name == load_network("auto", path).info.name == MODEL
    with pytest.raises(CheckpointError, match=r"looks like none of our models.*name the model"):
        load_network("auto", {"weight": torch.zeros(1)})
    with pytest.raises(ConfigurationError, match="model is 'auto' and there is no weight file"):
        load_network("auto")


def _three_classes(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value[:3] if ".classifier." in key else value for key, value in weights.items()}


def test_own_classes_load_when_the_label_set_says_so(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    own = _three_classes(weights)
    with pytest.raises(CheckpointError, match="it has 3 classes and the label set 11: name its label set"):
        load_network(MODEL, own)
    mine = LabelSet("mine", ("floor", "wall", "door"), ((1, 2, 3), (4, 5, 6), (255, 0, 255)))
    network = load_network(MODEL, own, labels=mine)
    assert network.info.labels == mine
    torch.testing.assert_close(_scores(weights)[:, :3], _advance(network))
    path = tmp_path / "mine.safetensors"
    save_checkpoint(path, own, to_metadata(network.info), torch.float32)
    again = load_network(None, path)
    assert again.info == network.info
    assert torch.equal(_advance(again), _advance(network))


def test_metadata_go_before_the_catalog(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "other.safetensors"
    info = replace(network_info(MODEL), mean=(0.1, 0.2, 0.3), std=(1.0, 0.5, 0.25), input_size=(480, 640))
    info = replace(info, low_resolution=0.5, keyframe_interval=5)
    save_checkpoint(path, weights, to_metadata(info, terms="", source_sha256="0f"), torch.float32)
    assert read_checkpoint(path).metadata.keys() == {*to_metadata(info), "source_sha256"}
    assert load_network(MODEL, path).info == info
    segmenter = Segmenter(weights=path, device="cpu")
    assert segmenter.network.info == info
    assert segmenter.network_size(960, 1280) == (480, 640)
    pixels = np.full((480, 640, 3), (51, 102, 204), np.uint8)
    image = Preprocessor(segmenter.network.info, segmenter.runtime)(Frame(pixels), (480, 640))
    torch.testing.assert_close(image[0, :, 0, 0], torch.tensor([0.1, 0.4, 2.0]))


def test_weights_for_bgr_pixels_are_turned_to_rgb(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    path = tmp_path / "bgr.safetensors"
    stem = "path.backbone.stem.conv.weight"
    turned = {key: value.flip(1) if key.endswith(stem) else value for key, value in weights.items()}
    save_checkpoint(path, turned, to_metadata(network_info(MODEL)) | {"colour_order": "bgr"}, torch.float32)
    network = load_network(None, path)
    assert network.info.colour_order == "rgb"
    assert torch.equal(_advance(network), _scores(weights))
    assert not torch.equal(_advance(network), _scores(turned)), "the order of the colours must make a difference"


@pytest.mark.parametrize(
    ("entry", "text", "message"),
    [
        ("labels", "kitti", "label set is 'kitti'"),
        ("labels", "{", "labels is '{', which is no JSON"),
        ("labels", '{"name": "n", "names": ["a"]}', "expected name, names and colours"),
        ("labels", '{"name": "n", "names": ["a", "a"], "colours": [[0,0,0],[1,1,1]]}', "names 'a' more than once"),
        ("labels", '{"name": "n", "names": ["a"], "colours": [[0,0,256]]}', r"colour of 'a' is \(0, 0, 256\)"),
        ("mean", "[1, 2]", r"mean is \[1, 2\], expected three numbers"),
        ("mean", "[1, 2, NaN]", "expected three numbers"),
        ("std", "[1, 2, 0]", "expected three numbers above 0"),
        ("input_size", "[16, 640]", "at least 32 px per side"),
        ("input_size", "360", r"expected \[height, width\]"),
        ("colour_order", "yuv", "colour_order is 'yuv'"),
        ("keyframe_interval", "0", "keyframe_interval is 0, expected a whole number of at least 1"),
        ("keyframe_interval", "true", "keyframe_interval is true, expected a whole number"),
    ],
)
def test_metadata_that_cannot_be_meant(
    tmp_path: Path, weights: dict[str, Tensor], entry: str, text: str, message: str
) -> None:
    path = tmp_path / "odd.safetensors"
    save_checkpoint(path, weights, {"model": MODEL, entry: text})
    with pytest.raises(CheckpointError, match=f"odd.safetensors': .*{message}"):
        load_network(MODEL, path)


def test_layer_norm_maps_take_the_size_that_they_have_in_the_file() -> None:
    network = build_network("td4_psp18")
    small = {key: value[:46, :61] if value.shape == (97, 193) else value for key, value in network.state_dict().items()}
    loaded = load_network("auto", small)
    assert loaded.info.input_size == (361, 481)
    assert loaded.get_parameter("subnetworks.0.norm.weight").shape == (46, 61)
    assert load_network("td4_psp18", network.state_dict()).info.input_size == (769, 1537)


def test_save_wants_the_model_named(tmp_path: Path, weights: dict[str, Tensor]) -> None:
    with pytest.raises(CheckpointError, match="expected 'model' among them"):
        save_checkpoint(tmp_path / "nameless.safetensors", weights, {"recipe": "none"})


def test_a_bias_in_front_of_a_batch_norm_moves_into_its_mean() -> None:
    torch.manual_seed(1)
    x, bias, mean = torch.randn(2, 64, 3, 3), torch.randn(64), torch.randn(64)
    renamed = rename_official({"enc1.w_ks.0.conv.bias": bias, "enc1.w_ks.0.bn.running_mean": mean})
    assert list(renamed) == ["subnetworks.0.encoder.key.0.norm.running_mean"]
    moved = renamed["subnetworks.0.encoder.key.0.norm.running_mean"]
    ones = torch.ones(64)
    expected = torch.nn.functional.batch_norm(x + bias[:, None, None], mean, ones)
    torch.testing.assert_close(torch.nn.functional.batch_norm(x, moved, ones), expected)
