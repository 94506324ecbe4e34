"""Which cv_bridge is trusted, with what. The modules here stand for kinds that users really have."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from tdnet_ros.errors import ImageError
from tdnet_ros.node import bridge
from tdnet_ros.node.bridge import to_frame
from tdnet_ros.video.messages.cdr import ImageView

pytest.importorskip("ament_index_python", reason="rclpy is not installed")

# Converts what a distribution's does of the encodings below, and knows one that we don't.
SOUND = """
import numpy as np

class CvBridge:
    def imgmsg_to_cv2(self, message, desired_encoding):
        width, height = message.width, message.height
        if message.encoding in ("rgba8", "bgra8"):
            image = np.frombuffer(message.data, np.uint8).reshape(height, width, 4)[..., :3]
            same = message.encoding[0] == desired_encoding[0]
            return image.copy() if same else image[..., ::-1].copy()
        if message.encoding == "mono16":
            image = np.frombuffer(message.data, "<u2").reshape(height, width)
            return np.rint(image / 257).astype(np.uint8)
        if message.encoding == "gbr8":
            image = np.frombuffer(message.data, np.uint8).reshape(height, width, 3)
            return image[..., [2, 0, 1]].copy()
        raise RuntimeError(f"Unrecognized image encoding [{message.encoding}]")
"""
# Loses the high byte, as the registry's cv-bridge does.
WRONG_DEPTH = SOUND.replace("np.rint(image / 257)", "(image & 255)")
# What a binary built against another OpenCV makes of several channels.
WRONG_CHANNELS = SOUND.replace("[..., :3]", "[..., 3:]")
BROKEN_IMPORT = "raise ImportError('numpy.core.multiarray failed to import')"

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Puts a cv_bridge of that source into a ROS distribution of the test's own and first on the path."""

    def clear() -> None:
        bridge.distribution_bridge.cache_clear()
        bridge.is_trusted_with.cache_clear()
        sys.modules.pop("cv_bridge", None)
        importlib.invalidate_caches()

    def put(source: str, indexed: bool = True, prefix: str = "distribution") -> None:
        package = tmp_path / "distribution" / "lib" / "python" / "cv_bridge"
        package.mkdir(parents=True)
        (package / "__init__.py").write_text(source)
        monkeypatch.syspath_prepend(str(package.parent))
        index = tmp_path / prefix / "share" / "ament_index" / "resource_index" / "packages"
        index.mkdir(parents=True)
        if indexed:
            (index / "cv_bridge").touch()
        monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path / prefix))
        clear()

    yield put
    clear()


def image(encoding: str, step: int, data: bytes, big_endian: bool = False) -> ImageView:
    return ImageView(1, 2, "cam", 1, 2, encoding, big_endian, step, memoryview(data))


def test_a_sound_one_converts_what_it_can(install: Install) -> None:
    install(SOUND)
    assert [bridge.is_trusted_with(name) for name in ("rgba8", "mono16", "uyvy")] == [True, True, False]
    # Padding and byte order are put right before cv_bridge sees them: it gets both wrong.
    padded = to_frame(image("rgba8", 11, bytes((1, 2, 3, 9, 4, 5, 6, 9, 0, 0, 0))))
    assert (padded.encoding, padded.image.tolist()) == ("rgb8", [[[1, 2, 3], [4, 5, 6]]])
    swapped = to_frame(image("mono16", 5, bytes((7, 7, 200, 200, 0)), big_endian=True))
    assert (swapped.encoding, swapped.image.tolist()) == ("mono8", [[7, 200]])
    assert to_frame(image("uyvy", 4, bytes((128, 16, 128, 235)))).image.tolist() == [[[0, 0, 0], [255, 255, 255]]]


def test_it_may_know_encodings_that_we_do_not(install: Install) -> None:
    install(SOUND)
    frame = to_frame(image("gbr8", 6, bytes(range(6))))
    assert (frame.encoding, frame.received_encoding) == ("rgb8", "gbr8")
    assert frame.image.tolist() == [[[2, 0, 1], [5, 3, 4]]]
    with pytest.raises(ImageError, match="h264 image cannot be converted to rgb8 by cv_bridge: Unrecognized"):
        to_frame(image("h264", 6, bytes(6)))
    with pytest.raises(ImageError, match="gbr8 image has 5 bytes of data"):
        to_frame(image("gbr8", 6, bytes(5)))
    with pytest.raises(ImageError, match="16UC1', which holds measurements"):
        to_frame(image("16UC1", 4, bytes(4)))


def test_an_encoding_that_it_gets_wrong_goes_through_opencv(install: Install) -> None:
    install(WRONG_DEPTH)
    assert (bridge.is_trusted_with("rgba8"), bridge.is_trusted_with("mono16")) == (True, False)
    assert np.array_equal(to_frame(image("mono16", 4, bytes((9, 7, 9, 200)))).image, [[7, 199]])


@pytest.mark.parametrize("source", [WRONG_CHANNELS, BROKEN_IMPORT, ""], ids=["channels", "import", "empty"])
def test_a_broken_one_is_not_used(install: Install, source: str) -> None:
    install(source)
    assert bridge.distribution_bridge() is None
    assert not bridge.is_trusted_with("rgba8")
    assert to_frame(image("rgba8", 8, bytes((1, 2, 3, 9, 4, 5, 6, 9)))).image.tolist() == [[[1, 2, 3], [4, 5, 6]]]


@pytest.mark.parametrize("place", [{"indexed": False}, {"prefix": "another_distribution"}], ids=["no", "other"])
def test_one_that_is_no_part_of_a_distribution_is_not_used(install: Install, place: dict[str, object]) -> None:
    install(SOUND, **place)
    assert bridge.distribution_bridge() is None
