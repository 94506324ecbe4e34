"""JPEG and PNG: a whole picture or an error, never a part of one and never the one before."""

from __future__ import annotations

import contextlib
import struct
import zlib

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tdnet_ros.errors import DecodeError
from tdnet_ros.video import decoding
from tdnet_ros.video.decoding import decode_image

HEIGHT, WIDTH = 96, 160
END = b"\xff\xd9"
JPEG_TOLERANCE = 6  # mean absolute difference to the scene at quality 95, of 255


def make_scene() -> npt.NDArray[np.uint8]:
    """Smooth random colours (HEIGHT, WIDTH, 3), none of them mid-grey in the corner."""
    coarse = np.random.default_rng(7).integers(0, 255, (6, 10, 3), dtype=np.uint8)
    scene = cv2.resize(coarse, (WIDTH, HEIGHT), interpolation=cv2.INTER_LINEAR)
    return np.asarray(scene, np.uint8)


def jpeg(image: npt.NDArray[np.uint8], *options: int) -> bytes:
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 95, *options])[1].tobytes()


def png(image: npt.NDArray[np.generic]) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def segment(marker: int, payload: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(payload) + 2) + payload


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


SCENE = make_scene()
RED = np.full_like(SCENE, (0, 0, 255))
JPEGS = {
    "baseline": jpeg(SCENE),
    "full chroma": jpeg(SCENE, cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
    "restarts": jpeg(SCENE, cv2.IMWRITE_JPEG_RST_INTERVAL, 10),
    "progressive": jpeg(SCENE, cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "grey": jpeg(np.ascontiguousarray(SCENE[..., 1])),
}
JPEG = JPEGS["baseline"]
FRAME_HEADER = JPEG.index(b"\xff\xc0")
SCAN_HEADER = JPEG.index(b"\xff\xda")
PNG = png(SCENE)


@pytest.mark.parametrize("kind", JPEGS)
def test_a_whole_jpeg_is_decoded(kind: str) -> None:
    image = decode_image(JPEGS[kind], "rgb8; jpeg compressed bgr8")
    expected = np.repeat(SCENE[..., 1:2], 3, axis=2) if kind == "grey" else SCENE
    assert (image.shape, image.dtype) == (SCENE.shape, np.uint8)
    assert np.abs(image.astype(int) - expected).mean() < JPEG_TOLERANCE


def test_a_png_is_decoded_exactly() -> None:
    assert np.array_equal(decode_image(PNG, "png"), SCENE)
    assert np.array_equal(decode_image(png(SCENE[..., 0])), np.repeat(SCENE[..., :1], 3, axis=2))
    with_alpha = np.dstack((SCENE, np.full((HEIGHT, WIDTH), 9, np.uint8)))
    assert np.array_equal(decode_image(png(with_alpha)), SCENE)
    assert np.array_equal(decode_image(png(SCENE.astype(np.uint16) * 257)), SCENE)


@pytest.mark.parametrize("kind", JPEGS)
def test_a_truncated_jpeg_never_shows_the_picture_before(kind: str) -> None:
    """OpenCV 4.10 returns such a file with the rest of the memory's last picture below the cut."""
    whole = JPEGS[kind]
    for length in range(0, len(whole) - 1, 37):
        assert (decode_image(jpeg(RED))[..., 2] > 200).all()
        with pytest.raises(DecodeError, match="expected"):
            decode_image(whole[:length], "jpeg")


@pytest.mark.parametrize("kind", JPEGS)
def test_a_cut_that_an_end_marker_hides_spoils_the_last_blocks_at_most(kind: str) -> None:
    whole = decode_image(JPEGS[kind])
    refused = 0
    cuts = range(JPEGS[kind].index(b"\xff\xda") + 20, len(JPEGS[kind]) - 2, 29)
    for length in cuts:
        try:
            image = decode_image(JPEGS[kind][:length] + END)
        except DecodeError:
            refused += 1
            continue
        wrong = (image != whole).any(axis=2)
        wrong[-17:, -17:] = False  # the last 16x16 pixels, and one that the chroma's interpolation reaches
        assert not wrong.any()
    assert refused >= 0.9 * len(cuts)


def test_the_thumbnails_end_is_not_the_pictures() -> None:
    with_thumbnail = JPEG[:2] + segment(0xE1, b"Exif\0\0" + jpeg(SCENE[:16, :16])) + JPEG[2:]
    assert np.array_equal(decode_image(with_thumbnail), decode_image(JPEG))
    with pytest.raises(DecodeError, match="no end marker, expected ff d9: it is truncated"):
        decode_image(with_thumbnail[:-2])


def test_a_lost_restart_interval_is_noticed() -> None:
    whole = JPEGS["restarts"]
    third, fourth = whole.index(b"\xff\xd2"), whole.index(b"\xff\xd3")
    with pytest.raises(DecodeError, match="has 4 restart markers, expected 5 in order"):
        decode_image(whole[:third] + whole[fourth:])


def test_grey_in_the_corner_of_the_scene_is_no_damage() -> None:
    scene = SCENE.copy()
    scene[-32:, -32:] = 128
    whole = jpeg(scene)
    assert (decode_image(whole)[-1, -8:] == 128).all()
    with pytest.raises(DecodeError, match="lacks or has broken scan data"):
        decode_image(whole[: len(whole) // 2] + END, "jpeg")


def test_motion_jpeg_without_huffman_tables_is_whole() -> None:
    """Many USB cameras leave out the standard's own tables."""
    bare = JPEG
    while b"\xff\xc4" in bare:
        start = bare.index(b"\xff\xc4")
        length = struct.unpack(">H", bare[start + 2 : start + 4])[0]
        bare = bare[:start] + bare[start + 2 + length :]
    assert np.array_equal(decode_image(bare), decode_image(JPEG))


def test_bytes_behind_the_end_are_ignored() -> None:
    assert np.array_equal(decode_image(JPEG + bytes(4096)), decode_image(JPEG))
    assert np.array_equal(decode_image(PNG + b"padding"), SCENE)


def test_a_cameras_orientation_tag_does_not_turn_the_frame() -> None:
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)  # orientation 6: turn by 90 degrees to view
    exif = b"Exif\0\0" + b"II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    tagged = JPEG[:2] + segment(0xE1, exif) + JPEG[2:]
    assert cv2.imdecode(np.frombuffer(tagged, np.uint8), cv2.IMREAD_COLOR).shape == (WIDTH, HEIGHT, 3)
    assert decode_image(tagged).shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize(
    ("payload", "start"),
    [
        (b"", "no bytes"),
        (b"\0\0\0\1\x67\x42\0\x1e\xab", "00 00 00 01 67 42 00 1e"),
        (b"GIF89a", "47 49 46 38 39 61"),
        (JPEG[1:], "d8 ff e0"),
    ],
)
def test_what_is_neither_is_named(payload: bytes, start: str) -> None:
    expected = rf"format 'h264' starts with {start}.*, expected JPEG \(ff d8 ff\) or PNG"
    with pytest.raises(DecodeError, match=expected):
        decode_image(payload, "h264")


def test_the_first_bytes_decide_and_not_the_format() -> None:
    assert np.array_equal(decode_image(PNG, "jpeg"), SCENE)
    with pytest.raises(DecodeError) as caught:
        decode_image(b"none", "x" * 10_000)
    assert len(str(caught.value)) < 300


def patched(position: int, content: bytes) -> bytes:
    return JPEG[:position] + content + JPEG[position + len(content) :]


def with_size(height: int, width: int) -> bytes:
    return patched(FRAME_HEADER + 5, struct.pack(">HH", height, width))


def png_of(width: int, height: int, content: bytes) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(content)) if content else b""
    return PNG[:8] + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (with_size(0, WIDTH), f"JPEG declares {WIDTH}x0, expected 1x1 to 16384x16384"),
        (with_size(65535, 65535), "JPEG declares 65535x65535, expected 1x1 to 16384x16384"),
        (with_size(16000, 16000), "JPEG declares 16000x16000, expected .* at most 67108864 pixels"),
        (with_size(8000, 8000), "JPEG of 8000x8000 has [0-9]+ bytes of scans, expected at least 125000"),
        (JPEG[:SCAN_HEADER] + END, "scans for 0 coefficients, expected 64 for each of 3 components"),
        (JPEG[:2] + END, "has no frame header"),
        (JPEG[:FRAME_HEADER] + JPEG[SCAN_HEADER:], "a scan header before the frame header"),
        (patched(FRAME_HEADER, b"\xff\xc9"), "marker ff c9, expected a Huffman-coded picture"),
        (patched(FRAME_HEADER + 2, b"\xff\xff"), "segment ff c0 has length 65535, expected 2 to"),
        (patched(FRAME_HEADER + 2, b"\0\1"), "segment ff c0 has length 1, expected 2 to"),
        (patched(FRAME_HEADER + 2, b"\0\4"), "frame header has 2 bytes, expected 6"),
        (patched(FRAME_HEADER + 4, b"\x0c"), "3 components of 12 bits, expected 1 or 3 of 8 bits"),
        (patched(FRAME_HEADER + 11, b"\0"), "has sampling factors .*, expected 1 to 4"),
        (patched(SCAN_HEADER + 5, b"\x09"), "scan header has 10 bytes for 3 components"),
        (JPEG.replace(b"\xff\xdb", b"\xff\xfe"), "decodes to nothing|fails in OpenCV"),
        (PNG[:-12], "PNG of [0-9]+ bytes ends within a chunk, expected IEND: it is truncated"),
        (PNG[:-4], "truncated"),
        (PNG[:8] + PNG[33:], "chunk b'IDAT' of [0-9]+ bytes, expected one IHDR of 13 bytes, first"),
        (PNG[:33] + PNG[8:], "chunk b'IHDR' of 13 bytes, expected one IHDR of 13 bytes, first"),
        (png_of(8, 8, b""), "no IDAT chunk"),
        (png_of(8, 8, bytes(100)), "decodes to nothing|fails in OpenCV"),
        (png_of(20000, 10, bytes(100)), "PNG declares 20000x10"),
        (png_of(0, 10, bytes(100)), "PNG declares 0x10"),
    ],
)
def test_a_broken_structure_is_refused_with_its_reason(payload: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        decode_image(payload, "any")


def test_every_flipped_bit_of_a_png_is_noticed() -> None:
    small = png(SCENE[:8, :8])
    for position in range(len(small)):
        damaged = bytearray(small)
        damaged[position] ^= 1 << position % 8
        with pytest.raises(DecodeError):
            decode_image(bytes(damaged))


def test_the_limits_are_what_a_robots_memory_can_take() -> None:
    assert decoding.MAX_PIXELS * 3 <= 256 << 20


@settings(max_examples=200, derandomize=True, deadline=None)
@given(data=st.data())
def test_no_payload_raises_anything_but_decode_errors(data: st.DataObject) -> None:
    start = data.draw(st.sampled_from([*JPEGS.values(), PNG, JPEG[:3], PNG[:8]]))
    payload = bytearray(start)
    if data.draw(st.booleans()):
        payload = payload[: data.draw(st.integers(0, len(payload)))] + data.draw(st.binary(max_size=64))
    for _ in range(data.draw(st.integers(0, 6))):
        # Headers are where the numbers are that a decoder trusts.
        if payload:
            payload[data.draw(st.integers(0, min(len(payload), 700) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        payload += END
    with contextlib.suppress(DecodeError):
        image = decode_image(bytes(payload), "jpeg")
        assert image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8
