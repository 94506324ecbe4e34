"""Small bags of images and labels as a test wants them, broken ones too, and their evaluation by a tiny network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
from safetensors.torch import save_file
from tiny_network import TinyVariant, tiny_weights

from tdnet_ros.evaluation.bags import BagWriter
from tdnet_ros.evaluation.evaluate import EvaluationSettings
from tdnet_ros.evaluation.offline import evaluate_offline
from tdnet_ros.evaluation.result import Evaluation
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.video.messages.cdr import serialize_image
from tdnet_ros.video.messages.types import IMAGE_TYPE

HEIGHT, WIDTH = 48, 64
MS = 1_000_000
START = 1_000_000_000_000


@contextmanager
def tiny_weight_file(folder: Path) -> Iterator[Path]:
    """Weights of a network that steps in a millisecond, and that is in the catalog meanwhile."""
    weights = folder / "tiny2.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(CATALOG, "tiny2", TinyVariant(subnetworks=2))
        save_file({name: tensor.contiguous() for name, tensor in tiny_weights("tiny2").items()}, weights)
        yield weights


@dataclass(frozen=True)
class Picture:
    """A message of an image or label topic; ``pixels`` None is a message that breaks off."""

    stamp_ns: int
    pixels: np.ndarray | None
    encoding: str

    @property
    def cdr(self) -> bytes:
        stamp = divmod(self.stamp_ns, 1_000_000_000)
        if self.pixels is None:
            whole = bytes(serialize_image(*stamp, "camera", HEIGHT, WIDTH, self.encoding, WIDTH, bytes(HEIGHT * WIDTH)))
            return whole[:200]
        height, width = self.pixels.shape[:2]
        step = self.pixels.nbytes // height
        return bytes(serialize_image(*stamp, "camera", height, width, self.encoding, step, self.pixels.tobytes()))


def stamps(count: int) -> list[int]:
    return [START + index * 50 * MS for index in range(count)]


def images(times: Sequence[int], size: tuple[int, int] = (HEIGHT, WIDTH), encoding: str = "rgb8") -> list[Picture]:
    random = np.random.default_rng(0)
    ground = cv2.resize(random.integers(0, 256, (6, 8, 3), np.uint8), size[::-1], interpolation=cv2.INTER_CUBIC)
    return [Picture(time, np.roll(ground, index, axis=1), encoding) for index, time in enumerate(times)]


def labels(
    times: Sequence[int], size: tuple[int, int] = (HEIGHT, WIDTH), value: int = 3, encoding: str = "mono8"
) -> list[Picture]:
    return [Picture(time, np.full(size, value, np.uint8), encoding) for time in times]


def write(path: Path, pictures: Sequence[Picture], truth: Sequence[Picture] | None = None) -> Path:
    recorded = {"/image": pictures} if truth is None else {"/image": pictures, "/labels": truth}
    with BagWriter(path) as bag:
        for topic in recorded:
            bag.add_topic(topic, IMAGE_TYPE)
        for index in range(max(map(len, recorded.values()))):
            for topic, messages in recorded.items():
                if index < len(messages):
                    bag.write(topic, START + index * 50 * MS, messages[index].cdr)
    return path


def evaluate(bag: Path, tiny: Path, **settings: object) -> Evaluation:
    given = {"image_topic": "/image", "labels": "/labels", "model": "tiny2", "weights": str(tiny), **settings}
    return evaluate_offline(EvaluationSettings(bag, **given))[0]  # type: ignore[arg-type]


def said(evaluation: Evaluation) -> str:
    return "\n".join(evaluation.warnings)
