"""What the encoding strings of video messages mean."""

from __future__ import annotations

from tdnet_ros.video.h264_syntax import IDR_SLICE, nal_units

#: What encodings and encoder names begin with, by FFmpeg's name of the codec.
CODECS = {
    "h264": ("h264", "libx264", "x264"),
    "hevc": ("hevc", "h265", "libx265", "x265"),
    "vp9": ("vp9", "libvpx-vp9"),
    "av1": ("av1", "libaom", "libsvtav1", "librav1e"),
}
#: Codecs whose packets have start codes.
ANNEX_B = ("h264", "hevc")
#: Formats of decoded pictures whose first plane is the brightness by itself, one byte per pixel.
_WITH_BRIGHTNESS_PLANE = ("yuv420p", "yuvj420p", "nv12", "nv21", "yuv422p", "yuv444p", "gray")
#: Kinds of H.265 slices at which a decoder may start (IRAP).
_HEVC_KEYFRAMES = range(16, 24)


def codec_of(encoding: str) -> str | None:
    """FFmpeg's codec for a message's ``encoding`` or ``format``; None when it names no video codec.

    Both generations of FFMPEGPacket are known: an encoder's name (``libx264``, ``hevc_nvenc``), and the codec in
    front of pixel formats (``h264;yuv420p;bgr8;bgr8``).
    """
    name = encoding.split(";")[0].strip().lower()
    return next((codec for codec, starts in CODECS.items() if name.startswith(starts)), None)


def brightness_encoding_of(encoding: str) -> str:
    """How the image is encoded that stands in the brightness plane alone; '' when the picture is the image.

    Senders put images of one channel (mono8, Bayer patterns) into the brightness plane as they are where the encoder
    wants colour: ``h264;yuv420p;mono8;bayer_rggb8`` says so by a single channel (third) in a colour format (second).
    """
    _, source_format, target, *rest = [*encoding.split(";"), "", "", ""][:4]
    if source_format not in _WITH_BRIGHTNESS_PLANE or not _is_single_channel(target):
        return ""
    return rest[0] if rest and _is_single_channel(rest[0]) else target


def _is_single_channel(encoding: str) -> bool:
    return encoding in ("mono8", "8UC1") or (encoding.startswith("bayer_") and encoding.endswith("8"))


def starts_group(codec: str, data: bytes) -> bool:
    """Whether a packet of H.264 or H.265 in Annex B form holds a keyframe; False for other codecs."""
    if codec == "h264":
        return any(unit.kind == IDR_SLICE for unit in nal_units(data))
    if codec != "hevc":
        return False
    position = data.find(b"\0\0\1")
    while 0 <= position < len(data) - 3:
        if (data[position + 3] >> 1) & 0x3F in _HEVC_KEYFRAMES:
            return True
        position = data.find(b"\0\0\1", position + 3)
    return False
