"""Every setting of a training run, in one frozen model. Presets and the CLI set its fields; checkpoints keep them."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from labelwise.spec import ImageSpec
from training.metrics import parse_objective

# bce: pooled features, the plain baseline. supcon: bce and a contrastive loss on the image's one vector (the paper's
# negative result). label-bce: label attention without contrast. mulcon: label attention and label-level contrast.
Method = Literal["bce", "supcon", "label-bce", "mulcon"]
Optimizer = Literal["adamw", "sgd"]
Cache = Literal["auto", "memory", "none"]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(_Settings):
    """The network; lengths in channels."""

    backbone: str = Field("resnet18d", description="any timm model that supports features_only")
    feature_level: Annotated[int, Field(ge=0)] | Literal["last"] = Field(
        3, description="which of the backbone's feature maps becomes the tokens; last: the one its classifier reads"
    )
    pretrained: bool = Field(False, description="start from an installed package's weights, or those of timm's hub")
    weights: Path | None = Field(None, description="start from a local .safetensors or .pth, timm or torchvision names")
    freeze: bool = Field(False, description="keep the pretrained backbone as it is, and train only the head")
    drop_path: float = Field(0.05, ge=0, lt=1)
    head: Literal["label-attention", "ml-decoder", "class-evidence"] = Field(
        "label-attention",
        description="of the label-level methods; ml-decoder is the rival, and takes thousands of labels; "
        "class-evidence is a pretrained classifier at every position, fitted to the labels in seconds",
    )
    queries: Literal["random", "classifier"] = Field(
        "random", description="label-attention: start queries of labels that the pretrained classifier knows from it"
    )
    label_groups: Path | None = Field(
        None, description="a YAML file of labels as groups of ImageNet's classes; without it, labelwise's own"
    )
    dim: int = Field(192, ge=8, description="width of tokens, label queries and label-level embeddings")
    heads: int = Field(4, ge=1)
    token_blocks: int = Field(1, ge=0, description="self-attention blocks over the tokens")
    label_blocks: int = Field(1, ge=0, description="self-attention blocks over the labels")
    image_queries: bool = Field(True, description="add the photo's mean token to each label query")
    groups: int = Field(0, ge=0, description="ml-decoder's queries, each for a group of labels; 0 is one per label")
    projection_dim: int = Field(128, ge=2, description="width of the contrastive embeddings")
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _consistent(self) -> "ModelConfig":
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} cannot be shared by {self.heads} heads")
        if self.pretrained and self.weights:
            raise ValueError("pretrained and weights both name a start: choose one")
        if self.freeze and not self.starts_pretrained:
            raise ValueError("freeze keeps the backbone as it starts: also set pretrained=true or weights=FILE")
        if self.uses_classifier and not (self.pretrained and self.feature_level == "last"):
            raise ValueError("the classifier's classes need pretrained=true and feature_level=last")
        if self.queries == "classifier" and self.head != "label-attention":
            raise ValueError("only the head label-attention has queries to start from the classifier")
        return self

    @property
    def uses_classifier(self) -> bool:
        """Whether the head starts from the rows of the pretrained network's own classifier."""
        return self.head == "class-evidence" or self.queries == "classifier"

    @property
    def starts_pretrained(self) -> bool:
        return self.pretrained or self.weights is not None


class AugmentConfig(_Settings):
    """Random changes to training photos; the probabilities and ranges are per view."""

    min_crop: float = Field(0.4, gt=0, le=1, description="smallest cropped share of the photo's area")
    randaugment_ops: int = Field(2, ge=0)
    randaugment_magnitude: int = Field(6, ge=0, le=30)
    erase: float = Field(0.2, ge=0, le=1, description="probability of erasing a rectangle")
    mixup: float = Field(0.4, ge=0, description="alpha of stage 1's mixup; 0 switches it off")
    frozen_views: int = Field(4, ge=2, description="random views of each photo that a frozen backbone sees, once")


class LossConfig(_Settings):
    """The loss: classification + gamma * contrast, and what later work adds to either."""

    classification: Literal["bce", "asymmetric"] = "bce"
    gamma_present: float = Field(0.0, ge=0, description="asymmetric: focal power of present labels")
    gamma_absent: float = Field(4.0, ge=0, description="asymmetric: focal power of absent labels")
    clip: float = Field(0.05, ge=0, lt=1, description="asymmetric: absent labels scored below this cost nothing")
    gamma: float = Field(0.5, ge=0, description="weight of the contrastive loss")
    temperature: float = Field(0.2, gt=0)
    absent_negatives: int = Field(0, ge=0, description="mulcon: number of absent embeddings that join the denominator")
    memory: int = Field(0, ge=0, description="mulcon: number of confident embeddings kept per label, to contrast with")
    memory_confidence: float = Field(0.8, ge=0, le=1, description="lowest score of an embedding that is kept")
    prototype_weight: float = Field(0.0, ge=0, description="mulcon: weight of learned label prototypes; 0 is off")


class TrainConfig(_Settings):
    """One run. Stage 1 learns to classify. Stage 2 starts from its EMA weights and may contrast two views."""

    method: Method = "mulcon"
    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    loss: LossConfig = LossConfig()
    image: ImageSpec = Field(
        ImageSpec(height=128, width=128),
        description="with pretrained weights, size, interpolation, mean and std are theirs unless set",
    )
    max_batch: int = Field(32, ge=1, description="largest batch the exported tagger accepts")

    epochs: int = Field(90, ge=0, description="of stage 1")
    contrastive_epochs: int = Field(
        40, ge=0, description="of stage 2; without contrast, training continues with two views"
    )
    batch_size: int = Field(32, ge=1, description="images per step, over all processes; stage 2 sees each in two views")
    accumulate: int = Field(1, ge=1, description="parts in which a step is computed; contrast is within a part")
    optimizer: Optimizer = "adamw"
    contrastive_optimizer: Optimizer = "adamw"
    lr: float = Field(1e-3, gt=0, description="peak in stage 1")
    contrastive_lr: float = Field(3e-4, gt=0, description="peak in stage 2")
    backbone_lr_scale: float = Field(1.0, ge=0, description="0.1 suits a pretrained backbone")
    attention_lr_scale: float = Field(1.0, ge=0, description="stage 2: of the head without classifier and projector")
    weight_decay: float = Field(0.05, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of a stage's steps spent rising to the peak rate")
    ema_decay: float = Field(0.998, ge=0, lt=1)
    clip_norm: float = Field(5.0, gt=0)

    thresholds: str = Field("f1", description="objective of each label's threshold: f1, precision=0.9 or recall=0.9")
    seed: int = Field(0, ge=0, lt=2**63)
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto", description="of the network; auto: the faster of fp32 and bf16, measured on CPUs when the run begins"
    )
    memory_format: Literal["auto", "channels_last", "contiguous"] = Field(
        "auto", description="of images and weights; auto: measured as above"
    )
    compile: bool = Field(False, description="torch.compile the model")
    device: str = Field("auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$", description="auto, cpu, cuda, cuda:N or mps")
    workers: int = Field(1, ge=0, description="processes that augment photos, per training process")
    cache: Cache = Field("auto", description="keep decoded photos; auto: if they fit")

    @model_validator(mode="after")
    def _consistent(self) -> "TrainConfig":
        if not self.total_epochs:
            raise ValueError("epochs and contrastive_epochs cannot both be 0")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} cannot be computed in {self.accumulate} equal parts")
        if self.model.head == "class-evidence" and self.method != "label-bce":
            raise ValueError("the head class-evidence is fitted, not contrasted: also set method=label-bce")
        return self

    @field_validator("thresholds")
    @classmethod
    def _known_objective(cls, text: str) -> str:
        parse_objective(text)
        return text

    @property
    def total_epochs(self) -> int:
        return self.epochs + self.contrastive_epochs
