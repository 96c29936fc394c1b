// mma.sync in all shapes of sm_90 and below, and the matrix families' registration.
#include <cfenv>
#include <cmath>

#include "../tensor/fragments.h"
#include "matrix.h"

namespace dsvc::emulator::DSVC_ARCH {

using tensor::kRowWords;
using tensor::Result;

namespace {

struct MmaExtra : Extra {
  tensor::Operation operation;
  std::vector<Slot> a, b, c, d;
  bool rowA = true, rowB = false;   // m8n8k4: the layouts
  int rounding = FE_TONEAREST;      // f64
};

// Element i of a lane's accumulators, two a register for f16.
uint32_t accumulatorOf(const Warp& w, const std::vector<Slot>& registers, Result type, uint32_t i, uint32_t l) {
  if (type != Result::f16) return w.in<uint32_t>(registers[i])[l];
  return w.in<uint32_t>(registers[i / 2])[l] >> (16 * (i % 2)) & 0xffff;
}
void setAccumulator(const Warp& w, const std::vector<Slot>& registers, Result type, uint32_t i, uint32_t l, uint32_t bits) {
  if (type != Result::f16) {
    w.out<uint32_t>(registers[i])[l] = bits;
    return;
  }
  uint32_t& to = w.out<uint32_t>(registers[i / 2])[l];
  to = i % 2 ? (to & 0xffff) | bits << 16 : (to & 0xffff0000u) | bits;
}

void spread(Warp& w, const MmaExtra& x, uint32_t step, uint8_t cls) {
  const std::vector<Slot> registers[4] = {x.a, x.b, x.c, x.d};
  spreadPoison(w, registers, x.operation.c == Result::f16 && cls == 1, x.operation.d == Result::f16 && cls == 1, cls,
               [step](uint32_t r, uint32_t l) { return tensor::rowOfA(step * r, l); }, [](uint32_t, uint32_t l) { return tensor::columnOfB(l); },
               tensor::rowOfC, tensor::columnOfC);
}

Flow mma(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  const auto& x = extraOf<MmaExtra>(i);
  const tensor::Operation o = withOptions(w, x.operation);
  uint32_t a[16 * kRowWords], b[8 * kRowWords], c[16 * 8] = {};
  const uint32_t step = o.m == 8 ? 2 : 1;
  for (uint32_t r = 0; r < x.a.size(); ++r) {
    const uint32_t* lanes = w.in<uint32_t>(x.a[r]);
    for (uint32_t l = 0; l < kLanes; ++l) a[tensor::rowOfA(step * r, l) * kRowWords + tensor::wordOfA(step * r, l)] = lanes[l];
  }
  for (uint32_t r = 0; r < x.b.size(); ++r) {
    const uint32_t* lanes = w.in<uint32_t>(x.b[r]);
    for (uint32_t l = 0; l < kLanes; ++l) b[tensor::columnOfB(l) * kRowWords + tensor::wordOfB(r, l)] = lanes[l];
  }
  const uint32_t elements = o.m * o.n / kLanes;
  for (uint32_t e = 0; e < elements; ++e)
    for (uint32_t l = 0; l < kLanes; ++l)
      c[tensor::rowOfC(e, l) * o.n + tensor::columnOfC(e, l)] = accumulatorOf(w, x.c, o.c, e, l);
  multiply(o, a, b, c, c);
  for (uint32_t e = 0; e < elements; ++e)
    for (uint32_t l = 0; l < kLanes; ++l)
      setAccumulator(w, x.d, o.d, e, l, c[tensor::rowOfC(e, l) * o.n + tensor::columnOfC(e, l)]);
  if (readsPoison(w)) spread(w, x, step, 1);
  return Flow::next;
}

// m8n8k4 with f16: four products, each of the four lanes 4p.. and the four lanes 16 + 4p...
Flow mmaQuads(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  const auto& x = extraOf<MmaExtra>(i);
  const tensor::Operation o = withOptions(w, x.operation);
  auto rowOf = [](Result type, uint32_t e, uint32_t l) {
    const uint32_t upper = l < 16 ? 0 : 4;
    return type == Result::f16 ? l % 4 + upper : (l & 1) + (e & 2) + upper;
  };
  auto columnOf = [](Result type, uint32_t e, uint32_t l) { return type == Result::f16 ? e : (e & 4) + (l & 2) + (e & 1); };
  for (uint32_t p = 0; p < 4; ++p) {
    uint32_t a[8 * kRowWords] = {}, b[8 * kRowWords] = {}, c[64];
    auto place = [&](uint32_t* tile, uint32_t row, uint32_t k, uint32_t bits) { tile[row * kRowWords + k / 2] |= bits << (16 * (k % 2)); };
    auto eachLane = [&](auto visit) {
      for (uint32_t l = 4 * p; l < 4 * p + 4; ++l) visit(l), visit(l + 16);
    };
    eachLane([&](uint32_t l) {
      const uint32_t q = l % 4, upper = l < 16 ? 0 : 4;
      for (uint32_t e = 0; e < 4; ++e) {
        const uint32_t av = w.in<uint32_t>(x.a[e / 2])[l] >> (16 * (e % 2)) & 0xffff;
        const uint32_t bv = w.in<uint32_t>(x.b[e / 2])[l] >> (16 * (e % 2)) & 0xffff;
        if (x.rowA) place(a, q + upper, e, av);
        else place(a, e + upper, q, av);
        if (x.rowB) place(b, e + upper, q, bv);
        else place(b, q + upper, e, bv);
      }
      for (uint32_t e = 0; e < 8; ++e) c[rowOf(o.c, e, l) * 8 + columnOf(o.c, e, l)] = accumulatorOf(w, x.c, o.c, e, l);
    });
    multiply(o, a, b, c, c);
    eachLane([&](uint32_t l) {
      for (uint32_t e = 0; e < 8; ++e) setAccumulator(w, x.d, o.d, e, l, c[rowOf(o.d, e, l) * 8 + columnOf(o.d, e, l)]);
    });
  }
  if (readsPoison(w)) {
    // Of the whole instruction: nobody writes this shape for a new chip.
    const std::vector<Slot> registers[4] = {x.a, x.b, x.c, x.d};
    auto zero = [](uint32_t, uint32_t) { return 0u; };
    spreadPoison(w, registers, o.c == Result::f16, o.d == Result::f16, 1, zero, zero, zero, zero);
  }
  return Flow::next;
}

// Kept out of line, so that nothing of it moves across the change of the rounding mode.
__attribute__((noinline)) void fmaProducts(const double* a, const double* b, double* c, uint32_t m, uint32_t k) {
  for (uint32_t r = 0; r < m; ++r)
    for (uint32_t n = 0; n < 8; ++n)
      for (uint32_t q = 0; q < k; ++q) c[r * 8 + n] = std::fma(a[r * 16 + q], b[n * 16 + q], c[r * 8 + n]);
}

// f64: a chain of fused multiply-adds in the order of k.
Flow mmaDouble(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  const auto& x = extraOf<MmaExtra>(i);
  const tensor::Operation& o = x.operation;
  double a[16 * 16], b[8 * 16], c[16 * 8] = {};
  const uint32_t step = o.m == 8 ? 2 : 1, elements = o.m * o.n / kLanes;
  for (uint32_t r = 0; r < x.a.size(); ++r)
    for (uint32_t l = 0; l < kLanes; ++l)
      a[tensor::rowOfA(step * r, l) * 16 + tensor::wordOfA(step * r, l)] = w.in<double>(x.a[r])[l];
  for (uint32_t r = 0; r < x.b.size(); ++r)
    for (uint32_t l = 0; l < kLanes; ++l) b[tensor::columnOfB(l) * 16 + tensor::wordOfB(r, l)] = w.in<double>(x.b[r])[l];
  for (uint32_t e = 0; e < elements; ++e)
    for (uint32_t l = 0; l < kLanes; ++l) c[tensor::rowOfC(e, l) * 8 + tensor::columnOfC(e, l)] = w.in<double>(x.c[e])[l];
  if (x.rounding != FE_TONEAREST) std::fesetround(x.rounding);
  fmaProducts(a, b, c, o.m, o.k);
  if (x.rounding != FE_TONEAREST) std::fesetround(FE_TONEAREST);
  for (uint32_t e = 0; e < elements; ++e)
    for (uint32_t l = 0; l < kLanes; ++l) w.out<double>(x.d[e])[l] = c[tensor::rowOfC(e, l) * 8 + tensor::columnOfC(e, l)];
  if (readsPoison(w)) spread(w, x, step, 2);
  return Flow::next;
}

void resolveDouble(Resolve& r, MmaExtra& x) {
  const tensor::Operation& o = x.operation;
  const bool known = o.n == 8 && ((o.m == 8 && o.k == 4) || (o.m == 16 && (o.k == 4 || o.k == 8 || o.k == 16)));
  if (!known) r.unsupported("no shape of this type");
  x.a = tensor::sourcesOf(r, 1, o.m / 8 * (o.k / 4), Type::f64);
  x.b = tensor::sourcesOf(r, 2, o.k / 4, Type::f64);
  x.c = tensor::sourcesOf(r, 3, o.m / 4, Type::f64);
  x.d = tensor::destinationsOf(r, 0, o.m / 4, Type::f64);
  if (r.has(Modifier::rz_)) x.rounding = FE_TOWARDZERO;
  if (r.has(Modifier::rm_)) x.rounding = FE_DOWNWARD;
  if (r.has(Modifier::rp_)) x.rounding = FE_UPWARD;
  r.out.run = mmaDouble;
}

}  // namespace

void resolveMma(Resolve& r) {
  const tensor::Form form = tensor::formOf(r);
  if (r.hasAny(Modifier::sp_, Modifier::sp__ordered_metadata_)) r.unsupported("sparse products are not known");
  if (form.types.size() != 4) r.unsupported("the types of D, A, B and C must stand here");
  auto& x = r.extra<MmaExtra>();
  tensor::Operation& o = x.operation;
  o.m = form.m;
  o.n = form.n;
  o.k = form.k;
  if (form.types[0] == Modifier::f64_) return resolveDouble(r, x);
  o.d = tensor::resultOf(r, form.types[0]);
  o.a = tensor::elementOf(r, form.types[1]);
  o.b = tensor::elementOf(r, form.types[2]);
  o.c = tensor::resultOf(r, form.types[3]);
  o.saturate = r.has(Modifier::satfinite_);
  o.isXor = r.has(Modifier::xor_);
  const uint32_t words = o.k * tensor::bitsOf(o.a) / 32;
  const bool isInteger = tensor::isInteger(o.a);
  if (tensor::bitsOf(o.a) != tensor::bitsOf(o.b) || isInteger != tensor::isInteger(o.b) || isInteger != (o.d == Result::s32) ||
      isInteger != (o.c == Result::s32))
    r.unsupported("no combination of types that mma has");
  if (o.m == 8 && o.n == 8 && o.k == 4 && o.a == tensor::Element::f16) {
    bool first = true;
    for (Modifier m : r.in.modifiers)
      if (m == Modifier::row_ || m == Modifier::col_) {
        (first ? x.rowA : x.rowB) = m == Modifier::row_;
        first = false;
      }
    x.a = tensor::sourcesOf(r, 1, 2, Type::b32);
    x.b = tensor::sourcesOf(r, 2, 2, Type::b32);
    x.c = tensor::sourcesOf(r, 3, o.c == Result::f16 ? 4 : 8, Type::b32);
    x.d = tensor::destinationsOf(r, 0, o.d == Result::f16 ? 4 : 8, Type::b32);
    r.out.run = mmaQuads;
    return;
  }
  if (o.n != 8 || (o.m != 16 && !(o.m == 8 && isInteger)) || (words != 4 && words != 8) || (o.m == 8 && words != 4))
    r.unsupported("no shape of this type");
  const size_t elements = o.m * o.n / kLanes;
  x.a = tensor::sourcesOf(r, 1, o.m / 8 * (words / 4), Type::b32);
  x.b = tensor::sourcesOf(r, 2, words / 4, Type::b32);
  x.c = tensor::sourcesOf(r, 3, o.c == Result::f16 ? elements / 2 : elements, Type::b32);
  x.d = tensor::destinationsOf(r, 0, o.d == Result::f16 ? elements / 2 : elements, Type::b32);
  r.out.run = mma;
}

void registerMatrix(Resolver& r) {
  r.add(Mnemonic::ldmatrix_, resolveLdmatrix);
  r.add(Mnemonic::stmatrix_, resolveStmatrix);
  r.add(Mnemonic::movmatrix_, resolveMovmatrix);
  r.add(Mnemonic::mma_, resolveMma);
  r.add(Mnemonic::wmma_, resolveWmma);
  r.add(Mnemonic::wgmma_, resolveWgmma);
}

}  // namespace dsvc::emulator::DSVC_ARCH
