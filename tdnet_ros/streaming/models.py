"""Which model and which weights are meant, when one of them is not named; and the weights that ship."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from safetensors import safe_open

from tdnet_ros.errors import CheckpointError
from tdnet_ros.networks import AUTO, NetworkInfo, network_info
from tdnet_ros.networks.catalog import CATALOG
from tdnet_ros.networks.checkpoint_pairs import read_pair
from tdnet_ros.networks.checkpoints import read_checkpoint
from tdnet_ros.networks.export import export_folder, read_manifest
from tdnet_ros.networks.loading import Weights, info_of

#: The model that is taken when neither a model nor a weight file is named.
DEFAULT_MODEL = "td2_mnv2"
#: Models that take another's weights as they are, and so ship with these.
_WEIGHTS_OF = {"bdnet_mnv2": "td2_mnv2", "carried_mnv2": "td2_mnv2"}
_SHIPPED_WEIGHTS = Path(__file__).resolve().parent.parent / "weights"


@dataclass(frozen=True)
class ShippedWeights:
    """A weight file that ships: ``name`` tells it from the model's other ones, '' is the model's default."""

    model: str
    name: str
    path: Path

    @property
    def terms(self) -> str:
        """License terms of the weights, for people."""
        with safe_open(self.path, framework="pt") as file:
            said: str = (file.metadata() or {}).get("terms", "")
        return said or "terms not stated"


def choose_weights(model: str, weights: Weights | None) -> Weights:
    """The given weights, else those that ship with the model; ``auto`` without a file is the default model.

    A text that names weights which ship with the model means those: './street' is a file where 'street' is a name.
    One with a comma that is no file means two: AR-Seg's of the high and of the alternating resolution.
    """
    named = DEFAULT_MODEL if model == AUTO else model
    if weights is None:
        return shipped_weights(named)
    if not isinstance(weights, str):
        return weights
    found = [each.path for each in shipped_for(named) if each.name == weights]
    if weights and found:
        return found[0]
    high, comma, low = weights.partition(",")
    return (high.strip(), low.strip()) if comma and not Path(weights).exists() else weights


def model_info(model: str = AUTO, weights: Path | str | None = None) -> NetworkInfo:
    """What a segmenter of that model and those weights will say of its network, without building it.

    Raises ConfigurationError and CheckpointError as ``Segmenter`` does, but does not see whether the weights fit.
    """
    chosen = choose_weights(model, weights)
    folder = export_folder(chosen)
    if folder is not None:
        return read_manifest(folder).info
    return info_of(read_pair(*chosen) if isinstance(chosen, tuple) else read_checkpoint(chosen), model)


def shipped_weights(model: str, name: str = "") -> Path:
    """The weight file of that name that ships with a model, by default its default.

    Raises ConfigurationError for a model that there is not, CheckpointError for one that has no such file.
    """
    network_info(model)
    found = [each.path for each in shipped_for(model) if each.name == name]
    if not found:
        which = f"weights '{name}'" if name else "weights"
        with_some = [other for other in CATALOG if name in {each.name for each in shipped_for(other)}]
        raise CheckpointError(
            f"weights is not set and model '{model}' ships without {which} "
            f"(these ship with some: {with_some}): name a weight file"
        )
    return found[0]


def shipped_for(model: str) -> list[ShippedWeights]:
    """The weight files that ship and that the model takes; ``bdnet_mnv2`` and ``carried_mnv2`` take ``td2_mnv2``'s."""
    owner = _WEIGHTS_OF.get(model, model)
    return [each for each in list_shipped_weights() if each.model == owner]


def list_shipped_weights() -> list[ShippedWeights]:
    """The weight files that ship with the package: MODEL.safetensors and MODEL_NAME.safetensors."""
    shipped = []
    for path in sorted(_SHIPPED_WEIGHTS.glob("*.safetensors")):
        models = [model for model in CATALOG if f"{path.stem}_".startswith(f"{model}_")]
        if models:
            model = max(models, key=len)
            shipped.append(ShippedWeights(model, path.stem[len(model) + 1 :], path))
    return shipped
