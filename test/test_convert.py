"""``tdnet-ros convert`` and ``tdnet-ros models``: what they write, print and refuse."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from official_listing import tdnet
from safetensors import safe_open
from torch import Tensor

from tdnet_ros.cli import main
from tdnet_ros.errors import CheckpointError, ConfigurationError
from tdnet_ros.labels import read_label_set
from tdnet_ros.networks import build_network, load_network
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.checkpoints import read_checkpoint, save_checkpoint
from tdnet_ros.networks.conversion import convert
from tdnet_ros.networks.official_keys import rename_official
from tdnet_ros.streaming import model_info
from tdnet_ros.streaming.models import shipped_for, shipped_weights

OWN_LABELS = """
classes:
  floor: [10, 20, 30]
  wall: [40, 50, 60]
  door: [255, 0, 255]
"""


def _state(model: str = "td2_mnv2") -> dict[str, Tensor]:
    torch.manual_seed(5)
    return {key: value.uniform_(0.5, 1.5) for key, value in build_network(model).state_dict().items() if value.dim()}


@pytest.fixture(scope="module")
def light(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training's file of the light model."""
    path = tmp_path_factory.mktemp("light") / "model.pth"
    torch.save({"model_state": _state()}, path)
    return path


def _network_equals(first: Path, second: Path) -> bool:
    ours, theirs = (load_network(None, path).state_dict() for path in (first, second))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_an_official_file_with_classes_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Trained at another size and on other classes; every tensor holds a number of its own, so none is mixed up."""
    listing = tdnet(4, 18, classes=3, maps=(46, 61), auxiliary=True)
    values = {key: torch.tensor(0.5 + i / 1024).expand(shape) for i, (key, shape) in enumerate(listing.items())}
    source, output, labels = tmp_path / "td4-psp18.pkl", tmp_path / "td4.safetensors", tmp_path / "indoor.yaml"
    torch.save({"epoch": 3, "model_state": {f"module.{key}": value for key, value in values.items()}}, source)
    labels.write_text(OWN_LABELS, encoding="utf-8")
    assert main(["convert", str(source), "-o", str(output), "--labels", str(labels)]) == 0
    said = capsys.readouterr().out
    assert "td4_psp18" in said and "indoor: floor, wall, door" in said and "481x361" in said
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    assert digest in said and "Cityscapes" in said and "such as pretrained1.fc.weight" in said
    written = read_checkpoint(output)
    expected = {key: value for key, value in rename_official(values).items() if not key.endswith("_tracked")}
    assert written.weights.keys() == expected.keys()
    assert all(torch.equal(written.weights[key], value) for key, value in expected.items())
    assert written.metadata["source"] == "td4-psp18.pkl" and written.metadata["source_sha256"] == digest
    info = model_info(weights=output)
    assert info.name == "td4_psp18" and info.input_size == (361, 481)
    assert info.labels == read_label_set(str(labels))


def test_the_converted_file_gives_the_very_same_network(light: Path, tmp_path: Path) -> None:
    output = tmp_path / "light.safetensors"
    done = convert(light, output)
    assert done.info == load_network("td2_mnv2", light).info
    assert _network_equals(light, output)
    assert not list(tmp_path.glob("*.partial"))
    with safe_open(output, framework="pt") as file:
        assert {file.get_tensor(key).dtype for key in file.keys()} == {torch.float32}  # noqa: SIM118


def test_half_precision_is_asked_for(light: Path, tmp_path: Path) -> None:
    full, half = tmp_path / "full.safetensors", tmp_path / "half.safetensors"
    assert main(["convert", str(light), "-o", str(full)]) == 0
    assert main(["convert", str(light), "-o", str(half), "--half"]) == 0
    assert half.stat().st_size < 0.6 * full.stat().st_size
    with pytest.raises(CheckpointError, match=r"weight holds numbers that are not finite as torch\.float16"):
        save_checkpoint(half, {"weight": torch.tensor([1e5])}, {"model": "td2_mnv2"})


def test_what_is_given_goes_before_what_the_file_says(light: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    options = [
        "--mean",
        "0.1",
        "0.2",
        "0.3",
        "--std",
        "1",
        "2",
        "3",
        "--input-size",
        "640x480",
        "--terms",
        "mine alone",
    ]
    assert main(["convert", str(light), "-o", str(first), *options]) == 0
    info = model_info(weights=first)
    assert info.terms == info.stated_terms == "mine alone"
    assert (info.mean, info.std, info.input_size) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), (480, 640))
    assert main(["convert", str(first), "-o", str(second), "--mean", "0", "0", "0"]) == 0
    info = model_info(weights=second)
    assert (info.mean, info.std, info.input_size) == ((0.0, 0.0, 0.0), (1.0, 2.0, 3.0), (480, 640))
    assert read_checkpoint(second).metadata["terms"] == "mine alone"


def test_bgr_weights_are_written_as_rgb(light: Path, tmp_path: Path) -> None:
    turned, back = tmp_path / "turned.safetensors", tmp_path / "back.safetensors"
    assert main(["convert", str(light), "-o", str(turned), "--bgr"]) == 0
    assert read_checkpoint(turned).metadata["colour_order"] == "rgb"
    assert not _network_equals(light, turned)
    assert main(["convert", str(turned), "-o", str(back), "--bgr"]) == 0
    assert _network_equals(light, back)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "out.pkl"], "expected a name that ends in .safetensors"),
        (["-o", "nowhere/out.safetensors"], "cannot be written"),
        (["-o", "out.safetensors", "--model", "td9"], "model is 'td9', expected one of"),
        (["-o", "out.safetensors", "--model", "td4_psp18"], "the file looks like 'td2_mnv2' (100% of the keys"),
        (["-o", "out.safetensors", "--labels", "cityscapes"], "it has 11 classes and the label set 19"),
        (["-o", "out.safetensors", "--labels", "kitti"], "label set is 'kitti', expected a YAML file or one of"),
        (["-o", "out.safetensors", "--labels", "none.yaml"], "label set 'none.yaml' cannot be read"),
        (["-o", "out.safetensors", "--std", "1", "1", "0"], "std is [1.0, 1.0, 0.0], expected three numbers above 0"),
        (["-o", "out.safetensors", "--input-size", "640x16"], "expected at least 32 px per side"),
    ],
)
def test_what_is_refused_leaves_no_file(
    light: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", str(light), *options]) == 1
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_no_file_is_overwritten_unasked(light: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out.safetensors"
    output.write_text("precious", encoding="utf-8")
    assert main(["convert", str(light), "-o", str(output)]) == 1
    assert "out.safetensors', which exists" in capsys.readouterr().err
    assert output.read_text(encoding="utf-8") == "precious"
    assert main(["convert", str(light), "-o", str(output), "--force"]) == 0
    assert model_info(weights=output).name == "td2_mnv2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- floor\n- wall\n", "expected 'classes' with an RGB colour"),
        ("classes: {floor: [1, 2]}", r"colour of 'floor' is \(1, 2\)"),
        ("classes: {floor: red}", r"colour of 'floor' is 'red', expected \[r, g, b\]"),
        ("classes: {}", "has 0 classes, expected 1 to 255"),
        ("classes: [", "cannot be read"),
    ],
)
def test_label_sets_that_cannot_be_meant(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigurationError, match=message):
        read_label_set(str(path))


def test_models_lists_the_catalog_for_people_and_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "--size", "129x97"]) == 0
    heading, *lines = capsys.readouterr().out.splitlines()
    weights = lines[lines.index("") + 2 :]
    lines = lines[: lines.index("")]
    shipped = [(model, each) for model in CATALOG for each in shipped_for(model)]
    assert {"bdnet_mnv2", "carried_mnv2", "td2_mnv2"} == {model for model, _ in shipped}, "all on weights of the last"
    assert [tuple(line.split()[:2]) for line in weights] == [(model, each.name or "default") for model, each in shipped]
    assert all(each.terms in line for (_, each), line in zip(shipped, weights, strict=True))
    assert "GMAC" in heading and [line.split()[0] for line in lines] == list(CATALOG)
    assert all("129x97" in line for line in lines)
    assert main(["models", "--size", "129x97", "--json"]) == 0
    found = {entry["model"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert found.keys() == CATALOG.keys()
    light = found["td2_mnv2"]
    assert light["default"] and light["weights"] == str(shipped_weights("td2_mnv2"))
    assert light["classes"] == list(CATALOG["td2_mnv2"].labels.names) and light["gmac"] > light["gmac_after_reset"] > 0
    assert found["td4_psp18"]["weights"] is None and found["td4_psp18"]["gmac_size"] == [97, 129]


@pytest.mark.parametrize("size", ["769", "1537x", "0x769", "1537x769x3"])
def test_a_size_is_width_x_height(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["models", "--size", size])
    assert stopped.value.code == 2
    assert f"'{size}' is no size, expected WIDTHxHEIGHT" in capsys.readouterr().err
