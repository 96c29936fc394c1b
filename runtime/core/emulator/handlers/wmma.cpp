// wmma.load, wmma.store, wmma.mma. Fragments are opaque by the ISA; these are what ptxas 13 lays out for sm_90a (read from
// the loads that it emits), registers that repeat others included.
#include <cstring>

#include "../tensor/fragments.h"
#include "access.h"
#include "matrix.h"

namespace dsvc::emulator::DSVC_ARCH {

using tensor::kRowWords;
using tensor::Result;

namespace {

enum class Part : uint8_t { a, b, c };

struct WmmaExtra : Extra {
  tensor::Operation operation;
  bool isDouble = false;
  std::vector<Slot> a, b, c, d;
  // Loads and stores.
  Part part = Part::a;
  bool rowMajor = true;
  Space space = Space::generic;
  uint32_t bits = 0;      // of an element in memory
  Slot stride = slot::kNone;
  int64_t defaultStride = 0;
};

struct At {
  uint32_t row, word;
};

// Register r of lane l of A, or (with `n` for `m`) of B: row and word along K. `words` of a row.
At multiplicandAt(Part part, uint32_t rows, uint32_t words, uint32_t r, uint32_t l) {
  const uint32_t g = l / 4, q = l % 4;
  if (words == 4) return {g + 8 * r, q};
  if (rows == 8) return {g, q + 4 * (r % 2)};
  if (rows == 16 && part == Part::b) return {g + 8 * (r / 2 % 2), q + 4 * (r % 2)};
  return {(rows == 32 ? 16 * (r / 4) : 0) + tensor::rowOfA(r % 4, l), tensor::wordOfA(r % 4, l)};
}
// Element i of lane l of C or D: row and column.
At accumulatorAt(uint32_t m, uint32_t n, uint32_t i, uint32_t l) {
  const uint32_t g = l / 4, q = l % 4;
  if (n == 32) return {2 * q + i % 2, g + 8 * (i / 2)};
  if (m == 32) return {g + 8 * (i / 2), 2 * q + i % 2};
  return {tensor::rowOfC(i, l), tensor::columnOfC(i, l)};
}

// Visits every element of the lane's register: visit(first bit in the register, row, column) with `row` and `column` in
// the matrix as the program sees it.
template <class Visit>
void eachElement(const WmmaExtra& x, uint32_t r, uint32_t l, Visit visit) {
  const tensor::Operation& o = x.operation;
  if (x.part == Part::c) {
    const uint32_t count = x.bits == 16 ? 2 : 1;
    for (uint32_t e = 0; e < count; ++e) {
      const At at = x.isDouble ? At{l / 4, 2 * (l % 4) + r} : accumulatorAt(o.m, o.n, r * count + e, l);
      visit(16 * e, at.row, at.word);
    }
    return;
  }
  const uint32_t rows = x.part == Part::a ? o.m : o.n, perWord = x.isDouble ? 1 : 32 / x.bits;
  const At at = x.isDouble ? At{l / 4, l % 4} : multiplicandAt(x.part, rows, o.k * x.bits / 32, r, l);
  for (uint32_t e = 0; e < perWord; ++e) {
    const uint32_t k = at.word * perWord + e;
    if (x.part == Part::a) visit(e * x.bits, at.row, k);
    else visit(e * x.bits, k, at.row);
  }
}

// Elements below a byte are K-contiguous and move by bytes; `bytes` of one access.
template <bool Load>
Flow move(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  const auto& x = extraOf<WmmaExtra>(i);
  const std::vector<Slot>& registers = Load ? x.d : x.a;
  const uint64_t* base = w.in<uint64_t>(i.a);
  // An address register may be a destination: results are kept until all is read.
  std::vector<uint64_t> loaded(Load ? registers.size() * kLanes : 0), poison;
  const bool pending = readsPoison(w);
  bool poisoned = pending;
  Poison* check = w.machine.poison;
  if (check) poison.resize(registers.size() * kLanes);
  const uint8_t cls = x.isDouble ? 2 : 1;
  uint32_t lanes[kLanes];
  for (uint32_t r = 0; !Load && pending && r < registers.size(); ++r) {
    check->lanesOfRegister(w, registers[r], lanes, cls);
    for (uint32_t l = 0; l < kLanes; ++l) poison[r * kLanes + l] = x.isDouble && lanes[l] ? ~0ull : lanes[l];
  }
  const uint32_t bytes = x.bits < 8 ? 1 : x.bits / 8;
  for (uint32_t r = 0; r < registers.size(); ++r)
    for (uint32_t l = 0; l < kLanes; ++l) {
      const uint64_t stride = x.stride == slot::kNone ? static_cast<uint64_t>(x.defaultStride)
                                                      : static_cast<uint64_t>(static_cast<int64_t>(
                                                            static_cast<int32_t>(w.in<uint32_t>(x.stride)[l])));
      eachElement(x, r, l, [&](uint32_t bit, uint32_t row, uint32_t column) {
        const uint64_t index = x.rowMajor ? row * stride + column : column * stride + row;
        if (index * x.bits % 8) return;  // the upper part of a byte that came with its lower part
        const uint64_t address = base[l] + static_cast<uint64_t>(i.immediate) + index * x.bits / 8;
        const AccessKind kind = Load ? AccessKind::read : AccessKind::write;
        Place place = w.locate(i, static_cast<int>(l), x.space, address, bytes, bytes, kind);
        if (!place.bytes) return;
        if (w.machine.checks) tell(w, i, {kind}, static_cast<int>(l), place, bytes);
        uint64_t value = 0;
        if constexpr (Load) {
          std::memcpy(&value, place.bytes, bytes);
          loaded[r * kLanes + l] |= value << bit;
          if (uint64_t p = 0; check && check->memory(w, place, bytes, reinterpret_cast<uint8_t*>(&p))) {
            poison[r * kLanes + l] |= p << bit;
            poisoned = true;
          }
        } else {
          value = x.isDouble ? w.in<uint64_t>(registers[r])[l] : w.in<uint32_t>(registers[r])[l] >> bit;
          std::memcpy(place.bytes, &value, bytes);
          if (pending) {
            const uint64_t p = poison[r * kLanes + l] >> bit;
            check->setMemory(w, i, place, bytes, reinterpret_cast<const uint8_t*>(&p));
          }
        }
      });
    }
  for (uint32_t r = 0; Load && r < registers.size(); ++r)
    for (uint32_t l = 0; l < kLanes; ++l) {
      if (x.isDouble) w.out<uint64_t>(registers[r])[l] = loaded[r * kLanes + l];
      else w.out<uint32_t>(registers[r])[l] = static_cast<uint32_t>(loaded[r * kLanes + l]);
    }
  for (uint32_t r = 0; Load && poisoned && r < registers.size(); ++r) {
    for (uint32_t l = 0; l < kLanes; ++l) lanes[l] = static_cast<uint32_t>(poison[r * kLanes + l] | poison[r * kLanes + l] >> 32);
    check->setRegister(w, registers[r], lanes, cls);
  }
  return Flow::next;
}

Flow wmmaMma(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  const auto& x = extraOf<WmmaExtra>(i);
  const tensor::Operation o = withOptions(w, x.operation);
  const uint32_t words = o.k * tensor::bitsOf(o.a) / 32;
  uint32_t a[32 * kRowWords], b[32 * kRowWords], c[256] = {};
  auto gather = [&](Part part, const std::vector<Slot>& registers, uint32_t rows, uint32_t* tile) {
    for (uint32_t r = 0; r < registers.size(); ++r)
      for (uint32_t l = 0; l < kLanes; ++l) {
        const At at = multiplicandAt(part, rows, words, r, l);
        tile[at.row * kRowWords + at.word] = w.in<uint32_t>(registers[r])[l];
      }
  };
  gather(Part::a, x.a, o.m, a);
  gather(Part::b, x.b, o.n, b);
  const uint32_t elements = o.m * o.n / kLanes;
  for (uint32_t e = 0; e < elements; ++e)
    for (uint32_t l = 0; l < kLanes; ++l) {
      const At at = accumulatorAt(o.m, o.n, e, l);
      c[at.row * o.n + at.word] = o.c == Result::f16 ? w.in<uint32_t>(x.c[e / 2])[l] >> (16 * (e % 2)) & 0xffff
                                                     : w.in<uint32_t>(x.c[e])[l];
    }
  multiply(o, a, b, c, c);
  for (uint32_t e = 0; e < elements; ++e)
    for (uint32_t l = 0; l < kLanes; ++l) {
      const At at = accumulatorAt(o.m, o.n, e, l);
      const uint32_t bits = c[at.row * o.n + at.word];
      if (o.d != Result::f16) {
        w.out<uint32_t>(x.d[e])[l] = bits;
      } else {
        uint32_t& to = w.out<uint32_t>(x.d[e / 2])[l];
        to = e % 2 ? (to & 0xffff) | bits << 16 : bits;
      }
    }
  if (readsPoison(w)) {
    const std::vector<Slot> all[4] = {x.a, x.b, x.c, x.d};
    spreadPoison(w, all, o.c == Result::f16, o.d == Result::f16, 1,
                 [&](uint32_t r, uint32_t l) { return multiplicandAt(Part::a, o.m, words, r, l).row; },
                 [&](uint32_t r, uint32_t l) { return multiplicandAt(Part::b, o.n, words, r, l).row; },
                 [&](uint32_t e, uint32_t l) { return accumulatorAt(o.m, o.n, e, l).row; },
                 [&](uint32_t e, uint32_t l) { return accumulatorAt(o.m, o.n, e, l).word; });
  }
  return Flow::next;
}

// Registers of a fragment, with those that repeat others.
size_t registersOf(const tensor::Operation& o, Part part, tensor::Element e) {
  const uint32_t rows = part == Part::a ? o.m : o.n;
  if (e == tensor::Element::f16) return 8;
  const uint32_t words = o.k * tensor::bitsOf(e) / 32;
  return rows * words / kLanes;
}

void checkShape(Resolve& r, const tensor::Operation& o, uint32_t bits) {
  const bool full = (o.m == 16 && o.n == 16) || (o.m == 8 && o.n == 32) || (o.m == 32 && o.n == 8);
  const bool known = bits >= 8 && bits <= 16 ? full && o.k == 16
                     : bits == 32            ? o.m == 16 && o.n == 16 && o.k == 8
                     : bits == 4             ? o.m == 8 && o.n == 8 && o.k == 32
                                             : o.m == 8 && o.n == 8 && o.k == (bits == 1 ? 128u : 4u);
  if (!known) r.unsupported("no shape of this type");
}

void resolveMove(Resolve& r, bool isLoad) {
  const tensor::Form form = tensor::formOf(r);
  if (form.types.size() != 1) r.unsupported("one element type must stand here");
  auto& x = r.extra<WmmaExtra>();
  tensor::Operation& o = x.operation;
  o.m = form.m;
  o.n = form.n;
  o.k = form.k;
  const Modifier type = form.types[0];
  x.part = r.has(Modifier::a_) ? Part::a : r.has(Modifier::b_) ? Part::b : Part::c;
  x.rowMajor = r.has(Modifier::row_);
  x.isDouble = type == Modifier::f64_;
  if (r.has(Modifier::global_)) x.space = Space::global;
  if (r.hasAny(Modifier::shared_, Modifier::shared__cta_)) x.space = Space::shared;
  size_t count;
  if (x.part == Part::c) {
    const bool known = o.m * o.n == 256 || (o.m == 8 && o.n == 8);
    if (!known) r.unsupported("no shape that wmma has");
    x.bits = x.isDouble ? 64 : tensor::resultOf(r, type) == Result::f16 ? 16 : 32;
    count = o.m * o.n / kLanes / (x.bits == 16 ? 2 : 1);
  } else {
    x.bits = x.isDouble ? 64 : tensor::bitsOf(tensor::elementOf(r, type));
    checkShape(r, o, x.bits);
    if (x.bits < 8 && x.rowMajor != (x.part == Part::a)) r.unsupported("elements below a byte must be contiguous along K");
    count = x.isDouble ? 1 : registersOf(o, x.part, tensor::elementOf(r, type));
  }
  const uint32_t rows = x.part == Part::b ? o.k : o.m, columns = x.part == Part::a ? o.k : o.n;
  x.defaultStride = x.rowMajor ? columns : rows;
  const size_t addressOperand = isLoad ? 1 : 0;
  Resolve::Address at = r.address(addressOperand);
  r.out.a = at.base;
  r.out.immediate = at.offset;
  if (r.operands() > 2) x.stride = r.source(2, Type::u32);
  const Type registerType = x.isDouble ? Type::f64 : Type::b32;
  if (isLoad) x.d = tensor::destinationsOf(r, 0, count, registerType);
  else x.a = tensor::sourcesOf(r, 1, count, registerType);
  r.out.run = isLoad ? move<true> : move<false>;
}

}  // namespace

void resolveWmma(Resolve& r) {
  if (r.has(Modifier::load_)) return resolveMove(r, true);
  if (r.has(Modifier::store_)) return resolveMove(r, false);
  const tensor::Form form = tensor::formOf(r);
  // f64 has mma.m8n8k4's fragments; its resolver serves.
  if (!form.types.empty() && form.types[0] == Modifier::f64_) return resolveMma(r);
  auto& x = r.extra<WmmaExtra>();
  tensor::Operation& o = x.operation;
  const bool implied = form.types.size() == 2;  // D and C: the multiplicands are f16
  if (!implied && form.types.size() != 4) r.unsupported("the types of D, A, B and C must stand here");
  o.m = form.m;
  o.n = form.n;
  o.k = form.k;
  o.d = tensor::resultOf(r, form.types[0]);
  o.a = implied ? tensor::Element::f16 : tensor::elementOf(r, form.types[1]);
  o.b = implied ? tensor::Element::f16 : tensor::elementOf(r, form.types[2]);
  o.c = tensor::resultOf(r, form.types.back());
  o.saturate = r.has(Modifier::satfinite_);
  o.isXor = r.has(Modifier::xor_);
  const bool isInteger = tensor::isInteger(o.a);
  if (o.a != o.b || isInteger != (o.d == Result::s32) || isInteger != (o.c == Result::s32) || tensor::isFp8(o.a))
    r.unsupported("no combination of types that wmma has");
  checkShape(r, o, tensor::bitsOf(o.a));
  const size_t elements = o.m * o.n / kLanes;
  x.a = tensor::sourcesOf(r, 1, registersOf(o, Part::a, o.a), Type::b32);
  x.b = tensor::sourcesOf(r, 2, registersOf(o, Part::b, o.b), Type::b32);
  x.c = tensor::sourcesOf(r, 3, o.c == Result::f16 ? elements / 2 : elements, Type::b32);
  x.d = tensor::destinationsOf(r, 0, o.d == Result::f16 ? elements / 2 : elements, Type::b32);
  r.out.run = wmmaMma;
}

}  // namespace dsvc::emulator::DSVC_ARCH
