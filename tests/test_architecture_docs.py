"""docs/architecture.md is true: the folders, files and types that it names are there, and no folder is missing."""

import re

from tests.conftest import ROOT

DOCUMENT = (ROOT / "docs/architecture.md").read_text()


def test_every_file_it_links_to_is_there() -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)", DOCUMENT)
    assert links
    assert not [link for link in links if not (ROOT / "docs" / link).exists()]


def test_it_names_every_folder_of_code() -> None:
    stages = [folder for folder in ROOT.iterdir() if (folder / "__init__.py").is_file()]
    parts = [folder for folder in (ROOT / "serving").iterdir() if folder.is_dir() and folder.name != "__pycache__"]
    assert len(stages) >= 5
    assert len(parts) >= 5
    names = [f"`{folder.relative_to(ROOT)}/`" for folder in (*stages, *parts)]
    assert [name for name in names if name not in DOCUMENT] == []


def test_every_type_is_where_it_says() -> None:
    rows = re.findall(r"^\| `(\w+)` \| \[([^]]+)\]", DOCUMENT, flags=re.MULTILINE)
    assert len(rows) == 5
    for name, file in rows:
        assert re.search(rf"^class {name}\b", (ROOT / file).read_text(), flags=re.MULTILINE), name
