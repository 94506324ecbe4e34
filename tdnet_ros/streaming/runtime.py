"""Where and how a network runs: device, precision, engine, and the way of pixels onto the device."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import NetworkInfo
from tdnet_ros.streaming.engines import choose_engine
from tdnet_ros.video.frame import Frame

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_BF16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16", "bf16"}  # as Linux names them on x86 and on ARM


class _Threads:
    """Torch's number of threads, which is the process's: what was there before a Runtime asked for another one."""

    def __init__(self) -> None:
        self._before = self._asked = 0

    def use(self, threads: int) -> None:
        """So many; with 0 those that were there, unless somebody else has set another number since."""
        now = torch.get_num_threads()
        before = self._before if now == self._asked else now
        wanted = threads or before
        if wanted != now:
            torch.set_num_threads(wanted)
        self._before, self._asked = before, threads


_THREADS = _Threads()


class Runtime:
    """Device, precision and engine of a network.

    ``device``: ``auto`` (CUDA when there is one), ``cpu``, ``cuda`` or ``cuda:N``. ``precision``: ``auto`` (fp16 on
    CUDA, fp32 on a CPU), ``fp32``, ``bf16`` or ``fp16``; the last not on a CPU, bf16 only on one that has the
    instructions. ``engine``: ``auto`` or a name of ``tdnet_ros.streaming.engines``. ``threads``: of a CPU, for the
    whole process; 0 is torch's own number. Raises ConfigurationError for what does not exist on this machine.
    """

    def __init__(self, device: str = "auto", precision: str = "auto", threads: int = 0, engine: str = "auto") -> None:
        self.device = _find_device(device)
        self.precision = _choose_precision(precision, self.device)
        self.dtype = PRECISIONS[self.precision]
        self.engine = choose_engine(engine, self.device)
        _THREADS.use(threads)

    def synchronise(self) -> None:
        """Wait until the device has done what it was asked; makes stage times mean what they say."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def memory_mib(self) -> float | None:
        """Device memory that this process holds, in MiB; None on a CPU."""
        if self.device.type != "cuda":
            return None
        return torch.cuda.memory_reserved(self.device) / 2**20

    def release_unused(self) -> None:
        """Give back device memory that is kept for later: after a failure the next frame may need it in one piece."""
        if self.device.type == "cuda":
            # After an error from which the device does not recover every later call raises it again.
            with contextlib.suppress(RuntimeError):
                torch.cuda.empty_cache()

    @contextlib.contextmanager
    def inference(self) -> Iterator[None]:
        """Context in which the network runs."""
        with torch.inference_mode():
            yield

    def describe(self) -> str:
        """Device, precision and engine for people, e.g. ``cuda:0 (NVIDIA H200), fp16, cudagraph``."""
        return f"{self.describe_device()}, {self.precision}, {self.engine}"

    def describe_device(self) -> str:
        """Device for people, e.g. ``cuda:0 (NVIDIA H200)``."""
        if self.device.type == "cuda":
            return f"{self.device} ({torch.cuda.get_device_name(self.device)})"
        return f"cpu ({torch.get_num_threads()} threads)"


class Preprocessor:
    """Pixels of a frame to the network's normalised input; its buffers are reused from frame to frame.

    The tensor that a call returns is overwritten by the next call.
    """

    def __init__(self, info: NetworkInfo, runtime: Runtime) -> None:
        self._runtime = runtime
        # (x / 255 - mean) / std in one multiplication and one addition
        self._gain, self._offset = (
            torch.tensor(values, device=runtime.device)
            for values in zip(
                *((1 / (255 * s), -m / s) for m, s in zip(info.mean, info.std, strict=True)),
                strict=True,
            )
        )
        self._staging = torch.empty(0, dtype=torch.uint8)
        self._input = torch.empty(0)

    def __call__(self, frame: Frame, size: tuple[int, int]) -> Tensor:
        """Frame -> (1, 3, h, w) of ``size`` (h, w), normalised, RGB, channels last in memory."""
        if self._runtime.device.type == "cpu":
            rgb = self._staged((*size, 3))
            _to_rgb(frame, size, rgb.numpy())
            return self._normalise(rgb, size)
        # On a GPU the pixels travel as they came, once, and are converted there.
        staged = self._staged(frame.image.shape)
        np.copyto(staged.numpy(), frame.image)
        pixels = staged.to(self._runtime.device, non_blocking=True)
        pixels = pixels[..., None].expand(-1, -1, 3) if pixels.dim() == 2 else pixels
        pixels = pixels.flip(-1) if frame.encoding == "bgr8" else pixels
        if (frame.height, frame.width) != size:
            planes = pixels.permute(2, 0, 1)[None].float()
            planes = F.interpolate(planes, size=size, mode="bilinear", align_corners=False)
            pixels = planes[0].permute(1, 2, 0)
        return self._normalise(pixels, size)

    def _normalise(self, rgb: Tensor, size: tuple[int, int]) -> Tensor:
        if self._input.shape != (*size, 3):
            self._input = torch.empty((*size, 3), device=self._runtime.device)
        # In single precision, whatever the network's: half the digits are to be lost once, not three times.
        self._input.copy_(rgb).mul_(self._gain).add_(self._offset)
        # The new axis comes before the permutation: torch then sees that the layout is channels-last, the fast one.
        return self._input.to(self._runtime.dtype)[None].permute(0, 3, 1, 2)

    def _staged(self, shape: tuple[int, ...]) -> Tensor:
        if self._staging.shape != shape:
            self._staging = torch.empty(shape, dtype=torch.uint8, pin_memory=self._runtime.device.type == "cuda")
        return self._staging


def _to_rgb(frame: Frame, size: tuple[int, int], out: npt.NDArray[np.uint8]) -> None:
    """Resize first, convert the smaller picture; the last operation writes into ``out`` (h, w, 3)."""
    image = frame.image
    if (frame.height, frame.width) != size:
        target = out if frame.encoding == "rgb8" else None
        image = np.asarray(
            cv2.resize(image, size[::-1], dst=target, interpolation=cv2.INTER_LINEAR),
            np.uint8,
        )
    if frame.encoding == "bgr8":
        cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=out)
    elif frame.encoding == "mono8":
        cv2.cvtColor(image, cv2.COLOR_GRAY2RGB, dst=out)
    elif image is not out:
        np.copyto(out, image)


def _find_device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigurationError(f"device is '{name}', expected auto, cpu, cuda or cuda:N") from error
    if device.type not in ("cpu", "cuda"):
        raise ConfigurationError(f"device is '{name}', expected auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigurationError(f"device is '{name}', this machine has {torch.cuda.device_count()} CUDA devices")
    return device


def _choose_precision(name: str, device: torch.device) -> str:
    if name not in (*PRECISIONS, "auto"):
        raise ConfigurationError(f"precision is '{name}', expected one of {['auto', *PRECISIONS]}")
    if name == "auto":
        return "fp16" if device.type == "cuda" else "fp32"
    if device.type == "cpu" and name == "fp16":
        raise ConfigurationError("precision is 'fp16' on the CPU, expected 'fp32', 'bf16' or 'auto'")
    if device.type == "cpu" and name == "bf16" and not _processor_flags() & _BF16_INSTRUCTIONS:
        raise ConfigurationError(
            f"precision is 'bf16' and this processor has none of {sorted(_BF16_INSTRUCTIONS)}, "
            "expected 'fp32' or 'auto'"
        )
    if device.type == "cuda" and name == "bf16" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ConfigurationError("precision is 'bf16' and this GPU has no such arithmetic, expected 'fp16' or 'fp32'")
    return name


def _processor_flags() -> set[str]:
    """Instruction sets of the processor by Linux's names; none on other systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    named = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return set(next(named, "").split())
