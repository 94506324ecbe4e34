"""An official weight file, or any that loads, as safetensors of ours that says what it is."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from tdnet_ros import __version__
from tdnet_ros.errors import CheckpointError
from tdnet_ros.labels import LabelSet
from tdnet_ros.networks.catalog import network_info
from tdnet_ros.networks.checkpoint_pairs import join_pair
from tdnet_ros.networks.checkpoints import Checkpoint, read_checkpoint, save_checkpoint
from tdnet_ros.networks.info import NetworkInfo
from tdnet_ros.networks.loading import AUTO, build_loaded, info_of
from tdnet_ros.networks.metadata import apply_metadata, to_metadata
from tdnet_ros.networks.official_keys import family_of

#: The terms of a file in an official format, when neither it nor the caller says any.
_OFFICIAL_TERMS = (
    "not stated in the file; the weights that TDNet's authors published were trained on Cityscapes, which is for "
    "non-commercial research"
)


#: The same for a pair of AR-Seg.
_PAIR_TERMS = (
    "not stated in the files; the weights that AR-Seg's authors published were trained on CamVid or on Cityscapes, the "
    "latter of which is for non-commercial research"
)


@dataclass(frozen=True)
class Conversion:
    """What was written: the network's facts, the file's metadata and the keys of the source that were left out."""

    info: NetworkInfo
    metadata: dict[str, str]
    output: Path
    left_out: tuple[str, ...]


def convert(
    source: Path | tuple[Path, Path],
    output: Path,
    model: str = AUTO,
    labels: LabelSet | None = None,
    changes: dict[str, Any] | None = None,
    terms: str = "",
    half: bool = False,
    overwrite: bool = False,
) -> Conversion:
    """Read weights, check that they fit and write them with metadata; loading the result gives the same network.

    ``source`` is a file, or the pair of official files (HR, AR) of AR-Seg, of which one file is made.
    ``changes`` are fields of NetworkInfo (``mean``, ``std``, ``input_size``, ``colour_order``) that are other than
    the source's metadata or the catalog say. ``half`` writes half precision. Raises CheckpointError for weights that
    are missing, do not fit or have no place in half precision, and for an output that exists or cannot be written.
    """
    if output.suffix != ".safetensors":
        raise CheckpointError(f"output is '{output}', expected a name that ends in .safetensors")
    if output.exists() and not overwrite:
        raise CheckpointError(f"output is '{output}', which exists: overwriting has to be asked for (--force)")
    paths = (source,) if isinstance(source, Path) else source
    files = [read_checkpoint(path) for path in paths]
    checkpoint = join_pair(*files) if len(files) == 2 else files[0]
    info = replace(info_of(checkpoint, model, labels), **(changes or {}))
    network = build_loaded(checkpoint, info)
    unstated = _PAIR_TERMS if len(files) == 2 else _OFFICIAL_TERMS if family_of(checkpoint.weights) is not None else ""
    metadata = to_metadata(
        network.info,
        terms=terms or checkpoint.metadata.get("terms", unstated),
        source=", ".join(path.name for path in paths),
        source_sha256=", ".join(hashlib.sha256(path.read_bytes()).hexdigest() for path in paths),
        version=__version__,
    )
    # What would not be read is not written.
    terms = apply_metadata(network_info(info.name), metadata, str(output)).terms
    save_checkpoint(output, network.state_dict(), metadata, torch.float16 if half else torch.float32)
    left_out = tuple(key for file in files for key in _left_out(file))
    return Conversion(replace(network.info, terms=terms), metadata, output, left_out)


def _left_out(checkpoint: Checkpoint) -> tuple[str, ...]:
    family = family_of(checkpoint.weights)
    return tuple(key for key in checkpoint.weights if family is not None and family.leaves_out(key))
