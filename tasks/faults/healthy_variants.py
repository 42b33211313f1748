"""Legitimate programs that look unusual: none of them may turn a question faulty."""

from __future__ import annotations

from typing import Any

from tasks.faults.fault import HealthyVariant


def _setting(id: str, title: str, **settings: Any) -> HealthyVariant:
    return HealthyVariant(id, title, settings=settings)


SETTINGS: tuple[HealthyVariant, ...] = (
    _setting("default", "nothing is changed"),
    _setting("tied", "input and output share one table", tied=True),
    _setting("untied", "input and output have tables of their own", tied=False),
    _setting("no_dropout", "nothing is dropped", dropout=0.0),
    _setting("dropout_half", "half of the inputs are dropped", dropout=0.5),
    _setting("no_weight_decay", "weights don't decay", weight_decay=0.0),
    _setting("small_steps", "the learning rate is 1e-3", learning_rate=1e-3),
    _setting("large_steps", "the learning rate is 1e-2", learning_rate=1e-2),
    _setting("small_batches", "16 rows a batch", batch_size=16),
    _setting("large_batches", "256 rows a batch", batch_size=256, max_epochs=40),
    _setting("one_batch", "one batch per epoch, in 300 epochs", batch_size=10_000, max_epochs=300),
    _setting("short_histories", "histories of 8 events", max_seq_len=8),
    _setting("long_histories", "histories of 40 events", max_seq_len=40),
    _setting("one_event", "histories of one event", max_seq_len=1),
    _setting("narrow", "8 features", embedding_dim=8, learning_rate=1e-2),
    _setting("wide", "64 features", embedding_dim=64),
    _setting("very_narrow", "2 features and one head", embedding_dim=2, num_heads=1),
    _setting("one_head", "one head", num_heads=1),
    _setting("two_layers", "two layers, or twice the blocks", num_layers=2),
    _setting("kernel_one", "a convolution of one position", conv_kernel=1),
    _setting("all_gates_convolved", "all sLSTM gates convolved", slstm_conv_gates="ifzo"),
    _setting("loose_clipping", "gradients are clipped at 5", max_grad_norm=5.0),
    _setting("smoothed_labels", "labels are smoothed by 0.1", label_smoothing=0.1),
    _setting("to_zero", "a cosine schedule ends at 0", final_learning_rate=0.0),
    _setting("time_gaps", "the time since the previous event is a feature", time_gaps=True),
    _setting(
        "temporal",
        "the split is by time, of users who stay ten times as long",
        split="temporal",
        corpus="train",
        longer_stay=10,
    ),
    _setting(
        "temporal_newcomers",
        "the split is by time, and users who came after training are kept",
        split="temporal",
        corpus="train",
        cold_users="keep",
        temporal_target="last",
    ),
    _setting("no_repeats", "immediate repeats are dropped", repeats="drop_consecutive"),
    _setting("sampled_softmax", "sampled softmax with uniform negatives", loss="sampled_softmax"),
    _setting(
        "popular_negatives",
        "sampled softmax, popular items",
        loss="sampled_softmax",
        negatives="popularity",
    ),
    _setting("bpr", "pairwise loss", loss="bpr", num_negatives=4, negatives_per="user"),
    _setting(
        "bce",
        "binary loss, all items of the user excluded",
        loss="bce",
        collisions="exclude_positives",
    ),
    _setting("gbce", "generalised binary loss", loss="gbce", num_negatives=16),
)
"""Settings somebody may well choose."""

DATA: tuple[HealthyVariant, ...] = (
    _setting("few_users", "80 users", num_users=80),
    _setting("more_users", "600 users", num_users=600, max_epochs=6),
    _setting("repeating_items", "items repeat", repeat_share=0.4),
    _setting("flat_popularity", "all items equally popular", zipf_exponent=0.0),
    _setting("steep_popularity", "few items hold most events", zipf_exponent=1.8),
    _setting("weak_order", "little order", order_weight=0.3),
    _setting("no_order", "no order at all", order_weight=0.0),
    _setting("small_catalogue", "30 items", num_items=30),
    _setting("large_catalogue", "400 items", num_items=400, num_users=500),
    _setting("blockbuster", "one item has 30 % of the events", blockbuster_share=0.3),
    _setting("equal_times", "many events of a user have the same time", equal_times=True),
    _setting("equal_prefixes", "users share prefixes and go on differently", equal_prefixes=True),
    _setting("three_events", "some users have exactly three events", three_event_users=5),
    _setting("cold_items", "some targets were never seen", vocabulary="train", cold_items=8),
    _setting("other_row_order", "rows of the log stand in another order", row_seed=1),
    _setting("renamed_ids", "ids are long random names", renamed=True),
)
"""Logs somebody may well have."""
