// The tensor cores' arithmetic (tensor/), compiled for this instruction-set level.
#include "../tensor/plain.h"
#include "matrix.h"

namespace dsvc::emulator::DSVC_ARCH {

void multiply(const Operation& o, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) {
  multiplyInline(o, a, b, c, d);
}

}  // namespace dsvc::emulator::DSVC_ARCH
