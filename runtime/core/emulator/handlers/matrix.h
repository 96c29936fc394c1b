// The matrix families: what each of their files gives to registerMatrix (mma.cpp).
#pragma once
#include "../checks/poison.h"
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

// Hands poison on from A, B and C to D: a poisoned element of A spoils its row of D, one of B its column. The functions
// give the place of a register's or element's lane.
template <class RowOfA, class ColumnOfB, class RowOfC, class ColumnOfC>
void spreadPoison(Warp& w, const std::vector<Slot> (&registers)[4], bool halfC, bool halfD, uint8_t cls, RowOfA rowOfA, ColumnOfB columnOfB,
                  RowOfC rowOfC, ColumnOfC columnOfC) {
  Poison& check = *w.machine.poison;
  bool rows[64] = {}, columns[64] = {};
  uint32_t lanes[kLanes];
  auto each = [&](const std::vector<Slot>& list, auto visit) {
    for (uint32_t r = 0; r < list.size(); ++r) {
      check.lanesOfRegister(w, list[r], lanes, cls);
      for (uint32_t l = 0; l < kLanes; ++l)
        if (lanes[l]) visit(r, l, lanes[l]);
    }
  };
  each(registers[0], [&](uint32_t r, uint32_t l, uint32_t) { rows[rowOfA(r, l)] = true; });
  each(registers[1], [&](uint32_t r, uint32_t l, uint32_t) { columns[columnOfB(r, l)] = true; });
  std::vector<bool> c(registers[3].size() * (halfD ? 2 : 1) * kLanes);
  each(registers[2], [&](uint32_t r, uint32_t l, uint32_t p) {
    if (!halfC) c[r * kLanes + l] = true;
    for (uint32_t h = 0; halfC && h < 2; ++h)
      if (p >> 16 * h & 0xffff) c[(2 * r + h) * kLanes + l] = true;
  });
  for (uint32_t r = 0; r < registers[3].size(); ++r) {
    for (uint32_t l = 0; l < kLanes; ++l) {
      lanes[l] = 0;
      for (uint32_t h = 0; h < (halfD ? 2u : 1u); ++h) {
        const uint32_t e = halfD ? 2 * r + h : r;
        if (rows[rowOfC(e, l)] || columns[columnOfC(e, l)] || c[e * kLanes + l]) lanes[l] |= halfD ? 0xffffu << 16 * h : ~0u;
      }
    }
    check.setRegister(w, registers[3][r], lanes, cls);
  }
}
inline bool readsPoison(const Warp& w) { return w.machine.poison && w.machine.poison->pending(); }

inline tensor::Operation withOptions(const Warp& w, tensor::Operation o) {
  if (!w.machine.options.tensorCoreExact) o.model = tensor::Model::plain;
  return o;
}

}  // namespace dsvc::emulator::DSVC_ARCH
