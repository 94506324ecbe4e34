"""The training loop: one sub-network first, then all of them over clips.

``python -m tdnet_ros.training.train --data CAMVID --backbone FILE --output DIR`` trains the light model that ships.
The command of new trainings is ``tdnet-ros train`` (trainer.py); this one stays as the way that file was made.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from tdnet_ros.networks.catalog import build_network, network_info
from tdnet_ros.networks.checkpoints import load_weights, read_checkpoint
from tdnet_ros.networks.paths import MobilePath
from tdnet_ros.networks.tdnet import TDNet
from tdnet_ros.training.clip import encode_clip, own_path_scores, recomposed_scores
from tdnet_ros.training.datasets import (
    Augmentation,
    ClipSampler,
    LabelledFrame,
    Pixels,
    class_shares,
    read_labelled_frames,
)
from tdnet_ros.training.losses import class_weights, cross_entropy
from tdnet_ros.training.pretrained import load_folded_mobilenet
from tdnet_ros.training.weight_average import WeightAverage

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. Times are CPU seconds; a stage's learning rate falls to zero over them.

    ``drive_balance`` is ClipSampler's. ``start`` names weights of an earlier training: the first stage is then left
    out and the second one goes on from them.
    """

    model: str = "td2_mnv2"
    seed: int = 1
    batch: int = 4
    single_s: float = 1300.0
    stream_s: float = 2250.0
    backbone_rate: float = 3e-4
    head_rate: float = 2e-3
    stream_factor: float = 0.5
    weight_decay: float = 0.01
    own_path_weight: float = 0.5
    average_decay: float = 0.995
    drive_balance: float = 0.5
    start: str = ""
    augmentation: Augmentation = field(default_factory=Augmentation)


def train(recipe: Recipe, frames: list[LabelledFrame], backbone: Path, output: Path) -> TDNet:
    """Train a model on labelled frames; writes ``OUTPUT/model.pth`` and ``OUTPUT/training.json``."""
    torch.manual_seed(recipe.seed)
    output.mkdir(parents=True, exist_ok=True)
    network = build_network(recipe.model)
    assert isinstance(network, TDNet)
    sampler = ClipSampler(frames, recipe.augmentation, recipe.seed, recipe.drive_balance)
    shares = torch.tensor(class_shares(frames, len(network.info.labels)), dtype=torch.float32)
    weights = class_weights(shares)
    weights = weights / (weights * shares).sum()
    first = network.subnetwork(0)
    if recipe.start:
        load_weights(network, read_checkpoint(recipe.start), recipe.model)
    else:
        assert isinstance(first.path, MobilePath)
        load_folded_mobilenet(first.path.backbone, backbone, _normalise(network, sampler.batch(16, 1)[0][0]))

    def single_loss() -> Tensor:
        images, labels = sampler.batch(recipe.batch, 1)
        encoded = network.encode(_normalise(network, images[0]), 0)
        scores = first.classify(encoded.value, encoded.details)
        return cross_entropy(scores, torch.from_numpy(labels[0]), weights)

    def stream_loss() -> Tensor:
        images, labels = sampler.batch(recipe.batch, len(network.subnetworks))
        order = sampler.random.permutation(len(network.subnetworks))
        return _clip_loss(network, images, labels, [int(p) for p in order], weights, recipe.own_path_weight)

    history = []
    average = WeightAverage(network, recipe.average_decay)
    for stage, seconds, loss_of, rate in (
        ("single", recipe.single_s, single_loss, 1.0),
        ("stream", recipe.stream_s, stream_loss, recipe.stream_factor),
    ):
        if stage == "single" and recipe.start:
            continue
        if stage == "stream" and not recipe.start:
            network.load_state_dict(average.network.state_dict())
            for other in network.subnetworks[1:]:
                for part in ("path", "encoder", "norm", "head"):
                    getattr(other, part).load_state_dict(getattr(first, part).state_dict())
            average = WeightAverage(network, recipe.average_decay)
        optimiser = torch.optim.AdamW(_parameter_groups(network, recipe, rate))
        base_rates = [group["lr"] for group in optimiser.param_groups]
        network.train()
        for step, progress in enumerate(_until(seconds)):
            for group, base in zip(optimiser.param_groups, base_rates, strict=True):
                group["lr"] = base * (1 - progress) ** 0.9
            loss = loss_of()
            optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            average.update(network)
            if step % 50 == 0:
                value = float(loss.detach())
                history.append({"stage": stage, "step": step, "progress": progress, "loss": value})
                log.info("%s step %d, %.0f %% done, loss %.4f", stage, step, 100 * progress, value)
        torch.save(average.network.state_dict(), output / f"{stage}.pth")
    trained = average.network
    torch.save(trained.state_dict(), output / "model.pth")
    (output / "training.json").write_text(json.dumps({"recipe": asdict(recipe), "history": history}, indent=1))
    return trained


def _clip_loss(
    network: TDNet, images: Pixels, labels: Pixels, order: list[int], weights: Tensor, own_path_weight: float
) -> Tensor:
    """Loss of a clip (T, B, H, W, 3): the recomposed scores of the newest frame, and every path's own scores."""
    truths = [torch.from_numpy(frame) for frame in labels]
    encoded = encode_clip(network, [_normalise(network, frame) for frame in images], order)
    total = torch.zeros(())
    for frame, subnetwork, truth in zip(encoded, order, truths, strict=True):
        own = own_path_scores(network, frame, subnetwork)
        total = total + own_path_weight * cross_entropy(own, truth, weights)
    return total + cross_entropy(recomposed_scores(network, encoded, order), truths[-1], weights)


def _normalise(network: TDNet, images: Pixels) -> Tensor:
    """RGB (B, H, W, 3) uint8 -> (B, 3, H, W) float, normalised as the network wants it."""
    x = torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(255)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (network.info.mean, network.info.std))
    return ((x - mean) / std).contiguous(memory_format=torch.channels_last)


def _parameter_groups(network: TDNet, recipe: Recipe, factor: float) -> list[dict[str, object]]:
    """Backbone and the rest at their own rates; no weight decay on norms and biases."""
    groups: list[dict[str, object]] = []
    for in_backbone, rate in ((True, recipe.backbone_rate), (False, recipe.head_rate)):
        for decayed in (True, False):
            chosen = [
                p
                for name, p in network.named_parameters()
                if ("backbone" in name) == in_backbone and (p.dim() > 1) == decayed
            ]
            decay = recipe.weight_decay if decayed else 0.0
            groups.append({"params": chosen, "lr": rate * factor, "weight_decay": decay})
    return groups


def _until(seconds: float) -> Iterator[float]:
    """Progress 0..1 by the process's own CPU time, so that a busy machine does not shorten the training."""
    start = time.process_time()
    while (progress := (time.process_time() - start) / seconds) < 1:
        yield progress


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with sequences.csv")
    parser.add_argument("--backbone", type=Path, required=True, help="folded ImageNet MobileNetV2 weights")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--start", default="", help="go on from these weights, with the second stage alone")
    parser.add_argument("--seed", type=int, default=Recipe.seed)
    parser.add_argument("--batch", type=int, default=Recipe.batch)
    parser.add_argument("--crop", type=int, nargs=2, default=Augmentation.crop, metavar=("H", "W"))
    parser.add_argument("--drive-balance", type=float, default=Recipe.drive_balance)
    parser.add_argument("--single-s", type=float, default=Recipe.single_s, help="CPU seconds of the first stage")
    parser.add_argument("--stream-s", type=float, default=Recipe.stream_s, help="CPU seconds of the second stage")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    recipe = Recipe(
        seed=arguments.seed,
        batch=arguments.batch,
        single_s=arguments.single_s,
        stream_s=arguments.stream_s,
        augmentation=Augmentation(crop=tuple(arguments.crop)),
        drive_balance=arguments.drive_balance,
        start=arguments.start,
    )
    classes = len(network_info(recipe.model).labels)
    frames = read_labelled_frames(arguments.data / "sequences.csv", "train", classes)
    train(recipe, frames, arguments.backbone, arguments.output)


if __name__ == "__main__":
    main()
