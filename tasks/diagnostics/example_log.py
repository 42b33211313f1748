"""A small made-up log for programs that bring no data."""

from __future__ import annotations

import polars as pl

from tasks.data.synthetic import build_generator, sample_log
from tasks.diagnostics.pipeline_log import log_from_frame
from tasks.diagnostics.subject import RawLog

EXAMPLE_ITEMS = 100
MICROSECONDS = 1_000_000


def example_log(num_items: int = EXAMPLE_ITEMS, *, num_users: int = 300, seed: int = 0) -> RawLog:
    """Sample a log in which every item occurs.

    Args:
        num_items: Catalogue, at least 4.
        num_users: Users; each has 10 to 40 events, and further ones show what has not occurred.
        seed: Of the generator and the sample.
    """
    generator = build_generator(
        num_items=num_items,
        num_tastes=min(4, num_items),
        mixture={"popularity": 0.2, "taste": 0.2, "order1": 0.4, "lag": 0.2},
        zipf_exponent=0.5,
        lag=5,
        branching=min(4, num_items),
        seed=seed,
    )
    pieces = sample_log(generator, num_users=num_users, min_length=10, max_length=40, seed=seed)
    frame = pl.concat(list(pieces))
    missing = sorted(set(range(1, num_items + 1)) - _numbers(frame))
    if missing:
        frame = pl.concat([frame, _showing(missing, frame)])
    frame = frame.with_columns(pl.col("timestamp") * MICROSECONDS).with_row_index("row")
    return log_from_frame(frame.with_columns(pl.col("row").cast(pl.Int64)))


def _numbers(frame: pl.DataFrame) -> set[int]:
    return set(frame["item_id"].str.strip_chars_start("i").cast(pl.Int64))


def _showing(missing: list[int], frame: pl.DataFrame) -> pl.DataFrame:
    """Users who take the items that nobody took, ten each, at least four events per user."""
    width = len(frame["item_id"][0]) - 1
    rows = []
    for start in range(0, len(missing), 10):
        items = missing[start : start + 10]
        items = (items * 4)[: max(len(items), 4)]
        rows += [
            (f"x{start:05d}", f"i{item:0{width}d}", 1_600_000_000 + 86_400 * place)
            for place, item in enumerate(items)
        ]
    return pl.DataFrame(rows, schema=frame.schema, orient="row")
