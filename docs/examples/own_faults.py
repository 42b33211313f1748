"""Two faults and a healthy variant of one's own: `assay faults run --faults FILE`.

A fault takes the clean program, a `Subject`, and returns it with one part exchanged. Its label says
which questions should turn red and which stages place it rightly.
"""

from tasks.faults.fault import Fault, HealthyVariant, at
from tasks.faults.labels import asks
from tasks.faults.planting import change_batches, change_hidden


def _targets_late(batch):
    return batch._replace(targets=batch.targets.roll(1, dims=1))


FAULTS = (
    Fault(
        id="targets_rolled",
        title="targets are rolled by one position",
        layer="data",
        source="my own pipeline, last spring",
        expected=asks("X3 G2"),
        stages=at("align"),
        apply=lambda subject: change_batches(subject, _targets_late),
    ),
    Fault(
        id="users_mixed",
        title="hidden states get a share of the row before",
        layer="model",
        source="my own pipeline, last spring",
        expected=asks("G11"),
        stages=at("batch"),
        apply=lambda subject: change_hidden(
            subject, lambda hidden, mask: hidden + 0.1 * hidden.roll(1, dims=0)
        ),
    ),
)

VARIANTS = (
    HealthyVariant(
        id="my_settings",
        title="the settings I use",
        settings={"embedding_dim": 16, "dropout": 0.1},
    ),
)
