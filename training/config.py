"""Every choice a training run makes, in one frozen model; the CLI sets its fields and the checkpoint keeps them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from labelwise.spec import ImageSpec


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ModelConfig(_Settings):
    """The network; lengths in channels."""

    backbone: str = Field("resnet18d", description="any timm model that supports features_only")
    feature_level: int = Field(3, ge=0, description="which of the backbone's feature maps becomes the tokens")
    pretrained: bool = Field(False, description="start from timm's weights; needs access to its hub")
    drop_path: float = Field(0.05, ge=0, lt=1)
    dim: int = Field(192, ge=8, description="width of tokens, label queries and label-level embeddings")
    heads: int = Field(4, ge=1)
    token_blocks: int = Field(1, ge=0, description="self-attention blocks over the tokens")
    label_blocks: int = Field(1, ge=0, description="self-attention blocks over the labels")
    projection_dim: int = Field(128, ge=2, description="width of the contrastive embeddings")
    dropout: float = Field(0.1, ge=0, lt=1)

    @model_validator(mode="after")
    def _heads_share_the_width(self) -> "ModelConfig":
        if self.dim % self.heads:
            raise ValueError(f"dim {self.dim} cannot be shared by {self.heads} heads")
        return self


class AugmentConfig(_Settings):
    """Random changes to training photos; the probabilities and ranges are per view."""

    min_crop: float = Field(0.4, gt=0, le=1, description="smallest cropped share of the photo's area")
    randaugment_ops: int = Field(2, ge=0)
    randaugment_magnitude: int = Field(6, ge=0, le=30)
    erase: float = Field(0.2, ge=0, le=1, description="probability of erasing a rectangle")
    mixup: float = Field(0.4, ge=0, description="alpha of stage 1's mixup; 0 switches it off")


class TrainConfig(_Settings):
    """One run. Stage 1 is BCE; stage 2 starts from its EMA weights: BCE + gamma * label-level SupCon on two views."""

    model: ModelConfig = ModelConfig()
    augment: AugmentConfig = AugmentConfig()
    image: ImageSpec = ImageSpec(height=128, width=128)
    max_batch: int = Field(32, ge=1, description="largest batch the exported tagger accepts")

    epochs: int = Field(90, ge=0, description="of stage 1")
    contrastive_epochs: int = Field(40, ge=0, description="of stage 2")
    batch_size: int = Field(32, ge=1, description="images a step; stage 2 sees each in two views")
    lr: float = Field(1e-3, gt=0, description="AdamW's peak in stage 1")
    contrastive_lr: float = Field(3e-4, gt=0, description="AdamW's peak in stage 2")
    backbone_lr_scale: float = Field(1.0, ge=0, description="0.1 suits a pretrained backbone")
    weight_decay: float = Field(0.05, ge=0)
    warmup: float = Field(0.1, ge=0, lt=1, description="share of a stage's steps spent rising to the peak rate")
    gamma: float = Field(0.5, ge=0, description="weight of the contrastive loss")
    temperature: float = Field(0.2, gt=0)
    ema_decay: float = Field(0.998, ge=0, lt=1)
    clip_norm: float = Field(5.0, gt=0)

    seed: int = 0
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    device: str = Field("auto", description="auto, cpu, cuda or cuda:N")
    workers: int = Field(1, ge=0, description="processes that augment photos")

    @model_validator(mode="after")
    def _trains_at_all(self) -> "TrainConfig":
        if not self.total_epochs:
            raise ValueError("epochs and contrastive_epochs cannot both be 0")
        return self

    @property
    def total_epochs(self) -> int:
        return self.epochs + self.contrastive_epochs
