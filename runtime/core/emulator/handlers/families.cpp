#include "families.h"

namespace dsvc::emulator::DSVC_ARCH {

void registerAll(Resolver& r) {
  registerInteger(r);
  registerBits(r);
  registerFloat(r);
  registerHalf(r);
  registerApproximate(r);
  registerCompare(r);
  registerConvert(r);
  registerMove(r);
  registerMemory(r);
  registerAtomic(r);
  registerControl(r);
  registerBarrier(r);
  registerWarpWide(r);
  // Weak: a core without these families still links.
  if (registerAsync) registerAsync(r);
  if (registerMatrix) registerMatrix(r);
}

}  // namespace dsvc::emulator::DSVC_ARCH
