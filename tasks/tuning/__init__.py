"""Hyper-parameter search with Optuna: the same budget and the same space for every model."""
