"""ISO 8601 text to microseconds."""

from __future__ import annotations

import polars as pl

ISO_PATTERN = (
    r"^(?<date>\d{4}-\d{2}-\d{2})"
    r"(?:[T ](?<clock>\d{2}:\d{2})(?<seconds>:\d{2})?(?<fraction>[.,]\d{1,9})?)?"
    r"\s?(?<zone>Z|UTC|[+-]\d{2}:?\d{2})?$"
)


def parse_iso(text: pl.Series) -> pl.Series:
    """Return int64 microseconds since 1970-01-01 UTC; null where the text is not ISO 8601.

    Date alone or date and time, fraction of up to nine digits, zone optional (UTC without).

    >>> parse_iso(pl.Series(["1970-01-01", "1970-01-01T02:00:01.5+02:00", "1/1/70"])).to_list()
    [0, 1500000, None]
    """
    plain = text.str.to_datetime("%Y-%m-%d %H:%M:%S", time_unit="us", strict=False)
    micros = plain.cast(pl.Int64)
    rest = micros.is_null() & text.is_not_null()
    if not rest.any():
        return micros
    positions = rest.arg_true()
    return micros.scatter(positions, _parse_iso_parts(text.gather(positions)))


def _parse_iso_parts(text: pl.Series) -> pl.Series:
    parts = text.str.strip_chars().str.extract_groups(ISO_PATTERN).struct.unnest()
    zone = pl.col("zone").str.replace_all(":", "")
    minutes = (
        zone.str.slice(1, 2).cast(pl.Int64, strict=False) * 60
        + zone.str.slice(3, 2).cast(pl.Int64, strict=False)
    ) * pl.when(zone.str.starts_with("-")).then(-1).otherwise(1)
    joined = pl.concat_str(
        pl.col("date"),
        pl.lit(" "),
        pl.col("clock").fill_null("00:00"),
        pl.col("seconds").fill_null(":00"),
        pl.col("fraction").fill_null(".0").str.replace(",", ".", literal=True),
    )
    local = joined.str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="us", strict=False)
    shift = minutes.fill_null(0) * 60_000_000
    return parts.select(micros=local.cast(pl.Int64) - shift)["micros"]
