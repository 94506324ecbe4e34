"""The training loop: stage after stage, step after step; may be stopped anywhere and gone on with.

All random choices of a step depend on (seed, stage, step, process), so that a checkpoint needs no generator's state.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tdnet_ros.errors import ConfigurationError, TrainingError
from tdnet_ros.labels import label_set
from tdnet_ros.networks import SegmentationNetwork, build_network, network_info
from tdnet_ros.networks.checkpoints import load_weights, read_checkpoint
from tdnet_ros.networks.loading import fitted
from tdnet_ros.networks.paths import MobilePath
from tdnet_ros.training.compression import compress_frames
from tdnet_ros.training.configuration import StageSettings, TrainingConfiguration, parse_configuration
from tdnet_ros.training.datasets import class_shares
from tdnet_ros.training.device_clips import DeviceClips
from tdnet_ros.training.frame_size import resize_frames
from tdnet_ros.training.frame_store import FrameStore, check_frame, read_frames
from tdnet_ros.training.keyframe_clips import KeyframeDrawing
from tdnet_ros.training.losses import class_weights
from tdnet_ros.training.normalisation import normalise
from tdnet_ros.training.parameters import first_blocks, parameter_groups
from tdnet_ros.training.pretrained import load_folded_mobilenet
from tdnet_ros.training.processes import Processes
from tdnet_ros.training.stages import make_stage
from tdnet_ros.training.teacher_maps import load_teacher, make_teacher_maps
from tdnet_ros.training.training_log import TrainingLog
from tdnet_ros.training.training_state import fitting, make_folder, read_state, write_state
from tdnet_ros.training.validation import stream_miou
from tdnet_ros.training.weight_average import WeightAverage

CHECKPOINT = "checkpoint.pt"
BEST = "best.pt"


class Trainer:
    """One training in a folder. ``run`` goes on to the end, or for ``stop_after`` steps."""

    def __init__(
        self,
        configuration: TrainingConfiguration,
        output: Path,
        processes: Processes,
        say: Callable[[str], None],
        resume: bool = False,
    ) -> None:
        self.configuration, self.output, self.processes, self.say = configuration, output, processes, say
        if processes.leads:
            make_folder(output)
        if not resume and (output / CHECKPOINT).exists():
            raise ConfigurationError(f"output is '{output}', which holds a training: --resume, or another folder")
        for index, settings in enumerate(configuration.stages):
            if settings.batch % processes.count:
                raise ConfigurationError(
                    f"stages[{index}].batch is {settings.batch}, expected a multiple of the {processes.count} processes"
                )
        if configuration.precision == "fp16" and processes.device.type != "cuda":
            raise ConfigurationError("precision is 'fp16' on a CPU, expected fp32 or bf16 there")
        torch.manual_seed(configuration.seed)
        info = network_info(configuration.model)
        if configuration.labels:
            info = dataclasses.replace(info, labels=label_set(configuration.labels))
        if configuration.input_size:
            info = dataclasses.replace(info, input_size=(configuration.input_size[0], configuration.input_size[1]))
        network = build_network(info)
        self.frames, selection = read_frames(configuration.data, len(info.labels))
        frames, self.selection = (resize_frames(part, configuration.input_size) for part in (self.frames, selection))
        for frame in self.selection:
            check_frame(frame, len(info.labels), self.selection[0].image.shape)
        coded = configuration.data.compression
        frames = compress_frames(frames, coded, configuration.augmentation.dense_gap_s, configuration.seed)
        store = FrameStore(frames, len(info.labels), processes.device)
        told = configuration.data
        self.clips = DeviceClips(store, configuration.augmentation, told.drive_balance, told.street_share)
        self.drawing = KeyframeDrawing(self.clips, configuration.keyframes)
        shares = torch.tensor(class_shares(frames, len(info.labels)), dtype=torch.float32)
        weights = class_weights(shares)
        self.class_weights = (weights / (weights * shares).sum()).to(processes.device)
        self._start_weights(network)
        for settings in configuration.stages:
            if settings.distils:
                load_teacher(settings, info)  # its errors should not wait until its stage begins
        network.to(processes.device)
        shared = processes.share_network(network)
        assert isinstance(shared, SegmentationNetwork)
        self.network = shared
        self.average: WeightAverage[SegmentationNetwork] = self._new_average()
        self.stage, self.step, self.best = 0, 0, -math.inf
        self.scaler = torch.amp.GradScaler(enabled=configuration.precision == "fp16")
        self._begin_stage()
        if resume:
            with fitting(output / CHECKPOINT):
                self._resume(read_state(output / CHECKPOINT, processes.device))

    @property
    def done(self) -> int:
        """Steps of all stages so far."""
        return sum(stage.steps for stage in self.configuration.stages[: self.stage]) + self.step

    @property
    def total(self) -> int:
        """Steps of all stages."""
        return sum(stage.steps for stage in self.configuration.stages)

    def run(self, stop_after: int | None = None) -> None:
        """Train. Raises TrainingError for a loss that is not finite and a checkpoint that cannot be written."""
        log = TrainingLog(self.output, self.done, self.total, self.say) if self.processes.leads else None
        last = self.total if stop_after is None else min(self.total, self.done + stop_after)
        every = self.configuration
        broken = torch.zeros((), dtype=torch.bool, device=self.processes.device)
        while self.done < last:
            settings = every.stages[self.stage]
            loss = self._train_step(settings)
            broken |= ~torch.isfinite(loss)
            self.step += 1
            done, ends = self.done, self.step == settings.steps
            pause = ends or done == last
            saves = pause or done % every.checkpoint_every == 0
            if saves or done % every.log_every == 0:
                self._check(broken)
            if log is not None and (pause or done % every.log_every == 0):
                rate = self.optimiser.param_groups[-1]["lr"]
                log.write(done, settings.kind, loss=float(loss), rate=rate)
            if self.selection and (ends or done % every.validate_every == 0):
                self._validate(log, settings.kind)
            if ends:
                self._end_stage()
            if saves:
                self._save(CHECKPOINT, self._state())
        if log is not None:
            log.close()

    def published(self) -> dict[str, Tensor]:
        """The weights to publish: the best on the selection sequence in the last stage, else the last average."""
        best = self.output / BEST
        if self.selection and best.is_file():
            weights: dict[str, Tensor] = read_state(best, torch.device("cpu"))["network"]
            return weights
        return self.average.network.state_dict()

    def _train_step(self, settings: StageSettings) -> Tensor:
        here, configuration = self.processes, self.configuration
        seed = (configuration.seed, self.stage, self.step)
        if settings.distils and self.clips.teacher is None:
            self._ask_teacher(settings)
        drawn = self.losses.draw(self.drawing, seed, here.rank, here.count)
        for group in self.optimiser.param_groups:
            group["lr"] = group["base_rate"] * self._rate(settings)
        torch.manual_seed(int(np.random.SeedSequence((*seed, 2, here.rank)).generate_state(1)[0]))
        kind = torch.float16 if configuration.precision == "fp16" else torch.bfloat16
        with torch.autocast(here.device.type, kind, enabled=configuration.precision != "fp32"):
            loss: Tensor = self.stage_module(*drawn)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.step(self.optimiser)
        self.scaler.update()
        self.average.update(self.network)
        return loss.detach()

    def _ask_teacher(self, settings: StageSettings) -> None:
        size, device = self.clips.store.labels.shape[1:], self.processes.device
        self.clips.teacher = make_teacher_maps(settings, self.network.info, self.frames, (size[0], size[1]), device)
        if self.processes.leads:
            self.say(f"teacher    {settings.teacher}, {self.clips.teacher.describe()}")

    def _rate(self, settings: StageSettings) -> float:
        warmup = min(1.0, (self.step + 1) / (self.configuration.optimiser.warmup_steps + 1))
        return float(warmup * (1 - self.step / settings.steps) ** 0.9)

    def _check(self, broken: Tensor) -> None:
        """All processes stop together, or those that go on would wait for the one that stopped."""
        flag = broken.float()
        if self.processes.count > 1:
            torch.distributed.all_reduce(flag)
        if flag > 0:
            kept = f"the last good checkpoint is '{self.output / CHECKPOINT}'"
            kept = kept if (self.output / CHECKPOINT).exists() else "there was no checkpoint yet"
            raise TrainingError(
                f"loss of stage {self.stage} is not finite by step {self.step}, expected a number; {kept}: lower the "
                "rates, or precision bf16 or fp32 for fp16"
            )

    def _validate(self, log: TrainingLog | None, stage: str) -> None:
        if log is not None:
            self.losses.finish(self.average.network)  # what is judged, and may be published, is what the stage makes
            gap_s = self.configuration.augmentation.dense_gap_s
            miou = stream_miou(self.average.network, self.selection, self.processes.device, self.losses.windows, gap_s)
            log.write(self.done, stage, selection_miou=miou)
            if self.stage == len(self.configuration.stages) - 1 and miou > self.best:
                self.best = miou
                self._save(BEST, {"network": self.average.network.state_dict(), "miou": miou, "done": self.done})
        self.processes.wait()

    def _begin_stage(self) -> None:
        settings = self.configuration.stages[min(self.stage, len(self.configuration.stages) - 1)]
        self.clips.teacher = None
        self.losses = make_stage(self.network, settings, self.class_weights)
        self.network.train().requires_grad_(True)
        if settings.freeze_norms:
            for module in self.network.modules():
                if isinstance(module, nn.modules.batchnorm._BatchNorm):
                    module.eval()
        told = self.configuration.optimiser
        for module in (*first_blocks(self.network, told.frozen_blocks), *self.losses.frozen()):
            module.eval().requires_grad_(False)
        for module in self.losses.adapted():
            module.train(not settings.freeze_norms).requires_grad_(True)
        self.stage_module = self.processes.share_gradients(self.losses)
        trained = (self.network, self.losses.training_only())
        self.optimiser = torch.optim.AdamW(parameter_groups(trained, told, settings.rate))

    def _end_stage(self) -> None:
        """The next stage starts from the average, which is what this one has made."""
        self.losses.finish(self.average.network)
        self.stage, self.step = self.stage + 1, 0
        if self.stage < len(self.configuration.stages):
            self.network.load_state_dict(self.average.network.state_dict())
            self.average = self._new_average()
            self._begin_stage()

    def _new_average(self) -> WeightAverage[SegmentationNetwork]:
        return WeightAverage(self.network, self.configuration.optimiser.average_decay)

    def _start_weights(self, network: SegmentationNetwork) -> None:
        configuration = self.configuration
        if configuration.start:
            load_weights(network, fitted(read_checkpoint(configuration.start), network), configuration.model)
        elif configuration.backbone:
            backbones = [part.backbone for part in network.modules() if isinstance(part, MobilePath)]
            if not backbones:
                raise ConfigurationError(
                    f"backbone is for MobileNetV2 paths, expected none for '{configuration.model}'"
                )
            images = self.clips.batch((configuration.seed,), 16, 1).images[0].cpu()
            load_folded_mobilenet(backbones[0], Path(configuration.backbone), normalise(images, network.info))
            for other in backbones[1:]:  # a training may begin with a stage of all sub-networks
                other.load_state_dict(backbones[0].state_dict())

    def _state(self) -> dict[str, Any]:
        return {
            "configuration": json.dumps(dataclasses.asdict(self.configuration)),
            "stage": self.stage,
            "step": self.step,
            "best": self.best,
            "network": self.network.state_dict(),
            "training_only": self.losses.training_only().state_dict(),
            "average": self.average.network.state_dict(),
            "updates": self.average.updates,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
        }

    def _save(self, name: str, state: dict[str, Any]) -> None:
        if self.processes.leads:
            write_state(self.output / name, state)

    def _resume(self, state: dict[str, Any]) -> None:
        # Read as a file would be: fields that are newer than the checkpoint have their defaults in both.
        if parse_configuration(json.loads(state["configuration"])) != self.configuration:
            raise ConfigurationError(f"'{self.output}' holds a training of another configuration: expected the same")
        self.stage, self.step, self.best = state["stage"], state["step"], state["best"]
        self._begin_stage()
        self.network.load_state_dict(state["network"])
        self.losses.training_only().load_state_dict(state.get("training_only", {}))  # older checkpoints have none
        self.average.network.load_state_dict(state["average"])
        self.average.updates = state["updates"]
        self.optimiser.load_state_dict(state["optimiser"])
        self.scaler.load_state_dict(state["scaler"])
