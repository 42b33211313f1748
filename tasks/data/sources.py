"""The named sources of interaction logs, one entry each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GROUPLENS = "https://files.grouplens.org/datasets/movielens"

MOVIELENS_LICENCE = (
    "MovieLens data, (c) GroupLens Research, University of Minnesota. For research use; not for "
    "redistribution or commercial use without permission of GroupLens; publications must cite "
    "F. M. Harper and J. A. Konstan (2015), The MovieLens Datasets: History and Context, ACM "
    "Transactions on Interactive Intelligent Systems 5(4):19, https://doi.org/10.1145/2827872. "
    "Full terms: https://files.grouplens.org/datasets/movielens/{readme}"
)


@dataclass(frozen=True)
class ArchiveOrigin:
    """A zip archive on the web.

    Attributes:
        url: https address.
        sha256: SHA-256 of the archive.
        member: The log inside it.
    """

    url: str
    sha256: str
    member: str

    @property
    def place(self) -> str:
        """Where the log comes from, in words."""
        return self.url


@dataclass(frozen=True)
class WheelOrigin:
    """A data file inside a wheel of the Python package index; the wheel is never installed.

    Attributes:
        requirement: Exact requirement, ``name==version``.
        sha256: SHA-256 of the member as it is in the wheel.
        member: The log inside the wheel.
        header_lines: Lines to drop from its beginning.
    """

    requirement: str
    sha256: str
    member: str
    header_lines: int

    @property
    def place(self) -> str:
        """Where the log comes from, in words."""
        return f"the Python package index, {self.requirement}, {self.member}"


Origin = ArchiveOrigin | WheelOrigin


@dataclass(frozen=True)
class Source:
    """One named source.

    Attributes:
        name: Value of ``data.source``.
        title: What it is, in a line.
        licence: Terms, shown whenever the log is fetched.
        file_name: Name of the log in ``data/raw``.
        sha256: SHA-256 of that file; "" where the archive's checksum is the only one known.
        num_users: Users, 0 where it depends on settings or the file.
        num_items: Items with an event, 0 as above.
        num_rows: Events, 0 as above.
        origins: Places to get it from, tried in order.
        reading: Arguments ``read_interactions`` needs for it.
    """

    name: str
    title: str
    licence: str
    file_name: str = ""
    sha256: str = ""
    num_users: int = 0
    num_items: int = 0
    num_rows: int = 0
    origins: tuple[Origin, ...] = ()
    reading: Mapping[str, str] = field(default_factory=dict)


# RecBole's wheel holds u.data with a line of column names before it and no other change: without
# that line its SHA-256 is the one of GroupLens' file. Both origins therefore give the same bytes,
# row order (on which ties of time depend) included.
MOVIELENS_100K = Source(
    name="movielens-100k",
    title="MovieLens 100K: 100,000 ratings of films, September 1997 to April 1998",
    licence=MOVIELENS_LICENCE.format(readme="ml-100k-README.txt"),
    file_name="u.data",
    sha256="06416e597f82b7342361e41163890c81036900f418ad91315590814211dca490",
    num_users=943,
    num_items=1682,
    num_rows=100_000,
    origins=(
        ArchiveOrigin(
            url=f"{GROUPLENS}/ml-100k.zip",
            sha256="50d2a982c66986937beb9ffb3aa76efe955bf3d5c6b761f4e3a7cd717c6a3229",
            member="ml-100k/u.data",
        ),
        WheelOrigin(
            requirement="recbole==1.2.1",
            sha256="4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",
            member="recbole/dataset_example/ml-100k/ml-100k.inter",
            header_lines=1,
        ),
    ),
    reading={
        "format": "tsv",
        "user_column": "column_1",
        "item_column": "column_2",
        "rating_column": "column_3",
        "time_column": "column_4",
        "time_unit": "s",
    },
)

MOVIELENS_1M = Source(
    name="movielens-1m",
    title="MovieLens 1M: a million ratings of films, 2000 to 2003",
    licence=MOVIELENS_LICENCE.format(readme="ml-1m-README.txt"),
    file_name="ratings.dat",
    num_users=6040,
    num_items=3706,
    num_rows=1_000_209,
    origins=(
        ArchiveOrigin(
            url=f"{GROUPLENS}/ml-1m.zip",
            sha256="a6898adb50b9ca05aa231689da44c217cb524e7ebd39d264c56e2832f2c54e20",
            member="ml-1m/ratings.dat",
        ),
    ),
    reading={**MOVIELENS_100K.reading, "format": "dat"},
)

MOVIELENS_20M = Source(
    name="movielens-20m",
    title="MovieLens 20M: twenty million ratings of films, 1995 to 2015",
    licence=MOVIELENS_LICENCE.format(readme="ml-20m-README.html"),
    file_name="ratings.csv",
    num_users=138_493,
    num_items=26_744,
    num_rows=20_000_263,
    origins=(
        ArchiveOrigin(
            url=f"{GROUPLENS}/ml-20m.zip",
            sha256="96f243c338a8665f6bcc89c53edf6ee39162a846940de6b7c8c48aeada765ff3",
            member="ml-20m/ratings.csv",
        ),
    ),
    reading={
        "format": "csv",
        "user_column": "userId",
        "item_column": "movieId",
        "rating_column": "rating",
        "time_column": "timestamp",
        "time_unit": "s",
    },
)

SYNTHETIC = Source(
    name="synthetic",
    title="Synthetic log with a known best possible score, generated offline from a seed",
    licence="Generated by this program; no terms apply.",
    file_name="synthetic.csv",
    reading={
        "format": "csv",
        "user_column": "user_id",
        "item_column": "item_id",
        "rating_column": "",
        "time_column": "timestamp",
        "time_unit": "s",
    },
)

FILE = Source(
    name="file",
    title="A log of your own: data.path and the data.*_column settings",
    licence="The terms of your data apply; nothing leaves this machine.",
)

SOURCES = (MOVIELENS_100K, MOVIELENS_1M, MOVIELENS_20M, SYNTHETIC, FILE)


def find_source(name: str) -> Source:
    """Return the source of a name.

    Raises:
        ValueError: There is no such source.

    >>> find_source("movielens-100k").num_users
    943
    """
    for source in SOURCES:
        if source.name == name:
            return source
    known = ", ".join(source.name for source in SOURCES)
    raise ValueError(f"data.source is {name!r}; expected one of {known}.")


def list_sources() -> list[dict]:
    """Describe every source with JSON-ready values, for a command line to print.

    >>> [entry["name"] for entry in list_sources()][-2:]
    ['synthetic', 'file']
    """
    return [
        {
            "name": source.name,
            "title": source.title,
            "num_users": source.num_users,
            "num_items": source.num_items,
            "num_rows": source.num_rows,
            "licence": source.licence,
            "origins": [origin.place for origin in source.origins],
        }
        for source in SOURCES
    ]
