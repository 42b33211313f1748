"""What kept runs allow to be said, in sentences made from their paired tests."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

Run = dict[str, Any]
NEURAL = ("gru", "lstm", "sasrec", "xlstm")

CAVEATS = """
What a reader should hold against this page:

- Numbers above published ones show no better architecture. All neural models here share a learned
  bias on items already in the history, which took the GRU's validation NDCG@10 on MovieLens-100K
  from .076 to .123 (`docs/experiment_log.md`); the published models have none. Compare models
  within a table.
- Leave-one-out lets a model train on events later than a test event. Under the global temporal
  split the same models lose half of NDCG@10 or more, and the test users are so few that the order
  of models stays open unless a test says otherwise.
- Every neural model had the same number of Optuna trials in the same space: 16 different ones on
  MovieLens-100K and MovieTweetings; 7, 7, 8 and 7 (GRU, LSTM, SASRec, xLSTM) on MovieLens-1M, which
  is few. The temporal presets take the leave-one-out settings. Settings shared by all models
  (width, window, batch, loss) were not tuned for each, and the synthetic logs' not at all.
- Where the xLSTM is behind by mean, on MovieLens-100K, patterns with an mLSTM block lose .003 to
  .021 of validation NDCG@10 against a single sLSTM block (same log), and that block is within
  noise of a GRU of its size: on 98,114 events nothing that the xLSTM adds to a GRU pays.
  On MovieLens-1M it is behind SASRec by mean after being ahead on validation: undecided.
- Seconds to train are of processes that shared two GPUs with up to 33 others. They order models
  roughly and overstate each of them several times; `docs/speed.md` measures cost.
- Not ranked yet: test events of MovieLens-1M as the LRURec paper prepared it
  (`lrurec-movielens-1m`), and so the comparison with that paper's row; by validation over three
  seeds the xLSTM leads there (`docs/experiment_log.md`). Not run yet: Amazon Beauty; histories of
  1,000 and 5,000 events (presets `movielens-1m-half-s*`, `synthetic-lag500`, `synthetic-lag2500`);
  the xLSTM on the item 20 ago and three of the six synthetic logs; tuned peers from other libraries
  (`benchmarks/peers/` trains RecTools' SASRec and HSTU on the same data).
"""


def conclusions(logs: Iterable[tuple[str, str, str]], runs: dict[str, Run]) -> str:
    """The paragraph that opens the page.

    Args:
        logs: Title, leave-one-out preset and temporal preset of each log.
        runs: Kept runs by preset.
    """
    lines = ["## What the runs say", ""]
    for title, preset, temporal in logs:
        for name, split in ((preset, "leave-one-out"), (temporal, "global temporal split")):
            if name in runs:
                lines.append(f"- {title}, {split}: {standing(runs[name])}")
    return "\n".join(lines) + "\n" + CAVEATS


def standing(run: Run, model: str = "xlstm") -> str:
    """Where a model stands among the neural ones of a run, and which differences are significant.

    Args:
        run: A kept run.
        model: The model spoken of.
    """
    rows = run["tables"]["as_ranked"]["rows"]
    values = {m: row["metrics"]["ndcg_at_10"]["mean"] for m, row in rows.items() if m in NEURAL}
    order = sorted(values, key=lambda m: -values[m])
    better, worse = [], []
    for pair in run["tables"]["as_ranked"]["pairs"]:
        if model in (pair["better"], pair["worse"]) and pair["is_significant"]:
            other = pair["worse"] if pair["better"] == model else pair["better"]
            if other in NEURAL:
                (better if pair["better"] == model else worse).append(f"`{other}`")
    users = rows[model]["num_users"]
    parts = [f"`{model}` is number {order.index(model) + 1} of {len(order)} neural models by mean"]
    parts.append(f"significantly better than {', '.join(better) or 'none'}")
    parts.append(f"significantly worse than {', '.join(worse) or 'none'} ({users:,} test users).")
    return "; ".join(parts)
