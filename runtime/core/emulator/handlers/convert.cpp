// cvt in all pairs of types, and cvt.pack. Common pairs have SIMD handlers; the rest goes lane by lane through an
// exact double or 128-bit integer, rounded once.
#include <algorithm>

#include "floats.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

constexpr uint32_t kRelu = 4, kSatFinite = 8, kToInteger = 16;

struct ConvertExtra : Extra {
  Type to = Type::none, from = Type::none;
  Rounding rounding = Rounding::nearest;
  Slot second = slot::kNone;
};

// --- SIMD forms ----------------------------------------------------------------------------------------------------
template <class D>
struct Cast {
  template <class A>
  static D of(A a) { return static_cast<D>(a); }
};
struct ToF16 {
  static uint16_t of(float a) { return floatToF16(a); }
};
struct ToBf16 {
  static uint16_t of(float a) { return floatToBf16(a); }
};
struct FromF16 {
  static float of(uint16_t a) { return canonical(f16ToFloat(a)); }
};
struct FromBf16 {
  static float of(uint16_t a) { return canonical(bf16ToFloat(a)); }
};
template <bool bf16>
Flow packHalves(Warp& w, const Insn& i, Mask m) {
  const float* a = w.in<float>(i.a);
  const float* b = w.in<float>(i.b);
  store<uint32_t>(w, i.d, m, [&](int l) {
    uint32_t up = bf16 ? floatToBf16(a[l]) : floatToF16(a[l]), low = bf16 ? floatToBf16(b[l]) : floatToF16(b[l]);
    return up << 16 | low;
  });
  return Flow::next;
}

// --- one value of any type -----------------------------------------------------------------------------------------
double readFloat(Type t, uint64_t v) {
  switch (t) {
    case Type::f16: return f16ToFloat(static_cast<uint16_t>(v));
    case Type::bf16: return bf16ToFloat(static_cast<uint16_t>(v));
    case Type::f64: return std::bit_cast<double>(v);
    case Type::e4m3: return e4m3ToFloat(static_cast<uint8_t>(v));
    case Type::e5m2: return e5m2ToFloat(static_cast<uint8_t>(v));
    default: return std::bit_cast<float>(static_cast<uint32_t>(v));
  }
}
const Format& formatOf(Type t) { return t == Type::f16 ? kF16 : t == Type::bf16 ? kBf16 : t == Type::e4m3 ? kE4m3 : kE5m2; }

float toSingle(double v, Rounding mode) {
  RoundingScope scope(mode);
  return pin(static_cast<float>(pin(v)));
}

uint64_t writeFloat(Type t, double v, Rounding mode, uint32_t flags) {
  if ((flags & kRelu) && (v < 0 || (v == 0 && std::signbit(v)))) v = 0;
  if (flags & kSat) v = saturate(v);
  switch (t) {
    case Type::f64: return std::isnan(v) ? std::bit_cast<uint64_t>(v) : std::bit_cast<uint64_t>(v);
    case Type::f32: {
      float f = canonical(toSingle(v, mode));
      if (flags & kFtz) f = flush(f);
      return std::bit_cast<uint32_t>(f);
    }
    case Type::tf32: {
      // 10 fraction bits in a single; the low 13 bits are zero.
      if (std::isnan(v)) return kNan32;
      double r = roundTo(v, 10, -126, mode);
      if (std::isinf(v) || std::fabs(r) >= 0x1p128) return std::bit_cast<uint32_t>(std::copysign((flags & kSatFinite) ? 0x1.ffcp127f : INFINITY, static_cast<float>(v > 0 ? 1 : -1)));
      return std::bit_cast<uint32_t>(static_cast<float>(r));
    }
    default: return encode(v, formatOf(t), mode, flags & kSatFinite);
  }
}

uint64_t readInteger(Type t, uint64_t v) {
  uint32_t shift = 64 - 8 * sizeOf(t);
  v <<= shift;
  return isSigned(t) ? static_cast<uint64_t>(static_cast<int64_t>(v) >> shift) : v >> shift;
}
struct Range {
  __int128 least, most;
};
Range rangeOf(Type t) {
  uint32_t width = 8 * sizeOf(t);
  if (isSigned(t)) return {-(__int128{1} << (width - 1)), (__int128{1} << (width - 1)) - 1};
  return {0, (__int128{1} << width) - 1};
}
uint64_t truncated(Type t, uint64_t v) { return readInteger(t, v); }

uint64_t floatToInteger(Type to, Type from, double v, Rounding mode) {
  uint32_t width = 8 * sizeOf(to);
  // Zero, but where 64 bits are involved the most negative number.
  if (std::isnan(v)) return from == Type::f64 || width == 64 ? truncated(to, 1ull << (width - 1)) : 0;
  double r = mode == Rounding::zero ? std::trunc(v) : mode == Rounding::down ? std::floor(v) : mode == Rounding::up ? std::ceil(v) : std::nearbyint(v);
  Range range = rangeOf(to);
  if (r >= std::ldexp(1.0, static_cast<int>(isSigned(to) ? width - 1 : width))) return truncated(to, static_cast<uint64_t>(range.most));
  if (r < static_cast<double>(range.least)) return truncated(to, static_cast<uint64_t>(range.least));
  return truncated(to, static_cast<uint64_t>(static_cast<__int128>(r)));
}

uint64_t integerToFloat(Type to, Type from, uint64_t v, Rounding mode, uint32_t flags) {
  __int128 x = isSigned(from) ? static_cast<__int128>(static_cast<int64_t>(v)) : static_cast<__int128>(v);
  if (to == Type::f64) {
    RoundingScope scope(mode);
    double d = isSigned(from) ? pin(static_cast<double>(pin(static_cast<int64_t>(v)))) : pin(static_cast<double>(pin(v)));
    return writeFloat(to, d, Rounding::nearest, flags);
  }
  // Narrower formats: what a double cannot hold is kept as a sticky bit far below the last place.
  __int128 magnitude = x < 0 ? -x : x;
  if (magnitude >> 53) {
    bool sticky = (magnitude & 0xfff) != 0;
    magnitude = (magnitude >> 12) << 12;
    if (sticky) magnitude |= 0x800;
  }
  double d = static_cast<double>(magnitude);
  return writeFloat(to, x < 0 ? -d : d, mode, flags);
}

uint64_t convertOne(const ConvertExtra& e, uint64_t v, uint32_t flags) {
  bool fromFloat = isFloat(e.from) || e.from == Type::e4m3 || e.from == Type::e5m2;
  bool toFloat = isFloat(e.to) || e.to == Type::tf32 || e.to == Type::e4m3 || e.to == Type::e5m2;
  if (!fromFloat && !toFloat) {
    uint64_t x = readInteger(e.from, v);
    if (flags & kSat) {
      __int128 wide = isSigned(e.from) ? static_cast<__int128>(static_cast<int64_t>(x)) : static_cast<__int128>(x);
      Range range = rangeOf(e.to);
      wide = wide < range.least ? range.least : wide > range.most ? range.most : wide;
      x = static_cast<uint64_t>(wide);
    }
    return truncated(e.to, x);
  }
  if (!fromFloat) return integerToFloat(e.to, e.from, readInteger(e.from, v), e.rounding, flags);
  double x = readFloat(e.from, v);
  if ((flags & kFtz) && e.from == Type::f32) x = flush(static_cast<float>(x));
  if (!toFloat) return floatToInteger(e.to, e.from, x, e.rounding);
  if (flags & kToInteger && std::isfinite(x)) {
    double r = e.rounding == Rounding::zero ? std::trunc(x) : e.rounding == Rounding::down ? std::floor(x) : e.rounding == Rounding::up ? std::ceil(x) : std::nearbyint(x);
    x = std::copysign(r, x);
  }
  return writeFloat(e.to, x, e.rounding, flags);
}

Flow convert(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<ConvertExtra>(i);
  bool wideFrom = sizeOf(e.from) == 8, wideTo = sizeOf(e.to) == 8;
  for (int l : lanesOf(m)) {
    uint64_t v = wideFrom ? w.in<uint64_t>(i.a)[l] : w.in<uint32_t>(i.a)[l];
    uint64_t r = convertOne(e, v, i.flags);
    if (wideTo) w.out<uint64_t>(i.d)[l] = r;
    else w.out<uint32_t>(i.d)[l] = static_cast<uint32_t>(r);
  }
  return Flow::next;
}
// Two values into a pair: from two singles (the first becomes the upper one), or from a pair.
Flow convertPair(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<ConvertExtra>(i);
  const uint32_t* a = w.in<uint32_t>(i.a);
  uint32_t* d = w.out<uint32_t>(i.d);
  const uint32_t toBits = 8 * sizeOf(e.to), fromBits = 8 * sizeOf(e.from);
  for (int l : lanesOf(m)) {
    uint32_t up, low;
    if (e.second != slot::kNone) {
      up = a[l];
      low = w.in<uint32_t>(e.second)[l];
    } else {
      up = a[l] >> fromBits;
      low = a[l] & ((1u << fromBits) - 1);
    }
    if (fromBits == 8) up &= 0xff;
    d[l] = static_cast<uint32_t>(convertOne(e, up, i.flags) << toBits | convertOne(e, low, i.flags));
  }
  return Flow::next;
}

Type elementOf(Type t) {
  switch (t) {
    case Type::f16x2: return Type::f16;
    case Type::bf16x2: return Type::bf16;
    case Type::e4m3x2: return Type::e4m3;
    case Type::e5m2x2: return Type::e5m2;
    default: return t;
  }
}
bool isPair(Type t) { return elementOf(t) != t; }
bool isInteger(Type t) { return t >= Type::u8 && t <= Type::s64; }

// SIMD handlers of the pairs that kernels use; null for the rest.
Handler simdOf(Type to, Type from, Rounding mode, uint32_t flags) {
  if (flags & ~kToInteger) return nullptr;
  if (isInteger(to) && isInteger(from)) {
    return byInteger(from, [&](auto a) -> Handler {
      using A = typename decltype(a)::type;
      return byInteger(to, [](auto d) -> Handler {
        using D = typename decltype(d)::type;
        return unary<D, A, Cast<D>>;
      });
    });
  }
  if (flags || mode != Rounding::nearest) return nullptr;
  if (to == Type::f32) {
    if (from == Type::f16) return unary<float, uint16_t, FromF16>;
    if (from == Type::bf16) return unary<float, uint16_t, FromBf16>;
    if (from == Type::s32) return unary<float, int32_t, Cast<float>>;
    if (from == Type::u32) return unary<float, uint32_t, Cast<float>>;
  }
  if (to == Type::f64) {
    if (from == Type::s32) return unary<double, int32_t, Cast<double>>;
    if (from == Type::u32) return unary<double, uint32_t, Cast<double>>;
  }
  if (from == Type::f32) {
    if (to == Type::f16) return unary<uint16_t, float, ToF16>;
    if (to == Type::bf16) return unary<uint16_t, float, ToBf16>;
  }
  return nullptr;
}

void resolveConvert(Resolve& r) {
  if (r.has(Modifier::pack_)) return resolvePack(r);
  Type to = r.type(0), from = r.type(1);
  if (from == Type::none || sizeOf(to) == 0 || sizeOf(from) == 0) r.unsupported("a conversion between these types");
  auto& e = r.extra<ConvertExtra>();
  e.to = elementOf(to);
  e.from = elementOf(from);
  e.rounding = roundingOf(r);
  bool integerRounding = r.hasAny(Modifier::rni_, Modifier::rzi_, Modifier::rmi_, Modifier::rpi_);
  r.out.flags = (r.has(Modifier::ftz_) ? kFtz : 0) | (r.has(Modifier::sat_) ? kSat : 0) | (r.has(Modifier::relu_) ? kRelu : 0) |
                (r.has(Modifier::satfinite_) ? kSatFinite : 0) | (integerRounding && isFloat(e.to) ? kToInteger : 0);
  if (isPair(to)) {
    r.out.a = r.source(1, from);
    if (!isPair(from)) e.second = r.source(2, from);
    r.out.d = r.destination(0, to);
    r.out.run = convertPair;
    if (from == Type::f32 && e.rounding == Rounding::nearest && r.out.flags == 0 && (to == Type::f16x2 || to == Type::bf16x2)) {
      r.out.b = e.second;
      r.out.run = to == Type::bf16x2 ? packHalves<true> : packHalves<false>;
    }
    return;
  }
  operandsOf(r, to, from);
  Handler fast = simdOf(to, from, e.rounding, r.out.flags);
  r.out.run = fast ? fast : convert;
}

// cvt.pack.sat.convertType.abType d, a, b{, c}: a above b, and for 8 bits c's low half above both.
Flow packSaturated(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<ConvertExtra>(i);
  const uint32_t* a = w.in<uint32_t>(i.a);
  const uint32_t* b = w.in<uint32_t>(i.b);
  uint32_t* d = w.out<uint32_t>(i.d);
  const uint32_t width = 8 * sizeOf(e.to);
  Range range = rangeOf(e.to);
  auto one = [&](uint32_t v) {
    __int128 x = isSigned(e.from) ? static_cast<__int128>(static_cast<int32_t>(v)) : static_cast<__int128>(v);
    x = x < range.least ? range.least : x > range.most ? range.most : x;
    return static_cast<uint32_t>(static_cast<uint64_t>(x) & ((1ull << width) - 1));
  };
  for (int l : lanesOf(m)) {
    uint32_t v = one(a[l]) << width | one(b[l]);
    if (width == 8 && e.second != slot::kNone) v |= w.in<uint32_t>(e.second)[l] << 16;
    d[l] = v;
  }
  return Flow::next;
}

}  // namespace

void resolvePack(Resolve& r) {
  auto& e = r.extra<ConvertExtra>();
  e.to = r.type(0);
  e.from = r.type(1);
  if (sizeOf(e.to) != 1 && sizeOf(e.to) != 2) r.unsupported("packing to this type");
  r.out.a = r.source(1, e.from);
  r.out.b = r.source(2, e.from);
  if (r.operands() > 3) e.second = r.source(3, Type::b32);
  r.out.d = r.destination(0, Type::b32);
  r.out.run = packSaturated;
}

void registerConvert(Resolver& r) { r.add(Mnemonic::cvt_, resolveConvert); }

}  // namespace dsvc::emulator::DSVC_ARCH
