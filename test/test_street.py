"""The rendered street: plausible classes, exact motion, frames that depend on seed and index alone."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.video.frame import PictureType

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.labels import CAMVID, UNLABELLED
from tdnet_ros.training.street import Street, StreetFrame, write_clip
from tdnet_ros.training.street.camera import CAMERA_HEIGHT_M, Camera
from tdnet_ros.training.street.faces import FaceBuilder, join, moved
from tdnet_ros.training.street.ground import clip_near

# Shares in percent, wide enough for any handful of streets, around those of CamVid's sequences.
SHARES = {
    "sky": (8, 28),
    "building": (10, 38),
    "pole": (0.4, 4),
    "road": (22, 44),
    "pavement": (2, 14),
    "tree": (3, 28),
    "sign": (0.2, 3),
    "fence": (0.3, 6),
    "car": (1.5, 13),
    "pedestrian": (0.2, 3),
    "bicyclist": (0.05, 3),
}


def sampled(picture: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """The picture of the frame before, (H, W), at each pixel's place there."""
    height, width = motion.shape[:2]
    x = motion[..., 0] + np.arange(width, dtype=np.float32)
    y = motion[..., 1] + np.arange(height, dtype=np.float32)[:, None]
    return np.asarray(cv2.remap(picture, x, y, cv2.INTER_NEAREST, borderValue=77))


def equal(one: StreetFrame, other: StreetFrame) -> bool:
    names = ("image", "labels", "motion", "valid")
    same = all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)
    return same and one.stamp_ns == other.stamp_ns


def test_class_shares_are_near_camvids() -> None:
    counts = np.zeros(256)
    for seed in range(5):
        street = Street(seed, 120, 160)
        for index in range(0, 1600, 40):
            counts += np.bincount(street.render(index).labels.ravel(), minlength=256)
    shares = 100 * counts / counts.sum()
    out = {name: share for name, share in zip(CAMVID.names, shares, strict=False) if not in_range(name, share)}
    assert not out, f"shares in percent outside their limits {SHARES}"
    assert shares[UNLABELLED] < 2
    assert counts[len(CAMVID) : UNLABELLED].sum() == 0


def in_range(name: str, share: float) -> bool:
    low, high = SHARES[name]
    return bool(low <= share <= high)


@pytest.mark.parametrize("seed", [0, 3, 8])
def test_labels_follow_the_motion(seed: int) -> None:
    street = Street(seed)
    before = street.render(39)
    for index in range(40, 44):
        frame = street.render(index)
        agreement = (sampled(before.labels, frame.motion) == frame.labels)[frame.valid].mean()
        assert agreement >= 0.97
        assert frame.valid.mean() > 0.85
        before = frame


def test_pictures_follow_the_motion() -> None:
    street = Street(4)
    before, frame = street.render(60), street.render(61)
    grey = [cv2.GaussianBlur(f.image.astype(np.float32).mean(-1), (0, 0), 2) for f in (before, frame)]
    x = frame.motion[..., 0] + np.arange(480, dtype=np.float32)
    y = frame.motion[..., 1] + np.arange(360, dtype=np.float32)[:, None]
    warped = np.asarray(cv2.remap(grey[0], x, y, cv2.INTER_LINEAR))
    still, followed = (np.abs(p - grey[1])[frame.valid].mean() for p in (grey[0], warped))
    assert followed < 0.5 * still


def test_motion_of_the_road_is_that_of_a_plane() -> None:
    """Where the road is, its points move as the camera's own two poses say, computed point by point."""
    street = Street(5)
    frame = street.render(30)
    now, before = (street._ego.camera(index / 15.0) for index in (30, 29))
    rows, columns = np.nonzero(frame.labels == CAMVID.names.index("road"))
    pixels = np.stack([columns, rows, np.ones_like(rows)]).astype(np.float64)
    rays = now.rotation.T @ np.linalg.inv(now.intrinsics) @ pixels
    world = now.position[:, None] - rays * now.position[1] / rays[1]
    seen = before.intrinsics @ before.rotation @ (world - before.position[:, None])
    expected = (seen[:2] / seen[2] - pixels[:2]).T
    assert np.abs(frame.motion[rows, columns] - expected).max() < 0.02


def test_sky_moves_by_turning_alone() -> None:
    street = Street(2)
    frame = street.render(50)
    now, before = (street._ego.camera(index / 15.0) for index in (50, 49))
    turn = before.intrinsics @ before.rotation @ np.linalg.inv(now.intrinsics @ now.rotation)
    rows, columns = np.nonzero(frame.labels == CAMVID.names.index("sky"))
    seen = turn @ np.stack([columns, rows, np.ones_like(rows)])
    expected = (seen[:2] / seen[2] - [columns, rows]).T
    assert np.abs(frame.motion[rows, columns] - expected).max() < 0.02


def test_actors_move_apart_from_the_street() -> None:
    """A car ahead at about the camera's own speed hardly moves while the road beside it does."""
    street = next(s for s in (Street(seed) for seed in range(20)) if s._traffic._leads)
    frame = street.render(20)
    camera = street._ego.camera(20 / 15.0)
    car = frame.labels == CAMVID.names.index("car")
    road = frame.labels == CAMVID.names.index("road")
    speed = np.hypot(frame.motion[..., 0], frame.motion[..., 1])
    middle = np.zeros_like(car)
    middle[:, 140:340] = True
    assert camera.position[1] == pytest.approx(CAMERA_HEIGHT_M, abs=0.1)
    assert np.median(speed[car & middle]) < 0.5 * np.median(speed[road & middle])


def test_frames_depend_on_seed_and_index_alone() -> None:
    in_order = Street(6, 120, 160)
    frames = [in_order.render(index) for index in range(4)]
    shuffled = Street(6, 120, 160)
    for index in (3, 0, 2, 1):
        assert equal(shuffled.render(index), frames[index])


def test_seeds_differ() -> None:
    pictures = [Street(seed, 96, 128).render(10) for seed in (1, 2)]
    assert np.abs(pictures[0].image.astype(int) - pictures[1].image.astype(int)).mean() > 5
    assert (pictures[0].labels != pictures[1].labels).mean() > 0.05


def test_far_along_the_street_nothing_fades() -> None:
    """An hour's drive away frames are as exact as at the start."""
    street = Street(1, 180, 240)
    before, frame = street.render(54000), street.render(54001)
    assert (sampled(before.labels, frame.motion) == frame.labels)[frame.valid].mean() >= 0.97
    assert frame.valid.mean() > 0.85
    assert len(np.unique(frame.labels)) >= 6


def test_iteration_and_stamps() -> None:
    frames = [frame for frame, _ in zip(Street(0, 64, 96, rate_hz=30.0), range(3), strict=False)]
    assert [frame.stamp_ns for frame in frames] == [0, 33333333, 66666667]
    assert not frames[0].valid.any()
    assert frames[1].valid.any()


@pytest.mark.parametrize(("height", "width"), [(16, 16), (90, 301), (256, 128)])
def test_any_size(height: int, width: int) -> None:
    frame = Street(3, height, width).render(7)
    assert frame.image.shape == (height, width, 3)
    assert frame.image.dtype == np.uint8
    assert frame.labels.shape == frame.valid.shape == (height, width)
    assert frame.motion.shape == (height, width, 2)
    assert frame.motion.dtype == np.float32
    assert np.isfinite(frame.motion).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"height": 8}, "480x8"),
        ({"rate_hz": 0.0}, "rate_hz is 0.0"),
        ({"rate_hz": float("nan")}, "rate_hz is nan"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_bad_settings_are_named(arguments: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        Street(**arguments)  # type: ignore[arg-type]


def test_negative_index_is_named() -> None:
    with pytest.raises(ConfigurationError, match="index is -1"):
        Street(0, 32, 32).render(-1)


def test_clip_is_what_a_low_latency_camera_sends(tmp_path: Path) -> None:
    path = tmp_path / "street.mp4"
    write_clip(path, 26, seed=2, height=96, width=128, rate_hz=15.0)
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.height) == ("h264", 128, 96)
        assert not stream.codec_context.has_b_frames
        frames = list(container.decode(stream))
    assert len(frames) == 26
    assert [n for n, frame in enumerate(frames) if frame.key_frame] == [0, 12, 24]
    assert {frame.pict_type for frame in frames} == {PictureType.I, PictureType.P}
    assert [frame.time for frame in frames[:3]] == pytest.approx([0, 1 / 15, 2 / 15], abs=1e-3)
    original = Street(2, 96, 128).render(20).image.astype(float)
    assert np.abs(frames[20].to_ndarray(format="rgb24") - original).mean() < 6


@pytest.mark.parametrize(("frames", "width"), [(0, 64), (2, 65)])
def test_clip_refuses_what_it_cannot_write(tmp_path: Path, frames: int, width: int) -> None:
    with pytest.raises(ConfigurationError):
        write_clip(tmp_path / "street.mp4", frames, height=64, width=width)
    assert not (tmp_path / "street.mp4").exists()


def test_planes_project_their_corners() -> None:
    turn = np.diag([1.0, -1.0, 1.0])
    camera = Camera(np.array([0.0, 1.5, 0.0]), turn, np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]]))
    build = FaceBuilder()
    build.upright(np.array([1.0, 0.0, 10.0]), np.array([1.0, 0, 0]), 2.0, 3.0, 0, 1)
    faces = moved([build.build()], np.zeros((1, 3)), np.eye(3)[:1], np.eye(3)[2:], np.array([5]))
    corners = camera.planes(faces.origin, faces.across, faces.down)[0] @ np.array([[0, 1], [0, 1], [1, 1]])
    assert pytest.approx(np.array([[50.0, 25.0], [70.0, 55.0]])) == corners[:2].T / corners[2:].T
    assert corners[2] == pytest.approx(10.0)
    assert join([faces, faces]).slot.tolist() == [5, 5]


def test_clipping_keeps_what_lies_ahead() -> None:
    polygon = np.array([[0.0, 0, -1], [4, 0, 3], [0, 4, 3]])
    clipped = clip_near(polygon, 1.0)
    assert len(clipped) == 4
    assert clipped[:, 2].min() == pytest.approx(1.0)
    assert len(clip_near(polygon - [0, 0, 9], 1.0)) == 0


def test_branch_that_passes_the_lens_hides_nothing() -> None:
    """Frame 60 of this street once was a blur of leaves from edge to edge."""
    labels = Street(seed=3).render(60).labels
    assert len(np.unique(labels)) > 4
