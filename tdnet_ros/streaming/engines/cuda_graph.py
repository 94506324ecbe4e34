"""Steps as CUDA graphs: all kernels of a step in one launch, on buffers that stay where they are."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan
from tdnet_ros.streaming.engines.engine import Engine, PreparedStep

#: Runs before the capture: libraries choose kernels and allocate workspaces in the first ones.
_WARM_UP_RUNS = 3

#: (static inputs, what to run on them) -> static outputs, and a call that fills them again from the inputs.
Capture = Callable[[Sequence[Tensor], PreparedStep], tuple[tuple[Tensor, ...], Callable[[], None]]]


class CudaGraphEngine(Engine):
    """Replays captured steps. Threads that share it have to use the same CUDA stream, as they do by default."""

    any_order = True

    def __init__(self, network: SegmentationNetwork, device: torch.device) -> None:
        if device.type != "cuda":
            raise ConfigurationError(f"runtime is 'cudagraph' on {device}, expected a CUDA device, or 'eager'")
        super().__init__(network, device)
        with torch.cuda.device(device):
            self._buffers = StaticBuffers(GraphCapture(device))

    def prepare(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> PreparedStep:
        try:
            return self._buffers.step(partial(self.network.compute, plan), (image, *cached))
        except RuntimeError as error:
            reason = _first_of(error)
            # What the device lacks, or is no longer able to do, says nothing of the step: it may succeed later.
            if isinstance(reason, torch.cuda.OutOfMemoryError) or "captur" not in str(reason):
                raise reason from None
            raise ConfigurationError(
                f"runtime is 'cudagraph' and the step of sub-network {plan.subnetwork} cannot be captured ({reason}): "
                "expected runtime 'eager'"
            ) from error


class StaticBuffers:
    """Steps that read and write fixed memory, made to look as if they did not.

    A captured step knows addresses, not tensors. So inputs are copied to where it reads and outputs from where it
    writes, under one lock: the next step, of whatever stream, may overwrite both. Steps share the input buffers of
    equal shape, and as nothing outlives a call in a step's own memory, they may share all of that, too.
    """

    def __init__(self, capture: Capture) -> None:
        self._capture = capture
        self._inputs: dict[object, Tensor] = {}
        self._lock = threading.Lock()

    def step(self, function: PreparedStep, examples: Sequence[Tensor]) -> PreparedStep:
        """The function captured for inputs like the examples."""
        inputs = [self._input(index, example) for index, example in enumerate(examples)]
        with self._lock:
            _fill(inputs, examples)
            outputs, replay = self._capture(inputs, function)

        def run(*given: Tensor) -> tuple[Tensor, ...]:
            with self._lock:
                _fill(inputs, given)
                replay()
                return tuple(output.clone() for output in outputs)

        return run

    def _input(self, index: int, example: Tensor) -> Tensor:
        key = (index, example.shape, example.stride(), example.dtype)
        if key not in self._inputs:
            self._inputs[key] = torch.empty_like(example)
        return self._inputs[key]


class GraphCapture:
    """Captures CUDA graphs that draw on one memory pool."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()

    def __call__(
        self, inputs: Sequence[Tensor], function: PreparedStep
    ) -> tuple[tuple[Tensor, ...], Callable[[], None]]:
        with torch.cuda.device(self._device), _best_kernels():
            # Not on the default stream, which cannot be captured: what is prepared per stream is then in place.
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARM_UP_RUNS):
                    function(*inputs)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=side):
                outputs = function(*inputs)

        def replay() -> None:
            with torch.cuda.device(self._device):
                graph.replay()

        return outputs, replay


def _fill(buffers: Sequence[Tensor], given: Sequence[Tensor]) -> None:
    for buffer, tensor in zip(buffers, given, strict=True):
        buffer.copy_(tensor)


def _first_of(error: RuntimeError) -> RuntimeError:
    """The error that began it: the end of a capture in which one was raised may raise another."""
    while isinstance(error.__context__, RuntimeError):
        error = error.__context__
    return error


@contextmanager
def _best_kernels() -> Iterator[None]:
    """cuDNN times its kernels for each convolution once; the capture then holds the fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before
