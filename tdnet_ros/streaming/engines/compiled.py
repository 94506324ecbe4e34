"""Steps compiled by torch's inductor: to C++ on a CPU, to Triton kernels on a GPU."""

from __future__ import annotations

import importlib.util
import os
import shutil

import torch
from torch import Tensor

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan
from tdnet_ros.streaming.engines.engine import Engine, PreparedStep


class CompiledEngine(Engine):
    """Compiles each step on its own, whole, for one shape. That takes seconds to a minute: see ``docs/node.md``."""

    def __init__(self, network: SegmentationNetwork, device: torch.device) -> None:
        missing = _missing_tool(device)
        if missing:
            raise ConfigurationError(f"runtime is 'compile' on {device} and there is no {missing}, expected 'eager'")
        super().__init__(network, device)

    def prepare(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> PreparedStep:
        # Costs as much as all the rest of torch, and few streams are compiled.
        from torch._inductor import config as inductor_settings

        def step(image: Tensor, *cached: Tensor) -> tuple[Tensor, ...]:
            return self.network.compute(plan, image, *cached)

        # Torch counts recompilations by code object and, past a limit, runs that code as it stands or refuses it.
        # A code object for each step: the count then never passes one.
        step.__code__ = step.__code__.replace()
        compiled: PreparedStep = torch.compile(step, fullgraph=True, dynamic=False)
        try:
            # Weights as constants: a CPU's convolutions want them in a layout of their own, arranged once. An option
            # of torch.compile would come too late, the tracer asks for it first.
            with inductor_settings.patch(freezing=self.device.type == "cpu"):
                compiled(image, *cached)  # compiles
        except torch.cuda.OutOfMemoryError:
            raise  # another time it may succeed
        except Exception as error:  # of any type: compiler, linker, tracer, disk
            reason = str(error).strip().split("\n")[0]
            raise ConfigurationError(
                f"runtime is 'compile' and the step of sub-network {plan.subnetwork} cannot be compiled "
                f"({type(error).__name__}: {reason}): expected runtime 'eager'"
            ) from error
        return compiled


def _missing_tool(device: torch.device) -> str | None:
    if device.type == "cuda":
        return None if importlib.util.find_spec("triton") else "Triton (pip install triton)"
    compilers = (os.environ.get("CXX"), "g++", "clang++")
    return None if any(name and shutil.which(name) for name in compilers) else "C++ compiler (g++ or clang++)"
