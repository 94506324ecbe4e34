"""Mapping files: masks of one set of classes on labels of another."""

from __future__ import annotations

from pathlib import Path

import pytest

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.evaluation.label_map import read_label_map, same_labels
from tdnet_ros.labels import CAMVID, CITYSCAPES

SHIPPED = Path(__file__).resolve().parent.parent / "config" / "cityscapes_on_camvid.yaml"


def test_the_shipped_map_covers_every_cityscapes_class() -> None:
    mapped = read_label_map(SHIPPED, CITYSCAPES)
    assert mapped.classes is CAMVID
    rider, terrain = CITYSCAPES.names.index("rider"), CITYSCAPES.names.index("terrain")
    assert CAMVID.names[mapped.predictions[rider]] == "bicyclist"
    assert CAMVID.names[mapped.predictions[terrain]] == "tree"
    assert list(mapped.labels[:12]) == [*range(11), 255]
    described = mapped.describe(CITYSCAPES)
    assert described["predictions"]["truck"] == "car" and described["labels"]["3"] == "road"


def test_without_a_map_other_ids_are_unlabelled() -> None:
    mapped = same_labels(CAMVID)
    assert list(mapped.labels[[0, 10, 11, 254, 255]]) == [0, 10, 255, 255, 255]


def test_a_map_of_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "drivable.yaml"
    other = "\n".join(f"  {name}: {'free' if name == 'road' else 'blocked'}" for name in CAMVID.names[1:])
    file.write_text(f"scored: [free, blocked]\npredictions:\n  sky: void\n{other}\nlabels: {{7: free, 8: blocked}}\n")
    mapped = read_label_map(file, CAMVID)
    assert mapped.classes.names == ("free", "blocked")
    assert mapped.predictions[0] == 255 and mapped.predictions[CAMVID.names.index("road")] == 0
    assert list(mapped.labels[[7, 8, 9]]) == [0, 1, 255]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a", "expected the keys scored, predictions and labels"),
        ("scord: camvid", "expected the keys"),
        ("scored: mars", "label set is 'mars'"),
        ("scored: []", "expected the name of a label set or a list of names"),
        ("predictions: {sky: sky}", r"missing: \['bicyclist'"),
        ("labels: {300: sky}", "label id is 300, expected 0 to 255"),
        ("labels: {1: moon}", "class is 'moon', expected one of"),
        ("labels: [1]", "expected ids of label images"),
        ("a: [", "cannot be read"),
    ],
)
def test_a_wrong_map_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "map.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError, match=message):
        read_label_map(file, CAMVID)
