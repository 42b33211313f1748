// Everything one instruction set offers. Included by each file of variants/ once.

#pragma once
#include "block_step.h"
#include "feed_forward.h"
#include "merging.h"
#include "mixing.h"
#include "mlstm_backward.h"
#include "mlstm_block_backward.h"
#include "mlstm_forward.h"
#include "slstm.h"
#include "slstm_block_backward.h"

namespace ISA {

extern const Functions functions;
const Functions functions = {VL,           mlstm_forward, mlstm_backward,
                             slstm_forward, slstm_backward,
                             mix_forward,   mix_backward,  mlstm_step,
                             slstm_step,    merge_forward, merge_backward,
                             mlstm_block_step, mlstm_block_forward, mlstm_block_backward,
                             feed_forward,  feed_forward_backward,
                             slstm_block_forward, slstm_block_backward, slstm_block_step};

}  // namespace ISA
