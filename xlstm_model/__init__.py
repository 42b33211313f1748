"""xLSTM for PyTorch: cells, blocks, stacks, a recommender, a language model, a drop-in LSTM.

Needs torch and safetensors alone. The equations are those of Beck et al. 2024 (arXiv 2405.04517)
and, for the 7B-style block, Beck et al. 2025 (arXiv 2503.13427).
"""

from xlstm_model.ablation import ABLATION_RUNGS, ablation_settings
from xlstm_model.authors import convert_authors_state_dict, load_authors_state_dict
from xlstm_model.blocks import (
    MLSTMBlock,
    MLSTMBlockState,
    MLSTMLargeBlock,
    SLSTMBlock,
    SLSTMBlockState,
)
from xlstm_model.cells import MLSTMState, SLSTMState
from xlstm_model.checkpoint import build_model, load_checkpoint, save_checkpoint
from xlstm_model.dropin import XLSTM, XLSTMState
from xlstm_model.language_model import Generated, XLSTMLanguageModel
from xlstm_model.padding import PADDING_ID, lengths_to_mask
from xlstm_model.pattern import block_pattern
from xlstm_model.protocol import SequenceModel
from xlstm_model.recommender import RecommenderState, SequenceRecommender
from xlstm_model.recorder import BlockRecord, Recorder
from xlstm_model.stack import XLSTMStack
from xlstm_model.state import (
    detach_state,
    empty_state_like,
    index_select_state,
    load_state,
    move_state,
    replace_samples,
    reset_state,
    save_state,
)

__all__ = [
    "ABLATION_RUNGS",
    "PADDING_ID",
    "XLSTM",
    "BlockRecord",
    "Generated",
    "MLSTMBlock",
    "MLSTMBlockState",
    "MLSTMLargeBlock",
    "MLSTMState",
    "RecommenderState",
    "Recorder",
    "SLSTMBlock",
    "SLSTMBlockState",
    "SLSTMState",
    "SequenceModel",
    "SequenceRecommender",
    "XLSTMLanguageModel",
    "XLSTMStack",
    "XLSTMState",
    "ablation_settings",
    "block_pattern",
    "build_model",
    "convert_authors_state_dict",
    "detach_state",
    "empty_state_like",
    "index_select_state",
    "lengths_to_mask",
    "load_authors_state_dict",
    "load_checkpoint",
    "load_state",
    "move_state",
    "replace_samples",
    "reset_state",
    "save_checkpoint",
    "save_state",
]
