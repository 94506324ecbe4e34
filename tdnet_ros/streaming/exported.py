"""A folder of ``tdnet-ros export`` in the place of a weight file."""

from __future__ import annotations

from pathlib import Path

from tdnet_ros.errors import ConfigurationError
from tdnet_ros.networks import AUTO
from tdnet_ros.networks.export import network_without_weights, read_manifest
from tdnet_ros.networks.network import SegmentationNetwork
from tdnet_ros.streaming.engines import EXPORT_ENGINES
from tdnet_ros.streaming.engines.engine import Engine
from tdnet_ros.streaming.runtime import Runtime


def open_export(
    folder: Path, model: str, device: str, precision: str, threads: int, runtime: str
) -> tuple[Runtime, SegmentationNetwork, Engine]:
    """Runtime, network and engine of an export; ``auto`` is the export's model and precision, and ``onnx``.

    Raises CheckpointError for a folder that is no export, ConfigurationError for a setting that is not the export's
    or does not exist here.
    """
    manifest = read_manifest(folder)
    exported = {"model": manifest.info.name, "precision": manifest.precision}
    for name, value in (("model", model), ("precision", precision)):
        if value not in (AUTO, exported[name]):
            raise ConfigurationError(
                f"{name} is '{value}' and weights is an export with {name} '{exported[name]}', expected that or 'auto'"
            )
    engine = "onnx" if runtime == AUTO else runtime
    if engine not in EXPORT_ENGINES:
        raise ConfigurationError(
            f"runtime is '{runtime}' and weights is an export, expected one of {[AUTO, *EXPORT_ENGINES]}"
        )
    where = Runtime(device, manifest.precision, threads, engine)
    network = network_without_weights(manifest)
    return where, network, EXPORT_ENGINES[engine](network, where.device, folder)
