"""Why a fault is missed or mislocated, or a healthy program turns red: what was found by hand."""

from __future__ import annotations

REASONS: dict[str, str] = {
    "head_huge": "Hidden states start near 0 under small embeddings, so that large output weights "
    "give usual scores. Trainings end as high as without on the synthetic log, and 0.04 NDCG lower "
    "on ml-100k.",
    "bs_one": "Training on single rows ends as high as with 32: nothing is wrong but the cost, "
    "which no question is about.",
    "bs_full": "On ml-100k transition counts rank no better than popularity: there is nothing a "
    "training could be seen to miss. The xLSTM on the synthetic log reaches what it should in the "
    "same number of epochs, one step each: the training is not broken.",
    "epochs_1": "Transition counts rank no better than popularity on this sample: there is nothing "
    "a training could be seen to miss.",
    "last_not_best": "Where validation is best in the last epoch, the last weights are the best.",
    "left_pad_eval": "Every history is longer than the window: there is no padding to misplace.",
    "read_last_col": "Every history is longer than the window: the last column is the last event.",
    "windows_cut": "The lost first position is a smaller share of an epoch than the last batch, "
    "which may be left out; rows that end up empty show it.",
    "mask_turned": "With every event masked, nothing reaches the scores: the report blames the "
    "model for not reading its input, which is where the mask is used.",
    "no_stabilizer": "Cells are driven out of range, and their states are no numbers at once: "
    "the question on states is red too, and an earlier stage is named first.",
    "grows_by_position": "The growth of scores along a window is found; embeddings, which every "
    "position multiplies, answer for it in a check that outranks the others.",
    "very_narrow": "Two features: scores of all users are nearly one, beyond a limit that models "
    "of usual width keep a hundred times over; where training is looked at, nothing was learnt, "
    "and one window cannot be learnt by heart either.",
    "narrow": "Eight features of a linear model on this log: less than 0.1 % of the scores' "
    "variance lies between users or positions, which is the limit.",
    "bce": "By BCE with shared negatives an xLSTM learns no more than popularity on this log "
    "(NDCG@10 0.016 in the experiment log, popularity 0.022): scores of all users are nearly one.",
    "rnn_weights_huge": "Cells saturate, and runs of the same history drift apart: the question on "
    "states is red too, and is named first.",
    "users_by_history": "Every history of this sample fills the window: their order by length "
    "says nothing.",
    "first_item_lost": "On this log one item of many has no id of its own: within what a dropped "
    "last batch may lose.",
    "shrinking_epochs": "What later epochs lose is within what a dropped last batch may lose, or "
    "shows in the records first.",
    "shift_across_rows": "Rows shifted into each other move scores by events that come later: "
    "causality, which stands earlier, is named.",
    "without_rare_rivals": "Ranks against frequent items alone; no rare item outranks a target, so "
    "that the metric is the same number.",
    "whole_days": "Equal days are sorted by item, so that training depends on held-out items: the "
    "report names the split; order and times are among the red.",
    "steps_damped": "All steps of the budget together reach 1.4 % of the weights; below 1 % the "
    "rate would be called too small. The loss that does not fall is found.",
}
"""Id of a fault or variant -> the reason in a sentence."""
