"""Other packages' models beside ours: what `benchmarks.peers.run` left, kept and put into words.

::

    python -m benchmarks.quality_peers keep FOLDER   # -> benchmarks/results/quality/peers/LOG.json
    python -m benchmarks.quality write               # the page

What is kept holds the rank of every test user (see `benchmarks.peers.fitting.write_ranks`), and
paired tests against the ranks of our own run of the same name, which has to lie below ``runs/``.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from benchmarks.quality_logs import LOGS, Log
from benchmarks.quality_page import difference

ROOT = Path(__file__).resolve().parents[1]
KEPT = ROOT / "benchmarks" / "results" / "quality" / "peers"
OWN = ("gru", "lstm", "sasrec", "xlstm")
FEWEST_SEEDS = 3

HEAD = """
## Models of other packages on the same data

Made by `benchmarks/peers/` on the prepared data of the presets: as many Optuna trials for each
model as ours had (16; 8 on users 1 to 2999 of MovieLens-1M, where ours had 7 or 8), by validation
NDCG@10 and in our space where a package has the setting (RecTools has no weight decay), then the
best settings with several seeds, the test events ranked once by our ranking. Under the global
temporal split they keep the settings found under leave-one-out, as ours do. Width, window and loss
(full softmax) are the presets'. RecTools' models learn from windows in at most 60 epochs, RecBole's
from every prefix in 40, which ours have too; all stop after 6 epochs without gain. `xlstm-package`
is the `xlstm` package's blocks in our recommender, all else ours, with the learned bias on items of
the history. RecTools' and RecBole's models have no such bias; HSTU is told the time of the event it
is asked for, as RecTools documents it, and ours are not. Seconds are of processes side by side,
those of `xlstm-package` on MovieLens-100K with an hour's wait for other work (one of its seeds ran
through in 291 s). Tests are paired per user and Holm-corrected over all pairs of models of a log
and split. Our rows on MovieLens and MovieTweetings are of trainings made anew for these tests, with
the settings and seeds of the tables above (three on MovieLens-1M): on a GPU with later kernels, but
the temporal split of MovieLens-100K and MovieTweetings on a CPU in float32. Rounding moves means by
up to .004, and by up to .007 on the 68 users of MovieLens-100K's temporal split. On the store they
are those of its table. Where a search or the final trainings were not through, the best validation
is all there is.
"""


def read_rows(folder: Path, kind: str) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Rows of ``kind-*.jsonl`` by log and model."""
    rows: dict[str, dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(folder.glob(f"{kind}-*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            rows[row["log"]][row["model"]].append(row)
    return rows


def summarise(trials: list[dict[str, Any]], seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """What is kept of one peer on one log.

    Args:
        trials: Rows of its search, those that failed too. None of a log that takes the settings
            found on another one.
        seeds: Rows of its final trainings, none when they were not made.
    """
    ended = [row for row in trials if row["ended"] != "failed" and row["val"] is not None]
    seeds = sorted(seeds, key=lambda row: row["seed"])
    found: dict[str, Any] = {"trials": len(ended), "seeds": [row["seed"] for row in seeds]}
    if ended:
        best = max(ended, key=lambda trial: trial["val"])
        found |= {
            "cut_off": sum(trial["ended"] == "time" for trial in ended),
            "best_validation": best["val"],
            "settings": best["settings"],
            "search_seconds": round(sum(trial["seconds"] for trial in trials), 1),
        }
    if seeds:
        found |= {
            "settings": seeds[0]["settings"],
            "parameters": seeds[0]["parameters"],
            "device": seeds[0]["device"],
            "seconds": round(mean(row["seconds"] for row in seeds), 1),
            "validation": round(mean(row["value"] for row in seeds), 5),
            "ranks": [row["ranks"] for row in seeds],
        }
    return found


def own_ranks(name: str) -> dict[str, np.ndarray]:
    """Test ranks (S, E) of our models' own run, users in the order of the split."""
    import polars as pl

    path = ROOT / "runs" / name / "artifacts" / "evaluation" / "per_user.parquet"
    table = pl.read_parquet(path).filter(pl.col("split") == "test").sort("model", "seed", "user")
    return {
        model: np.stack(
            [part["rank"].to_numpy() for part in rows.partition_by("seed", maintain_order=True)]
        )
        for model in OWN
        if len(rows := table.filter(pl.col("model") == model))
    }


def compare_with(own: dict[str, np.ndarray], peers: dict[str, Any]) -> dict[str, Any]:
    """Rows and tested pairs of our models and of the peers that have enough seeds."""
    from benchmarks.peers.fitting import DEEPEST, read_ranks
    from tasks.evaluation.comparison import compare

    ranks = {name: np.minimum(values, DEEPEST + 1) for name, values in own.items()}
    for name, peer in peers.items():
        if len(peer["seeds"]) >= FEWEST_SEEDS:
            ranks[name] = np.stack([read_ranks(text) for text in peer["ranks"]])
    table = compare(ranks, cutoffs=(10,)).as_dict()
    rows = {
        row["model"]: {
            "num_seeds": row["num_seeds"],
            "num_users": row["num_users"],
            **{name: row["metrics"][name] for name in ("ndcg_at_10", "hit_rate_at_10")},
        }
        for row in table["rows"]
    }
    pairs = [
        pair
        for pair in table["pairs"]
        if pair["metric"] == "ndcg_at_10" and not {pair["better"], pair["worse"]} <= set(OWN)
    ]
    return {"rows": rows, "pairs": pairs}


def keep(folder: Path) -> None:
    """Keep what a folder of results holds, a file a log; other peers kept before stay."""
    trials, seeds = read_rows(folder, "trials"), read_rows(folder, "seeds")
    KEPT.mkdir(parents=True, exist_ok=True)
    before = read_peers()
    for log in sorted({*trials, *seeds}):
        peers = before.get(log, {}).get("peers", {}) | {
            name: summarise(trials[log][name], seeds[log][name])
            for name in sorted({*trials[log], *seeds[log]})
            if seeds[log][name] or any(row["ended"] != "failed" for row in trials[log][name])
        }
        found = {"log": log, "peers": peers, **compare_with(own_ranks(log), peers)}
        path = KEPT / f"{log}.json"
        path.write_text(json.dumps(found, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        print(f"{log}: {', '.join(peers)}")


def read_peers() -> dict[str, dict[str, Any]]:
    """Kept files by log."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(KEPT.glob("*.json"))}


def peers_section(kept: dict[str, dict[str, Any]], logs: Iterable[Log] = LOGS) -> str:
    """The section of the page.

    Args:
        kept: What `keep` wrote, by preset.
        logs: Logs of the page; those without a preset among the kept ones are left out.

    Returns:
        Markdown; empty when nothing is kept.
    """
    shown = [log for log in logs if log.preset in kept]
    if not shown:
        return ""
    parts = [HEAD]
    for log in shown:
        found, temporal = kept[log.preset], kept.get(log.temporal)
        lines = [f"### {log.title}", "", *table(found, temporal), "", *sentences(found)]
        if temporal:
            users = next(iter(temporal["rows"].values()))["num_users"]
            lines.append(
                f"- Global temporal split (`params/{log.temporal}.yaml`): {users:,} test users, "
                "the settings found under leave-one-out."
            )
            lines += [f"  {line}" for line in sentences(temporal)]
        parts.append("\n".join([*lines, ""]))
    return "\n".join(parts)


def table(found: dict[str, Any], temporal: dict[str, Any] | None = None) -> list[str]:
    """Peers and our models, best test NDCG@10 first, then those with a validation only."""
    head = ["Model", "NDCG@10", "HR@10"] + ["NDCG@10, temporal split"] * bool(temporal)
    head += ["best validation", "trials", "seeds", "parameters", "seconds to train"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    order = sorted(found["rows"], key=lambda name: -found["rows"][name]["ndcg_at_10"]["mean"])
    known = {*found["peers"], *(temporal["rows"] if temporal else ())}
    rest = sorted(known - set(found["rows"]))
    rest.sort(key=lambda name: -found["peers"].get(name, {}).get("best_validation", 0.0))
    for name in [*order, *rest]:
        peer, row = found["peers"].get(name, {}), found["rows"].get(name)
        cells = [f"`{name}`" + (" (ours)" if name in OWN else "")]
        cells += (
            [_spread(row["ndcg_at_10"]), _short(row["hit_rate_at_10"]["mean"])] if row else "––"
        )
        if temporal:
            other = temporal["rows"].get(name)
            cells.append(_spread(other["ndcg_at_10"]) if other else "–")
        is_searched = "best_validation" in peer
        cells += [_short(peer["best_validation"]), str(peer["trials"])] if is_searched else "––"
        cells.append(str(row["num_seeds"] if row else len(peer.get("seeds", []))))
        has_cost = "parameters" in peer
        cells.append(f"{peer['parameters']:,}" if has_cost else "–")
        cells.append(f"{peer['seconds']:,.0f} ({peer['device']})" if has_cost else "–")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def sentences(found: dict[str, Any], model: str = "xlstm") -> list[str]:
    """What the tests say of a model and the peers, and which peers are not to be compared."""
    lines = []
    for pair in found["pairs"]:
        others = {pair["better"], pair["worse"]} - {model}
        if len(others) != 1:
            continue
        lines.append(difference(pair, model))
    for name, peer in found["peers"].items():
        if name not in found["rows"]:
            lines.append(
                f"- `{name}`: not through, trials {peer['trials']} "
                f"(cut off: {peer.get('cut_off', 0)}), "
                f"final trainings {len(peer['seeds'])} of {FEWEST_SEEDS}; no comparison."
            )
        elif peer.get("cut_off"):
            lines.append(
                f"- `{name}`: {peer['cut_off']} of its {peer['trials']} trials were ended by time; "
                "their best epoch until then counts."
            )
    return lines


def _short(value: float) -> str:
    return f"{value:.4f}".removeprefix("0")


def _spread(estimate: dict[str, Any]) -> str:
    text = f"{_short(estimate['mean'])} [{_short(estimate['low'])}, {_short(estimate['high'])}]"
    deviation = estimate["seed_deviation"]
    return f"{text} ± {_short(deviation)}" if deviation else text


def main() -> None:
    """Keep results from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=("keep",))
    parser.add_argument("folder", type=Path)
    keep(parser.parse_args().folder)


if __name__ == "__main__":
    main()
