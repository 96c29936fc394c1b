// f32 and f64: add, sub, mul, fma, div, min, max, abs, neg, copysign, testp. Half formats go to half.cpp.
#include "floats.h"

namespace dsvc::emulator::DSVC_ARCH {

bool resolveHalf(Resolve& r);  // half.cpp: true when the type is one of its

namespace {

struct Add {
  template <class T>
  static T of(T a, T b, T) { return a + b; }
};
struct Sub {
  template <class T>
  static T of(T a, T b, T) { return a - b; }
};
struct Mul {
  template <class T>
  static T of(T a, T b, T) { return a * b; }
};
struct Fma {
  static float of(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
  static double of(double a, double b, double c) { return __builtin_fma(a, b, c); }
};
struct Div {
  template <class T>
  static T of(T a, T b, T) { return a / b; }
};

template <class T, bool ftz>
inline T input(T v) {
  if constexpr (ftz) return flush(v);
  else return v;
}

// Round to nearest. `three`: c is read.
template <class T, class Op, bool three, bool ftz, bool sat>
Flow nearest(Warp& w, const Insn& i, Mask m) {
  const T* a = w.in<T>(i.a);
  const T* b = w.in<T>(i.b);
  const T* c = three ? w.in<T>(i.c) : a;
  store<T>(w, i.d, m, [&](int l) {
    T v = canonical(Op::of(input<T, ftz>(a[l]), input<T, ftz>(b[l]), input<T, ftz>(c[l])));
    if constexpr (ftz) v = flush(v);
    if constexpr (sat) v = saturate(v);
    return v;
  });
  return Flow::next;
}
// Directed roundings: immediate is the Rounding, flags are kFtz and kSat.
template <class T, class Op, bool three>
Flow directed(Warp& w, const Insn& i, Mask m) {
  const T* a = w.in<T>(i.a);
  const T* b = w.in<T>(i.b);
  const T* c = three ? w.in<T>(i.c) : a;
  T* d = w.out<T>(i.d);
  bool ftz = i.flags & kFtz;
  RoundingScope scope(static_cast<Rounding>(i.immediate));
  for (int l : lanesOf(m)) {
    T x = a[l], y = b[l], z = c[l];
    if constexpr (sizeof(T) == 4)
      if (ftz) {
        x = flush(x);
        y = flush(y);
        z = flush(z);
      }
    T v = canonical(pin(Op::of(pin(x), pin(y), pin(z))));
    if constexpr (sizeof(T) == 4)
      if (ftz) v = flush(v);
    if (i.flags & kSat) v = saturate(v);
    d[l] = v;
  }
  return Flow::next;
}

template <class Op, bool three>
Handler arithmetic(Resolve& r, Type t) {
  Rounding mode = roundingOf(r);
  bool ftz = r.has(Modifier::ftz_), sat = r.has(Modifier::sat_);
  if (mode != Rounding::nearest) {
    r.out.immediate = static_cast<int64_t>(mode);
    r.out.flags = (ftz ? kFtz : 0) | (sat ? kSat : 0);
    return t == Type::f64 ? directed<double, Op, three> : directed<float, Op, three>;
  }
  if (t == Type::f64) return nearest<double, Op, three, false, false>;
  if (ftz) return sat ? nearest<float, Op, three, true, true> : nearest<float, Op, three, true, false>;
  return sat ? nearest<float, Op, three, false, true> : nearest<float, Op, three, false, false>;
}

// div.approx: zero where the divisor is above 2^126, as a product with its flushed reciprocal.
struct DivApprox {
  static float of(float a, float b, float) {
    float v = a / b;
    bool huge = std::fabs(b) > 0x1p126f && std::fabs(b) < INFINITY;
    float big = std::isinf(a) ? std::bit_cast<float>(kNan32) : std::copysign(0.0f, v);
    return huge ? big : v;
  }
};

// --- min, max ------------------------------------------------------------------------------------------------------
constexpr uint32_t kNanWins = 4, kXorSign = 8;
template <bool isMax, class T>
inline T pick(T a, T b, bool nanWins, bool xorSign) {
  using U = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  constexpr U top = U{1} << (sizeof(T) * 8 - 1);
  U sign = (std::bit_cast<U>(a) ^ std::bit_cast<U>(b)) & top;
  if (xorSign) {
    a = std::bit_cast<T>(std::bit_cast<U>(a) & ~top);
    b = std::bit_cast<T>(std::bit_cast<U>(b) & ~top);
  }
  // -0 is below +0: equal values are told apart by the sign.
  bool aFirst = isMax ? (a > b || (a == b && !std::signbit(a))) : (a < b || (a == b && std::signbit(a)));
  T v = aFirst ? a : b;
  T nan = sizeof(T) == 8 ? std::bit_cast<T>(static_cast<U>(0x7fffffffffffffffull)) : std::bit_cast<T>(static_cast<U>(kNan32));
  bool an = a != a, bn = b != b;
  v = an ? b : v;
  v = bn ? a : v;
  v = (an && bn) || (nanWins && (an || bn)) ? nan : v;
  if (xorSign && v == v) v = std::bit_cast<T>((std::bit_cast<U>(v) & ~top) | sign);
  return v;
}
template <class T, bool isMax>
Flow minMax(Warp& w, const Insn& i, Mask m) {
  const T* a = w.in<T>(i.a);
  const T* b = w.in<T>(i.b);
  bool nanWins = i.flags & kNanWins, xorSign = i.flags & kXorSign;
  if constexpr (sizeof(T) == 4) {
    if (i.flags & kFtz) {
      store<T>(w, i.d, m, [&](int l) { return pick<isMax>(flush(a[l]), flush(b[l]), nanWins, xorSign); });
      return Flow::next;
    }
    // The plain forms are common: without the rarer options the loop is short.
    if (!nanWins && !xorSign) {
      store<T>(w, i.d, m, [&](int l) { return pick<isMax>(a[l], b[l], false, false); });
      return Flow::next;
    }
  }
  store<T>(w, i.d, m, [&](int l) { return pick<isMax>(a[l], b[l], nanWins, xorSign); });
  return Flow::next;
}

template <bool ftz>
struct Abs {
  static float of(float a) { return std::bit_cast<float>(std::bit_cast<uint32_t>(ftz ? flush(a) : a) & 0x7fffffffu); }
  static double of(double a) { return std::bit_cast<double>(std::bit_cast<uint64_t>(a) & ~(1ull << 63)); }
};
template <bool ftz>
struct Neg {
  static float of(float a) { return std::bit_cast<float>(std::bit_cast<uint32_t>(ftz ? flush(a) : a) ^ 0x80000000u); }
  static double of(double a) { return std::bit_cast<double>(std::bit_cast<uint64_t>(a) ^ (1ull << 63)); }
};
// The sign of a on b.
struct CopySign {
  static uint32_t of(uint32_t a, uint32_t b) { return (a & 0x80000000u) | (b & 0x7fffffffu); }
  static uint64_t of(uint64_t a, uint64_t b) { return (a & 1ull << 63) | (b & ~(1ull << 63)); }
};

enum class Test : uint8_t { finite, infinite, number, notANumber, normal, subnormal };
template <class T>
Flow testp(Warp& w, const Insn& i, Mask m) {
  const T* a = w.in<T>(i.a);
  Mask result = 0;
  for (int l : lanesOf(m)) {
    bool yes = false;
    switch (static_cast<Test>(i.immediate)) {
      case Test::finite: yes = std::isfinite(a[l]); break;
      case Test::infinite: yes = std::isinf(a[l]); break;
      case Test::number: yes = !std::isnan(a[l]); break;
      case Test::notANumber: yes = std::isnan(a[l]); break;
      case Test::normal: yes = std::isnormal(a[l]); break;
      case Test::subnormal: yes = std::fpclassify(a[l]) == FP_SUBNORMAL; break;
    }
    result |= static_cast<Mask>(yes) << l;
  }
  w.setPredicate(i.d, result, m);
  return Flow::next;
}

void resolveTestp(Resolve& r) {
  Type t = r.type(0);
  r.out.a = r.source(1, t);
  r.out.d = r.destination(0, Type::pred);
  Test test = r.has(Modifier::finite_)         ? Test::finite
              : r.has(Modifier::infinite_)     ? Test::infinite
              : r.has(Modifier::number_)       ? Test::number
              : r.has(Modifier::notanumber_)   ? Test::notANumber
              : r.has(Modifier::normal_)       ? Test::normal
                                               : Test::subnormal;
  r.out.immediate = static_cast<int64_t>(test);
  r.out.run = t == Type::f64 ? testp<double> : testp<float>;
}
void resolveCopySign(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t, t);
  r.out.run = t == Type::f64 ? binary<uint64_t, uint64_t, uint64_t, CopySign> : binary<uint32_t, uint32_t, uint32_t, CopySign>;
}

}  // namespace

void resolveFloatArithmetic(Resolve& r) {
  if (resolveHalf(r)) return;
  Type t = r.type(0);
  if ((t != Type::f32 && t != Type::f64) || r.types() > 1) r.unsupported("arithmetic of this type");
  bool ftz = r.has(Modifier::ftz_);
  switch (r.in.mnemonic) {
    case Mnemonic::abs_:
    case Mnemonic::neg_: {
      operandsOf(r, t, t);
      bool negate = r.in.mnemonic == Mnemonic::neg_;
      if (t == Type::f64) r.out.run = negate ? unary<double, double, Neg<false>> : unary<double, double, Abs<false>>;
      else if (ftz) r.out.run = negate ? unary<float, float, Neg<true>> : unary<float, float, Abs<true>>;
      else r.out.run = negate ? unary<float, float, Neg<false>> : unary<float, float, Abs<false>>;
      return;
    }
    case Mnemonic::min_:
    case Mnemonic::max_: {
      if (r.operands() > 3) r.unsupported("three inputs need sm_100");
      operandsOf(r, t, t, t);
      bool isMax = r.in.mnemonic == Mnemonic::max_;
      r.out.flags = (ftz ? kFtz : 0) | (r.has(Modifier::NaN_) ? kNanWins : 0) | (r.has(Modifier::xorsign_) ? kXorSign : 0);
      if (t == Type::f64) r.out.run = isMax ? minMax<double, true> : minMax<double, false>;
      else r.out.run = isMax ? minMax<float, true> : minMax<float, false>;
      return;
    }
    case Mnemonic::add_: operandsOf(r, t, t, t); r.out.run = arithmetic<Add, false>(r, t); return;
    case Mnemonic::sub_: operandsOf(r, t, t, t); r.out.run = arithmetic<Sub, false>(r, t); return;
    case Mnemonic::mul_: operandsOf(r, t, t, t); r.out.run = arithmetic<Mul, false>(r, t); return;
    case Mnemonic::div_:
      operandsOf(r, t, t, t);
      if (r.has(Modifier::approx_)) r.out.run = ftz ? nearest<float, DivApprox, false, true, false> : nearest<float, DivApprox, false, false, false>;
      else r.out.run = arithmetic<Div, false>(r, t);
      return;
    case Mnemonic::mad_:
    case Mnemonic::fma_: operandsOf(r, t, t, t, t); r.out.run = arithmetic<Fma, true>(r, t); return;
    default: return;
  }
}

void registerFloat(Resolver& r) {
  r.add(Mnemonic::fma_, resolveFloatArithmetic);
  r.add(Mnemonic::copysign_, resolveCopySign);
  r.add(Mnemonic::testp_, resolveTestp);
}

}  // namespace dsvc::emulator::DSVC_ARCH
