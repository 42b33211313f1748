"""What published tools report of themselves, for a sense of scale."""

from __future__ import annotations

NOTE = (
    "Each was measured by its authors on faults of its own choice; on faults of others, rates were "
    "two to four times lower wherever anybody looked. They give a sense of scale and no ranking."
)
HEADER = ("tool", "faults", "detected", "placed", "false alarms")
TOOLS: tuple[tuple[str, ...], ...] = (
    (
        "TrainCheck (OSDI 2025)",
        "20 real silent errors",
        "90 %",
        "exact cause 10 of 18, near it 8",
        "below 2 %, with reference programs at hand",
    ),
    ("DEFault (ICSE 2025)", "52 real programs", "94 %", "category 63 %", "precision 0.93"),
    (
        "DEFault++ (2026)",
        "5,556 mutants of transformers; 11 real issues",
        "F1 0.83 to 0.91; 8 of 11",
        "category F1 0.85; cause 4 of 11",
        "about 9 to 21 %",
    ),
    ("LocatorGraph (EMSE 2025)", "152 models", "F1 0.81", "feature accuracy 0.91", "-"),
    ("DeepFD (ICSE 2022)", "the same 52 programs", "90 %", "52 %", "precision 0.90"),
    (
        "AutoTrainer",
        "701 models of its own; the same 52",
        "100 %; 23 %",
        "19 % of the 52",
        "none on its own",
    ),
    (
        "threshold monitors, ported to a toy of this project",
        "102 listed, 28 unseen",
        "50 %, 32 %",
        "none places a fault",
        "a red in 18 % of healthy runs",
    ),
)
