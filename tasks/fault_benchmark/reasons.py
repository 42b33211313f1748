"""Why a fault is missed or mislocated, or a healthy program turns red: what was found by hand."""

from __future__ import annotations

REASONS: dict[str, str] = {
    "head_huge": "Hidden states start near 0 under small embeddings, so that large output weights "
    "give usual scores. Trainings end as high as without on the synthetic log, and 0.04 NDCG lower "
    "on ml-100k.",
    "bs_one": "Training on single rows ends as high as with 32: nothing is wrong but the cost, "
    "which no question is about.",
    "bs_full": "Transition counts rank no better than popularity on this sample: there is nothing "
    "a training could be seen to miss.",
    "epochs_1": "Transition counts rank no better than popularity on this sample: there is nothing "
    "a training could be seen to miss.",
    "last_not_best": "Where validation is best in the last epoch, the last weights are the best.",
    "left_pad_eval": "Every history is longer than the window: there is no padding to misplace.",
    "read_last_col": "Every history is longer than the window: the last column is the last event.",
    "windows_cut": "The lost first position is a smaller share of an epoch than the last batch, "
    "which may be left out; rows that end up empty show it.",
    "mask_turned": "With every event masked, nothing reaches the scores: the report blames the "
    "model for not reading its input, which is where the mask is used.",
    "scores_bounded": "The bias for repeated items is added after the tanh: scores pile up at 1 "
    "and -1, which are no bounds of their range.",
    "whole_days": "Equal days are sorted by item, so that training depends on held-out items: the "
    "report names the split; order and times are among the red.",
    "validation_is_test": "The same events are validation and test: nothing is in training, and "
    "no question compares the two held-out splits with each other.",
    "state_of_last_batch": "The state is carried in training mode alone, where it shows as a "
    "gradient that depends on the step before.",
    "rows_renormalised": "Looking rows up changes them, so that a second call differs: the report "
    "blames a state.",
    "fading_output": "Scores that fade with the position answer small changes too little, which "
    "the report calls a shut activation.",
    "first_hundred_users": "Two questions failed by a bug of their own over metrics of fewer users "
    "than ranks, which counts as missed; mended after this score.",
    "cached_by_shape": "The cache lives in the model, and every identity takes a new one: it shows "
    "after training alone, as a validation that never moves.",
    "smoothing_undeclared": "The gradient by the logits shows it (loss_matches_output); the value "
    "of the loss lies within the limit of loss_fits_task. The stage is right.",
    "in_batch_negatives": "Found and placed by a test of frequencies, which is a statistical rule "
    "and counts as no detection here.",
    "temporal": "On this synthetic log a split by time leaves no test event: the program could not "
    "be built, and nothing was diagnosed.",
    "steps_damped": "All steps of the budget together reach 1.4 % of the weights; below 1 % the "
    "rate would be called too small. The loss that does not fall is found.",
    "large_epsilon": "All steps of the budget together reach 1.4 % of the weights; below 1 % the "
    "rate would be called too small. The loss that does not fall is found.",
    "same_rows_dropped": "Of the pairs that windows of this log could hold, an epoch still leaves "
    "out none.",
}
"""Id of a fault or variant -> the reason in a sentence."""
