"""What a failed capture of a step says of the step, and what of the device. Without a device: its errors are raised."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.catalog import network_info
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan
from tdnet_ros.streaming.engines import Engine, PreparedStep
from tdnet_ros.streaming.engines.cuda_graph import CudaGraphEngine, StaticBuffers

CPU = torch.device("cpu")


class Uncapturable(CudaGraphEngine):
    """Whose captures end in that error, as they would on a device; there, its end says something else in turn."""

    def __init__(self, network: torch.nn.Module, error: RuntimeError, at_the_end: RuntimeError | None = None) -> None:
        Engine.__init__(self, network, CPU)  # type: ignore[arg-type]
        self._buffers = StaticBuffers(self._capture)
        self._errors = error, at_the_end

    def _capture(
        self, inputs: Sequence[Tensor], function: PreparedStep
    ) -> tuple[tuple[Tensor, ...], Callable[[], None]]:
        error, at_the_end = self._errors
        try:
            raise error
        finally:
            if at_the_end is not None:
                raise at_the_end


def test_a_step_that_cannot_be_captured_is_no_device_that_fails() -> None:
    """What the device lacks passes as it is: the node then frees memory and tries the next frame."""
    network, image = SegmentationNetwork(network_info("td2_mnv2")), torch.zeros(1, 3, 64, 96)
    capturing = "CUDA error: operation not permitted when stream is capturing"
    ended = RuntimeError("CUDA error: operation failed due to a previous error during capture")
    lack = torch.cuda.OutOfMemoryError("CUDA out of memory. 2 GiB allocated in private pools (e.g., CUDA Graphs)")
    gone = RuntimeError("CUDA error: an illegal memory access was encountered")
    for error, at_the_end in ((lack, None), (lack, ended), (gone, None), (gone, ended)):
        with pytest.raises(RuntimeError) as caught:
            Uncapturable(network, error, at_the_end).compute(StepPlan(0), image)
        assert caught.value is error
    for error, at_the_end in ((RuntimeError(capturing), None), (RuntimeError(capturing), ended)):
        with pytest.raises(
            ConfigurationError, match=r"sub-network 0 cannot be captured .*not permitted when stream is"
        ):
            Uncapturable(network, error, at_the_end).compute(StepPlan(0), image)
