"""Image messages to frames: every encoding against known colours, with padded rows; and bad images."""

from __future__ import annotations

import contextlib
import struct

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdnet_ros.errors import DecodeError, ImageError, TdnetRosError
from tdnet_ros.video.messages.cdr import CompressedView, ImageView, serialize_image
from tdnet_ros.video.messages.encodings import CONVERTED, VIEWED
from tdnet_ros.video.messages.images import compressed_to_frame, compressed_view, image_view, to_frame

HEIGHT, WIDTH = 6, 8
PADDING = 5  # no multiple of any pixel size
# Left half, right half: no two channels alike, and colours that the narrow range of YUV can hold.
COLOURS = np.array([[200, 100, 50], [40, 90, 160]], np.uint8)
RGB = np.repeat(np.broadcast_to(COLOURS, (HEIGHT, 2, 3)), WIDTH // 2, axis=1)
GREY = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
WITH_ALPHA = np.dstack((RGB, np.full((HEIGHT, WIDTH), 7, np.uint8)))
# Above and below the middle between two 8-bit values: rounded, not cut off.
WIDE_GREY = (GREY * 257.0 + np.where(GREY % 2, 100, -100 * (GREY > 0))).astype(np.uint16)
# BT.601, narrow range, of the two colours.
YUV = np.array([[123, 91, 175], [87, 166, 101]], np.uint8)

FLAT = np.broadcast_to(COLOURS[0], (HEIGHT, WIDTH, 3))

EXACT = 0
#: Rounding of the colours to YUV and back; OpenCV 5 stays within 1.
YUV_TOLERANCE = 2


def mosaic(pattern: str, scene: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """What a sensor sees of the scene through filters of which each 2x2 block has the pattern's colours."""
    channel = np.array(["rgb".index(colour) for colour in pattern]).reshape(2, 2)
    channels = np.tile(channel, (HEIGHT // 2, WIDTH // 2))
    return np.take_along_axis(scene, channels[..., None], axis=2)[..., 0]


def wide(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint16]:
    return image.astype(np.uint16) * 257


def packed_yuv(order: str) -> npt.NDArray[np.uint8]:
    """Two bytes per pixel; "uyvy" says what each four bytes of two pixels hold."""
    return np.repeat(YUV[:, ["yuv".index(name) for name in order]], WIDTH // 4, axis=0).reshape(1, -1).repeat(
        HEIGHT, axis=0
    )  # fmt: skip


def planar_yuv(chroma: str, rows: int, repeats: int) -> npt.NDArray[np.uint8]:
    """A luma plane, then ``rows`` rows of chroma in the named order, each pair ``repeats`` times."""
    luma = np.repeat(YUV[:, 0], WIDTH // 2)[None].repeat(HEIGHT, axis=0)
    pairs = np.repeat(YUV[:, ["yuv".index(name) for name in chroma]], repeats, axis=0).reshape(1, -1)
    return np.concatenate((luma, pairs.repeat(rows, axis=0).reshape(-1, WIDTH)))


BAYER = {name: mosaic(name, FLAT) for name in ("rggb", "bggr", "gbrg", "grbg")}
#: encoding: (samples as they are sent, resulting encoding, expected pixels in its RGB order or grey,
#: tolerance)
TABLE: dict[str, tuple[npt.NDArray[np.generic], str, npt.NDArray[np.uint8], int]] = {
    "rgb8": (RGB, "rgb8", RGB, EXACT),
    "bgr8": (RGB[..., ::-1], "bgr8", RGB, EXACT),
    "mono8": (GREY, "mono8", GREY, EXACT),
    "8UC1": (GREY, "mono8", GREY, EXACT),
    "8UC3": (RGB[..., ::-1], "bgr8", RGB, EXACT),
    "8UC4": (WITH_ALPHA[..., [2, 1, 0, 3]], "bgr8", RGB, EXACT),
    "rgba8": (WITH_ALPHA, "rgb8", RGB, EXACT),
    "bgra8": (WITH_ALPHA[..., [2, 1, 0, 3]], "bgr8", RGB, EXACT),
    "mono16": (WIDE_GREY, "mono8", GREY, EXACT),
    "rgb16": (wide(RGB), "rgb8", RGB, EXACT),
    "bgr16": (wide(RGB[..., ::-1]), "bgr8", RGB, EXACT),
    "rgba16": (wide(WITH_ALPHA), "rgb8", RGB, EXACT),
    "bgra16": (wide(WITH_ALPHA[..., [2, 1, 0, 3]]), "bgr8", RGB, EXACT),
    **{f"bayer_{name}8": (samples, "rgb8", FLAT, EXACT) for name, samples in BAYER.items()},
    **{f"bayer_{name}16": (wide(samples), "rgb8", FLAT, EXACT) for name, samples in BAYER.items()},
    "yuv422": (packed_yuv("uyvy"), "rgb8", RGB, YUV_TOLERANCE),
    "uyvy": (packed_yuv("uyvy"), "rgb8", RGB, YUV_TOLERANCE),
    "yuv422_yuy2": (packed_yuv("yuyv"), "rgb8", RGB, YUV_TOLERANCE),
    "yuyv": (packed_yuv("yuyv"), "rgb8", RGB, YUV_TOLERANCE),
    "nv12": (planar_yuv("uv", HEIGHT // 2, WIDTH // 4), "rgb8", RGB, YUV_TOLERANCE),
    "nv21": (planar_yuv("vu", HEIGHT // 2, WIDTH // 4), "rgb8", RGB, YUV_TOLERANCE),
    "nv24": (planar_yuv("uv", HEIGHT, WIDTH // 2), "rgb8", RGB, YUV_TOLERANCE),
}


def image(encoding: str, samples: npt.NDArray[np.generic], padding: int = 0, big_endian: bool = False) -> ImageView:
    """The samples (rows, ...) as a message of the usual size, each row followed by ``padding`` bytes."""
    if big_endian:
        samples = samples.astype(samples.dtype.newbyteorder(">"))
    rows = np.ascontiguousarray(samples).view(np.uint8).reshape(len(samples), -1)
    if encoding == "nv24":  # a row of chroma takes two rows, and their padding lies behind both
        luma, chroma = rows[:HEIGHT], rows[HEIGHT:].reshape(HEIGHT, -1)
        parts = [np.pad(luma, ((0, 0), (0, padding))), np.pad(chroma, ((0, 0), (0, 2 * padding)))]
        data = np.concatenate([part.reshape(-1) for part in parts])
        return view(encoding, WIDTH + padding, data, big_endian)
    padded = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
    return view(encoding, padded.shape[1], padded, big_endian)


def view(encoding: str, step: int, data: npt.NDArray[np.uint8], big_endian: bool = False) -> ImageView:
    return ImageView(5, 6, "cam", HEIGHT, WIDTH, encoding, big_endian, step, memoryview(data.tobytes()))


def test_the_table_has_every_encoding() -> None:
    assert set(TABLE) == {*VIEWED, *CONVERTED}


@pytest.mark.parametrize("big_endian", [False, True], ids=["little", "big"])
@pytest.mark.parametrize("padding", [0, 4, PADDING])
@pytest.mark.parametrize("encoding", TABLE)
def test_every_encoding_shows_its_colours(encoding: str, padding: int, big_endian: bool) -> None:
    samples, result, expected, tolerance = TABLE[encoding]
    frame = to_frame(image(encoding, samples, padding, big_endian))
    assert (frame.encoding, frame.received_encoding) == (result, encoding)
    assert (frame.source, frame.stamp_ns) == ("cam", 5_000_000_006)
    pixels = frame.image[..., ::-1] if result == "bgr8" else frame.image
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


@pytest.mark.parametrize("padding", [0, PADDING])
@pytest.mark.parametrize("encoding", VIEWED)
def test_native_encodings_share_the_memory_of_the_message(encoding: str, padding: int) -> None:
    received = image(encoding, TABLE[encoding][0], padding)
    message = serialize_image(5, 6, "cam", HEIGHT, WIDTH, encoding, received.step, received.data)
    frame = to_frame(image_view(message))
    assert np.shares_memory(frame.image, np.frombuffer(message, np.uint8))
    assert not frame.image.flags.writeable
    assert np.array_equal(frame.image, TABLE[encoding][0])


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_bayer_edge_stays_where_it_is(pattern: str) -> None:
    """A red lamp at the left of a dark picture: a pattern taken for another moves it or turns it blue."""
    scene = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    scene[:, : WIDTH // 2, 0] = 240
    red, green, blue = np.moveaxis(to_frame(image(f"bayer_{pattern}8", mosaic(pattern, scene))).image, 2, 0)
    assert (red[:, :3] == 240).all() and (red[:, 5:] == 0).all()
    assert not green.any() and not blue.any()


def test_sixteen_bits_become_eight_by_the_nearest_value() -> None:
    values = np.arange(0, 65536, 1366, dtype=np.uint16).reshape(HEIGHT, WIDTH)
    frame = to_frame(image("mono16", values))
    assert np.array_equal(frame.image, np.rint(values / 257).astype(np.uint8))


def test_an_unset_stamp_is_no_time() -> None:
    assert to_frame(image("mono8", GREY)._replace(sec=0, nanosec=0)).stamp_ns is None


MEASUREMENTS = [
    "16UC1",
    "32FC1",
    "64FC1",
    "32FC3",
    "16SC1",
    "32SC1",
    "8SC1",
    "8UC2",
    "16UC3",
    "16UC4",
    "8UC5",
]


@pytest.mark.parametrize("encoding", MEASUREMENTS)
def test_depth_and_other_measurements_are_refused(encoding: str) -> None:
    with pytest.raises(ImageError, match=f"^encoding is '{encoding}', which holds measurements.*expected one of rgb8"):
        to_frame(image(encoding, GREY))


@pytest.mark.parametrize("encoding", ["", "RGB8", "rgb", "jpeg", "h264", "bayer_rggb12", "yuv420p", "x" * 10_000])
def test_an_unknown_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(ImageError, match=f"^encoding is '{encoding[:60]}', expected one of rgb8") as caught:
        to_frame(image(encoding, GREY))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("encoding", TABLE)
def test_size_step_and_data_must_fit_each_other(encoding: str) -> None:
    good = image(encoding, TABLE[encoding][0])
    layout = CONVERTED.get(encoding)
    rows = layout.rows if layout else 1
    formula = r"step \* height" + (rf" \* {rows}" if rows != 1 else "")
    for changed, reason in (
        (good._replace(height=0), f"^{encoding} image has size 8x0, expected at least 1x1"),
        (good._replace(width=0), f"^{encoding} image has size 0x6, expected at least 1x1"),
        (
            good._replace(data=good.data[:-1]),
            rf"image has {len(good.data) - 1} bytes of data, expected {formula} = ",
        ),
        (good._replace(data=memoryview(bytes(good.data) + b"\0")), f"bytes of data, expected {formula} = "),
        (good._replace(data=memoryview(b"")), f"image has 0 bytes of data, expected {formula} = "),
        (
            good._replace(step=good.step - 1),
            rf"has step {good.step - 1}, expected at least width \* bytes per pixel = 8",
        ),
        (good._replace(step=0), r"has step 0, expected at least width"),
        (good._replace(height=2**32 - 1, width=2**32 - 1), r"image has step"),
    ):
        with pytest.raises(ImageError, match=reason):
            to_frame(changed)


@pytest.mark.parametrize(
    ("encoding", "width", "height", "expected"),
    [
        ("yuyv", 3, 2, "at least 1x1, width even"),
        ("nv12", 3, 2, "at least 1x1, width and height even"),
        ("nv21", 2, 3, "at least 1x1, width and height even"),
        ("bayer_rggb8", 2, 2, "at least 3x3"),
        ("bayer_gbrg16", 9, 1, "at least 3x3"),
    ],
)
def test_sizes_that_an_encoding_cannot_have_are_refused(encoding: str, width: int, height: int, expected: str) -> None:
    step = 8 * width
    data = bytes(int(step * height * CONVERTED[encoding].rows))
    with pytest.raises(ImageError, match=f"{encoding} image has size {width}x{height}, expected {expected}"):
        to_frame(ImageView(0, 0, "", height, width, encoding, 0, step, memoryview(data)))


def test_a_big_endian_message_is_read() -> None:
    header = struct.pack(">iII4s", 5, 6, 4, b"cam")
    image_fields = struct.pack(">III6sBxII", 1, 2, 6, b"mono8", 0, 3, 3) + b"\x01\x02\xff"
    frame = to_frame(image_view(b"\0\0\0\0" + header + image_fields))
    assert (frame.image.tolist(), frame.stamp_ns, frame.source) == ([[1, 2]], 5_000_000_006, "cam")

    compressed = struct.pack(">I4sI", 4, b"png", 3) + b"abc"
    view = compressed_view(b"\0\0\0\0" + header + compressed)
    assert (view.stamp, view.frame_id, view.format, bytes(view.data)) == ((5, 6), "cam", "png", b"abc")


@pytest.mark.parametrize("start", [b"", b"\0\0\0\0", b"\0\0\0I", b"\0\x0b\0\0", b"\xff\xff\xff\xff" * 20])
def test_a_message_that_no_one_can_read_is_refused(start: bytes) -> None:
    with pytest.raises(ImageError, match=f"message of {len(start)} bytes starts with .*, expected a serialised Image"):
        image_view(start)
    with pytest.raises(DecodeError, match="expected a serialised CompressedImage"):
        compressed_view(start)


def test_a_compressed_image_becomes_a_frame() -> None:
    scene = np.repeat(RGB[..., ::-1], 2, axis=0)
    payload = cv2.imencode(".png", scene)[1].tobytes()
    frame = compressed_to_frame(CompressedView(5, 6, "cam", "png", memoryview(payload)))
    assert (frame.encoding, frame.received_encoding, frame.source) == ("bgr8", "png", "cam")
    assert frame.stamp_ns == 5_000_000_006
    assert np.array_equal(frame.image, scene)
    with pytest.raises(DecodeError, match="format 'png'"):
        compressed_to_frame(CompressedView(5, 6, "cam", "png", memoryview(b"h264")))


SMALL = st.integers(0, 12) | st.sampled_from([2**16, 2**31, 2**32 - 1])


@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    encoding=st.sampled_from([*TABLE, "16UC1", "32FC1", ""]) | st.text(max_size=8),
    numbers=st.tuples(SMALL, SMALL, SMALL, st.integers(0, 255)),
    content=st.binary(max_size=200),
    consistent=st.booleans(),
)
def test_no_image_raises_anything_but_our_errors(
    encoding: str, numbers: tuple[int, int, int, int], content: bytes, consistent: bool
) -> None:
    height, width, step, big_endian = numbers
    if consistent and height < 100 and step < 100:
        rows = CONVERTED[encoding].rows if encoding in CONVERTED else 1
        content = content.ljust(int(step * height * rows), b"\x55")[: int(step * height * rows)]
    received = ImageView(0, 0, "", height, width, encoding, big_endian, step, memoryview(content))
    try:
        frame = to_frame(received)
    except TdnetRosError:
        return
    assert (frame.height, frame.width) == (height, width)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(data=st.data())
def test_no_message_raises_anything_but_our_errors(data: st.DataObject) -> None:
    message = bytearray(serialize_image(7, 8, "cam", HEIGHT, WIDTH, "rgb8", 3 * WIDTH, RGB))
    for _ in range(data.draw(st.integers(0, 4))):
        message[data.draw(st.integers(0, 60))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(TdnetRosError):
        to_frame(image_view(bytes(message)))
    with contextlib.suppress(TdnetRosError):
        compressed_to_frame(compressed_view(bytes(message)))
