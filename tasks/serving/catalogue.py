"""Raw item ids, the integers models see, and the names people read."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

UNKNOWN = 0
"""What `Catalogue.encode` gives for an item the model has never seen: the padding id."""

ID_COLUMNS = ("id", "item_id", "raw_id")
NAME_COLUMNS = ("name", "title")


class CatalogueError(ValueError):
    """A vocabulary or an item table can't be used."""


class Catalogue:
    """Vocabulary of a model, and the names of its items where a table gives them.

    Args:
        raw_ids: raw id of items 1, 2, ..., in the order of the ids.
        names: raw id -> name; items without one are shown by their raw id.

    >>> catalogue = Catalogue(["50", "7"], {"50": "Star Wars", "8": "not in the vocabulary"})
    >>> catalogue.encode("7"), catalogue.encode("Star Wars"), catalogue.encode("8")
    (2, 1, 0)
    >>> catalogue.raw_id(1), catalogue.name(1), catalogue.name(2)
    ('50', 'Star Wars', '7')
    """

    def __init__(self, raw_ids: Sequence[str], names: Mapping[str, str] | None = None) -> None:
        self._raw_ids = ["", *raw_ids]
        self._ids = {raw: number for number, raw in enumerate(raw_ids, start=1)}
        self.names = {raw: name for raw, name in (names or {}).items() if raw in self._ids}
        counts = Counter(self.names.values())
        self._by_name = {n: self._ids[raw] for raw, n in self.names.items() if counts[n] == 1}

    @property
    def num_items(self) -> int:
        """Items in the vocabulary."""
        return len(self._raw_ids) - 1

    def encode(self, text: str) -> int:
        """Id 1..num_items of a raw id, else of a name only one item has; 0 for neither."""
        return self._ids.get(text) or self._by_name.get(text, UNKNOWN)

    def split(self, texts: Iterable[str]) -> tuple[list[int], list[str]]:
        """Encode a history; returns the ids of known items and the texts of unknown ones.

        >>> Catalogue(["a", "b"]).split(["b", "x", "a"])
        ([2, 1], ['x'])
        """
        pairs = [(self.encode(text), text) for text in texts]
        known = [number for number, _ in pairs if number != UNKNOWN]
        return known, [text for number, text in pairs if number == UNKNOWN]

    def raw_id(self, item: int) -> str:
        """Raw id of item 1..num_items."""
        return self._raw_ids[item]

    def name(self, item: int) -> str:
        """Name of item 1..num_items, its raw id where it has none."""
        raw = self._raw_ids[item]
        return self.names.get(raw, raw)


def read_catalogue(items: Path, item_table: Path | None = None) -> Catalogue:
    """Read items.csv of the prepared data, and the names if there is a table.

    Args:
        items: CSV with the columns item_id (1, 2, ...) and raw_id.
        item_table: CSV with an id and a name column; see `read_item_table`.

    Raises:
        CatalogueError: a file is missing or can't be used.
    """
    rows = _rows(items, "Run the prepare stage first: python -m tasks prepare.")
    try:
        numbers = [int(row["item_id"]) for row in rows]
        raw_ids = [row["raw_id"] for row in rows]
    except (KeyError, ValueError, TypeError) as error:
        raise CatalogueError(
            f"{items} can't be used ({error!r}); expected the columns item_id and raw_id. "
            "Run the prepare stage again."
        ) from None
    if numbers != list(range(1, len(numbers) + 1)):
        raise CatalogueError(f"{items}: ids have gaps; expected 1, 2, 3, ... in order.")
    return Catalogue(raw_ids, read_item_table(item_table) if item_table else None)


def read_item_table(path: Path) -> dict[str, str]:
    """Read names of items: a CSV with a header that has an id and a name column.

    Returns:
        Raw id -> name. Rows with an empty id or name are left out: such items keep their id.

    Raises:
        CatalogueError: no such file, not UTF-8, columns missing, or an id with two names.
    """
    rows = _rows(path, "Check recommend.item_table in params.yaml, or --items.")
    header = list(rows[0]) if rows else []
    id_column = next((column for column in ID_COLUMNS if column in header), None)
    name_column = next((column for column in NAME_COLUMNS if column in header), None)
    if id_column is None or name_column is None:
        raise CatalogueError(
            f"{path} has the columns {', '.join(map(str, header)) or 'none'}; expected an id "
            f"({', '.join(ID_COLUMNS)}) and a name ({', '.join(NAME_COLUMNS)}) in its header."
        )
    names: dict[str, str] = {}
    for row in rows:
        raw, name = row[id_column], row[name_column]
        if raw and name and names.setdefault(raw, name) != name:
            raise CatalogueError(
                f"{path} names item {raw!r} twice: {names[raw]!r} and {name!r}. Keep one."
            )
    return names


def _rows(path: Path, hint: str) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return list(csv.DictReader(file))
    except FileNotFoundError:
        raise CatalogueError(f"{path} does not exist. {hint}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CatalogueError(f"{path} can't be read as UTF-8 CSV: {error}. {hint}") from None
