"""The two cells of xLSTM as pure functions, with their states."""

from xlstm_model.cells.mlstm import mlstm_chunkwise, mlstm_parallel, mlstm_step
from xlstm_model.cells.slstm import GateKind, slstm_sequence, slstm_step
from xlstm_model.cells.states import (
    MLSTMState,
    SLSTMState,
    compute_dtype,
    empty_mlstm_state,
    empty_slstm_state,
)

__all__ = [
    "GateKind",
    "MLSTMState",
    "SLSTMState",
    "compute_dtype",
    "empty_mlstm_state",
    "empty_slstm_state",
    "mlstm_chunkwise",
    "mlstm_parallel",
    "mlstm_step",
    "slstm_sequence",
    "slstm_step",
]
