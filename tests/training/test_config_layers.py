"""Settings in layers: typed, nested, the later layer wins, and a wrong one is named."""

from pathlib import Path

import pytest

from labelwise.errors import LabelwiseError
from training.config import TrainConfig
from training.config_layers import make_config, preset_names, setting_names


def test_settings_are_typed_nested_and_the_last_one_counts():
    config = make_config(
        ["epochs=3", "model.pretrained=true", "augment.mixup=0", "lr=1e-2", "image.resize=crop", "epochs=4"]
    )
    assert (config.epochs, config.lr, config.image.resize) == (4, 0.01, "crop")
    assert config.model.pretrained is True
    assert config.augment.mixup == 0
    assert make_config(["model.pretrained=False"]) == make_config([]) == TrainConfig()


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("image.mean=[0.5,0.5,0.5]", (0.5, 0.5, 0.5)),
        ("image.std=[5e-1, .5, 1]", (0.5, 0.5, 1.0)),
        ("image={height: 64, width: 96}", (64, 96)),
        ("lr=1e-4", 1e-4),
        ("lr = +2E-3 ", 2e-3),
        ("epochs=1e1", 10),
        ("epochs=010", 10),  # YAML 1.1 reads eight
        ("epochs=0x1F", 31),
        ("epochs=0o17", 15),
        ("max_batch=1_0", 10),
        ("model.pretrained=yes", True),
        ("model.image_queries=off", False),
        ("model.weights=null", None),
        ("model.weights=~", None),
        ("model.weights=", None),
        ("model.weights=/photos #2/a: b=c.pth", Path("/photos #2/a: b=c.pth")),
        ("model.weights='null'", Path("null")),
        ('model.backbone="resnet18d"', "resnet18d"),
        ("thresholds=precision=0.9", "precision=0.9"),
        ('thresholds="recall=0.8"', "recall=0.8"),
        ("device=cuda:0", "cuda:0"),
        ("cache=none", "none"),
    ],
)
def test_the_command_line_and_a_file_take_the_same_yaml_values(setting: str, value: object, tmp_path: Path):
    name, _, text = setting.partition("=")
    *parents, leaf = name.strip().split(".")
    config = make_config([setting])
    for parent in parents:
        config = getattr(config, parent)
    found = getattr(config, leaf)
    assert ((found.height, found.width) if leaf == "image" else found) == value
    if "#" not in text:  # where a comment begins in a file
        nested = f"{leaf}: {text}" if not parents else f"{parents[0]}: {{{leaf}: {text}}}"
        (tmp_path / "mine.yaml").write_text(nested + "\n")
        assert make_config([], file=tmp_path / "mine.yaml") == make_config([setting])


def test_a_mapping_sets_its_parts_only():
    config = make_config(["model.dim=64", "model={heads: 2, backbone: resnet10t}", "model.heads=8"])
    assert (config.model.dim, config.model.heads, config.model.backbone) == (64, 8, "resnet10t")
    assert setting_names(["model={dim: 64, heads: 2}", "lr=1", "model.dim=8"]) == ["model.dim", "model.heads", "lr"]


def test_the_presets():
    assert preset_names() == ["everyday", "paper", "pretrained", "small", "tiny"]
    assert make_config([], "small") == TrainConfig()  # the default, said in full
    tiny, paper = make_config([], "tiny"), make_config([], "paper")
    assert (tiny.image.height, tiny.model.backbone) == (64, "resnet10t")
    assert (paper.image.height, paper.model.backbone, paper.model.dim, paper.epochs) == (448, "resnet101", 1024, 25)
    pretrained = make_config([], "pretrained")
    assert (pretrained.model.pretrained, pretrained.image.mean, pretrained.image.height) == (True, (0.5, 0.5, 0.5), 192)
    assert (paper.contrastive_optimizer, paper.contrastive_lr, paper.loss.gamma) == ("sgd", 0.01, 0.5)


def test_a_file_lies_over_the_preset_and_the_command_line_over_both(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text("epochs: 5\nmodel: {dim: 64}\nlr: 0.01\n")
    config = make_config(["lr=0.02"], "tiny", tmp_path / "mine.yaml")
    assert (config.epochs, config.lr, config.model.dim, config.model.backbone) == (5, 0.02, 64, "resnet10t")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["epochs"], "'epochs' is not key=value"),
        (["=3"], "'=3' is not key=value"),
        (["epoch=3"], "epoch:"),
        (["model.dims=8"], "model.dims:"),
        (["model.dim=wide"], "model.dim:"),
        (["epochs=-1"], "epochs:"),
        (["precision=fp8"], "precision:"),
        (["method=magic"], "method:"),
        (["lr=nan"], "lr:"),
        (["loss.gamma=inf"], "loss.gamma:"),
        (["loss.gamma=.inf"], "loss.gamma: Input should be a finite number"),
        (["lr=.NaN"], "lr: Input should be a finite number"),
        (["image=64"], "image: it has parts, which are set as image.NAME=VALUE"),
        (["thresholds=best"], "thresholds:"),
        (["epochs.more=3"], "epochs:"),
        (["epochs=3", "epochs.more=3"], "'epochs.more=3': epochs has no parts"),
        (["model=resnet10t"], "model: it has parts"),
        (["epochs=0", "contrastive_epochs=0"], "epochs"),
        (["model.dim=18"], "heads"),  # 4 heads cannot share 18 channels
        (["batch_size=32", "accumulate=3"], "3 equal parts"),
        (["image.mean=[0.5,0.5"], "'image.mean=[0.5,0.5': the value is not YAML: line 1"),
        (["image.mean=[0.5,0.5]"], "image.mean: a list of three values is needed, as in 'image.mean=[0.5, 0.5, 0.5]'"),
        (["image.mean=[0.5,0.5,0.5,0.5]"], "image.mean: a list of three values is needed"),
        (["image.mean=0.5"], "image.mean: a list of three values is needed"),
        (["image.mean=[a,b,c]"], "image.mean.0:"),
        (["image={1: 2}"], "image.1:"),
        (["seed=" + "9" * 5000], "the value is not YAML"),
        (["model={dims: 8}"], "model.dims:"),
        (["model.pretrained=true", "model.weights=x.pth"], "choose one"),
    ],
)
def test_a_wrong_setting_is_named(settings: list[str], words: str):
    with pytest.raises(LabelwiseError) as caught:
        make_config(settings)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_preset_or_file_is_named(tmp_path: Path):
    with pytest.raises(
        LabelwiseError, match="no preset 'huge': choose one of everyday, paper, pretrained, small, tiny"
    ):
        make_config([], "huge")
    with pytest.raises(LabelwiseError, match=r"none\.yaml cannot be read"):
        make_config([], file=tmp_path / "none.yaml")
    for text, words in (("epochs: [", "is not YAML"), ("- 3", "must hold settings"), ("epochs: many", "epochs:")):
        (tmp_path / "wrong.yaml").write_text(text)
        with pytest.raises(LabelwiseError, match=words):
            make_config([], file=tmp_path / "wrong.yaml")
