"""The network: what it returns, that every part learns, and what it says of backbones it cannot have."""

import pytest
import torch

from labelwise.errors import LabelwiseError
from labelwise.spec import ImageSpec
from training.config import ModelConfig, TrainConfig
from training.losses import label_supcon, masked_bce
from training.model import TaggerNetwork

LABELS = 3
WIDE = ImageSpec(height=32, width=64)


@pytest.fixture(scope="module")
def tagger(config: TrainConfig) -> TaggerNetwork:
    torch.manual_seed(0)
    return TaggerNetwork(LABELS, WIDE, config.model).eval()


@pytest.fixture
def pixels() -> torch.Tensor:
    return torch.randint(0, 256, (4, 3, 32, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


@torch.inference_mode()
def test_what_it_returns(tagger: TaggerNetwork, pixels: torch.Tensor):
    output = tagger(pixels)
    assert tagger.grid == (4, 8)
    assert output.logits.shape == (4, LABELS)
    assert output.embeddings.shape == (4, LABELS, 8)
    assert output.attention.shape == (4, LABELS, 4, 8)
    torch.testing.assert_close(output.embeddings.norm(dim=-1), torch.ones(4, LABELS))
    torch.testing.assert_close(output.attention.sum(dim=(2, 3)), torch.ones(4, LABELS))
    assert output.logits.std(dim=0).min() > 0  # photos differ
    assert output.logits.std(dim=1).min() > 0  # labels differ


@torch.inference_mode()
def test_bytes_and_floats_mean_the_same_and_photos_do_not_mix(tagger: TaggerNetwork, pixels: torch.Tensor):
    together = tagger(pixels)
    torch.testing.assert_close(tagger(pixels.float()), together)
    torch.testing.assert_close(tagger(pixels[2:3]).logits, together.logits[2:3])


@torch.inference_mode()
def test_normalisation_is_inside(config: TrainConfig, pixels: torch.Tensor):
    taggers = []
    for mean, std in (((0.5, 0.4, 0.3), (0.2, 0.25, 0.5)), ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))):
        torch.manual_seed(0)
        taggers.append(TaggerNetwork(LABELS, WIDE.model_copy(update={"mean": mean, "std": std}), config.model).eval())
    scaled = (pixels / 255 - torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1)) / torch.tensor([0.2, 0.25, 0.5]).view(3, 1, 1)
    torch.testing.assert_close(taggers[0](pixels).logits, taggers[1](scaled * 255).logits, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_attention_says_where(tagger: TaggerNetwork, pixels: torch.Tensor):
    """The maps follow the photo's layout, rows before columns: a patch on the right changes them on the right."""
    changed = pixels.clone()
    changed[..., :16, 48:] = 255 - changed[..., :16, 48:]
    moved = (tagger(changed).attention - tagger(pixels).attention).abs().mean(dim=(0, 1))
    assert moved[:2, 6:].mean() > 2 * moved[2:, :3].mean()


def test_every_parameter_learns(config: TrainConfig, pixels: torch.Tensor):
    torch.manual_seed(0)
    model = TaggerNetwork(LABELS, WIDE, config.model).train()
    output = model(pixels)
    targets = torch.tensor([[1.0, 0.0, 1.0], [1.0, 1.0, 0.0], [0.0, 1.0, -1.0], [1.0, 0.0, 1.0]])
    (masked_bce(output.logits, targets) + label_supcon(output.embeddings, targets, 0.2)).backward()
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    assert all(torch.isfinite(parameter.grad).all() for parameter in model.parameters())


@pytest.mark.parametrize(
    "backbone",
    [
        "test_efficientnet",
        "test_convnext",
        "test_nfnet",
        "test_vit",
        "test_mambaout",  # its feature maps are b h w c, as Swin's are
        "vgg11",  # knows no drop_path_rate, as DenseNet does not
    ],
)
def test_any_family_of_backbones_gives_tokens(backbone: str, config: TrainConfig, pixels: torch.Tensor):
    model = TaggerNetwork(LABELS, WIDE, config.model.model_copy(update={"backbone": backbone})).eval()
    (channels,) = model.backbone.feature_info.channels()
    assert model.head.embed.in_features == channels
    assert model.grid[1] == 2 * model.grid[0]
    with torch.inference_mode():
        assert model(pixels).attention.shape == (4, LABELS, *model.grid)


@pytest.mark.parametrize(
    "change",
    [
        {"backbone": "no_such_network"},
        {"feature_level": 9},
        {"backbone": "vit_tiny_patch16_224"},  # takes 224x224 only
    ],
)
def test_what_cannot_be_made_is_one_line(change: dict[str, object], config: TrainConfig):
    with pytest.raises(LabelwiseError) as caught:
        TaggerNetwork(LABELS, WIDE, ModelConfig.model_validate(config.model.model_dump() | change))
    assert str(next(iter(change.values()))) in str(caught.value)
