"""One step of a network as an ONNX model: image and cached tensors in, scores and the tensors to keep out."""

from __future__ import annotations

import contextlib
import importlib
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan

#: The oldest that has all we use: what reads it may be years old.
OPSET = 18
#: Names of the first input and the first output.
IMAGE, SCORES = "image", "scores"


def input_names(network: SegmentationNetwork, plan: StepPlan) -> tuple[str, ...]:
    """``image``, then for each source of the plan, oldest first, what it kept: ``query_1`` is sub-network 1's query.

    For a frame between keyframes what the keyframe kept and the motion stand behind them.
    """
    return (IMAGE, *network.read_names(plan))


def output_names(network: SegmentationNetwork, plan: StepPlan) -> tuple[str, ...]:
    """``scores``, then what the step keeps, such as ``query``."""
    return (SCORES, *network.kept_names(plan))


def onnx_step(network: SegmentationNetwork, plan: StepPlan, image: Tensor, cached: Sequence[Tensor]) -> bytes:
    """The ONNX file of ``network.compute`` for that plan; shapes, precision and device are those of the tensors.

    Shapes are static: runtimes plan memory and pick kernels by them. Raises ConfigurationError where torch's
    exporter is missing.
    """
    require("onnxscript", "exporting to ONNX")
    # Fresh ordinary tensors: the caller's may be of torch.inference_mode, which cannot be traced.
    with torch.inference_mode(False), torch.no_grad(), _quiet_exporter():
        examples = tuple(torch.zeros(x.shape, dtype=x.dtype, device=x.device) for x in (image, *cached))
        traced = torch.export.export(_Step(network, plan).eval(), examples, strict=False)
        program = torch.onnx.export(
            traced,
            input_names=input_names(network, plan),
            output_names=output_names(network, plan),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None, "with dynamo=True there is always a program"
    content: bytes = program.model_proto.SerializeToString()
    return content


def require(module: str, purpose: str) -> Any:
    """That optional module; raises ConfigurationError that says how to get it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"{purpose} needs the Python package {module} ({error}): pip install 'tdnet_ros[onnx]'"
        ) from error


@contextlib.contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Keeps back the exporter's remarks about torch's own code and about packages that it could also export."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    before = logger.level
    logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logger.setLevel(before)


class _Step(nn.Module):
    """``compute`` of one plan as a module, which is what torch's exporter takes."""

    def __init__(self, network: SegmentationNetwork, plan: StepPlan) -> None:
        super().__init__()
        self.network = network
        self.plan = plan

    def forward(self, image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
        with _PlainOperations():
            return self.network.compute(self.plan, image, *cached)


class _PlainOperations(TorchFunctionMode):
    """Writes those functions for which torch's exporter has no good ONNX as products of matrices: equal to rounding."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return _PLAIN.get(func, func)(*args, **(kwargs or {}))


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The exporter takes scaled_dot_product_attention with four dimensions only."""
    scores = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    propagated: Tensor = scores.softmax(-1) @ value
    return propagated


def _average_pool(x: Tensor, output_size: int) -> Tensor:
    """The exporter adds up the bins pixel by pixel where they are not equal: thousands of nodes."""
    if output_size == 1:
        return x.mean((2, 3), keepdim=True)
    rows, columns = (_bins(length, output_size, x) for length in x.shape[2:])
    return rows @ x @ columns.t()


def _bins(length: int, count: int, like: Tensor) -> Tensor:
    """(count, length): row i averages bin i, which goes from floor(i l / n) to ceil((i + 1) l / n)."""
    bins = torch.zeros(count, length, dtype=like.dtype, device=like.device)
    for index in range(count):
        first, end = index * length // count, -(-(index + 1) * length // count)
        bins[index, first:end] = 1 / (end - first)
    return bins


_PLAIN: dict[Callable[..., Any], Callable[..., Any]] = {
    F.scaled_dot_product_attention: _attention,
    F.adaptive_avg_pool2d: _average_pool,
}
