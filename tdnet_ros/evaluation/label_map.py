"""From one set of classes to another: a network's masks scored on labels that were made for other classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import UNLABELLED, LabelSet, label_set
from tdnet_ros.yaml_settings import read_yaml

#: How a mapping file says that pixels of a class do not count.
_VOID = ("void", "unlabelled", "unlabeled")


@dataclass(frozen=True)
class LabelMap:
    """``classes`` are those that are scored; ``predictions`` and ``labels`` (256,) uint8 map ids to ids of them.

    ``known`` (256,) bool: ids that label images are expected to have, void ones among them.
    """

    classes: LabelSet
    predictions: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]
    known: npt.NDArray[np.bool_]

    def describe(self, predicted: LabelSet) -> dict[str, Any]:
        """For reports: by class of the network and by id of a label image the name that it is scored as."""
        names = dict(enumerate(self.classes.names)) | {UNLABELLED: "void"}
        labels = {str(i): names[int(to)] for i, to in enumerate(self.labels) if int(to) != UNLABELLED}
        predictions = {name: names[int(self.predictions[i])] for i, name in enumerate(predicted.names)}
        return {"scored": self.classes.name, "predictions": predictions, "labels": labels}


def same_labels(labels: LabelSet) -> LabelMap:
    """Label images that have the network's own ids; every other id is unlabelled."""
    table = _table(range(len(labels)))
    return LabelMap(labels, table, table.copy(), _known(range(len(labels))))


def read_label_map(path: Path, predicted: LabelSet) -> LabelMap:
    """Read a mapping file for masks of that label set. Raises ConfigurationError for what does not fit.

    ``scored`` names the label set in which is scored, or lists its class names. ``predictions`` maps every class
    name of the network to one of them or to ``void``; ``labels`` maps ids of the label images, and may stay away
    when they are the scored set's own ids.
    """
    content = read_yaml(path, "label map")
    if not isinstance(content, dict) or not set(content) <= {"scored", "predictions", "labels"}:
        raise ConfigurationError(f"{path}: expected the keys scored, predictions and labels")
    classes = _scored_set(path, content.get("scored"), predicted)
    ids = {name: index for index, name in enumerate(classes.names)} | dict.fromkeys(_VOID, UNLABELLED)
    predictions = content.get("predictions") or {name: name for name in predicted.names}
    if not isinstance(predictions, dict) or set(predictions) != set(predicted.names):
        given = set(predictions) if isinstance(predictions, dict) else set()
        missing, unknown = sorted(set(predicted.names) - given), sorted(map(str, given - set(predicted.names)))
        raise ConfigurationError(
            f"{path}: predictions must map every class of '{predicted.name}' (missing: {missing}, unknown: {unknown})"
        )
    ordered = [_id(path, ids, predictions[name]) for name in predicted.names]
    labels = content.get("labels")
    if labels is None:
        own = range(len(classes))
        return LabelMap(classes, _table(ordered), _table(own), _known(own))
    table = _label_table(path, ids, labels)
    return LabelMap(classes, _table(ordered), table, _known(labels))


def _scored_set(path: Path, scored: object, predicted: LabelSet) -> LabelSet:
    if scored is None:
        return predicted
    if isinstance(scored, str):
        return label_set(scored)
    if not isinstance(scored, list) or not all(isinstance(name, str) for name in scored) or not scored:
        raise ConfigurationError(f"{path}: scored is {scored!r}, expected the name of a label set or a list of names")
    steps = np.linspace(40, 255, len(scored)).astype(int)
    return LabelSet(path.stem, tuple(scored), tuple((int(s), int(37 * i % 256), 128) for i, s in enumerate(steps)))


def _id(path: Path, ids: Mapping[str, int], name: object) -> int:
    if name not in ids:
        raise ConfigurationError(f"{path}: class is {name!r}, expected one of {sorted(ids)}")
    return ids[str(name)]


def _label_table(path: Path, ids: Mapping[str, int], labels: object) -> npt.NDArray[np.uint8]:
    table = np.full(256, UNLABELLED, np.uint8)
    if not isinstance(labels, dict):
        raise ConfigurationError(f"{path}: labels is {labels!r}, expected ids of label images with their class names")
    for number, name in labels.items():
        if not isinstance(number, int) or not 0 <= number <= 255:
            raise ConfigurationError(f"{path}: label id is {number!r}, expected 0 to 255")
        table[number] = _id(path, ids, name)
    return table


def _known(ids: Iterable[int]) -> npt.NDArray[np.bool_]:
    known = np.zeros(256, np.bool_)
    known[[*ids, UNLABELLED]] = True
    return known


def _table(ids: Any) -> npt.NDArray[np.uint8]:
    table = np.full(256, UNLABELLED, np.uint8)
    ordered = list(ids)
    table[: len(ordered)] = ordered
    return table
