"""The four answers of the first screen: which model, can one trust it, what is wrong, what next."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tasks.report.diagnosis_view import ATTENTION, NO_DIAGNOSIS, TRUSTED_GROUPS, group_of
from tasks.report.headline import METRIC, Table, display, headlines, is_significant
from tasks.report.records import Records, Row, Training

MOST_LINKS = 5


@dataclass(frozen=True)
class Answer:
    """One card.

    Attributes:
        title: The question a reader comes with.
        verdict: healthy, suspect, faulty, undetermined, or next for what is to be done; the card's
            colour, never its only sign.
        short: The answer in a few words.
        lines: What it rests on.
        links: (id of a question, text) to read on.
    """

    title: str
    verdict: str
    short: str
    lines: tuple[str, ...] = ()
    links: tuple[tuple[str, str], ...] = field(default=())


def answers(
    records: Records, table: Table, best_possible: float | None, seeds: Sequence[int]
) -> list[Answer]:
    """Return the four cards.

    Args:
        records: Everything on disk.
        table: First comparison table, best model first.
        best_possible: NDCG@10 of an observer who knows the generator.
        seeds: Seeds of the experiment.
    """
    return [
        _which_model(records, table, best_possible),
        _trust(records, seeds),
        _wrong(records),
        _next(records, seeds),
    ]


def _which_model(records: Records, table: Table, best_possible: float | None) -> Answer:
    lines = headlines(table, best_possible)
    if not table["rows"]:
        return Answer("Which model to use", "undetermined", lines[0])
    best = table["rows"][0]["model"]
    level = [
        row["model"] for row in table["rows"][1:] if not is_significant(table, best, row["model"])
    ]
    short = f"{display(best)}, NDCG@10 {table['rows'][0]['metrics'][METRIC]['mean']:.4f}."
    note = _cheaper(best, level, records.trainings)
    return Answer("Which model to use", "healthy", short, (*note, *lines))


def _cheaper(best: str, level: Sequence[str], trainings: Sequence[Training]) -> tuple[str, ...]:
    """Name a model that is within noise of the best and trains faster."""
    seconds = {t.model: t.record.get("wall_seconds") for t in trainings}
    own = seconds.get(best)
    cheaper = {m: s for m in level if (s := seconds.get(m)) is not None and own and s < own}
    if not cheaper:
        return ()
    model = min(cheaper, key=cheaper.__getitem__)
    return (
        f"Within noise of it and cheaper: {display(model)}, trained in {cheaper[model]:,.0f} s "
        f"instead of {own:,.0f} s.",
    )


def _trust(records: Records, seeds: Sequence[int]) -> Answer:
    checks = records.manifest.get("leakage", [])
    failed = [check["id"].replace("_", " ") for check in checks if not check["passed"]]
    found = [f for f in records.findings.get("findings", []) if group_of(f) in TRUSTED_GROUPS]
    broken = [f for f in found if f["verdict"] in ATTENTION]
    lines = []
    if checks:
        passed = len(checks) - len(failed)
        more = f"; to know: {', '.join(failed)} (see Data and leakage)" if failed else ""
        lines.append(f"{passed} of {len(checks)} leakage checks passed{more}.")
    if found:
        healthy = sum(f["verdict"] == "healthy" for f in found)
        lines.append(
            f"{healthy} of {len(found)} questions about data, split and metrics are healthy."
        )
    else:
        lines.append("Data, split and metrics were not diagnosed.")
    lines.append(seeds_note(seeds))
    links = tuple((f["question"], f["title"]) for f in broken[:MOST_LINKS])
    if any(f["verdict"] == "faulty" for f in broken):
        return Answer("Can the numbers be trusted", "faulty", "No.", tuple(lines), links)
    if broken:
        return Answer("Can the numbers be trusted", "suspect", "In doubt.", tuple(lines), links)
    if not found:
        return Answer("Can the numbers be trusted", "undetermined", "Not known.", tuple(lines))
    short, verdict = ("Yes, with reservations.", "suspect") if failed else ("Yes.", "healthy")
    return Answer("Can the numbers be trusted", verdict, short, tuple(lines))


def seeds_note(seeds: Sequence[int]) -> str:
    """Say what the number of seeds lets one conclude."""
    if len(seeds) > 1:
        return f"Means over {len(seeds)} seeds."
    return (
        "One seed per model: nothing here says how much another training of the same model would "
        "differ. Repeat with `assay run --seeds 3`."
    )


def _wrong(records: Records) -> Answer:
    findings = records.findings
    if not findings:
        return Answer("What is wrong", "undetermined", "Not known.", (NO_DIAGNOSIS,))
    broken = _blamed_first(findings)
    if not broken:
        return Answer("What is wrong", "healthy", "Nothing was found.", (findings["headline"],))
    faulty = sum(f["verdict"] == "faulty" for f in broken)
    suspect = len(broken) - faulty
    counts = [f"{n} {word}" for n, word in ((faulty, "faulty"), (suspect, "suspect")) if n]
    return Answer(
        "What is wrong",
        "faulty" if faulty else "suspect",
        f"{' and '.join(counts)}.",
        (findings["headline"],),
        tuple((f["question"], f"{f['number']} {f['sentence']}") for f in broken[:MOST_LINKS]),
    )


def _blamed_first(findings: Row) -> list[Row]:
    broken = [f for f in findings["findings"] if f["verdict"] in ATTENTION]
    return sorted(
        broken, key=lambda f: (f["question"] != findings.get("question"), f["verdict"] != "faulty")
    )


def _next(records: Records, seeds: Sequence[int]) -> Answer:
    findings = records.findings
    if not findings:
        return Answer("What to do next", "next", "Run `assay diagnose`.")
    steps = [findings["next_test"]] if findings.get("next_test") else []
    broken = _blamed_first(findings)
    if broken:
        steps += [line for line in broken[0].get("advice", []) if line not in steps][:3]
    elif len(seeds) == 1:
        steps.append("Repeat with more seeds: `assay run --seeds 3`.")
    if not steps:
        return Answer("What to do next", "healthy", "Nothing is left open.")
    first, *rest = [step[:1].upper() + step[1:] for step in steps]
    return Answer("What to do next", "next", _sentence(first), tuple(map(_sentence, rest)))


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
