"""Turns a template and its context into one page; everything but our own code is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup, escape

from tasks.report.charts import Chart, javascript_bundle


def fill(template: str, charts: Sequence[Chart], context: dict[str, Any]) -> str:
    """Return a page without any outside reference.

    Args:
        template: File name below ``templates/``.
        charts: Every chart the page places, each id once.
        context: What the template names.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, loader=FunctionLoader(_template)
    )
    environment.filters["code"] = code
    own = {
        "charts": charts,
        "css": _template("report.css"),
        "script": _template("report.js"),
        "bundle": javascript_bundle(),
    }
    return environment.get_template(template).render({**context, **own})


def code(text: str) -> Markup:
    """Escape a text and set what stands between backticks as code.

    >>> str(code("run `assay` <now>"))
    'run <code>assay</code> &lt;now&gt;'
    """
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 # nosec B704


def _template(name: str) -> str:
    return (resources.files("tasks.report") / "templates" / name).read_text(encoding="utf-8")
