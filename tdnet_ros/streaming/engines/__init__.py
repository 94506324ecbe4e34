"""Ways of running a network's step, by the name that the setting ``runtime`` calls them.

A new one is a module with an ``Engine`` and a line in ``ENGINES``.
"""

from __future__ import annotations

import torch

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.network import SegmentationNetwork
from tdnet_ros.streaming.engines.compiled import CompiledEngine
from tdnet_ros.streaming.engines.cuda_graph import CudaGraphEngine
from tdnet_ros.streaming.engines.eager import EagerEngine
from tdnet_ros.streaming.engines.engine import Engine, PreparedStep
from tdnet_ros.streaming.engines.onnx_runtime import OnnxRuntimeEngine, TensorRTEngine

__all__ = ["ENGINES", "EXPORT_ENGINES", "Engine", "PreparedStep", "build_engine", "choose_engine"]

#: Those that also run a folder of ``tdnet-ros export``.
EXPORT_ENGINES: dict[str, type[OnnxRuntimeEngine]] = {"onnx": OnnxRuntimeEngine, "tensorrt": TensorRTEngine}
ENGINES: dict[str, type[Engine]] = {
    "eager": EagerEngine,
    "compile": CompiledEngine,
    "cudagraph": CudaGraphEngine,
    **EXPORT_ENGINES,
}


def choose_engine(name: str, device: torch.device) -> str:
    """The engine's name, ``auto`` resolved; raises ConfigurationError when there is none of that name."""
    if name not in ("auto", *ENGINES):
        raise ConfigurationError(f"runtime is '{name}', expected one of {['auto', *ENGINES]}")
    if name != "auto":
        return name
    # On a CPU eager is the fastest for the networks with ResNets and ready at once; compiled code gains a tenth for
    # td2_mnv2 alone, after a minute. ONNX Runtime gains more there, and is not always installed: docs/node.md.
    return "cudagraph" if device.type == "cuda" else "eager"


def build_engine(name: str, network: SegmentationNetwork, device: torch.device) -> Engine:
    """The engine of that name; raises ConfigurationError where it cannot run."""
    return ENGINES[name](network, device)
