// Everything one instruction set offers. Included by each file of variants/ once.

#pragma once
#include "merging.h"
#include "mixing.h"
#include "mlstm_backward.h"
#include "mlstm_forward.h"
#include "slstm.h"

namespace ISA {

extern const Functions functions;
const Functions functions = {VL,           mlstm_forward, mlstm_backward,
                             slstm_forward, slstm_backward,
                             mix_forward,   mix_backward,  mlstm_step,
                             slstm_step,    merge_forward, merge_backward};

}  // namespace ISA
