// f16, bf16 and their pairs. An operation computes in single precision where that rounds innocuously (24 bits are at
// least twice the format's and two more), fma in double rounded to odd.
#include "floats.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

struct F16 {
  static float decode(uint16_t h) { return f16ToFloat(h); }
  static uint16_t encode(float v) { return floatToF16(v); }
  static constexpr uint16_t kExponent = 0x7c00;
};
struct Bf16 {
  static float decode(uint16_t h) { return bf16ToFloat(h); }
  static uint16_t encode(float v) { return floatToBf16(v); }
  static constexpr uint16_t kExponent = 0x7f80;
};

// A double to single, rounded to odd: a later rounding to at most 22 bits is then right.
inline float toOddFloat(double d) {
  float f = static_cast<float>(d);
  uint32_t b = std::bit_cast<uint32_t>(f);
  bool exact = static_cast<double>(f) == d || d != d;
  b -= !exact && std::fabs(static_cast<double>(f)) > std::fabs(d) ? 1 : 0;
  b |= exact ? 0 : 1;
  return std::bit_cast<float>(b);
}
inline float fmaOdd(float a, float b, float c) {
  double p = static_cast<double>(a) * b, s = p + c;
  // What the sum lost (TwoSum) makes its last bit odd.
  double t = s - p, lost = (p - (s - t)) + (c - t);
  uint64_t bits = std::bit_cast<uint64_t>(s);
  bool up = (lost > 0) == (s > 0);
  bool fix = lost != 0 && lost == lost && !(bits & 1) && std::isfinite(s);
  bits += fix ? (up ? 1 : static_cast<uint64_t>(-1)) : 0;
  return toOddFloat(std::bit_cast<double>(bits));
}

struct Add {
  static float of(float a, float b, float) { return a + b; }
};
struct Sub {
  static float of(float a, float b, float) { return a - b; }
};
struct Mul {
  static float of(float a, float b, float) { return a * b; }
};
struct Fma {
  static float of(float a, float b, float c) { return fmaOdd(a, b, c); }
};

constexpr uint32_t kRelu = 4;
template <class H>
inline uint16_t flushHalf(uint16_t h) { return h & H::kExponent ? h : h & 0x8000; }

template <class H, class Op>
inline uint16_t one(uint16_t a, uint16_t b, uint16_t c, uint32_t flags) {
  if (flags & kFtz) {
    a = flushHalf<H>(a);
    b = flushHalf<H>(b);
    c = flushHalf<H>(c);
  }
  float v = Op::of(H::decode(a), H::decode(b), H::decode(c));
  uint16_t h = H::encode(v);
  if (flags & kFtz) h = flushHalf<H>(h);
  if (flags & kSat) h = v > 0 ? (v < 1 ? h : H::encode(1.0f)) : 0;
  if ((flags & kRelu) && (h & 0x8000) && v == v) h = 0;
  return h;
}

template <class H, class Op, bool pair, bool three>
Flow arithmetic(Warp& w, const Insn& i, Mask m) {
  const uint32_t* a = w.in<uint32_t>(i.a);
  const uint32_t* b = w.in<uint32_t>(i.b);
  const uint32_t* c = three ? w.in<uint32_t>(i.c) : a;
  const uint32_t flags = i.flags;
  auto half = [flags](uint32_t x, uint32_t y, uint32_t z) -> uint32_t {
    return one<H, Op>(static_cast<uint16_t>(x), static_cast<uint16_t>(y), static_cast<uint16_t>(z), flags);
  };
  store<uint32_t>(w, i.d, m, [&](int l) {
    uint32_t v = half(a[l], b[l], c[l]);
    if constexpr (pair) v |= half(a[l] >> 16, b[l] >> 16, c[l] >> 16) << 16;
    return v;
  });
  return Flow::next;
}

// min, max on the bits.
constexpr uint32_t kNanWins = 8, kXorSign = 16, kMax = 32;
template <class H>
inline uint16_t pick(uint16_t a, uint16_t b, uint32_t flags) {
  if (flags & kFtz) {
    a = flushHalf<H>(a);
    b = flushHalf<H>(b);
  }
  uint16_t sign = (a ^ b) & 0x8000;
  if (flags & kXorSign) {
    a &= 0x7fff;
    b &= 0x7fff;
  }
  bool an = (a & 0x7fff) > H::kExponent, bn = (b & 0x7fff) > H::kExponent;
  if ((an && bn) || ((flags & kNanWins) && (an || bn))) return 0x7fff;
  uint16_t v;
  if (an || bn) v = an ? b : a;
  else {
    // Sign-magnitude as an order: -0 below +0.
    auto key = [](uint16_t h) { return h & 0x8000 ? -static_cast<int>(h & 0x7fff) - 1 : static_cast<int>(h); };
    v = ((flags & kMax) != 0) == (key(a) > key(b)) ? a : b;
  }
  if (flags & kXorSign) v = (v & 0x7fff) | sign;
  return v;
}
template <class H, bool pair>
Flow minMax(Warp& w, const Insn& i, Mask m) {
  const uint32_t* a = w.in<uint32_t>(i.a);
  const uint32_t* b = w.in<uint32_t>(i.b);
  uint32_t* d = w.out<uint32_t>(i.d);
  for (int l : lanesOf(m)) {
    uint32_t v = pick<H>(static_cast<uint16_t>(a[l]), static_cast<uint16_t>(b[l]), i.flags);
    if constexpr (pair) v |= uint32_t{pick<H>(static_cast<uint16_t>(a[l] >> 16), static_cast<uint16_t>(b[l] >> 16), i.flags)} << 16;
    d[l] = v;
  }
  return Flow::next;
}

// abs, neg: immediate is the mask, flags tell and from xor.
constexpr uint32_t kIsXor = 2;
template <class H, bool pair>
Flow signs(Warp& w, const Insn& i, Mask m) {
  const uint32_t* a = w.in<uint32_t>(i.a);
  uint32_t* d = w.out<uint32_t>(i.d);
  uint32_t bits = pair ? 0x80008000u : 0x8000u;
  for (int l : lanesOf(m)) {
    uint32_t v = pair ? a[l] : a[l] & 0xffff;
    if (i.flags & kFtz) {
      uint32_t low = flushHalf<H>(static_cast<uint16_t>(v));
      v = pair ? low | uint32_t{flushHalf<H>(static_cast<uint16_t>(v >> 16))} << 16 : low;
    }
    d[l] = (i.flags & kIsXor) ? v ^ bits : v & ~bits;
  }
  return Flow::next;
}

template <class H, bool pair>
Handler handlerOf(Mnemonic m) {
  switch (m) {
    case Mnemonic::add_: return arithmetic<H, Add, pair, false>;
    case Mnemonic::sub_: return arithmetic<H, Sub, pair, false>;
    case Mnemonic::mul_: return arithmetic<H, Mul, pair, false>;
    case Mnemonic::mad_:
    case Mnemonic::fma_: return arithmetic<H, Fma, pair, true>;
    case Mnemonic::min_:
    case Mnemonic::max_: return minMax<H, pair>;
    case Mnemonic::abs_:
    case Mnemonic::neg_: return signs<H, pair>;
    default: return nullptr;
  }
}

}  // namespace

bool resolveHalf(Resolve& r) {
  Type t = r.type(0);
  bool f16 = t == Type::f16 || t == Type::f16x2, bf16 = t == Type::bf16 || t == Type::bf16x2;
  if (!f16 && !bf16) return false;
  if (r.types() > 1) r.unsupported("mixed precision needs sm_100");
  // It makes zero of products with the NaN that fills what lies outside of a tensor; which NaN that is, is not documented.
  if (r.has(Modifier::oob_)) r.unsupported(".oob is not emulated");
  bool pair = t == Type::f16x2 || t == Type::bf16x2;
  Mnemonic m = r.in.mnemonic;
  bool one = m == Mnemonic::abs_ || m == Mnemonic::neg_, three = m == Mnemonic::fma_ || m == Mnemonic::mad_;
  operandsOf(r, t, t, one ? Type::none : t, three ? t : Type::none);
  r.out.flags = (r.has(Modifier::ftz_) ? kFtz : 0);
  if (m == Mnemonic::min_ || m == Mnemonic::max_) {
    if (r.operands() > 3) r.unsupported("three inputs need sm_100");
    r.out.flags |= (r.has(Modifier::NaN_) ? kNanWins : 0) | (r.has(Modifier::xorsign_) ? kXorSign : 0) | (m == Mnemonic::max_ ? kMax : 0);
  } else if (one) {
    r.out.flags |= m == Mnemonic::neg_ ? kIsXor : 0;
  } else {
    r.out.flags |= (r.has(Modifier::sat_) ? kSat : 0) | (r.has(Modifier::relu_) ? kRelu : 0);
  }
  if (f16) r.out.run = pair ? handlerOf<F16, true>(m) : handlerOf<F16, false>(m);
  else r.out.run = pair ? handlerOf<Bf16, true>(m) : handlerOf<Bf16, false>(m);
  return true;
}

void registerHalf(Resolver&) {}  // reached through the mnemonics of the float family

}  // namespace dsvc::emulator::DSVC_ARCH
