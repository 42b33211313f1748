// Everything one instruction set offers. Included by each file of variants/ once.

#pragma once
#include "mlstm.h"
#include "slstm.h"

namespace ISA {

extern const Functions functions;
const Functions functions = {VL,           mlstm_forward, mlstm_backward,
                             slstm_forward, slstm_backward};

}  // namespace ISA
