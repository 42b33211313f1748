"""Questions the campaign never reaches, and a planted fault that turns each of them red.

The runner stops at the first proof. What these questions would show by training, cheaper ones show
before; so each is asked alone about a program it would otherwise come too late for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ASKED_ALONE: Mapping[str, tuple[str, str, Mapping[str, Any]]] = {
    "overfits_small_subset": ("core_zeroed", "gru", {}),
    "baseline_confirms_pipeline": ("labels_permuted", "gru", {}),
    "xlstm_overfits_one_user": ("core_zeroed", "xlstm", {}),
    "loss_falls_each_epoch": ("lr_huge", "gru", {}),
    # An order strong enough for the plain LSTM to learn within the program's budget.
    "lstm_learns": ("core_zeroed", "xlstm", {"order_weight": 0.95, "num_users": 400}),
    "strip_down_ladder": ("mlstm_no_absmax", "xlstm", {}),
}
"""By question: fault, model, settings of the synthetic log."""

ASKED_ALONE_NOTE = (
    "*alone*: the campaign stops at the first proof and never gets to this question; asked alone "
    "in deep mode, it turns red by "
    + ", ".join(f"`{fault}` (`{id}`)" for id, (fault, *_) in ASKED_ALONE.items())
    + " (`pytest -m long tests/fault_benchmark/test_deep_questions.py`)."
)
"""What the page says about them."""
