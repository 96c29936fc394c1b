// Reciprocals, roots and transcendental functions. The hardware's tables are not public: every approximation is
// computed in double and rounded once, which lies inside the ISA's bounds. Exact forms (.rn, .rz ...) are exact.
#include "floats.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

// 2^x in double, without calls, so that it becomes SIMD: 2^n times a polynomial for 2^f with |f| <= 1/2, the one through
// its Chebyshev points, whose error is below 2^-45 of the result.
inline double exp2Double(float x) {
  // Far beyond what f32 holds, well inside what a double does.
  x = x > 200 ? 200 : x;
  x = x < -200 ? -200 : x;
  // Adding 1.5 * 2^52 rounds to an integer, which stands in the low bits.
  const double whole = x, shifted = whole + 0x1.8p52;
  const double f = whole - (shifted - 0x1.8p52);
  double p = 0x1.b6571de2f2351p-24;
  p = p * f + 0x1.63ef969a64d3cp-20;
  p = p * f + 0x1.ffcb76789860fp-17;
  p = p * f + 0x1.43088e257f341p-13;
  p = p * f + 0x1.5d87fe908f88ap-10;
  p = p * f + 0x1.3b2ab72b175eep-7;
  p = p * f + 0x1.c6b08d7044119p-5;
  p = p * f + 0x1.ebfbdff8149f2p-3;
  p = p * f + 0x1.62e42fefa39f7p-1;
  p = p * f + 1.0;
  // p lies in (1/2, 2): its exponent has room for n.
  return std::bit_cast<double>(std::bit_cast<uint64_t>(p) + (std::bit_cast<uint64_t>(shifted) << 52));
}

struct Ex2 {
  static float of(float a) { return a != a ? a : static_cast<float>(exp2Double(a)); }
};
struct Rcp {
  static float of(float a) { return 1.0f / a; }
};
struct Sqrt {
  static float of(float a) { return __builtin_sqrtf(a); }
};
struct Rsqrt {
  static float of(float a) { return static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(a))); }
};
struct Lg2 {
  static float of(float a) { return static_cast<float>(std::log2(static_cast<double>(a))); }
};
struct Sin {
  static float of(float a) { return static_cast<float>(std::sin(static_cast<double>(a))); }
};
struct Cos {
  static float of(float a) { return static_cast<float>(std::cos(static_cast<double>(a))); }
};
struct Tanh {
  static float of(float a) { return static_cast<float>(std::tanh(static_cast<double>(a))); }
};

template <class Op, bool ftz>
struct Single {
  static float of(float a) {
    if constexpr (ftz) return flush(canonical(Op::of(flush(a))));
    else return canonical(Op::of(a));
  }
};
template <class Op>
Handler simd(bool ftz) { return ftz ? unary<float, float, Single<Op, true>> : unary<float, float, Single<Op, false>>; }
template <class Op>
Handler each(bool ftz) { return ftz ? unaryEach<float, float, Single<Op, true>> : unaryEach<float, float, Single<Op, false>>; }

// Half formats: the double result rounded once. flags: kFtz, 4 pair; immediate: 1 for bf16.
constexpr uint32_t kPair = 4;
template <class Op>
Flow halfFunction(Warp& w, const Insn& i, Mask m) {
  const uint32_t* a = w.in<uint32_t>(i.a);
  uint32_t* d = w.out<uint32_t>(i.d);
  bool bf16 = i.immediate == 1;
  auto one = [&](uint16_t h) -> uint32_t {
    float v = bf16 ? bf16ToFloat(h) : f16ToFloat(h);
    if (i.flags & kFtz) v = flush(v);
    double r = Op::of(v);
    uint16_t out = encode(r, bf16 ? kBf16 : kF16, Rounding::nearest, false);
    if ((i.flags & kFtz) && !(out & (bf16 ? 0x7f80 : 0x7c00))) out &= 0x8000;
    return out;
  };
  for (int l : lanesOf(m)) {
    uint32_t v = one(static_cast<uint16_t>(a[l]));
    if (i.flags & kPair) v |= one(static_cast<uint16_t>(a[l] >> 16)) << 16;
    d[l] = v;
  }
  return Flow::next;
}
struct Ex2Double {
  static double of(double a) { return std::exp2(a); }
};
struct TanhDouble {
  static double of(double a) { return std::tanh(a); }
};

// Correctly rounded rcp and sqrt in any rounding.
template <class T, bool isSqrt>
Flow exact(Warp& w, const Insn& i, Mask m) {
  const T* a = w.in<T>(i.a);
  T* d = w.out<T>(i.d);
  RoundingScope scope(static_cast<Rounding>(i.immediate));
  for (int l : lanesOf(m)) {
    T x = a[l];
    if constexpr (sizeof(T) == 4)
      if (i.flags & kFtz) x = flush(x);
    T v;
    if constexpr (isSqrt) v = pin(static_cast<T>(std::sqrt(pin(x))));
    else v = pin(T{1} / pin(x));
    v = canonical(v);
    if constexpr (sizeof(T) == 4)
      if (i.flags & kFtz) v = flush(v);
    d[l] = v;
  }
  return Flow::next;
}
// rcp.approx.ftz.f64 and rsqrt.approx{.ftz}.f64: the upper word of the result, the lower one is zero.
template <bool isRsqrt>
Flow upperWord(Warp& w, const Insn& i, Mask m) {
  const double* a = w.in<double>(i.a);
  uint64_t* d = w.out<uint64_t>(i.d);
  auto flushed = [&](double v) { return (i.flags & kFtz) && std::fpclassify(v) == FP_SUBNORMAL ? std::copysign(0.0, v) : v; };
  for (int l : lanesOf(m)) {
    double x = flushed(a[l]);
    double v = flushed(isRsqrt ? 1 / std::sqrt(x) : 1 / x);
    uint64_t bits = std::bit_cast<uint64_t>(v);
    if (std::isnan(v)) bits = 0x7fffffff00000000ull;
    else if (std::isfinite(v)) bits += 0x80000000ull;  // to nearest
    d[l] = bits & 0xffffffff00000000ull;
  }
  return Flow::next;
}

void resolveFunction(Resolve& r) {
  Type t = r.type(0);
  bool ftz = r.has(Modifier::ftz_);
  operandsOf(r, t, t);
  Mnemonic m = r.in.mnemonic;
  bool pair = t == Type::f16x2 || t == Type::bf16x2;
  if (t == Type::f16 || t == Type::bf16 || pair) {
    r.out.flags = (ftz ? kFtz : 0) | (pair ? kPair : 0);
    r.out.immediate = t == Type::bf16 || t == Type::bf16x2;
    if (m == Mnemonic::ex2_) r.out.run = halfFunction<Ex2Double>;
    if (m == Mnemonic::tanh_) r.out.run = halfFunction<TanhDouble>;
    return;
  }
  bool approximate = r.has(Modifier::approx_);
  if (t == Type::f64) {
    r.out.flags = ftz ? kFtz : 0;
    r.out.immediate = static_cast<int64_t>(roundingOf(r));
    if (m == Mnemonic::rcp_) r.out.run = approximate ? Handler{upperWord<false>} : Handler{exact<double, false>};
    if (m == Mnemonic::sqrt_) r.out.run = exact<double, true>;
    if (m == Mnemonic::rsqrt_) r.out.run = upperWord<true>;
    return;
  }
  if (t != Type::f32) return;
  bool nearest = roundingOf(r) == Rounding::nearest;
  if (!nearest && (m == Mnemonic::rcp_ || m == Mnemonic::sqrt_)) {
    r.out.flags = ftz ? kFtz : 0;
    r.out.immediate = static_cast<int64_t>(roundingOf(r));
    r.out.run = m == Mnemonic::sqrt_ ? exact<float, true> : exact<float, false>;
    return;
  }
  switch (m) {
    case Mnemonic::ex2_: r.out.run = simd<Ex2>(ftz); break;
    case Mnemonic::rcp_: r.out.run = simd<Rcp>(ftz); break;
    case Mnemonic::sqrt_: r.out.run = simd<Sqrt>(ftz); break;
    case Mnemonic::rsqrt_: r.out.run = simd<Rsqrt>(ftz); break;
    case Mnemonic::lg2_: r.out.run = each<Lg2>(ftz); break;
    case Mnemonic::sin_: r.out.run = each<Sin>(ftz); break;
    case Mnemonic::cos_: r.out.run = each<Cos>(ftz); break;
    case Mnemonic::tanh_: r.out.run = each<Tanh>(ftz); break;
    default: break;
  }
}

}  // namespace

void registerApproximate(Resolver& r) {
  for (Mnemonic m : {Mnemonic::ex2_, Mnemonic::rcp_, Mnemonic::sqrt_, Mnemonic::rsqrt_, Mnemonic::lg2_, Mnemonic::sin_, Mnemonic::cos_, Mnemonic::tanh_})
    r.add(m, resolveFunction);
}

}  // namespace dsvc::emulator::DSVC_ARCH
