"""A trained model with everything it needs to answer by raw ids.

It comes from a workspace, or from the folder MLflow keeps of a model: `model/` with the weights,
`items.csv` with the vocabulary, and `item_counts.npy` with the training events of each item.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tasks.serving.catalogue import Catalogue, read_catalogue
from tasks.serving.history import History
from tasks.serving.recommend import Recommendation, Scorer, recommend
from tasks.training.models import load_recommender

ITEMS_FILE = "items.csv"
COUNTS_FILE = "item_counts.npy"
RECORD_FILE = "record.json"


@dataclass(frozen=True)
class Query:
    """One history to answer.

    Attributes:
        history: known events.
        label: what was asked for: a user id, or the history as given.
        unknown: texts of events whose item the model does not know; they were left out.
        notes: what else was done about the request, in sentences.
    """

    history: History
    label: str = ""
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """A model that answers by raw ids.

    Attributes:
        model: the recommender.
        catalogue: its vocabulary and names.
        max_len: most recent events of a history it is shown.
        popularity: int64 (V,), training events by item; None where they are not known.
    """

    model: Scorer
    catalogue: Catalogue
    max_len: int
    popularity: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.catalogue.num_items != self.model.num_items:
            raise ValueError(
                f"{self.model.name} knows {self.model.num_items} items, the vocabulary holds "
                f"{self.catalogue.num_items}; expected the vocabulary it was trained with. "
                "Prepare the data and train again."
            )

    @classmethod
    def from_bundle(cls, folder: Path) -> Service:
        """Read what tracking keeps of a model."""
        model = load_recommender(folder / "model")
        counts = folder / COUNTS_FILE
        return cls(
            model,
            read_catalogue(folder / ITEMS_FILE),
            shown_events(folder / "model", model),
            np.load(counts, allow_pickle=False) if counts.is_file() else None,
        )

    def query(
        self,
        texts: Iterable[str],
        times: Sequence[int] | None = None,
        label: str = "",
    ) -> Query:
        """Encode a history given as raw ids or names.

        Args:
            texts: raw ids or names, oldest first.
            times: microseconds since the epoch, one per event.
            label: what to call the answer.

        Raises:
            ValueError: there are not as many times as events, or one is before that of an event
                before.
        """
        texts = list(texts)
        if times is not None and len(times) != len(texts):
            raise ValueError(
                f"{len(times)} times for {len(texts)} events; expected one time per event."
            )
        _check_order(times or ())
        items, unknown = self.catalogue.split(texts)
        kept = None
        if times is not None:
            known = [self.catalogue.encode(text) > 0 for text in texts]
            kept = np.array(times, dtype=np.int64)[np.array(known, dtype=bool)]
        history = History(np.array(items, dtype=np.int64), kept)
        return Query(history, label or ",".join(texts), tuple(unknown))

    def answer(
        self,
        queries: Sequence[Query],
        *,
        top_k: int = 10,
        exclude_seen: bool = False,
        empty_by_popularity: bool = True,
    ) -> list[Recommendation]:
        """Recommend items for each query.

        Args:
            queries: what is asked for.
            top_k: items per answer.
            exclude_seen: leave out items of the history.
            empty_by_popularity: answer histories without a known item with the most popular items
                instead of refusing them.

        Raises:
            EmptyHistoryError: such a history, and it is to be refused or popularity is not known.
        """
        return recommend(
            self.model,
            [query.history for query in queries],
            top_k=top_k,
            max_len=self.max_len,
            exclude_seen=exclude_seen,
            popularity=self.popularity if empty_by_popularity else None,
        )


def _check_order(times: Sequence[int]) -> None:
    for place in range(1, len(times)):
        if times[place] < times[place - 1]:
            raise ValueError(
                f"time {place + 1} is before time {place}; expected events oldest first. Give "
                "history and times in order of time."
            )


def shown_events(folder: Path, model: Scorer) -> int:
    """Most recent events a model was shown when it was evaluated.

    Args:
        folder: where the model was saved; record.json in it holds the settings of the training.
        model: the model, which may carry the number itself.

    Raises:
        ValueError: the record is missing or does not say so.
    """
    own = getattr(model, "max_seq_len", None)
    if own is not None:
        return int(own)
    try:
        record = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
        return int(record["settings"]["shared"]["max_seq_len"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder / RECORD_FILE} does not say how many events the model is shown ({error!r}); "
            "expected settings.shared.max_seq_len. Train the model again."
        ) from None
