"""Interactive plots as Vega-Lite specifications, drawn by the page itself."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from tasks.report.headline import DISPLAY_NAMES

Row = dict[str, Any]

MODEL_COLOURS = ("#3b7dd8", "#d64545", "#2e9e5b", "#b7791f", "#9a67ea", "#0e96b5", "#cf4a94")
"""Readable on white and on near-black alike."""

LIMIT_COLOUR = "#d64545"
MARK_COLOUR = "#8a94a3"
"""Dashed lines that are no limit."""

DASHES = [4, 4]
EDGE = 12
"""Pixels between the outermost limit and the edge of a plot."""
CHART_HEIGHT = 220


@dataclass(frozen=True)
class Chart:
    """One plot of the page.

    Attributes:
        id: Unique in the page; letters, digits and dashes.
        caption: What is shown and how to read it.
        spec: Vega-Lite specification with its data inside.
    """

    id: str
    caption: str
    spec: dict[str, Any]

    @property
    def json(self) -> str:
        """The specification as JSON that can't end a script element."""
        text = json.dumps(self.spec, separators=(",", ":"), allow_nan=False)
        return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def line_chart(
    id: str,
    caption: str,
    rows: Sequence[Row],
    *,
    x: str,
    y: str,
    colour: str,
    x_title: str,
    y_title: str,
    log_x: bool = False,
    log_y: bool = False,
    limits: Sequence[float] = (),
    at_x: Sequence[float] = (),
    marked: Sequence[tuple[str, float]] = (),
    controls: Sequence[str] = (),
) -> Chart:
    """Lines over a number, one per value of ``colour``.

    Args:
        id: Of the chart.
        caption: What is shown and how to read it.
        rows: Points.
        x: Field across.
        y: Field upwards.
        colour: Field that tells lines apart.
        x_title: Of the axis.
        y_title: Of the axis.
        log_x: Whether the axis is logarithmic.
        log_y: Whether the axis is logarithmic.
        limits: Heights of dashed lines in the colour of limits.
        at_x: Places of upright ones.
        marked: Channel and value of dashed lines that are no limit.
        controls: Values of ``colour`` that others are compared with: dashed like a limit.
    """
    import altair as alt

    scale = alt.Scale(type="log") if log_y else alt.Scale(zero=False)
    # Room beside the data, so that a limit at the edge is not taken for the axis.
    room = {"padding": EDGE} if at_x else {}
    across = alt.Scale(type="log", nice=False, **room) if log_x else None
    across = across or alt.Scale(zero=False, nice=False)
    base = (
        alt.Chart(alt.Data(values=list(rows)))
        .mark_line(point=alt.OverlayMarkDef(size=18))
        .encode(
            # Epochs, steps and positions are whole.
            x=alt.X(
                f"{x}:Q",
                title=x_title,
                scale=across,
                axis=alt.Axis() if log_x else alt.Axis(tickMinStep=1),
            ),
            y=alt.Y(f"{y}:Q", title=y_title, scale=scale),
            color=_colour(colour, rows, controls),
            tooltip=[f"{colour}:N", f"{x}:Q", alt.Tooltip(f"{y}:Q", format=".4g")],
        )
    )
    if controls:
        is_control = alt.FieldOneOfPredicate(field=colour, oneOf=list(controls))
        base = base.encode(
            strokeDash=alt.condition(is_control, alt.value(DASHES), alt.value([1, 0]))
        )
    return Chart(id, caption, finished(base, limits, at_x, marked))


def bar_chart(
    id: str,
    caption: str,
    rows: Sequence[Row],
    *,
    x: str,
    y: str,
    colour: str,
    x_title: str,
    y_title: str,
    order: Sequence[str] | None = None,
    interval: tuple[str, str] | None = None,
    limit: str = "",
) -> Chart:
    """Grouped bars: one group per value of ``x``, one bar per value of ``colour``.

    Fields may give each bar an interval, and a limit, drawn across it where it is not None.
    """
    import altair as alt

    base = (
        alt.Chart(alt.Data(values=list(rows)))
        .mark_bar()
        .encode(
            x=alt.X(
                f"{x}:N",
                title=x_title,
                sort=list(order) if order else None,
                axis=alt.Axis(labelAngle=0, labelLimit=90, labelOverlap=True),
            ),
            xOffset=alt.XOffset(f"{colour}:N", sort=_values(colour, rows)),
            y=alt.Y(f"{y}:Q", title=y_title),
            color=_colour(colour, rows),
            tooltip=[f"{colour}:N", f"{x}:N", alt.Tooltip(f"{y}:Q", format=".4g")],
        )
    )
    # The layers on top share the bars' axes, so that they keep their places.
    place = {
        "x": alt.X(f"{x}:N", sort=list(order) if order else None),
        "xOffset": alt.XOffset(f"{colour}:N", sort=_values(colour, rows)),
    }
    layers = base
    if interval:
        low, high = interval
        whiskers = alt.Chart(alt.Data(values=list(rows))).mark_rule(color="currentColor")
        layers = layers + whiskers.encode(**place, y=f"{low}:Q", y2=f"{high}:Q")
    limited = [row for row in rows if limit and row.get(limit) is not None]
    if limited:
        across = alt.Chart(alt.Data(values=limited)).mark_tick(color=LIMIT_COLOUR, thickness=3)
        layers = layers + across.encode(
            **place, y=f"{limit}:Q", tooltip=[alt.Tooltip(f"{limit}:Q", format=".4g")]
        )
    return Chart(id, caption, finished(layers))


def interval_chart(
    id: str,
    caption: str,
    rows: Sequence[Row],
    *,
    x_title: str,
    limit: float | None = None,
    colour: str = "",
) -> Chart:
    """A point and its interval per row; rows hold label, value, low, high and maybe a colour."""
    import altair as alt

    labels = [row["label"] for row in rows]
    place = alt.Y("label:N", title=None, sort=labels, axis=alt.Axis(labelLimit=190))
    tooltip = ["label:N", *(alt.Tooltip(f"{n}:Q", format=".4f") for n in ("value", "low", "high"))]
    data = alt.Data(values=list(rows))
    scale, axis = alt.Scale(zero=False), alt.Axis(tickCount=6)
    shade = _colour(colour, rows) if colour else alt.value(MODEL_COLOURS[0])
    base = alt.Chart(data).encode(y=place, color=shade)
    across = alt.X("low:Q", title=x_title, scale=scale, axis=axis)
    rules = base.mark_rule(strokeWidth=2).encode(x=across, x2="high:Q")
    point = base.mark_point(filled=True, size=70, opacity=1)
    points = point.encode(x=alt.X("value:Q", scale=scale), tooltip=tooltip)
    layers = rules + points
    if limit is not None:
        line = alt.Chart(alt.Data(values=[{"limit": limit}]))
        layers = layers + line.mark_rule(strokeDash=DASHES, color=LIMIT_COLOUR).encode(x="limit:Q")
    return Chart(
        id, caption, themed(layers.properties(height=max(90, (20 if colour else 30) * len(rows))))
    )


@cache
def javascript_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, so that the page needs no network."""
    import vl_convert

    return str(vl_convert.javascript_bundle()).replace("</script", "<\\/script")


def _values(field: str, rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(row[field]) for row in rows))


def colours_of(values: Sequence[str]) -> list[str]:
    """Return a colour per value; a model of ours has the same one in every plot.

    >>> colours_of(["xLSTM", "mine"]) == [MODEL_COLOURS[6], MODEL_COLOURS[0]]
    True
    """
    own = dict(zip(DISPLAY_NAMES.values(), MODEL_COLOURS, strict=True))
    taken = {own[value] for value in values if value in own}
    # What is no model never looks like a limit.
    usual = [colour for colour in MODEL_COLOURS if colour != LIMIT_COLOUR]
    free = [colour for colour in usual if colour not in taken] or usual
    others = [value for value in values if value not in own]
    rest = {value: free[place % len(free)] for place, value in enumerate(others)}
    return [own.get(value) or rest[value] for value in values]


def _colour(field: str, rows: Sequence[Row], controls: Sequence[str] = ()) -> Any:
    import altair as alt

    values = _values(field, rows)
    colours = [
        LIMIT_COLOUR if value in controls else colour
        for value, colour in zip(values, colours_of(values), strict=True)
    ]
    legend = None
    if len(values) > 1:
        legend = alt.Legend(orient="bottom", columns=3, labelLimit=150, symbolLimit=60)
    scale = alt.Scale(domain=values, range=colours)
    return alt.Color(f"{field}:N", title=None, scale=scale, legend=legend)


def finished(
    base: Any,
    limits: Sequence[float] = (),
    at_x: Sequence[float] = (),
    marked: Sequence[tuple[str, float]] = (),
) -> dict[str, Any]:
    """Add the dashed lines to a chart, the page's size and its colours."""
    return themed(with_lines(base, limits, at_x, marked).properties(height=CHART_HEIGHT))


def with_lines(
    base: Any,
    limits: Sequence[float] = (),
    at_x: Sequence[float] = (),
    marked: Sequence[tuple[str, float]] = (),
) -> Any:
    """Return a chart with dashed lines: at heights, upright ones, and ones that are no limit."""
    import altair as alt

    lines = [("y", limit, LIMIT_COLOUR) for limit in limits]
    lines += [("x", limit, LIMIT_COLOUR) for limit in at_x]
    lines += [(channel, value, MARK_COLOUR) for channel, value in marked]
    for channel, value, colour in lines:
        line = alt.Chart(alt.Data(values=[{"limit": value}]))
        dashed = line.mark_rule(strokeDash=DASHES, color=colour)
        base = base + dashed.encode(**{channel: "limit:Q"})
    return base


def themed(chart: Any) -> dict[str, Any]:
    """Return a chart's specification in the page's colours, light or dark."""
    # `currentColor` follows the page's light or dark ink, because plots are drawn as SVG.
    ink = "currentColor"
    chart = (
        chart.properties(width="container", background="transparent")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=ink,
            titleColor=ink,
            tickColor=ink,
            domainColor=ink,
            gridColor="#8a94a3",
            gridOpacity=0.22,
        )
        .configure_legend(labelColor=ink, titleColor=ink)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Checking every row against the schema takes seconds; the browser draws what is right.
        spec = chart.to_dict(validate=False)
    # The schema's address is never fetched, but a page without addresses is easier to trust.
    spec.pop("$schema", None)
    return spec
