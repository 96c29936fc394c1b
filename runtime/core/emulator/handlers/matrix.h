// The matrix families: what each of their files gives to registerMatrix (mma.cpp).
#pragma once
#include "../tensor/forms.h"
#include "../tensor/operation.h"
#include "lanes.h"

namespace dsvc::emulator::DSVC_ARCH {

void multiply(const tensor::Operation& o, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d);

void resolveMma(Resolve& r);
void resolveWmma(Resolve& r);
void resolveWgmma(Resolve& r);
void resolveLdmatrix(Resolve& r);
void resolveStmatrix(Resolve& r);
void resolveMovmatrix(Resolve& r);

// The .aligned instructions need every lane of the warp, and none may have exited. True: go on; else the handler returns
// `otherwise`.
inline bool wholeWarp(Warp& w, const Insn& i, Mask m, Flow& otherwise) {
  if (!w.converged(i, m, otherwise)) return false;
  if (w.live == kFull) return true;
  w.report(i, -1, Severity::error, "emu/partial-warp",
           format("%s needs all 32 lanes of the warp, but only 0x%08x run", spell(w.decoded(i)).c_str(), w.live),
           "launch whole warps, and let no lane exit before its warp's last matrix instruction");
  otherwise = Flow::next;
  return false;
}

inline tensor::Operation withOptions(const Warp& w, tensor::Operation o) {
  if (!w.machine.options.tensorCoreExact) o.model = tensor::Model::plain;
  return o;
}

}  // namespace dsvc::emulator::DSVC_ARCH
