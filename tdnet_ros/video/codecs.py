"""What the encoding strings of video messages mean."""

from __future__ import annotations

#: What encodings and encoder names begin with, by FFmpeg's name of the codec.
CODECS = {
    "h264": ("h264", "libx264", "x264"),
    "hevc": ("hevc", "h265", "libx265", "x265"),
    "vp9": ("vp9", "libvpx-vp9"),
    "av1": ("av1", "libaom", "libsvtav1", "librav1e"),
}
#: Formats of decoded pictures whose first plane is the brightness by itself, one byte per pixel.
_WITH_BRIGHTNESS_PLANE = ("yuv420p", "yuvj420p", "nv12", "nv21", "yuv422p", "yuv444p", "gray")


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
