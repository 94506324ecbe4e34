"""How images travel between processes: the Fast DDS profile, the allocator, and the quality of service by
name.

With Fast DDS's defaults a best-effort subscriber loses nearly every 720p image, because the sender's
shared-memory segment is smaller than one picture. Both remedies act on the process as a whole and must come
before rclpy.init():

    use_shared_memory_profile()
    tune_allocator()
    rclpy.init()
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from xml.etree import ElementTree

from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

PROFILE_NAME = "fastdds_shm.xml"
#: The variable that names a profile: to Fast DDS 3 (Kilted and newer) and to Fast DDS 2 (Jazzy).
PROFILE_VARIABLES = ("FASTDDS_DEFAULT_PROFILES_FILE", "FASTRTPS_DEFAULT_PROFILES_FILE")
_FAST_DDS_2_DISTRIBUTIONS = ("humble", "iron", "jazzy")
_FIRST_FAST_DDS_3_RMW = 9  # major version of rmw_fastrtps_cpp

# Fast DDS's other ways to choose transports; the files count when they lie in the working directory.
_TRANSPORT_VARIABLE = "FASTDDS_BUILTIN_TRANSPORTS"
_LOCAL_PROFILES = ("DEFAULT_FASTDDS_PROFILES.xml", "DEFAULT_FASTRTPS_PROFILES.xml")

_SHARED_MEMORY = Path("/dev/shm")
_SEGMENT_OVERHEAD = 1.05  # Fast DDS's own tables: a segment of 67.1 MB takes 70.3 MB

# glibc's malloc.h; blocks of an image's size stay in the heap instead of being mapped, and faulted in, anew.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_MMAP_THRESHOLD_BYTES = 32 << 20  # the most that every glibc takes; a 4K picture has 25 MB
_TRIM_THRESHOLD_BYTES = 512 << 20


def _keep_last(depth: int, reliability: ReliabilityPolicy, latched: bool = False) -> QoSProfile:
    durability = DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
    return QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=depth, reliability=reliability, durability=durability)


#: Camera images in: the newest frame wins and none is waited for. Matches every publisher.
IMAGE_INPUT = _keep_last(1, ReliabilityPolicy.BEST_EFFORT)
#: Video packets, in and out: a lost one costs all masks until the next keyframe, so it is sent again; for publishers
#: that offer no more than best effort the node subscribes anew. What waits here while a process is busy should reach
#: from one keyframe to the next: the depth is twice the longest interval that is common, 60 packets.
VIDEO_PACKETS = _keep_last(120, ReliabilityPolicy.RELIABLE)
#: Compressed images in, which may be JPEG or packets of a video: as IMAGE_INPUT, but none is overwritten by the next.
COMPRESSED_INPUT = _keep_last(120, ReliabilityPolicy.BEST_EFFORT)
#: Camera images out (the player): reliable, so that subscribers of both kinds match.
CAMERA = _keep_last(5, ReliabilityPolicy.RELIABLE)
#: Masks, and what belongs to one each: confidence, latency, camera_info. Matches every subscriber.
MASK = _keep_last(5, ReliabilityPolicy.RELIABLE)
#: Pictures for people: never worth a resend.
OVERLAY = _keep_last(1, ReliabilityPolicy.BEST_EFFORT)
#: Facts that late subscribers need as well, such as label_info.
LATCHED = _keep_last(1, ReliabilityPolicy.RELIABLE, latched=True)


@dataclass(frozen=True)
class TransportSettings:
    """What this process's middleware will use.

    ``origin`` is "tdnet_ros" for our profile, "user" for what was chosen before, "middleware" when Fast DDS
    is not in use, "none" when our profile is missing. ``profile`` is the file in effect. ``warning`` is empty
    or says in words what will go wrong and what to do about it.
    """

    origin: str
    profile: Path | None = None
    warning: str = ""


def use_shared_memory_profile() -> TransportSettings:
    """Give Fast DDS our profile, in this process and those it starts; call it before rclpy.init().

    What the user chose is left as it is; a profile that he named to the other generation of Fast DDS is named to the
    installed one as well.
    """
    if not os.environ.get("RMW_IMPLEMENTATION", "rmw_fastrtps_cpp").startswith("rmw_fastrtps"):
        return TransportSettings("middleware")
    named = next((os.environ[name] for name in PROFILE_VARIABLES if os.environ.get(name)), None)
    if not named and _has_other_transports():
        return TransportSettings("user")
    own = profile_path()
    profile = Path(named) if named else own
    if profile is None:
        return TransportSettings("none", None, f"{PROFILE_NAME} is not installed: large images will be lost")
    if not os.environ.get(profile_variable()):
        os.environ[profile_variable()] = str(profile)
    is_own = own is not None and profile.is_file() and profile.samefile(own)
    return TransportSettings("tdnet_ros" if is_own else "user", profile, _warning(profile))


def profile_variable() -> str:
    """The variable from which the installed Fast DDS takes its profile; the newer one complains of the older name."""
    distribution = os.environ.get("ROS_DISTRO")
    if distribution:
        return PROFILE_VARIABLES[distribution in _FAST_DDS_2_DISTRIBUTIONS]
    try:
        wheel = metadata.version("ros-rmw-fastrtps-cpp")
    except metadata.PackageNotFoundError:
        return PROFILE_VARIABLES[0]
    return PROFILE_VARIABLES[int(wheel.partition(".")[0]) < _FIRST_FAST_DDS_3_RMW]


def profile_path() -> Path | None:
    """Where our profile lies in a checkout, a pip, editable or colcon install; None when it is missing."""
    return next((path for path in _profile_candidates() if path.is_file()), None)


def tune_allocator() -> bool:
    """Keep image-sized blocks in glibc's heap; says whether that was done, other C libraries are left alone.

    By default every image is mapped, faulted in page by page and unmapped again, which takes half the
    processor time of receiving it. Call it before the first image; the heap may then keep 512 MiB unused.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    mapped = mallopt(_M_MMAP_THRESHOLD, _MMAP_THRESHOLD_BYTES)
    return bool(mapped and mallopt(_M_TRIM_THRESHOLD, _TRIM_THRESHOLD_BYTES))


def _has_other_transports() -> bool:
    """Whether the user chose transports by Fast DDS's other ways, which a profile of ours would undo."""
    return bool(os.environ.get(_TRANSPORT_VARIABLE)) or any(Path(name).is_file() for name in _LOCAL_PROFILES)


def _profile_candidates() -> Iterator[Path]:
    module = Path(__file__).absolute()
    yield module.parents[2] / "config" / PROFILE_NAME
    installed = Path("share", "tdnet_ros", "config", PROFILE_NAME)
    # The prefix lies some folders above: lib/python3.x/site-packages, or local/lib/... under Debian's Python.
    for ancestor in module.parents:
        yield ancestor / installed
    for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep):
        if prefix:
            yield Path(prefix) / installed


def _warning(profile: Path) -> str:
    """What is wrong with the profile or the room for its segments, or nothing."""
    try:
        sizes = [int(node.text or 0) for node in ElementTree.parse(profile).iterfind(".//{*}segment_size")]
    except (OSError, ValueError, ElementTree.ParseError) as error:
        return f"Fast DDS profile {profile} cannot be read ({error}): large images will be lost"
    needed = int(max(sizes, default=0) * _SEGMENT_OVERHEAD)
    try:
        status = os.statvfs(_SHARED_MEMORY)
    except OSError:
        return ""  # shared memory lies elsewhere on this system
    free = status.f_bavail * status.f_frsize
    if free >= needed:
        return ""
    room = f"{_SHARED_MEMORY} has {free >> 20} MiB free, expected at least {needed >> 20} MiB per process"
    remedy = "start the container with a larger --shm-size or with --ipc=host"
    return f"{room}: images will go by UDP and many will be lost; {remedy}"
