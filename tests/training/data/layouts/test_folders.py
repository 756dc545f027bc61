"""Which names stand for a split, and which only hold such a word."""

import pytest

from training.data.layouts.folders import split_of


@pytest.mark.parametrize(
    ("split", "names"),
    [
        (
            "train",
            "train Train TRAINING train2017 train_set trainset training-images seg_train images_train train_data",
        ),
        ("train", "train_v2 trainval train_val trn"),
        ("val", "val valid validate Validation val2017 dev validation_set"),
        ("test", "test testing TEST test1 test_images test2014 tst evaluation eval"),
        ("other", "sample Samples unlabeled _unlabeled no_label seg_pred"),
        (None, "cat trains trainer contest latest valley testtube Trainspotting images set 2017 été"),
    ],
)
def test_one_word_beside_fillers_and_numbers_names_a_split(split: str | None, names: str):
    assert {name: split_of(name) for name in names.split()} == dict.fromkeys(names.split(), split)


@pytest.mark.parametrize("name", ["train station", "test tube", "crash-test", "sample jar", ""])
def test_more_words_do_not(name: str):
    assert split_of(name) is None
