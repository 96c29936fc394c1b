// ldmatrix, stmatrix, movmatrix: 8x8 matrices of 16-bit elements between shared memory and registers.
#include <cstring>

#include "access.h"
#include "matrix.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

struct MatrixExtra : Extra {
  std::vector<Slot> registers;  // one a matrix
  bool transposed = false;
  Space space = Space::generic;
};

// Row r of matrix m: 16 bytes at the address that lane 8m + r gives. Null when it was refused.
uint8_t* rowOf(Warp& w, const Insn& i, const MatrixExtra& x, int lane, AccessKind kind) {
  const uint64_t address = w.in<uint64_t>(i.a)[lane] + static_cast<uint64_t>(i.immediate);
  Place place = w.locate(i, lane, x.space, address, 16, 16, kind);
  if (place.bytes && place.space != Space::shared && place.space != Space::sharedCluster) {
    w.report(i, lane, Severity::error, "emu/out-of-bounds",
             format("%s: address 0x%llx is not in shared memory", spell(w.decoded(i)).c_str(),
                    static_cast<unsigned long long>(address)),
             "pass addresses of shared memory");
    return nullptr;
  }
  if (place.bytes && w.machine.checks) tell(w, i, {kind}, lane, place, 16);
  return place.bytes;
}

Flow ldmatrix(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  const auto& x = extraOf<MatrixExtra>(i);
  uint16_t elements[4][8][8] = {};
  // All rows are read before a register is written: an address register may be a destination.
  for (size_t k = 0; k < x.registers.size(); ++k)
    for (int r = 0; r < 8; ++r)
      if (const uint8_t* from = rowOf(w, i, x, static_cast<int>(8 * k) + r, AccessKind::read)) std::memcpy(elements[k][r], from, 16);
  for (size_t k = 0; k < x.registers.size(); ++k) {
    uint32_t* d = w.out<uint32_t>(x.registers[k]);
    const auto& e = elements[k];
    for (int l = 0; l < kLanes; ++l) {
      const int g = l / 4, q = 2 * (l % 4);
      const uint32_t low = x.transposed ? e[q][g] : e[g][q], high = x.transposed ? e[q + 1][g] : e[g][q + 1];
      d[l] = low | high << 16;
    }
  }
  return Flow::next;
}

Flow stmatrix(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  const auto& x = extraOf<MatrixExtra>(i);
  for (size_t k = 0; k < x.registers.size(); ++k) {
    const uint32_t* s = w.in<uint32_t>(x.registers[k]);
    uint16_t e[8][8];
    for (int l = 0; l < kLanes; ++l) {
      const int g = l / 4, q = 2 * (l % 4);
      (x.transposed ? e[q][g] : e[g][q]) = static_cast<uint16_t>(s[l]);
      (x.transposed ? e[q + 1][g] : e[g][q + 1]) = static_cast<uint16_t>(s[l] >> 16);
    }
    for (int r = 0; r < 8; ++r)
      if (uint8_t* to = rowOf(w, i, x, static_cast<int>(8 * k) + r, AccessKind::write)) std::memcpy(to, e[r], 16);
  }
  return Flow::next;
}

Flow movmatrix(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  const uint32_t* a = w.in<uint32_t>(i.a);
  uint16_t e[8][8];
  for (int l = 0; l < kLanes; ++l) {
    e[l / 4][2 * (l % 4)] = static_cast<uint16_t>(a[l]);
    e[l / 4][2 * (l % 4) + 1] = static_cast<uint16_t>(a[l] >> 16);
  }
  uint32_t* d = w.out<uint32_t>(i.d);
  for (int l = 0; l < kLanes; ++l) d[l] = e[2 * (l % 4)][l / 4] | static_cast<uint32_t>(e[2 * (l % 4) + 1][l / 4]) << 16;
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
