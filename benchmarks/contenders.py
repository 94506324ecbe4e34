"""The streams that ``benchmarks.networks`` measures: ours, single-frame networks of ours, and any other callable.

The protocol of another callable, ``--against MODULE:FUNCTION``::

    function(name, height, width, weights, device) -> step
    step(image, index) -> logits

``function`` builds the network ``name`` for images of that size on that device, and returns its stream: ``step`` is
called with one image after the other, (1, 3, H, W) float32, normalised, contiguous, and with its index, 0, 1, 2 ...;
it returns logits (1, classes, H, W) and keeps what it wants to remember. ``weights`` is the state dict of the weight
file as the file has it (so an official file for official classes), or None for fresh weights. It is called in
inference mode and does nothing about arithmetic: TF32 and autocast are set around it, see ``arithmetic``.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import build_network
from tdnet_ros.networks.checkpoints import read_checkpoint
from tdnet_ros.networks.cost import count_cost
from tdnet_ros.networks.layers import upsample
from tdnet_ros.networks.network import image_size
from tdnet_ros.streaming import Segmenter

Step = Callable[[Tensor, int], Tensor]

DTYPES = {"fp32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_SEED = 1


class Contender(NamedTuple):
    """What is to be measured. ``kind`` is ``ours``, ``single`` (ours, another model) or ``other``."""

    kind: str
    model: str
    precision: str
    runtime: str = "auto"
    function: str = ""

    @property
    def name(self) -> str:
        """For tables, e.g. ``ours fp32``, ``ours bf16 compile``, ``psp18 fp32`` or ``official:stream tf32``."""
        title = {"ours": "ours", "single": self.model, "other": self.function}[self.kind]
        return f"{title} {self.precision}" + (f" {self.runtime}" if self.runtime != "auto" else "")

    @property
    def takes_weights(self) -> bool:
        """Whether the weights that were given are for it; otherwise it has random ones."""
        return self.kind != "single"


class Answer(NamedTuple):
    """Labels (1, H, W) uint8 as that contender finds them and the logits (1, classes, H, W) behind them."""

    labels: Tensor
    logits: Tensor


class OurStream:
    """A network of the catalog in the engine, fed as a stream feeds it: pixels in its precision, channels last."""

    def __init__(self, contender: Contender, weights: Path | None, device: torch.device) -> None:
        given: Any = weights
        if weights is None:
            torch.manual_seed(_SEED)
            given = build_network(contender.model).state_dict()
        precision = "fp32" if contender.precision == "tf32" else contender.precision
        self._segmenter = Segmenter(
            contender.model, given, str(device), precision, runtime=contender.runtime, score_memory=0.0
        )
        self._network = self._segmenter.network
        self._state = self._network.initial_state()

    @property
    def engine(self) -> str:
        """How the steps are run: the engine's name."""
        return self._segmenter.runtime.engine

    def prepare(self, image: Tensor) -> Tensor:
        runtime = self._segmenter.runtime
        return image.to(runtime.device, runtime.dtype, memory_format=torch.channels_last)

    def logits(self, image: Tensor, index: int) -> Tensor:
        return self._upsampled(self._advance(image, index), image)

    def mask(self, image: Tensor, index: int) -> Tensor:
        return self._decoded(self._advance(image, index), image)

    def answer(self, image: Tensor, index: int) -> Answer:
        scores = self._advance(image, index)
        return Answer(self._decoded(scores, image), self._upsampled(scores, image))

    def gmac(self, image: Tensor, index: int) -> float:
        """As the definition of the network says, however the engine computes it."""
        return count_cost(self._network.info, (image.shape[2], image.shape[3])).steady_gmac

    def _advance(self, image: Tensor, index: int) -> Tensor:
        plan = self._network.plan(self._state, index % self._network.info.subnetworks)
        scores, *kept = self._segmenter.engine.compute(plan, image, *self._network.cached(self._state, plan))
        self._state = self._network.remember(self._state, plan, image_size(image), tuple(kept))
        return scores

    def _upsampled(self, scores: Tensor, image: Tensor) -> Tensor:
        return upsample(scores, (image.shape[2], image.shape[3]), self._network.info.align_corners)

    def _decoded(self, scores: Tensor, image: Tensor) -> Tensor:
        return self._network.decode_mask(scores, (image.shape[2], image.shape[3])).mask


class OtherStream:
    """A callable that keeps to the protocol above. Its mask is the argmax of its logits."""

    engine = "its own"

    def __init__(
        self, contender: Contender, height: int, width: int, weights: Path | None, device: torch.device
    ) -> None:
        self._device = device
        found = read_checkpoint(weights).weights if weights is not None else None
        self.logits: Step = find_function(contender.function)(contender.model, height, width, found, device)

    def prepare(self, image: Tensor) -> Tensor:
        return image.to(self._device)

    def mask(self, image: Tensor, index: int) -> Tensor:
        return self.logits(image, index).argmax(1).to(torch.uint8)

    def answer(self, image: Tensor, index: int) -> Answer:
        logits = self.logits(image, index)
        return Answer(logits.argmax(1).to(torch.uint8), logits)

    def gmac(self, image: Tensor, index: int) -> float:
        """As torch's flop counter finds them in one more step."""
        with FlopCounterMode(display=False) as counter:
            self.logits(image, index)
        return float(counter.get_total_flops()) / 2e9


Stream = OurStream | OtherStream


def open_stream(contender: Contender, height: int, width: int, weights: Path | None, device: torch.device) -> Stream:
    """A new stream of that contender, before its first image; None stands for random weights."""
    weights = weights if contender.takes_weights else None
    if contender.kind == "other":
        return OtherStream(contender, height, width, weights, device)
    return OurStream(contender, weights, device)


@contextlib.contextmanager
def arithmetic(contender: Contender, device: torch.device) -> Iterator[None]:
    """The arithmetic of a contender's precision.

    ``tf32`` lets CUDA round the factors of fp32 products, ``fp32`` does not. In ``fp16`` and ``bf16`` a network of ours
    has weights of that type; another callable keeps its own and runs under torch's autocast.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = contender.precision == "tf32"
    cast = contender.kind == "other" and contender.precision in ("fp16", "bf16")
    try:
        with torch.autocast(device.type, DTYPES[contender.precision], enabled=cast):
            yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def find_function(text: str) -> Callable[..., Step]:
    """What ``MODULE:FUNCTION`` names; raises ConfigurationError when there is no such thing."""
    module, _, name = text.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"against is '{text}', expected MODULE:FUNCTION that can be imported: {error}"
        ) from error
    if not callable(function):
        raise ConfigurationError(f"against is '{text}', which is a {type(function).__name__}, expected a function")
    return cast("Callable[..., Step]", function)
