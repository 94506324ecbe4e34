"""What becomes of a mask between the engine and the topic, and of the calibration beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed: pip install 'tdnet_ros[ros]', or use a ROS 2 distribution")

from rclpy.serialization import serialize_message
from sensor_msgs.msg import CameraInfo
from std_msgs.msg import Header

from tdnet_ros.errors import ConfigurationError, ImageError
from tdnet_ros.node.camera_info import camera_info, scaled
from tdnet_ros.node.finishing import Finishing
from tdnet_ros.node.parameters import SegmentationParameters

HEIGHT, WIDTH = 6, 8


def finishing(**parameters: object) -> Finishing:
    return Finishing(replace(SegmentationParameters(), **parameters), "front")  # type: ignore[arg-type]


def planes() -> tuple[np.ndarray, np.ndarray]:
    """Mask and confidence, every pixel different."""
    return np.arange(48, dtype=np.uint8).reshape(HEIGHT, WIDTH), np.arange(100, 148, dtype=np.uint8).reshape(6, 8)


def bonnet(folder: Path) -> str:
    """A picture of which the lowest two rows are white."""
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    picture[4:] = 255
    cv2.imwrite(str(folder / "front.png"), picture)
    return str(folder / "{camera}.png")


def test_by_default_nothing_changes() -> None:
    mask, confidence = finishing().finish(*planes(), 0.0)
    assert np.array_equal(mask, planes()[0]) and np.array_equal(confidence, planes()[1])


@pytest.mark.parametrize("scale", [0.5, 0.37, 0.01])
def test_smaller_masks_hold_the_ids_of_pixels_of_the_larger(scale: float) -> None:
    made = finishing(output_scale=scale)
    mask, confidence = made.finish(*planes(), 0.0)
    assert mask.shape == confidence.shape == made.size(HEIGHT, WIDTH)  # type: ignore[union-attr]
    rows, columns = (
        np.minimum(np.arange(count) * whole // count, whole - 1)
        for count, whole in zip(mask.shape, (HEIGHT, WIDTH), strict=True)
    )
    assert np.array_equal(mask, planes()[0][rows][:, columns])
    assert np.array_equal(confidence, planes()[1][rows][:, columns])


def test_pixels_below_the_confidence_are_unlabelled() -> None:
    mask, confidence = finishing().finish(*planes(), 0.5)  # 128 of 255
    assert (mask[planes()[1] < 128] == 255).all()
    assert np.array_equal(mask[planes()[1] >= 128], planes()[0][planes()[1] >= 128])
    assert np.array_equal(confidence, planes()[1])


def test_what_the_ignore_mask_covers_is_unlabelled_and_of_no_confidence(tmp_path: Path) -> None:
    made = finishing(ignore_mask=bonnet(tmp_path))
    made.check(HEIGHT, WIDTH)
    mask, confidence = made.finish(*planes(), 0.0)
    assert (mask[4:] == 255).all() and np.array_equal(mask[:4], planes()[0][:4])
    assert confidence is not None and (confidence[4:] == 0).all() and np.array_equal(confidence[:4], planes()[1][:4])


def test_image_of_another_size_than_the_ignore_mask_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"image is 16x12, expected 8x6, the size of ignore_mask '.*front.png'"):
        finishing(ignore_mask=bonnet(tmp_path)).check(12, 16)


def test_ignore_mask_that_is_no_picture_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"ignore_mask is '/nowhere/front.png', expected a picture"):
        finishing(ignore_mask="/nowhere/{camera}.png")


def test_calibration_of_a_scaled_picture_projects_to_the_scaled_pixel() -> None:
    info = CameraInfo(height=480, width=640, distortion_model="plumb_bob", d=[0.1, -0.2, 0.0, 0.0, 0.0])
    info.k = [500.0, 0.0, 320.0, 0.0, 510.0, 240.0, 0.0, 0.0, 1.0]
    info.p = [500.0, 0.0, 320.0, -50.0, 0.0, 510.0, 240.0, 0.0, 0.0, 0.0, 1.0, 0.0]
    info.r = np.eye(3).reshape(-1)
    info.roi.x_offset, info.roi.width = 100, 200
    header = Header(frame_id="front")
    half = scaled(info, header, 0.5, 0.25)
    point = np.array([0.3, -0.2, 2.0])

    def project(matrix: np.ndarray, homogeneous: np.ndarray) -> np.ndarray:
        column = matrix @ homogeneous
        return column[:2] / column[2]

    scale = np.array([0.5, 0.25])
    for name, shape, vector in (("k", (3, 3), point), ("p", (3, 4), np.append(point, 1.0))):
        before, after = (np.asarray(getattr(x, name)).reshape(shape) for x in (info, half))
        np.testing.assert_allclose(project(after, vector), scale * project(before, vector))
    assert (half.height, half.width, half.roi.x_offset, half.roi.width) == (120, 320, 50, 100)
    assert list(half.d) == list(info.d) and list(half.r) == list(info.r) and half.header == header
    assert info.width == 640, "the message that came is left as it was"


def test_calibration_is_read_as_it_was_sent_and_a_damaged_one_refused() -> None:
    sent = CameraInfo(height=480, width=640, distortion_model="plumb_bob", d=[0.1, -0.2], binning_x=2, binning_y=1)
    sent.k, sent.r, sent.p = (np.random.default_rng(0).random(size) for size in (9, 9, 12))
    sent.roi.x_offset, sent.roi.do_rectify = 100, True
    assert camera_info(serialize_message(sent)) == sent
    # At the last two Fast CDR reads on behind the message.
    for damaged in (serialize_message(sent)[:-20], b"", b"\0\0\0\1", b"\0\1\0\3\0"):
        with pytest.raises(ImageError, match=f"message of {len(damaged)} bytes.*expected a serialised CameraInfo"):
            camera_info(damaged)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["front", "front"], "names 'front' 2 times"),
        (["front", ""], "names '', expected letters"),
        (["front camera"], "names 'front camera', expected letters"),
        (["/front"], "names '/front'"),
    ],
)
def test_names_that_can_be_no_prefix_are_refused(names: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        _ = replace(SegmentationParameters(), cameras=names).camera_names
