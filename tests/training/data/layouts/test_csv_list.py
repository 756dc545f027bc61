"""A CSV: both ways to write labels, and whatever is wrong said with its line."""

from pathlib import Path

import pytest

from labelwise.errors import DataError
from training.data.layouts import read_data

NAMES = [f"{number}.jpg" for number in range(10)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten empty files: reading the lists looks for them but not into them."""
    for name in NAMES:
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, encoding="utf-8")
    return folder


def lists(header: str = "image,cat,dog", tail: str = "1,0") -> str:
    return "\n".join([header, *(f"{name},{tail}" for name in NAMES)])


def test_a_folder_and_its_csv_read_the_same(folder: Path):
    text = "\ufeffpath,cat,split,dog\n0.jpg,1,train,\n1.jpg, 0 ,train,-1\n2.jpg,0,val,1\n3.jpg,1,valid,0\n"
    data = read_data(write(folder, text))
    assert data.labels == ("cat", "dog")
    assert data.train.files == (folder / "0.jpg", folder / "1.jpg")
    assert data.train.targets.tolist() == [[1, -1], [0, -1]]
    assert data.val.files == (folder / "2.jpg", folder / "3.jpg")
    assert data.val.targets.tolist() == [[0, 1], [1, 0]]
    assert read_data(folder / "labels.csv").describe() == data.describe()
    assert data.describe().train_counts == {"cat": 1, "dog": 0}


def test_numbers_may_be_written_as_pandas_does_where_there_are_gaps(folder: Path):
    data = read_data(write(folder, "image,cat,dog,split\n0.jpg,1.0,,train\n1.jpg,0.0,-1.0,train\n2.jpg,1.0,1,val\n"))
    assert data.train.targets.tolist() == [[1, -1], [0, -1]]


@pytest.mark.parametrize(
    ("present", "absent", "unknown"), [("WAHR", "FALSCH", ""), ("t", "f", "NULL"), ("Y", "N", "NA")]
)
def test_truth_may_be_written_as_other_programs_do(present: str, absent: str, unknown: str, folder: Path):
    rows = [f"0.jpg,{present},{absent},train", f"1.jpg,{absent},{unknown},train", f"2.jpg,{present},NaN,val"]
    data = read_data(write(folder, "\n".join(["image,cat,dog,split", *rows])))
    assert data.train.targets.tolist() == [[1, 0], [0, -1]]
    assert data.val.targets.tolist() == [[1, -1]]


@pytest.mark.parametrize("name", ["", "Unnamed: 0"])
def test_numbers_of_rows_are_no_label(name: str, folder: Path):
    rows = [f"{7 - number},{number}.jpg,1" for number in range(4)]
    assert read_data(write(folder, "\n".join([f"{name},image,cat", *rows]))).labels == ("cat",)
    with pytest.raises(DataError, match=r"column without a name|Unnamed: 0 is '7'"):
        read_data(write(folder, "\n".join([f"{name},image,cat", *rows, rows[0].replace("0.jpg", "9.jpg")])))


def test_val_may_be_given_as_fastai_does(folder: Path):
    data = read_data(write(folder, "filename,cat,is_valid\n0.jpg,1,False\n1.jpg,1,True\n2.jpg,0,False\n"))
    assert data.labels == ("cat",)
    assert data.val.files == (folder / "1.jpg",)
    with pytest.raises(DataError, match="line 3: is_valid must be train, val or test, not ''"):
        read_data(write(folder, "image,cat,is_valid\n0.jpg,1,False\n1.jpg,1,\n"))


def test_without_a_split_a_seeded_fifth_is_val(folder: Path):
    write(folder, lists())
    splits = {seed: read_data(folder, seed).val.files for seed in range(5)}
    assert splits[3] == read_data(folder, 3).val.files
    assert len(set(splits.values())) > 1
    for seed in splits:
        data = read_data(folder, seed)
        assert (len(data.train), len(data.val)) == (8, 2)
        assert not {*data.train.files} & {*data.val.files}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "lists no photos"),
        ("image,cat\n", "lists no photos"),
        (",,\n,,\n", "lists no photos"),
        ("photo,cat\n0.jpg,1", "no column with the photos' paths: name it `image`. Its columns are photo, cat"),
        ("image,cat,\n0.jpg,1,x\n1.jpg,0,", "line 2: 2 values are needed, as in the header, not 3"),
        ("image,,cat\n0.jpg,,1\n1.jpg,x,0", "a column without a name that is not empty in line 3"),
        ("image,labels\n0.jpg,cat, pet", "line 2: 2 values are needed, as in the header, not 3. Put a cell that holds"),
        ("image,split\n0.jpg,train", "no label columns"),
        (lists(tail="1,x"), "line 2: a label must be 1, 0 or, if unknown, -1 or empty"),
        (lists(tail="1,maybe"), "dog is 'maybe'"),
        ("image,cat\n0.jpg,1\n\n1.jpg,2", "line 4: a label must be"),
        ('image,cat\n"0.jpg",1\n1.jpg,"\n0"\n2.jpg,2', "line 5: a label must be"),
        ("image,cat,split\n0.jpg,1,train\n1.jpg,1,train", "2 are train, 0 are val"),
        ("image,cat,split\n0.jpg,1,train\n1.jpg,1,val\n2.jpg,1,trian", "trian"),
        ("image,cat,split\n0.jpg,1,train\n1.jpg,0,val", "val"),  # nothing to score by
        ("image,cat,split\n0.jpg,1,train\n1.jpg,1,val\n0.jpg,1,val", "0.jpg"),  # a photo in both splits
        ("image,cat\n0.jpg,1\n1.jpg,0\n2.jpg,1\n./0.jpg,0", "Remove the duplicates"),  # so which is it?
        ("image,cat,cat\n0.jpg,1,1\n1.jpg,0,0", "columns with the same name: 'cat'"),  # which of the two?
        ("image,caf\u00e9,cafe\u0301\n0.jpg,1,1\n1.jpg,0,0", "columns with the same name: 'café'"),
        ("cat,image\n1,0.jpg\n1\n0,1.jpg", "line 3"),  # a row without its photo
        ("image,cat\n0.jpg,1\n1.jpg,0,1", "line 3"),  # a row with a value too many
    ],
)
def test_what_is_wrong_with_a_list_is_named(text: str, words: str, folder: Path):
    with pytest.raises(DataError) as caught:
        read_data(write(folder, text))
    assert words in str(caught.value)
    assert str(folder) in str(caught.value)


def test_a_list_that_is_no_utf8_is_refused_by_name(folder: Path):
    (folder / "labels.csv").write_bytes("image,größe\n0.jpg,1\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"labels\.csv"):
        read_data(folder)


def test_spaces_around_names_do_not_become_labels(folder: Path):
    """tagger.json refuses them, so they must not get as far as the first epoch."""
    assert read_data(write(folder, lists("image, cat ,dog "))).labels == ("cat", "dog")


def test_missing_photos_are_left_to_the_check_unless_all_are(folder: Path):
    for name in NAMES[:3]:
        (folder / name).unlink()
    data = read_data(write(folder, lists()))
    assert len(data.train) + len(data.val) == 10
    text = "\n".join(["image,cat", *(f"gone{number}.jpg,1" for number in range(12))])
    with pytest.raises(DataError, match=r"No photo of .*labels\.csv is there: .* gone9\.jpg and 2 more should be in "):
        read_data(write(folder, text))


def test_photos_may_lie_in_images_beside_the_list(folder: Path):
    (folder / "images").mkdir()
    (folder / "0.jpg").rename(folder / "images/0.jpg")
    data = read_data(write(folder, lists()))
    assert {folder / "images/0.jpg", folder / "1.jpg"} <= {*data.train.files, *data.val.files}


CELLS = ["1,TRUE,Train,True", "0,false,TRAIN,No", "1.0,FALSE,validation,yes", ",-1.0,Test ,−1"]


def sheet(separator: str = ",", end: str = "\n") -> str:
    """A table as a spreadsheet might save it: a column and rows that were emptied, and words in any case."""
    rows = [
        "Image,cat,dog,Split, bird ,,",
        *(f"{number}.jpg,{cells},," for number, cells in enumerate(CELLS)),
        ",,,,,,",
    ]
    return "".join(row.replace(",", separator) + end for row in [*rows[:2], ",,,,,,", *rows[2:]])


SAVED = {
    "utf-8": sheet().encode(),
    "utf-8 with a mark": sheet(end="\r\n").encode("utf-8-sig"),
    "semicolons, decimal commas": sheet(";", "\r\n").replace("1.0", "1,0").encode("utf-8-sig"),
    "semicolons as Excel says": b"sep=;\r\n" + sheet(";", "\r\n").encode(),
    "unicode text": sheet("\t", "\r\n").encode("utf-16"),
    "utf-16, most significant byte first": "\ufeff".encode("utf-16-be") + sheet(";").encode("utf-16-be"),
    "utf-16 without a mark": sheet().encode("utf-16-le"),
    "utf-32": sheet().encode("utf-32"),
    "carriage returns": sheet(end="\r").encode(),
}


@pytest.mark.parametrize("content", SAVED.values(), ids=SAVED.keys())
@pytest.mark.parametrize("name", ["labels.csv", "Labels.TSV", "labels.txt", "list.txt"])
def test_a_table_is_read_as_spreadsheets_save_it(content: bytes, name: str, folder: Path):
    (folder / name).write_bytes(content)
    data = read_data(folder / name if name == "list.txt" else folder)
    assert data.labels == ("cat", "dog", "bird")
    assert data.train.files == (folder / "0.jpg", folder / "1.jpg")
    assert data.train.targets.tolist() == [[1, 1, 1], [0, 0, 0]]
    assert data.val.targets.tolist() == [[1, 0, 1]]
    assert data.notes[0].startswith("Left out: test (1 photo)")


@pytest.mark.parametrize("text", ["cat\ndog\n", "image\ncat\n", "", "x" * 200_000])
def test_a_list_of_classes_beside_photos_is_no_table(text: str, folder: Path):
    (folder / "labels.txt").write_text(text)
    with pytest.raises(DataError, match="no labelled data at"):
        read_data(folder)


def test_a_line_is_counted_as_an_editor_counts_it(folder: Path):
    text = "sep=;\n\n;;\nimage;cat\n;\n0.jpg;1\n1.jpg;2\n"
    with pytest.raises(DataError, match="line 7: a label must be"):
        read_data(write(folder, text))


def test_a_column_called_exactly_so_comes_before_one_in_another_case(folder: Path):
    data = read_data(write(folder, "Path,image,Split,split\n1,0.jpg,0,train\n0,1.jpg,1,val\n"))
    assert data.labels == ("Path", "Split")
    assert data.train.files == (folder / "0.jpg",)


NAMED = [
    "dog;cat",
    '"dog, cat"',
    '" cat | dog ;"',
    '"[""dog"", ""cat""]"',
    "\"['dog', 'cat']\"",
    '"dog\ncat"',
    '"[dog, cat]"',
]


@pytest.mark.parametrize("names", NAMED)
def test_labels_may_be_named_in_one_column(names: str, folder: Path):
    text = (
        f"image,labels,unknown,split\n0.jpg,{names},,train\n1.jpg,dog,bird;cat,train\n2.jpg,,,train\n3.jpg,cat,,val\n"
    )
    data = read_data(write(folder, text))
    assert data.labels == ("bird", "cat", "dog")
    assert data.train.targets.tolist() == [[0, 1, 1], [-1, -1, 1], [0, 0, 0]]
    assert data.val.targets.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,labels,cat\n0.jpg,dog,1\n1.jpg,dog,0", "other columns too: cat"),
        ("image,labels,unknown\n0.jpg,dog,\n1.jpg,dog;cat,dog", "line 3: dog cannot be present and unknown"),
        ("image,labels\n0.jpg,dog\n1.jpg,[dog", "line 3: labels must be names"),
        ("image,labels\n0.jpg,dog\n1.jpg," + "[" * 100_000, "line 3: labels must be names"),
        ("image,labels\n0.jpg,dog\n1.jpg,[1]", "line 3: labels must be names"),
        (
            'image,labels\n0.jpg,dog\n1.jpg,"""dog; cat"',
            "line 3: labels cannot be read: the quoted name that begins with",
        ),
        ("image,labels\n0.jpg,\n1.jpg,", "names no labels"),
    ],
)
def test_what_is_wrong_with_names_is_named(text: str, words: str, folder: Path):
    with pytest.raises(DataError) as caught:
        read_data(write(folder, text))
    assert words in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_name_in_quotes_may_hold_separators(folder: Path):
    rows = ['0.jpg,"""Smith, John"", cat",train', '1.jpg,"""a;b|c""|cat",train', '2.jpg,"[""Smith, John""]",val']
    data = read_data(write(folder, "\n".join(["image,labels,split", *rows])))
    assert data.labels == ("Smith, John", "a;b|c", "cat")
    assert data.train.targets.tolist() == [[1, 0, 1], [0, 1, 1]]
    assert data.val.targets.tolist() == [[1, 0, 0]]


def test_one_name_in_two_unicode_forms_is_one_label(folder: Path):
    data = read_data(write(folder, "image,labels,split\n0.jpg,caf\u00e9,train\n1.jpg,cafe\u0301 ,val\n"))
    assert data.labels == ("caf\u00e9",)


def test_labels_that_are_written_in_two_ways_are_pointed_out(folder: Path):
    data = read_data(write(folder, "image,labels,split\n0.jpg,hot dog;cat,train\n1.jpg,Hot-Dog; car,val\n"))
    assert data.notes[0] == (
        "Warning: labels differ only by case, white space or punctuation: 'Hot-Dog' and 'hot dog'."
    )


def test_labels_made_of_other_labels_are_pointed_out(folder: Path):
    """As in tables of Kaggle, where spaces separate names."""
    rows = [f"{number}.jpg,{names}" for number, names in enumerate(("scab", "scab rust", "rust", "hot dog") * 2)]
    data = read_data(write(folder, "\n".join(["image,labels", *rows])))
    assert data.labels == ("hot dog", "rust", "scab", "scab rust")
    assert data.notes[0].startswith("Warning: labels consist of other labels: 'scab rust'.")
