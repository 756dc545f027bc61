from pathlib import Path

from tests.export.bundled import BUNDLED, write_again


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }


def test_the_bundled_repository_is_what_the_exporter_writes_today(tmp_path: Path):
    """If it is not: python -m tests.export.bundled."""
    write_again(tmp_path / "repository")
    written, bundled = contents(tmp_path / "repository"), contents(BUNDLED)
    assert bundled.keys() == written.keys()
    assert [name for name in written if written[name] != bundled[name]] == []
