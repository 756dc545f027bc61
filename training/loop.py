"""The two-stage loop: BCE, then BCE + label-level SupCon over two views; evaluated and saved after every epoch."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from timm.utils import ModelEmaV3
from torch import nn
from torch.utils.data import DataLoader

from labelwise.errors import LabelwiseError
from training.augment import OVERSIZE, make_transform, mixup
from training.checkpoint import HISTORY_FILE, load_state, make_spec, save_state, save_weights
from training.config import TrainConfig
from training.data import LabelledData, Views, decode_all
from training.device import pick_device, pick_precision, seed_everything
from training.losses import label_supcon, masked_bce
from training.metrics import evaluate, fit_thresholds
from training.model import Tagger

Batch = tuple[torch.Tensor, torch.Tensor]
EVAL_BATCH = 64


class Trainer:
    """One run on one device. `run()` trains from wherever the run's folder says it stopped."""

    def __init__(self, config: TrainConfig, data: LabelledData, out: Path) -> None:
        self.config, self.data, self.out = config, data, out
        self.device = pick_device(config.device)
        self.precision = pick_precision(config.precision, self.device)
        seed_everything(config.seed)
        self.model = Tagger(len(data.labels), config.image, config.model).to(
            self.device, memory_format=torch.channels_last
        )
        self.epoch = 0
        self.best = -1.0
        self._val_pixels = decode_all(data.val.files, config.image, progress=_bar("Reading val", len(data.val)))
        self._train_pixels = decode_all(
            data.train.files, config.image, OVERSIZE, progress=_bar("Reading train", len(data.train))
        )
        self._begin_stage()

    def run(self) -> dict[str, float]:
        """Train the epochs that are left; returns the metrics of the best epoch, which is the one saved."""
        self._resume()
        while self.epoch < self.config.total_epochs:
            if self.epoch == self.config.epochs:
                self._enter_stage_2()
            started = time.monotonic()
            loss = self._train_epoch()
            self.epoch += 1
            metrics = self._evaluate_and_keep()
            self._log({"epoch": self.epoch, "loss": loss, "seconds": time.monotonic() - started, **metrics})
            save_state(self.out, self._state())
        return self._best_metrics

    # -- one epoch ---------------------------------------------------------------------------------------------------

    def _train_epoch(self) -> float:
        self.model.train()
        seed_everything(self.config.seed + 1 + self.epoch)  # so that a resumed epoch sees the same photos
        title = f"Epoch {self.epoch + 1}/{self.config.total_epochs} (stage {1 + self._contrastive})"
        losses = [self._step(batch) for batch in _bar(title, len(self._loader))(self._loader)]
        return float(np.mean(losses))

    def _step(self, batch: Batch) -> float:
        pixels, targets = (tensor.to(self.device, non_blocking=True) for tensor in batch)
        views = pixels.shape[1]
        pixels = pixels.transpose(0, 1).flatten(0, 1)  # b v c h w -> (v b) c h w
        targets = targets.repeat(views, 1)  # b l -> (v b) l
        loss = self._loss(pixels.contiguous(memory_format=torch.channels_last), targets)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.scheduler.step()
        self._step_count += 1
        self.ema.update(self.model, step=self._step_count)
        if not torch.isfinite(loss):
            raise self._diverged(f"loss became {loss.item()}", self.epoch + 1)
        return loss.item()

    def _loss(self, pixels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        config = self.config
        soft_targets = targets
        if not self._contrastive and config.augment.mixup:
            pixels, soft_targets = mixup(pixels, targets, config.augment.mixup)
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            output = self.model(pixels)
        loss = masked_bce(output.logits.float(), soft_targets)
        if self._contrastive:
            loss = loss + config.gamma * label_supcon(output.embeddings.float(), targets, config.temperature)
        return loss

    # -- stages ------------------------------------------------------------------------------------------------------

    @property
    def _contrastive(self) -> bool:
        return self.epoch >= self.config.epochs

    def _begin_stage(self) -> None:
        """Fresh optimizer, schedule, EMA and loader for the stage that `epoch` lies in."""
        config, contrastive = self.config, self._contrastive
        peak = config.contrastive_lr if contrastive else config.lr
        epochs = config.contrastive_epochs if contrastive else config.epochs
        self._loader = self._make_loader(views=2 if contrastive else 1)
        groups = _parameter_groups(self.model, peak, config)
        self.optimizer = torch.optim.AdamW(groups, lr=peak)
        steps = max(1, epochs * len(self._loader)) + 1
        self.scheduler = torch.optim.lr_scheduler.OneCycleLR(
            self.optimizer,
            max_lr=[group["lr"] for group in groups],
            total_steps=steps,
            pct_start=min(1.0, max(config.warmup, 2 / steps)),  # a rise of one step would be a division by zero
            cycle_momentum=False,
        )
        self.ema = ModelEmaV3(self.model, decay=config.ema_decay, use_warmup=True, warmup_power=3 / 4)
        self._step_count = 0

    def _enter_stage_2(self) -> None:
        """Stage 2 starts from stage 1's EMA weights."""
        self.model.load_state_dict(self.ema.module.state_dict())
        self._begin_stage()

    def _make_loader(self, views: int) -> DataLoader[Batch]:
        transform = make_transform(self.config.augment, self.config.image)
        dataset = Views(self._train_pixels, self.data.train.targets, transform, views)
        batch_size = min(self.config.batch_size, len(dataset))
        return DataLoader(
            dataset,
            batch_size,
            shuffle=True,
            drop_last=True,
            num_workers=self.config.workers,
            pin_memory=self.device.type == "cuda",
        )

    # -- evaluation and keeping --------------------------------------------------------------------------------------

    def _evaluate_and_keep(self) -> dict[str, float]:
        """Score the EMA weights on val; save exactly these weights when they are the best so far (by mAP)."""
        scores = predict(self.ema.module, self._val_pixels, self.device)
        if not np.isfinite(scores).all():
            raise self._diverged("weights became useless", self.epoch)
        thresholds = fit_thresholds(scores, self.data.val.targets)
        metrics = evaluate(scores, self.data.val.targets, thresholds)
        if metrics["mAP"] > self.best:
            self.best, self._best_metrics = metrics["mAP"], metrics
            digest = save_weights(self.out, self.ema.module)
            spec = make_spec(
                self.config, self.data.labels, self.model.grid, self.data.describe(), list(thresholds), metrics, digest
            )
            spec.write(self.out)
        return metrics

    @staticmethod
    def _diverged(what: str, epoch: int) -> LabelwiseError:
        return LabelwiseError(f"The {what} in epoch {epoch}: lower `lr` and try again.")

    def _log(self, entry: dict[str, Any]) -> None:
        entry = {key: round(value, 4) if isinstance(value, float) else value for key, value in entry.items()}
        with (self.out / HISTORY_FILE).open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
        print("  ".join(f"{key} {value}" for key, value in entry.items()), flush=True)

    # -- resuming ----------------------------------------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        return {
            "config": self.config.model_dump(mode="json"),
            "data": self.data.describe().fingerprint,
            "epoch": self.epoch,
            "best": self.best,
            "best_metrics": self._best_metrics,
            "step_count": self._step_count,
            "model": self.model.state_dict(),
            "ema": self.ema.module.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
        }

    def _resume(self) -> None:
        state = load_state(self.out)
        if state is None:
            return
        if state["config"] != self.config.model_dump(mode="json"):
            raise LabelwiseError(
                f"{self.out} was trained with other settings: resume with the same, or use a new --out."
            )
        if state["data"] != self.data.describe().fingerprint:
            raise LabelwiseError(f"{self.out} was trained on other data: resume with the same, or use a new --out.")
        # The optimizer to restore is that of the last finished epoch; at the seam stage 2 begins afresh in `run`.
        self.epoch = state["epoch"] - 1
        self._begin_stage()
        self.epoch = state["epoch"]
        self.best, self._best_metrics = state["best"], state["best_metrics"]
        self._step_count = state["step_count"]
        self.model.load_state_dict(state["model"])
        self.ema.module.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])


@torch.inference_mode()
def predict(model: nn.Module, pixels: np.ndarray, device: torch.device) -> np.ndarray:
    """Scores float32 [n, l] of uint8 pixels [n, h, w, 3], in full precision."""
    model.eval()
    batches: Iterator[torch.Tensor] = torch.from_numpy(pixels).split(EVAL_BATCH)
    scores = [model(batch.to(device).permute(0, 3, 1, 2)).logits.sigmoid().cpu() for batch in batches]
    return torch.cat(scores).numpy()


def _parameter_groups(model: nn.Module, peak: float, config: TrainConfig) -> list[dict[str, Any]]:
    """Backbone and head at their own rates; norms, biases and other vectors without weight decay."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        key = (name.startswith("backbone."), parameter.ndim >= 2 and "queries" not in name and "position" not in name)
        groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": peak * (config.backbone_lr_scale if is_backbone else 1),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_backbone, decays), parameters in groups.items()
    ]


def _bar(title: str, total: int) -> Any:
    return lambda items: track(items, description=title, total=total, transient=True)
