from __future__ import annotations

from pathlib import Path

import pytest

from tasks.serving.catalogue import Catalogue, CatalogueError, read_catalogue, read_item_table


def write(tmp_path: Path, content: bytes | str, name: str = "items.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_ids_come_before_names_and_shared_names_stand_for_nothing() -> None:
    catalogue = Catalogue(["1", "2", "3"], {"1": "2", "2": "Hamlet", "3": "Hamlet"})
    assert catalogue.encode("2") == 2
    assert catalogue.encode("Hamlet") == 0
    assert [catalogue.name(item) for item in (1, 2, 3)] == ["2", "Hamlet", "Hamlet"]
    assert catalogue.num_items == 3


def test_an_item_whose_raw_id_is_empty_text_is_not_the_padding() -> None:
    assert Catalogue(["", "b"]).encode("") == 1


def test_vocabulary_and_names_are_read(tmp_path: Path) -> None:
    items = write(tmp_path, 'item_id,raw_id\n1,"a,b"\n2,b\n')
    table = write(tmp_path, "\ufeffitem_id,title,year\nb,<script>,1990\nz,not sold\n", "names.csv")
    catalogue = read_catalogue(items, table)
    assert catalogue.split(["a,b", "<script>", "z"]) == ([1, 2], ["z"])
    assert catalogue.name(2) == "<script>"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,price\n1,2\n", "has the columns id, price; expected an id"),
        ("", "has the columns none"),
        ("id,name\n1,A\n1,B\n", "names item '1' twice: 'A' and 'B'"),
        (b"id,name\n1,\xff\n", "can't be read as UTF-8 CSV"),
    ],
    ids=["columns", "empty", "twice", "bytes"],
)
def test_bad_item_tables_are_refused(tmp_path: Path, content, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        read_item_table(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [("raw_id\na\n", "can't be used"), ("item_id,raw_id\n2,a\n", "ids have gaps")],
)
def test_bad_vocabularies_are_refused(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        read_catalogue(write(tmp_path, content))


def test_an_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogueError, match=r"absent\.csv does not exist.*--items"):
        read_item_table(tmp_path / "absent.csv")
