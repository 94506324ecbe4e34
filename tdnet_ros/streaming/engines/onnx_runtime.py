"""ONNX Runtime: steps from a folder of ``tdnet-ros export``, or exported in memory when they are first asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks.export import EXPORT_PRECISIONS, ExportedStep, Manifest, read_manifest
from tdnet_ros.networks.network import SegmentationNetwork, StepPlan
from tdnet_ros.networks.onnx_step import input_names, onnx_step, output_names, require
from tdnet_ros.streaming.engines.engine import Engine, PreparedStep

_NUMPY_TYPES = {torch.float32: np.float32, torch.float16: np.float16}


class OnnxRuntimeEngine(Engine):
    """Runs each step as an ONNX model, which reads and writes torch's memory where it is, on CUDA too.

    With ``folder``, a folder of ``tdnet-ros export``, the steps come from there and need neither the network's
    weights nor torch's exporter; they serve one size, and any number of pictures, in batches of the exported one, the
    last filled up. Without it each step is exported when it is prepared: seconds per step.

    Raises CheckpointError for a folder that is no export, ConfigurationError where onnxruntime, or what it needs for
    the device, is missing.
    """

    #: Execution providers by device, the preferred first; onnxruntime gives each operation to the first that has it.
    PROVIDERS: ClassVar[dict[str, tuple[str, ...]]] = {
        "cpu": ("CPUExecutionProvider",),
        "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    }

    def __init__(self, network: SegmentationNetwork, device: torch.device, folder: Path | str | None = None) -> None:
        super().__init__(network, device)
        self._onnxruntime = require("onnxruntime", f"runtime on {device.type} by ONNX Runtime")
        self._folder = None if folder is None else Path(folder)
        self._manifest = None if folder is None else read_manifest(folder)
        if device.type not in self.PROVIDERS:
            raise ConfigurationError(
                f"device is '{device}', expected one of {list(self.PROVIDERS)} for {type(self).__name__}"
            )
        there = self._onnxruntime.get_available_providers()
        preferred = self.PROVIDERS[device.type][0]
        if preferred not in there:
            raise ConfigurationError(
                f"device is '{device}', for which onnxruntime needs {preferred}; the one installed has {there} "
                "(for CUDA and TensorRT: onnxruntime-gpu in place of onnxruntime)"
            )

    @property
    def scales(self) -> frozenset[float] | None:
        if self._manifest is None:
            return None
        return frozenset(step.plan.scale for step in self._manifest.steps if step.plan.fused)

    def prepare(self, plan: StepPlan, image: Tensor, *cached: Tensor) -> PreparedStep:
        if self._manifest is None or self._folder is None:
            if image.dtype not in _NUMPY_TYPES:
                raise ConfigurationError(f"precision is {image.dtype}, expected one of {list(EXPORT_PRECISIONS)}")
            model: bytes | str = onnx_step(self.network, plan, image, cached)
            return self._open(model, input_names(self.network, plan), output_names(self.network, plan))
        step = _find(self._manifest, plan, image)
        prepared = self._open(
            str(self._folder / step.file),
            tuple(tensor.name for tensor in step.inputs),
            tuple(tensor.name for tensor in step.outputs),
        )
        batch = self._manifest.batch
        return prepared if image.shape[0] == batch else _InBatches(prepared, batch)

    def _open(self, model: bytes | str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> PreparedStep:
        options = self._onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors; its warnings are about its own optimisations
        # Waiting threads that spin take the processor from the rest of the node, and every step has its own threads.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        providers = [(name, self._options(name)) for name in self.PROVIDERS[self.device.type]]
        try:
            session = self._onnxruntime.InferenceSession(model, options, providers=providers)
        except Exception as error:  # onnxruntime has no base of its own for what its native code raises
            name = "step" if isinstance(model, bytes) else f"'{model}'"
            raise ConfigurationError(f"onnxruntime cannot open {name}: {error}") from error
        if session.get_providers()[0] != providers[0][0]:
            raise ConfigurationError(
                f"onnxruntime could not start {providers[0][0]} and fell back to {session.get_providers()[0]}: "
                "expected a CUDA, cuDNN or TensorRT that fits the onnxruntime-gpu installed; its own log says more"
            )
        return _Session(session, inputs, outputs, self.device)

    def _options(self, provider: str) -> dict[str, Any]:
        if provider == "CPUExecutionProvider":
            return {}
        return {"device_id": self.device.index or 0}


class TensorRTEngine(OnnxRuntimeEngine):
    """As its parent, by TensorRT where it can. Engines take minutes to build and are kept in the export's folder."""

    PROVIDERS: ClassVar[dict[str, tuple[str, ...]]] = {
        "cuda": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
    }

    def _options(self, provider: str) -> dict[str, Any]:
        options = super()._options(provider)
        if provider != "TensorrtExecutionProvider":
            return options
        if self._manifest is None:
            options["trt_fp16_enable"] = next(self.network.parameters()).dtype == torch.float16
        else:
            options["trt_fp16_enable"] = self._manifest.precision == "fp16"
        if self._folder is not None:
            options["trt_engine_cache_enable"] = True
            options["trt_engine_cache_path"] = str(self._folder / "tensorrt")
        return options


class _Session:
    """A prepared step: an onnxruntime session that reads and writes torch's own memory."""

    def __init__(self, session: Any, inputs: tuple[str, ...], outputs: tuple[str, ...], device: torch.device) -> None:
        self._session = session
        self._inputs = inputs
        self._device = device
        shapes = {output.name: tuple(output.shape) for output in session.get_outputs()}
        self._outputs = [(name, shapes[name]) for name in outputs]

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        binding = self._session.io_binding()
        given = [x.contiguous() for x in tensors]
        for name, x in zip(self._inputs, given, strict=True):
            binding.bind_input(name, *self._place(x))
        results = []
        for name, shape in self._outputs:
            results.append(torch.empty(shape, dtype=given[0].dtype, device=self._device))
            binding.bind_output(name, *self._place(results[-1]))
        if self._device.type == "cuda":  # onnxruntime has a stream of its own, and waits for it itself
            torch.cuda.current_stream(self._device).synchronize()
        self._session.run_with_iobinding(binding)
        return tuple(results)

    def _place(self, x: Tensor) -> tuple[Any, ...]:
        return self._device.type, self._device.index or 0, _NUMPY_TYPES[x.dtype], tuple(x.shape), x.data_ptr()


class _InBatches:
    """A step for batches of one size, run on batches of any other: as often as it takes, the last one filled up."""

    def __init__(self, step: PreparedStep, size: int) -> None:
        self._step = step
        self._size = size

    def __call__(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        batches = zip(*(torch.split(x, self._size) for x in tensors), strict=True)
        results = [self._run(*batch) for batch in batches]
        return tuple(torch.cat(parts) for parts in zip(*results, strict=True))

    def _run(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        count = tensors[0].shape[0]
        if count == self._size:
            return self._step(*tensors)
        filled = (torch.cat([x, *[x[-1:]] * (self._size - count)]) for x in tensors)
        return tuple(x[:count] for x in self._step(*filled))


def _find(manifest: Manifest, plan: StepPlan, image: Tensor) -> ExportedStep:
    """The step of that plan; raises ConfigurationError when the export has none that fits the image."""
    height, width = image.shape[2:]
    rows, columns = manifest.info.input_size
    if (height, width) != (rows, columns):
        raise ConfigurationError(
            f"image is {width}x{height} and the export of '{manifest.info.name}' is for {columns}x{rows}: export it "
            f"again with --size {width}x{height}, or give it pictures of its own aspect"
        )
    if image.dtype != EXPORT_PRECISIONS[manifest.precision]:
        raise ConfigurationError(f"precision is {image.dtype} and the export's is {manifest.precision}")
    for step in manifest.steps:
        if step.plan == plan:
            return step
    raise ConfigurationError(
        f"the export of '{manifest.info.name}' has no {plan}; it has {[step.plan for step in manifest.steps]}"
    )
