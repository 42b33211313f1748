"""The xLSTM library: cells, blocks, stacks, a recommender and a language model."""

from xlstm_model.stack import XLSTMStack

__all__ = ["XLSTMStack"]
