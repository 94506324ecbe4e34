"""Class sets and their colours. Class ids are positions in the set; 255 means unlabelled everywhere."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.yaml_settings import read_yaml

#: Id of a pixel without a class, in masks and in label images (vision_msgs calls it UNLABELED).
UNLABELLED = 255


@dataclass(frozen=True)
class LabelSet:
    """Names and RGB colours of the classes that a network tells apart, in the order of its outputs."""

    name: str
    names: tuple[str, ...]
    colours: tuple[tuple[int, int, int], ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.colours):
            raise ConfigurationError(
                f"label set '{self.name}' has {len(self.names)} names and {len(self.colours)} colours"
            )
        if not 0 < len(self.names) <= UNLABELLED:
            raise ConfigurationError(
                f"label set '{self.name}' has {len(self.names)} classes, expected 1 to {UNLABELLED}"
            )
        if doubled := [name for name in self.names if self.names.count(name) > 1]:
            raise ConfigurationError(f"label set '{self.name}' names '{doubled[0]}' more than once")
        for name, colour in zip(self.names, self.colours, strict=True):
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise ConfigurationError(
                    f"label set '{self.name}': colour of '{name}' is {colour}, expected red, green and blue, 0 to 255"
                )

    def __len__(self) -> int:
        return len(self.names)

    @property
    def shown(self) -> int:
        """How many classes a mask may show: all but a last one named ``void``, which says that nothing is known."""
        return len(self) - (self.names[-1] == "void")

    @property
    def palette(self) -> npt.NDArray[np.uint8]:
        """RGB by class id (256, 3) uint8; ids without a class, UNLABELLED among them, are black."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self.colours)] = self.colours
        return table


_CITYSCAPES = {
    "road": (128, 64, 128),
    "sidewalk": (244, 35, 232),
    "building": (70, 70, 70),
    "wall": (102, 102, 156),
    "fence": (190, 153, 153),
    "pole": (153, 153, 153),
    "traffic light": (250, 170, 30),
    "traffic sign": (220, 220, 0),
    "vegetation": (107, 142, 35),
    "terrain": (152, 251, 152),
    "sky": (70, 130, 180),
    "person": (220, 20, 60),
    "rider": (255, 0, 0),
    "car": (0, 0, 142),
    "truck": (0, 0, 70),
    "bus": (0, 60, 100),
    "train": (0, 80, 100),
    "motorcycle": (0, 0, 230),
    "bicycle": (119, 11, 32),
}
_CAMVID = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}

CITYSCAPES = LabelSet("cityscapes", tuple(_CITYSCAPES), tuple(_CITYSCAPES.values()))
CAMVID = LabelSet("camvid", tuple(_CAMVID), tuple(_CAMVID.values()))
#: As AR-Seg's weights have it: what is unlabelled is learnt as a class of its own.
CAMVID_VOID = LabelSet("camvid_void", (*CAMVID.names, "void"), (*CAMVID.colours, (0, 0, 0)))
LABEL_SETS = {label_set.name: label_set for label_set in (CITYSCAPES, CAMVID, CAMVID_VOID)}


def label_set(name: str) -> LabelSet:
    """The label set of that name; raises ConfigurationError for a name that is not in LABEL_SETS."""
    if name not in LABEL_SETS:
        raise ConfigurationError(f"label set is '{name}', expected one of {sorted(LABEL_SETS)}")
    return LABEL_SETS[name]


def read_label_set(text: str) -> LabelSet:
    """A label set by its name, or from a YAML file with ``classes``: RGB colour by name, in the order of the ids.

    ``name`` in the file names the set, else the file's own name does. Raises ConfigurationError for what is neither.
    """
    path = Path(text)
    if path.suffix not in (".yaml", ".yml"):
        if text not in LABEL_SETS:
            raise ConfigurationError(f"label set is '{text}', expected a YAML file or one of {sorted(LABEL_SETS)}")
        return LABEL_SETS[text]
    content = read_yaml(path, "label set")
    classes = content.get("classes") if isinstance(content, dict) else None
    if not isinstance(classes, dict):
        raise ConfigurationError(f"{path}: expected 'classes' with an RGB colour [r, g, b] by class name")
    colours = []
    for name, colour in classes.items():
        if not isinstance(colour, list) or not all(isinstance(value, int) for value in colour):
            raise ConfigurationError(f"{path}: colour of '{name}' is {colour!r}, expected [r, g, b], 0 to 255")
        colours.append(tuple(colour))
    return LabelSet(str(content.get("name", path.stem)), tuple(map(str, classes)), tuple(colours))


def colourise(mask: npt.NDArray[np.uint8], labels: LabelSet) -> npt.NDArray[np.uint8]:
    """Class ids (H, W) uint8 to RGB (H, W, 3) uint8."""
    return labels.palette[mask]
