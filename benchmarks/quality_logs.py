"""The logs of ``docs/results.md``, and what is published about them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Log:
    """A log with its presets, and what is published about it.

    Attributes:
        title: Heading.
        preset: Leave-one-out preset.
        temporal: Preset with the global temporal split; '' where there is none.
        targets: NDCG@10 to reach, by model.
        published: Rows of others: source, HR@10, NDCG@10.
        note: What a reader has to know about the log.
    """

    title: str
    preset: str
    temporal: str = ""
    targets: tuple[tuple[str, float], ...] = ()
    published: tuple[tuple[str, str, str], ...] = ()
    note: str = ""
    aims_at_peers: bool = False
    """Whether the xLSTM is to be at or above the best other model, by its interval."""
    without_bias: str = ""
    """Preset with the same settings but no learned bias on items of the history."""


LOGS = (
    Log(
        "MovieLens-100K",
        "movielens-100k",
        "movielens-100k-temporal",
        (("xlstm", 0.085), ("gru", 0.078)),
        note=(
            "With 943 test users the standard error of NDCG@10 is about .006. For 44 % of the "
            "users the last two events have the same time: the test item rests on the rows' order."
        ),
    ),
    Log(
        "MovieLens-100K, models of width 128",
        "movielens-100k-wide",
        "movielens-100k-wide-temporal",
        note=(
            "The same users and events as above, models of twice the width, each searched anew: 8 "
            "trials, the first of the settings found at width 64. This ranks the same test events "
            "a second time; which width is better was for validation to say."
        ),
    ),
    Log(
        "MovieTweetings (100K snapshot, 5-core)",
        "movietweetings",
        "movietweetings-temporal",
        (("xlstm", 0.115),),
        note="No two events of a user have the same time.",
    ),
    Log(
        "Microsoft online store purchases (5-core)",
        "ms-store",
        "ms-store-temporal",
        note=(
            "A small shop: most purchases come in baskets, whose items have one time. For 51.6 % "
            "of the users the last two events are of one basket, so that the test item rests on "
            "the rows' order, and 61.8 % of such pairs ascend by item id, which tells a model a "
            "little of what comes next. Trained on a CPU."
        ),
    ),
    Log(
        "MovieLens-1M, users 1 to 2999",
        "movielens-1m-half",
        "movielens-1m-half-temporal",
        published=(
            ("HSTU-large, RecTools tutorial (all users)", ".364", ".216"),
            ("xLSTM4Rec paper: xLSTM (all users)", ".307", ".178"),
            ("time-to-split: SASRec (all users)", ".321", ".186"),
            ("time-to-split: GRU4Rec (all users)", ".289", ".168"),
        ),
        note=(
            "Published rows are of all 6,040 users: an orientation, no comparison. Half of the "
            "users means half of the training events and fewer items to rank."
        ),
        aims_at_peers=True,
    ),
    Log(
        "MovieLens-1M, users 1 to 2999, models that are told times",
        "movielens-1m-half-gaps",
        "movielens-1m-half-gaps-temporal",
        note=(
            "The same users and events as above, and the same settings but one: every neural model "
            "adds a vector for the time since the last event (`time_gaps`), which validation chose "
            "for all of them. Nothing was searched for it. This ranks the same test events again. "
            "For 42 % of the users the last two events have the same time."
        ),
        aims_at_peers=True,
    ),
    Log(
        "MovieLens-1M as LRURec prepared it",
        "lrurec-movielens-1m",
        published=(("LRURec paper, items of the last 200 events left out", ".326", ".193"),),
        targets=(("xlstm", 0.193 * 1.03),),
        note=(
            "This file orders events of the same time by item id, which tells a model what comes "
            "next: its numbers belong beside LRURec's own row and nowhere else. No user has an "
            "item twice. LRURec's published evaluation leaves out the items of the window, so its "
            "row compares with the column 'seen left out' best."
        ),
        without_bias="lrurec-movielens-1m-plain",
    ),
    Log(
        "Amazon Beauty as LRURec prepared it",
        "lrurec-amazon-beauty",
        published=(("LRURec paper, items of the last 50 events left out", ".053", ".031"),),
        note=(
            "This file, too, orders events of the same time by item id: its numbers belong beside "
            "LRURec's own row alone. Settings are those of MovieTweetings; none was searched here."
        ),
    ),
)

SYNTHETIC = (
    ("synthetic-popularity", "popularity"),
    ("synthetic-order1", "last item"),
    ("synthetic-order2", "last two items"),
    ("synthetic-lag20", "item 20 ago"),
    ("synthetic-lag100", "item 100 ago"),
    ("synthetic-state", "parity of the history"),
)
