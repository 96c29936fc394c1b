// ldmatrix, stmatrix, movmatrix: 8x8 matrices of 16-bit elements between shared memory and registers.
#include <cstring>

#include "../checks/poison.h"
#include "access.h"
#include "matrix.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

struct MatrixExtra : Extra {
  std::vector<Slot> registers;  // one a matrix
  bool transposed = false;
  Space space = Space::generic;
};

// Row r of matrix m: 16 bytes at the address that lane 8m + r gives. No bytes when it was refused.
Place rowOf(Warp& w, const Insn& i, const MatrixExtra& x, int lane, AccessKind kind) {
  const uint64_t address = w.in<uint64_t>(i.a)[lane] + static_cast<uint64_t>(i.immediate);
  Place place = w.locate(i, lane, x.space, address, 16, 16, kind);
  if (place.bytes && place.space != Space::shared && place.space != Space::sharedCluster) {
    w.report(i, lane, Severity::error, "emu/out-of-bounds",
             format("%s: address 0x%llx is not in shared memory", spell(w.decoded(i)).c_str(),
                    static_cast<unsigned long long>(address)),
             "pass addresses of shared memory");
    return {};
  }
  if (place.bytes && w.machine.checks) tell(w, i, {kind}, lane, place, 16);
  return place;
}

using Elements = uint16_t[8][8];

// What each lane gets of a matrix, and back.
void fromElements(const Elements& e, bool transposed, uint32_t* lanes) {
  for (int l = 0; l < kLanes; ++l) {
    const int g = l / 4, q = 2 * (l % 4);
    const uint32_t low = transposed ? e[q][g] : e[g][q], high = transposed ? e[q + 1][g] : e[g][q + 1];
    lanes[l] = low | high << 16;
  }
}
void toElements(const uint32_t* lanes, bool transposed, Elements& e) {
  for (int l = 0; l < kLanes; ++l) {
    const int g = l / 4, q = 2 * (l % 4);
    (transposed ? e[q][g] : e[g][q]) = static_cast<uint16_t>(lanes[l]);
    (transposed ? e[q + 1][g] : e[g][q + 1]) = static_cast<uint16_t>(lanes[l] >> 16);
  }
}

Flow ldmatrix(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  const auto& x = extraOf<MatrixExtra>(i);
  Elements elements[4] = {}, poison[4] = {};
  Poison* check = w.machine.poison;
  bool poisoned = check && check->pending();
  // All rows are read before a register is written: an address register may be a destination.
  for (size_t k = 0; k < x.registers.size(); ++k)
    for (int r = 0; r < 8; ++r) {
      const Place from = rowOf(w, i, x, static_cast<int>(8 * k) + r, AccessKind::read);
      if (!from.bytes) continue;
      std::memcpy(elements[k][r], from.bytes, 16);
      if (check) poisoned |= check->memory(w, from, 16, reinterpret_cast<uint8_t*>(poison[k][r]));
    }
  for (size_t k = 0; k < x.registers.size(); ++k) {
    fromElements(elements[k], x.transposed, w.out<uint32_t>(x.registers[k]));
    if (!poisoned) continue;
    uint32_t lanes[kLanes];
    fromElements(poison[k], x.transposed, lanes);
    check->setRegister(w, x.registers[k], lanes);
  }
  return Flow::next;
}

Flow stmatrix(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  const auto& x = extraOf<MatrixExtra>(i);
  Poison* check = w.machine.poison;
  const bool poisoned = check && check->pending();
  for (size_t k = 0; k < x.registers.size(); ++k) {
    Elements e, poison;
    toElements(w.in<uint32_t>(x.registers[k]), x.transposed, e);
    if (poisoned) {
      uint32_t lanes[kLanes];
      check->lanesOfRegister(w, x.registers[k], lanes);
      toElements(lanes, x.transposed, poison);
    }
    for (int r = 0; r < 8; ++r) {
      const Place to = rowOf(w, i, x, static_cast<int>(8 * k) + r, AccessKind::write);
      if (!to.bytes) continue;
      std::memcpy(to.bytes, e[r], 16);
      if (poisoned) check->setMemory(w, i, to, 16, reinterpret_cast<const uint8_t*>(poison[r]));
    }
  }
  return Flow::next;
}

Flow movmatrix(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  Elements e;
  toElements(w.in<uint32_t>(i.a), false, e);
  fromElements(e, true, w.out<uint32_t>(i.d));
  if (Poison* check = w.machine.poison; check && check->pending()) {
    uint32_t lanes[kLanes];
    check->lanesOfRegister(w, i.a, lanes);
    toElements(lanes, false, e);
    fromElements(e, true, lanes);
    check->setRegister(w, i.d, lanes);
  }
  return Flow::next;
}

MatrixExtra& prepare(Resolve& r, size_t addressOperand, size_t& count) {
  if (!r.has(Modifier::m8n8_) || !r.has(Modifier::b16_)) r.unsupported("only .m8n8 with .b16 exists on sm_90");
  auto& x = r.extra<MatrixExtra>();
  x.transposed = r.has(Modifier::trans_);
  if (r.hasAny(Modifier::shared_, Modifier::shared__cta_)) x.space = Space::shared;
  Resolve::Address at = r.address(addressOperand);
  r.out.a = at.base;
  r.out.immediate = at.offset;
  count = r.has(Modifier::x4_) ? 4 : r.has(Modifier::x2_) ? 2 : 1;
  return x;
}

}  // namespace

void resolveLdmatrix(Resolve& r) {
  size_t count;
  MatrixExtra& x = prepare(r, 1, count);
  x.registers = tensor::destinationsOf(r, 0, count, Type::b32);
  r.out.run = ldmatrix;
}

void resolveStmatrix(Resolve& r) {
  size_t count;
  MatrixExtra& x = prepare(r, 0, count);
  x.registers = tensor::sourcesOf(r, 1, count, Type::b32);
  r.out.run = stmatrix;
}

void resolveMovmatrix(Resolve& r) {
  if (!r.has(Modifier::m8n8_) || !r.has(Modifier::trans_) || !r.has(Modifier::b16_))
    r.unsupported("only movmatrix.m8n8.trans.b16 exists");
  r.out.a = r.source(1, Type::b32);
  r.out.d = r.destination(0, Type::b32);
  r.out.run = movmatrix;
}

}  // namespace dsvc::emulator::DSVC_ARCH
