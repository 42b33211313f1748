"""Renders the table of the benchmark as Markdown, from a score alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from tasks.fault_benchmark.asked_alone import ASKED_ALONE, ASKED_ALONE_NOTE
from tasks.fault_benchmark.kill import Kill
from tasks.fault_benchmark.published import HEADER, NOTE, TOOLS
from tasks.fault_benchmark.reasons import REASONS
from tasks.fault_benchmark.score import Rate, Score, Verdict, rate
from tasks.faults.fault import Fault
from tasks.faults.labels import IDS
from tasks.faults.review import DEFECTS

NOT_EXPLAINED = "not explained yet"
TITLES = {"listed": "listed faults", "held_out": "held-out faults", "own": "own faults"}


def render(
    score: Score,
    faults: Mapping[str, Fault],
    kills: Mapping[str, Kill],
    questions: Sequence[tuple[str, str]],
    facts: Mapping[str, str],
) -> str:
    """Return the page.

    Args:
        score: What the rows say.
        faults: Every fault by id, those that were not run included.
        kills: Results of the kill test.
        questions: (number, id) of every question, in order.
        facts: What is said about the campaign: command, seeds, data, digest.
    """
    parts = [
        "# The fault benchmark",
        "Written by `assay faults score`; never by hand. A fault is one planted change to the same "
        "clean program. *Detected*: a question turned red by an identity, a recomputation or an "
        "intervention, and is quiet on the clean program. *Localised*: besides, an expected "
        "question is red and the first line of the report names the right stage. Intervals are "
        "Wilson's at 95 %. Inert faults change nothing that can be measured (kill test), on any "
        "log or on one, and are counted apart. A fault that breaks an identity changes something "
        "by that very fact; where the kill test was not run on a fault, it was detected.",
        _facts(facts),
        "## Rates",
        _rates(score),
        "## By layer",
        _layers(score),
        "## By log and model",
        _places(score),
        "## Defects around the public review",
        _review(score),
        "## Healthy programs",
        _healthy(score),
        "## Questions",
        _questions(score, questions),
        "## Published tools",
        f"{NOTE}\n\n{table(HEADER, TOOLS)}",
        "## Every fault",
        _faults(score, faults, kills),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table.

    >>> print(table(["a", "b"], [[1, "x|y"]]))
    | a | b |
    |---|---|
    | 1 | x\\|y |
    """
    lines = [header, ["---"] * len(header), *rows]
    texts = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    texts[1] = ["---"] * len(header)
    return "\n".join(
        "|" + "|".join(line) + "|" if number == 1 else "| " + " | ".join(line) + " |"
        for number, line in enumerate(texts)
    )


def _facts(facts: Mapping[str, str]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


def _rates(score: Score) -> str:
    rows = []
    for kind, title in TITLES.items():
        for with_inert in (False, True):
            verdicts = score.of_kind(kind, with_inert=with_inert)
            if verdicts:
                name = f"{title}, inert ones included" if with_inert else title
                rows.append([name, *_row(verdicts)])
    rows.append(["all faults", *_row(score.of_kind(*TITLES))])
    rows.append(["all, inert ones included", *_row(score.of_kind(*TITLES, with_inert=True))])
    return table(_HEADER, rows)


_HEADER = ["set", "detected", "localised", "expected question red", "right stage first", "stage"]


def _row(verdicts: Sequence[Verdict]) -> list[Rate]:
    names = ("detected", "localised", "expected", "stage", "stage_among")
    return [rate(verdicts, name) for name in names]


def _grouped(verdicts: Iterable[Verdict], name: str) -> dict[str, list[Verdict]]:
    groups: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        source = verdict.fault if name == "layer" else verdict.row
        groups.setdefault(getattr(source, name), []).append(verdict)
    return groups


def _layers(score: Score) -> str:
    rows = []
    for kind, title in TITLES.items():
        for layer, verdicts in _grouped(score.of_kind(kind), "layer").items():
            rows.append([f"{title}: {layer}", *_row(verdicts)])
    return table(_HEADER, rows)


def _places(score: Score) -> str:
    rows = []
    every = score.of_kind(*TITLES)
    for name in ("data", "model", "seed"):
        for place, verdicts in _grouped(every, name).items():
            rows.append([f"{name} {place}", *_row(verdicts)])
    return table(_HEADER, rows)


def _review(score: Score) -> str:
    rows = []
    for defect in DEFECTS:
        verdicts = [v for v in score.verdicts if v.row.id == defect]
        found, placed = rate(verdicts, "detected"), rate(verdicts, "localised")
        early = Rate(sum(v.detected and v.row.mode == "exact" for v in verdicts), len(verdicts))
        counts = [f"{r.hits}/{r.total}" for r in (found, early, placed)]
        rows.append([f"`{defect}`", *counts])
    return table(["defect", "detected", "before any training", "localised"], rows)


def _healthy(score: Score) -> str:
    by_model: dict[str, list[bool]] = {}
    red = {alarm.row.key for alarm in score.alarms}
    for row in score.healthy_runs:
        by_model.setdefault(row.model, []).append(row.key in red)
    rows = [["all", score.false_alarms, _median(r.seconds for r in score.healthy_runs)]]
    built = [row for row in score.healthy_runs if not row.crashed]
    if len(built) < len(score.healthy_runs):
        alarms = Rate(sum(row.key in red for row in built), len(built))
        rows.append(
            ["those whose data could be prepared", alarms, _median(r.seconds for r in built)]
        )
    for name in ("data", "mode"):
        for value in sorted({getattr(row, name) for row in score.healthy_runs}):
            own = [row for row in score.healthy_runs if getattr(row, name) == value]
            alarms = Rate(sum(row.key in red for row in own), len(own))
            rows.append([f"{name} {value}", alarms, _median(row.seconds for row in own)])
    for model, alarms in by_model.items():
        seconds = _median(r.seconds for r in score.healthy_runs if r.model == model)
        rows.append([model, Rate(sum(alarms), len(alarms)), seconds])
    listing = [
        [
            f"`{alarm.row.id}`",
            f"{alarm.row.model}, {alarm.row.data}, seed {alarm.row.seed}",
            ", ".join(alarm.questions),
            alarm.row.headline or alarm.row.crashed,
            REASONS.get(alarm.row.id, NOT_EXPLAINED),
        ]
        for alarm in score.alarms
    ]
    text = table(["runs", "with a red question", "seconds (median)"], rows)
    text += "\n\n" + _open(score)
    if listing:
        text += "\n\nFalse alarms:\n\n"
        text += table(["variant", "where", "questions", "first line", "reason"], listing)
    return text


def _open(score: Score) -> str:
    """How many answers stay open, and how many questions fail, by mode."""
    rows = []
    every = [*score.healthy_runs, *(verdict.row for verdict in score.verdicts)]
    for mode in sorted({row.mode for row in score.healthy_runs}):
        healthy = [row for row in score.healthy_runs if row.mode == mode]
        asked = len(IDS) * len(healthy)
        left = Rate(sum(len(row.undetermined) for row in healthy), asked)
        within = Counter(id for row in healthy for id in row.undetermined)
        always = [id for id, times in within.items() if times == len(healthy)]
        rows.append([mode, left, len(always), ", ".join(f"`{id}`" for id in sorted(always))])
    crashed = Rate(sum(bool(row.failed or row.crashed) for row in every), len(every))
    header = ["mode", "answers left undetermined", "always open", "which: they need a training"]
    return f"{table(header, rows)}\n\nRuns with a crashed check: {crashed}."


def _median(values: Iterable[float]) -> str:
    ordered = sorted(values)
    return f"{ordered[len(ordered) // 2]:.1f}" if ordered else "-"


def _questions(score: Score, questions: Sequence[tuple[str, str]]) -> str:
    alarms: dict[str, int] = {}
    for alarm in score.alarms:
        for question in alarm.questions:
            alarms[question] = alarms.get(question, 0) + 1
    rows = []
    for number, id in questions:
        found = score.fired.get(id, frozenset())
        due = [v for v in score.of_kind(*TITLES) if id in v.fault.expected]
        hits = sum(any(red.question == id for red in v.row.reds) for v in due)
        named = [v for v in score.of_kind(*TITLES) if v.row.question == id]
        right = sum(v.stage for v in named)
        silent = "yes" if found else "alone" if id in ASKED_ALONE else "**no**"
        counts = [len(found), f"{hits}/{len(due)}", f"{right}/{len(named)}", alarms.get(id, 0)]
        rows.append([number, id, silent, *counts])
    header = [
        "no",
        "question",
        "turned red by a fault",
        "faults that turned it red",
        "of those it was expected of",
        "right stage where it spoke first",
        "alarms on healthy programs",
    ]
    return f"{ASKED_ALONE_NOTE}\n\n{table(header, rows)}"


def _faults(score: Score, faults: Mapping[str, Fault], kills: Mapping[str, Kill]) -> str:
    by_id: dict[str, list[Verdict]] = {}
    for verdict in score.verdicts:
        by_id.setdefault(verdict.row.id, []).append(verdict)
    missed, rows = [], []
    for id, fault in faults.items():
        verdicts = by_id.get(id, [])
        found, placed = rate(verdicts, "detected"), rate(verdicts, "localised")
        rows.append(
            [
                f"`{id}`",
                fault.title,
                fault.layer,
                f"{fault.severity:g}",
                _kill_text(kills.get(id)),
                f"{found.hits}/{found.total}",
                f"{placed.hits}/{placed.total}",
                fault.source,
            ]
        )
        missed += [
            _miss(verdict, score.is_inert(verdict.row))
            for verdict in verdicts
            if not verdict.localised
        ]
    header = ["fault", "what is wrong", "layer", "severity", "kill test", "detected", "localised"]
    text = table([*header, "seen in"], rows)
    if missed:
        text += "\n\n## Every miss and every mislocation\n\n"
        text += table(["fault", "where", "what", "first line of the report", "reason"], missed)
    return text


def _miss(verdict: Verdict, is_inert: bool) -> list[str]:
    row = verdict.row
    if not verdict.detected:
        what = "symptom only" if verdict.seen else "missed"
    elif not verdict.expected:
        what = f"another question red; expected {', '.join(sorted(verdict.fault.expected))}"
    else:
        what = f"blames {row.stage}; right is {' or '.join(sorted(verdict.fault.stages))}"
    where = f"{row.model}, {row.data}, seed {row.seed}"
    reason = REASONS.get(row.id, NOT_EXPLAINED)
    if is_inert:
        reason = f"inert here by the kill test. {REASONS.get(row.id, '')}".strip()
    return [f"`{row.id}`", where, what, row.headline or row.crashed, reason]


def _kill_text(kill: Kill | None) -> str:
    if kill is None:
        return "not run"
    if kill.parts:
        return "changes " + ", ".join(kill.parts[:2])
    text = f"metric {-kill.metric_drop:+.3f}, p {kill.p_value:.2g}"
    return text if kill.killed else f"inert ({text})"
