"""Plots over two axes: heat maps, clouds of points, paths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tasks.report.charts import (
    CHART_HEIGHT,
    DASHES,
    EDGE,
    LIMIT_COLOUR,
    MODEL_COLOURS,
    Chart,
    Row,
    colours_of,
    themed,
    with_lines,
)

CLOUD_COLOURS = ("#7a5bd6", "#1fa187", "#d9a514")
"""From few to many; single points have to stand out from white and from near-black."""

CELL = 15
"""Height of one row of a heat map, in pixels."""

CIRCLE_POINTS = 90


def heat_map(
    id: str,
    caption: str,
    rows: Sequence[Row],
    *,
    x: str,
    y: str,
    value: str,
    x_title: str,
    y_title: str | None,
    value_title: str,
    extra: Sequence[str] = (),
    between_0_and_1: bool = True,
    framed: str = "",
) -> Chart:
    """Coloured cells over two ordinal axes; ``extra`` fields show when pointed at.

    Cells of rows whose field ``framed`` is true get a frame in the colour of limits.
    """
    import altair as alt

    lines = list(dict.fromkeys(row[y] for row in rows))
    domain = alt.Scale(scheme="viridis", **({"domain": [0, 1]} if between_0_and_1 else {}))
    colour = alt.Color(
        f"{value}:Q",
        title=value_title,
        scale=domain,
        legend=alt.Legend(orient="bottom", gradientLength=160),
    )
    base = (
        alt.Chart(alt.Data(values=list(rows)))
        .mark_rect()
        .encode(
            x=alt.X(f"{x}:O", title=x_title, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y(f"{y}:O", title=y_title, sort=lines, axis=alt.Axis(labelLimit=150)),
            color=colour,
            tooltip=[f"{x}:O", f"{y}:O", *(f"{name}:N" for name in extra), _rounded(value)],
        )
    )
    marked = [row for row in rows if framed and row[framed]]
    if marked:
        frame = alt.Chart(alt.Data(values=marked)).mark_rect(
            fillOpacity=0, stroke=LIMIT_COLOUR, strokeWidth=2
        )
        base = base + frame.encode(x=f"{x}:O", y=alt.Y(f"{y}:O", sort=lines))
    height = min(max(CELL * len(lines), 80), 2 * CHART_HEIGHT)
    return Chart(id, caption, themed(base.properties(height=height)))


def cloud(
    id: str,
    caption: str,
    rows: Sequence[Row],
    colour: str,
    *,
    colour_title: str,
    label: str,
    circle: float | None = None,
) -> Chart:
    """Points at x and y, coloured by a number on a log scale; ``label`` shows when pointed at.

    A dashed ring around the middle may have a radius, in the unit of both axes.
    """
    import altair as alt

    scale = alt.Scale(range=list(CLOUD_COLOURS), type="symlog")
    base = (
        alt.Chart(alt.Data(values=list(rows)))
        .mark_point(filled=True, size=22, opacity=0.75)
        .encode(
            x=alt.X("x:Q", title="first component", scale=alt.Scale(zero=False)),
            y=alt.Y("y:Q", title="second component", scale=alt.Scale(zero=False)),
            color=alt.Color(
                f"{colour}:Q",
                title=colour_title,
                scale=scale,
                legend=alt.Legend(orient="bottom", gradientLength=160),
            ),
            tooltip=[f"{label}:N", f"{colour}:Q"],
        )
    )
    return _square(id, caption, base, circle)


def _square(id: str, caption: str, layers: Any, radius: float | None) -> Chart:
    import altair as alt

    if radius:
        turns = [2 * math.pi * step / CIRCLE_POINTS for step in range(CIRCLE_POINTS + 1)]
        around = [
            {"turn": n, "x": radius * math.cos(turn), "y": radius * math.sin(turn)}
            for n, turn in enumerate(turns)
        ]
        circle = alt.Chart(alt.Data(values=around)).mark_line(
            strokeDash=DASHES, color=LIMIT_COLOUR, strokeWidth=1
        )
        layers = layers + circle.encode(x="x:Q", y="y:Q", order="turn:Q")
    return Chart(id, caption, themed(layers.properties(height=round(1.4 * CHART_HEIGHT))))


def paths(
    id: str,
    caption: str,
    rows: Sequence[Row],
    *,
    who: str,
    label: str,
    circle: float | None = None,
) -> Chart:
    """Connected points at x and y in the order of ``position``; one path per value of ``who``.

    A dashed ring around the middle may have a radius, in the unit of both axes.
    """
    import altair as alt

    names = list(dict.fromkeys(str(row[who]) for row in rows))
    colours = colours_of(names)
    x = alt.X("x:Q", title="first component", scale=alt.Scale(zero=False))
    y = alt.Y("y:Q", title="second component", scale=alt.Scale(zero=False))
    colour = alt.Color(
        f"{who}:N",
        title=who,
        scale=alt.Scale(domain=names, range=colours),
        legend=alt.Legend(orient="bottom", columns=3, labelLimit=120, symbolOpacity=1),
    )
    data = alt.Chart(alt.Data(values=list(rows)))
    line = data.mark_line(opacity=0.5).encode(x=x, y=y, color=colour, order="position:Q")
    # Later events are larger, so that the direction shows.
    points = data.mark_point(filled=True, opacity=0.9).encode(
        x=x,
        y=y,
        color=colour,
        size=alt.Size("position:Q", legend=None, scale=alt.Scale(range=[8, 90], zero=False)),
        tooltip=[f"{who}:N", "position:Q", f"{label}:N"],
    )
    return _square(id, caption, line + points, circle)


def histogram(
    id: str,
    caption: str,
    rows: Sequence[Row],
    *,
    x_title: str,
    y_title: str,
    at_x: Sequence[float] = (),
) -> Chart:
    """Bars from ``low`` to ``high`` as high as ``users``, on a log axis, with dashed lines."""
    import altair as alt

    axis = alt.Scale(type="log", nice=False, **({"padding": EDGE} if at_x else {}))
    bars = (
        alt.Chart(alt.Data(values=list(rows)))
        .mark_bar(color=MODEL_COLOURS[0], binSpacing=1)
        .encode(
            x=alt.X("low:Q", title=x_title, scale=axis, bin="binned"),
            x2="high:Q",
            y=alt.Y("users:Q", title=y_title),
            tooltip=["low:Q", "high:Q", "users:Q"],
        )
    )
    return Chart(id, caption, themed(with_lines(bars, at_x=at_x).properties(height=CHART_HEIGHT)))


def _rounded(field: str) -> object:
    import altair as alt

    return alt.Tooltip(f"{field}:Q", format=".3g")
