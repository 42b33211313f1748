"""Interactive plots as Vega-Lite specifications, drawn by the page itself."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

Row = dict[str, Any]

MODEL_COLOURS = ("#2f5fd0", "#c1121f", "#1a7f37", "#9a6700", "#8250df", "#0a7ea4", "#bf3989")
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
    log_y: bool = False,
    limit: float | None = None,
) -> Chart:
    """Lines over a number, one per value of ``colour``, with a dashed line at ``limit``."""
    import altair as alt

    scale = alt.Scale(type="log") if log_y else alt.Scale(zero=False)
    base = (
        alt.Chart(alt.Data(values=list(rows)))
        .mark_line(point=alt.OverlayMarkDef(size=18))
        .encode(
            x=alt.X(f"{x}:Q", title=x_title),
            y=alt.Y(f"{y}:Q", title=y_title, scale=scale),
            color=_colour(colour, rows),
            tooltip=[f"{colour}:N", f"{x}:Q", alt.Tooltip(f"{y}:Q", format=".4g")],
        )
    )
    return Chart(id, caption, _finished(base, limit))


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
) -> Chart:
    """Grouped bars: one group per value of ``x``, one bar per value of ``colour``."""
    import altair as alt

    base = (
        alt.Chart(alt.Data(values=list(rows)))
        .mark_bar()
        .encode(
            x=alt.X(f"{x}:N", title=x_title, sort=list(order) if order else None),
            xOffset=alt.XOffset(f"{colour}:N", sort=_values(colour, rows)),
            y=alt.Y(f"{y}:Q", title=y_title),
            color=_colour(colour, rows),
            tooltip=[f"{colour}:N", f"{x}:N", alt.Tooltip(f"{y}:Q", format=".4g")],
        )
    )
    return Chart(id, caption, _finished(base, None))


def interval_chart(
    id: str, caption: str, rows: Sequence[Row], *, x_title: str, limit: float | None = None
) -> Chart:
    """A point and its interval per row; rows hold label, value, low and high."""
    import altair as alt

    labels = [row["label"] for row in rows]
    place = alt.Y("label:N", title=None, sort=labels)
    tooltip = ["label:N", *(alt.Tooltip(f"{n}:Q", format=".4f") for n in ("value", "low", "high"))]
    data = alt.Data(values=list(rows))
    scale = alt.Scale(zero=False)
    rules = (
        alt.Chart(data)
        .mark_rule(strokeWidth=2, color=MODEL_COLOURS[0])
        .encode(y=place, x=alt.X("low:Q", title=x_title, scale=scale), x2="high:Q")
    )
    points = (
        alt.Chart(data)
        .mark_point(filled=True, size=70, color=MODEL_COLOURS[0])
        .encode(y=place, x=alt.X("value:Q", scale=scale), tooltip=tooltip)
    )
    layers = rules + points
    if limit is not None:
        line = alt.Chart(alt.Data(values=[{"limit": limit}]))
        layers = layers + line.mark_rule(strokeDash=[4, 4], color="#c1121f").encode(x="limit:Q")
    return Chart(id, caption, _themed(layers.properties(height=max(90, 30 * len(rows)))))


def heat_map(
    id: str,
    caption: str,
    rows: Sequence[Row],
    *,
    x: str,
    y: str,
    value: str,
    x_title: str,
    y_title: str,
    value_title: str,
) -> Chart:
    """Coloured cells over two ordinal axes."""
    import altair as alt

    base = (
        alt.Chart(alt.Data(values=list(rows)))
        .mark_rect()
        .encode(
            x=alt.X(f"{x}:O", title=x_title),
            y=alt.Y(f"{y}:O", title=y_title),
            color=alt.Color(f"{value}:Q", title=value_title, scale=alt.Scale(scheme="viridis")),
            tooltip=[f"{x}:O", f"{y}:O", alt.Tooltip(f"{value}:Q", format=".4g")],
        )
    )
    return Chart(id, caption, _finished(base, None))


@cache
def javascript_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, so that the page needs no network."""
    import vl_convert

    return str(vl_convert.javascript_bundle()).replace("</script", "<\\/script")


def _values(field: str, rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(str(row[field]) for row in rows))


def _colour(field: str, rows: Sequence[Row]) -> Any:
    import altair as alt

    values = _values(field, rows)
    colours = [MODEL_COLOURS[i % len(MODEL_COLOURS)] for i in range(len(values))]
    legend = alt.Legend(orient="bottom", columns=4) if len(values) > 1 else None
    scale = alt.Scale(domain=values, range=colours)
    return alt.Color(f"{field}:N", title=None, scale=scale, legend=legend)


def _finished(base: Any, limit: float | None) -> dict[str, Any]:
    import altair as alt

    layers = base
    if limit is not None:
        line = alt.Chart(alt.Data(values=[{"limit": limit}]))
        layers = base + line.mark_rule(strokeDash=[4, 4], color="#c1121f").encode(y="limit:Q")
    return _themed(layers.properties(height=CHART_HEIGHT))


def _themed(chart: Any) -> dict[str, Any]:
    # `currentColor` follows the page's light or dark ink, because plots are drawn as SVG.
    ink = "currentColor"
    chart = (
        chart.properties(width="container", background="transparent")
        .configure_view(stroke=None)
        .configure_axis(
            labelColor=ink, titleColor=ink, tickColor=ink, domainColor=ink, gridOpacity=0.25
        )
        .configure_legend(labelColor=ink, titleColor=ink)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spec = chart.to_dict()
    # The schema's address is never fetched, but a page without addresses is easier to trust.
    spec.pop("$schema", None)
    return spec
