"""The two-stage loop: classification, then also contrast over two views. Scores and saves every epoch."""

import copy
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.utils import ModelEmaV3
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from labelwise.errors import DataError, LabelwiseError
from training.augment import make_transform, mixup
from training.checkpoint import (
    STAGE_1_FILE,
    rounded_to_half,
    save_fitted,
    save_state,
    save_weights,
    state_to_resume,
)
from training.classifier_queries import start_queries
from training.config import TrainConfig
from training.criterion import Criterion, Parts
from training.data.eval_batches import EvalBatches
from training.data.labelled_data import LabelledData
from training.data.shard_reader import ShardedPhotos
from training.data.train_loader import Batch, LoaderSettings, make_train_loader
from training.device import pick_device, pick_memory_format, pick_precision
from training.distributed import World, any_of, broadcast_state, gather, gather_objects
from training.evaluator import EVAL_BATCH, fit, predict
from training.frozen import FEATURES_FOLDER, frozen_batches
from training.metrics import parse_objective
from training.model import LabelAttention, TaggerNetwork, TaggerOutput
from training.optim import make_optimizer, make_schedule
from training.run_log import RunLog
from training.seeding import seed_everything, step_seed
from training.signals import Stopped, stopping_on_signals

_SAVE_EVERY = 600.0  # seconds
# May differ when a run is resumed: they change only where and how fast the same numbers are computed.
_FREE_SETTINGS = {"workers", "device", "cache"}


class Trainer:
    """One run. `run()` continues where the state in the run's folder ends.

    Everything random depends only on seed, epoch, step and photo. So a run may stop after any step and still ends with
    the same weights as an uninterrupted one.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: LabelledData,
        out: Path,
        world: World = World(),
        quiet: bool = False,
        features: Path | None = None,
    ) -> None:
        """`features`: a folder where runs share what their frozen backbone computes; otherwise each run has its own."""
        self.config, self.data, self.out, self.world, self._features = config, data, out, world, features
        self.device = pick_device(config.device, world)
        self.precision = pick_precision(config.precision, self.device)
        self._memory_format = pick_memory_format(config.memory_format)
        seed_everything(config.seed)
        self.model = TaggerNetwork(len(data.labels), config.image, config.model, config.method)
        if config.model.queries == "classifier" and isinstance(self.model.head, LabelAttention):
            start_queries(self.model.head, data.labels, config.model)
        if self.device.type == "cuda" and world.size > 1:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        self.model.to(self.device, memory_format=self._memory_format)
        if config.model.freeze:  # then the features of val are those of the backbone that is saved
            self.model.backbone.load_state_dict(rounded_to_half(self.model.backbone.state_dict()))
            self.model.backbone.requires_grad_(False)
        width = config.model.projection_dim
        self.criterion = Criterion(config.method, config.loss, len(data.labels), width).to(self.device)
        self._compiled = torch.compile(self.model) if config.compile else self.model
        self._loader = make_train_loader(
            data.train,
            LoaderSettings(
                config.image,
                make_transform(config.augment, config.image),
                batch_size=config.batch_size // world.size,
                workers=config.workers,
                seed=config.seed,
                pin_memory=self.device.type == "cuda",
                rank=world.rank,
                world=world.size,
            ),
        )
        self._val = EvalBatches(data.val, config.image, EVAL_BATCH, world.rank, world.size, config.cache)
        self.epoch, self.step, self._losses = 0, 0, {}
        self.best, self._best_metrics = -1.0, {}
        self._stop, self._quiet = False, quiet
        self._begin_stage()

    def run(self) -> dict[str, float]:
        """Train the remaining steps. Returns the metrics of the best epoch, which is saved. Raises Stopped."""
        self._resume()
        folder = self._features or self.out / FEATURES_FOLDER
        if self.config.model.freeze and self.epoch < self.config.total_epochs:
            self._loader, self._val = frozen_batches(self.model.eval(), self.config, self.data, folder, self._quiet)
        weights = [self._views(epoch) * len(self._loader) for epoch in range(self.config.total_epochs)]
        with ExitStack() as stack:
            log = RunLog(self.out, sum(weights), self.epoch, self.world.is_main, self._quiet)
            self._log = stack.enter_context(log)
            stack.enter_context(stopping_on_signals(self.stop))
            while self.epoch < self.config.total_epochs:
                if self.epoch == self.config.epochs and self.step == 0 and self.epoch:
                    self._enter_stage_2()
                title = f"Epoch {self.epoch + 1}/{self.config.total_epochs} (stage {1 + self._is_stage_2})"
                self._log.begin_epoch(title, sum(weights[: self.epoch]) + self.step * self._views(self.epoch))
                self._run_epoch()
        if self.config.model.freeze and self._features is None:
            shutil.rmtree(folder, ignore_errors=True)
        return self._best_metrics

    # -- one epoch ---------------------------------------------------------------------------------------------------

    def _run_epoch(self) -> None:
        started = time.monotonic()
        self._train_epoch()
        rate = self._log.rate()
        metrics = self._evaluate_and_keep()
        parts = {name: total / len(self._loader) for name, total in self._losses.items()}
        lr = self.scheduler.get_last_lr()[-1]
        entry = {"epoch": self.epoch + 1, "stage": 1 + self._is_stage_2, **parts, "lr": lr}
        entry |= {"precision": self.config.precision, "memory_format": self.config.memory_format}
        self.epoch, self.step, self._losses = self.epoch + 1, 0, {}
        self._log.epoch(entry | {"seconds": time.monotonic() - started, "images_per_second": rate} | metrics)
        self._save_state()

    def _train_epoch(self) -> None:
        self.model.train()
        saved = time.monotonic()
        views = self._views(self.epoch)
        for batch in self._batches(views):
            seed_everything(step_seed(self.config.seed, self.epoch, self.step, self.world.rank))
            parts = self._step(batch)
            self.step += 1
            for name, value in parts.items():
                self._losses[name] = self._losses.get(name, 0.0) + value
            self._log.step(parts["loss"], len(batch[1]) * self.world.size, views)
            if any_of(self._stop, self.world, self.device):
                self._save_state()
                raise Stopped(f"Stopped in epoch {self.epoch + 1} after step {self.step}; go on with --resume.")
            if time.monotonic() - saved > _SAVE_EVERY:
                self._save_state()
                saved = time.monotonic()

    def _batches(self, views: int) -> Iterator[Batch]:
        """The remaining batches of the epoch. If a photo cannot be read any more, saves the state first."""
        try:
            yield from self._loader.epoch(self.epoch, views, skip=self.step)
        except DataError as error:
            if not (self.epoch or self.step):  # nothing is learned yet, and a state would block the same command
                raise DataError(f"{error} Repair it, then train again.") from error
            self._save_state()
            raise DataError(f"{error} Repair it, then go on with --resume.") from error

    def _step(self, batch: Batch) -> dict[str, float]:
        """One step of the optimizer. Returns the parts of the loss, and their sum as `loss`."""
        inputs, targets = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        self.optimizer.zero_grad(set_to_none=True)
        totals: dict[str, float] = {}
        size = -(-len(targets) // self.config.accumulate)
        micro_batches = list(zip(inputs.split(size), targets.split(size), strict=True))
        for number, (part_inputs, part_targets) in enumerate(micro_batches, 1):
            share = len(part_targets) / len(targets)
            with self._synchronising(number == len(micro_batches)):
                parts = self._losses_of(part_inputs, part_targets)
                loss = sum(parts.values()) * share
                self.scaler.scale(loss).backward()
            for name, value in (parts | {"loss": sum(parts.values())}).items():
                totals[name] = totals.get(name, 0.0) + value.item() * share
        if not np.isfinite(totals["loss"]):
            raise self._diverged(f"loss became {totals['loss']}")
        self._update()
        return totals

    def _losses_of(self, inputs: torch.Tensor, targets: torch.Tensor) -> Parts:
        """The losses of the joint batch of all processes. targets [b, l].

        inputs: pixels uint8 [b, v, 3, h, w], or features float32 [b, v, t, c] of a frozen backbone.
        """
        views = inputs.shape[1]
        inputs = inputs.transpose(0, 1).flatten(0, 1)  # -> (v b) c h w, or (v b) t c
        if inputs.ndim == 4:
            inputs = inputs.contiguous(memory_format=self._memory_format)
        targets = targets.repeat(views, 1)  # b l -> (v b) l
        soft_targets = targets
        if not self._is_stage_2 and self.config.augment.mixup:
            inputs, soft_targets = mixup(inputs, targets, self.config.augment.mixup)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            output = self.network(inputs)
        joint = TaggerOutput(*(None if x is None else gather(x.float(), self.world) for x in output[:2]), None)
        targets, soft_targets = gather(targets, self.world), gather(soft_targets, self.world)
        return self.criterion(joint, targets, soft_targets, contrast=self._is_stage_2)

    def _update(self) -> None:
        self.scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_([*self.model.parameters(), *self.criterion.parameters()], self.config.clip_norm)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.scheduler.step()
        self._step_count += 1
        self.ema.update(self.model, step=self._step_count)

    def _synchronising(self, is_last: bool) -> Any:
        """Exchange gradients between processes only once per step."""
        return nullcontext() if is_last or self.world.size == 1 else self.network.no_sync()

    # -- stages ------------------------------------------------------------------------------------------------------

    @property
    def _is_stage_2(self) -> bool:
        return self.epoch >= self.config.epochs

    def _views(self, epoch: int) -> int:
        return 2 if epoch >= self.config.epochs else 1

    def _begin_stage(self) -> None:
        """New optimizer, schedule and EMA for the stage of `epoch`."""
        config, is_stage_2 = self.config, self._is_stage_2
        self.optimizer = make_optimizer(self.model, self.criterion, config, is_stage_2)
        epochs = config.contrastive_epochs if is_stage_2 else config.epochs
        self.scheduler = make_schedule(self.optimizer, epochs * len(self._loader), config.warmup)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == torch.float16)
        self.ema = ModelEmaV3(self.model, decay=config.ema_decay, use_warmup=True, warmup_power=3 / 4)
        self._step_count = 0
        self.network = self._compiled
        if self.world.size > 1:  # without contrast, the projector gets no gradient
            has_unused = not is_stage_2 or config.method not in ("supcon", "mulcon")
            self.network = DistributedDataParallel(self._compiled, find_unused_parameters=has_unused)

    def _enter_stage_2(self) -> None:
        """Stage 2 starts from the EMA weights of stage 1."""
        state = self.ema.module.state_dict()
        if self.world.is_main:
            save_weights(self.out / STAGE_1_FILE, state)
        self.model.load_state_dict(state)
        self._begin_stage()

    # -- evaluation and keeping --------------------------------------------------------------------------------------

    def _evaluate_and_keep(self) -> dict[str, float]:
        """Score the calibrated EMA weights, rounded to half, on val. Save exactly these if their mAP is the best.

        Training goes on with weights that are not rounded.
        """
        broadcast_state(self.ema.module, self.world)  # each process has its own batch statistics
        scored = copy.deepcopy(self.ema.module)
        scored.load_state_dict(rounded_to_half(scored.state_dict()))
        parts = gather_objects(predict(scored, self._val), self.world)
        logits = np.concatenate([part for part in parts if len(part)])  # a process may have no photo
        if not np.isfinite(logits).all():
            raise self._diverged("weights became useless")
        fitted = fit(logits, self.data.val.targets, parse_objective(self.config.thresholds))
        if fitted.metrics["mAP"] > self.best:
            self.best, self._best_metrics = fitted.metrics["mAP"], fitted.metrics
            if self.world.is_main:
                save_fitted(self.out, scored, fitted, self.config, self.data)
        return fitted.metrics

    def _diverged(self, what: str) -> LabelwiseError:
        batch = min(self.step + 1, len(self._loader))
        kept = "What was saved before stays. Lower" if self.epoch else "Lower"
        place = (
            f"epoch {self.epoch + 1}, batch {batch} of {len(self._loader)} (step {self._step_count + 1} of the stage)"
        )
        return LabelwiseError(f"The {what} in {place}. {kept} `lr` or `contrastive_lr`, and train into a new --out.")

    # -- stopping and resuming ---------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop after the current step."""
        self._stop = True

    _PLAIN = ("epoch", "step", "best", "_best_metrics", "_losses", "_step_count")
    _STATEFUL = ("model", "criterion", "optimizer", "scheduler", "scaler")

    def _save_state(self) -> None:
        if not self.world.is_main:
            return
        state = {name: getattr(self, name) for name in self._PLAIN}
        state |= {name: getattr(self, name).state_dict() for name in self._STATEFUL}
        save_state(self.out, state | {"ema": self.ema.module.state_dict()} | self._identity())

    def _identity(self) -> dict[str, Any]:
        """What a state and the run that goes on with it have in common."""
        # The order of a stream depends on its workers.
        free = _FREE_SETTINGS - ({"workers"} if isinstance(self.data.train, ShardedPhotos) else set())
        settings = self.config.model_dump(mode="json", exclude=free)
        return {"settings": settings, "data": self.data.describe().fingerprint}

    def _resume(self) -> None:
        state = state_to_resume(self.out, self._identity())
        if state is None:
            return
        # Restores the optimizer of the last step; between the stages, `run` then begins stage 2 with a new one.
        self.epoch = state["epoch"] - (state["step"] == 0)
        self._begin_stage()
        for name in self._PLAIN:
            setattr(self, name, state[name])
        for name in self._STATEFUL:
            getattr(self, name).load_state_dict(state[name])
        self.ema.module.load_state_dict(state["ema"])
