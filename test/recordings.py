"""Small recordings of known content, and the player and recorder as processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from rosbags.highlevel import AnyReader
from running_process import PATIENCE_S, RunningProcess

from tdnet_ros.evaluation.bags import BagWriter, typestore
from tdnet_ros.video.messages.cdr import serialize_image
from tdnet_ros.video.messages.types import IMAGE_TYPE

HEIGHT, WIDTH = 48, 64


def brightness_of(index: int) -> int:
    """Grey value of a frame of write_video."""
    return 20 + 20 * index


def write_video(path: Path, count: int = 8, rate: int = 10, pts: list[int] | None = None) -> None:
    """A grey video whose brightness tells the frame's number."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = WIDTH, HEIGHT, "yuv420p", 1_000_000
        for index in range(count):
            image = np.full((HEIGHT, WIDTH, 3), brightness_of(index), np.uint8)
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts = pts[index] if pts else index
            frame.time_base = Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def write_folder(path: Path, count: int, suffix: str = ".png") -> list[np.ndarray]:
    """Pictures of noise in a folder; their pixels (H, W, 3) BGR."""
    path.mkdir()
    random = np.random.default_rng(0)
    pictures = [random.integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(count)]
    for index, picture in enumerate(pictures):
        cv2.imwrite(str(path / f"{index}{suffix}"), picture)
    return pictures


def write_bag(path: Path, topics: tuple[str, ...] = ("/camera/image",), storage: str = "mcap") -> list[bytes]:
    """Three raw images of 4x2 on every topic; their stamps go back once, their receive times don't."""
    messages = []
    with BagWriter(path, storage) as bag:
        for topic in topics:
            bag.add_topic(topic, IMAGE_TYPE)
        for index, stamp_s in enumerate((100, 200, 150)):
            pixels = np.full((2, 4, 3), index, np.uint8)
            messages.append(serialize_image(stamp_s, 7, "front", 2, 4, "rgb8", 12, pixels))
            for topic in topics:
                bag.write(topic, 1_000_000_000_000 + index * 50_000_000, messages[-1])
    return messages


def write_labelled_bag(path: Path, storage: str, count: int, size: tuple[int, int]) -> None:
    """Raw rgb8 images of that size (H, W), noise that moves, at 20 Hz; each tenth has labels of two classes."""
    height, width = size
    noise = np.random.default_rng(0).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    ground = cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)
    with BagWriter(path, storage) as bag:
        for topic in ("/camera/image", "/camera/labels"):
            bag.add_topic(topic, IMAGE_TYPE)
        for index in range(count):
            stamp = divmod(1_000_000_000_000 + index * 50_000_000, 1_000_000_000)
            pixels = np.roll(ground, 2 * index, axis=1)
            cdr = bytes(serialize_image(*stamp, "front", height, width, "rgb8", 3 * width, pixels.tobytes()))
            bag.write("/camera/image", stamp[0] * 1_000_000_000 + stamp[1], cdr)
            if index % 10 == 0:
                ids = (pixels[..., 0] > 128).astype(np.uint8)
                cdr = bytes(serialize_image(*stamp, "front", height, width, "mono8", width, ids.tobytes()))
                bag.write("/camera/labels", stamp[0] * 1_000_000_000 + stamp[1], cdr)


def read_raw(bag: Path, topic: str) -> list[bytes]:
    """The stored bytes of a topic."""
    with AnyReader([bag], default_typestore=typestore()) as reader:
        chosen = [connection for connection in reader.connections if connection.topic == topic]
        return [bytes(cdr) for _, _, cdr in reader.messages(chosen)]


def read_decoded(bag: Path, topic: str) -> list[Any]:
    """The messages of a topic."""
    with AnyReader([bag], default_typestore=typestore()) as reader:
        chosen = [connection for connection in reader.connections if connection.topic == topic]
        return [reader.deserialize(cdr, connection.msgtype) for connection, _, cdr in reader.messages(chosen)]


def ros_arguments(**parameters: Any) -> list[str]:
    """Parameters for the command line; JSON keeps strings strings."""
    pairs = [text for name, value in parameters.items() for text in ("-p", f"{name}:={json.dumps(value)}")]
    return ["--ros-args", *pairs]


class Recording:
    """A recorder process and what it says of itself."""

    def __init__(self, start: Callable[..., RunningProcess], folder: Path, **parameters: Any) -> None:
        self.bag = folder / "recorded"
        self._status = folder / "status.json"
        given = {"bag": str(self.bag), "status_file": str(self._status), **parameters}
        self.process = start("tdnet_ros.node.recorder_node", *ros_arguments(**given))
        self.process.wait_for("recording /")

    def wait_until(self, topic: str, written: int, timeout_s: float = PATIENCE_S) -> None:
        """Wait for so many messages of a topic."""
        give_up_s = time.monotonic() + timeout_s
        while not self._status.exists() or self._count(topic) < written:
            assert time.monotonic() < give_up_s, f"{topic}: {self._status.read_text()}\n{self.process.output}"
            assert self.process.running, self.process.output
            time.sleep(0.05)

    def _count(self, topic: str) -> int:
        return int(json.loads(self._status.read_text())[topic]["written"])
