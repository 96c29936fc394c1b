#include "reduction.h"

#include <bit>
#include <cmath>
#include <cstring>

namespace dsvc::emulator {

namespace {

float halfToFloat(uint16_t h) {
  uint32_t sign = uint32_t{h & 0x8000u} << 16, exponent = h >> 10 & 31, fraction = h & 0x3ff;
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
  float magnitude = exponent == 0 ? static_cast<float>(fraction) * 0x1p-24f
                                  : std::bit_cast<float>((exponent + 112) << 23 | fraction << 13);
  return sign ? -magnitude : magnitude;
}
// To nearest even. Exact sums of two halves fit a float but for one bit far below, so no double rounding arises.
uint16_t floatToHalf(float f) {
  if (std::isnan(f)) return 0x7fff;
  uint16_t sign = std::signbit(f) ? 0x8000 : 0;
  float a = std::fabs(f);
  if (a >= 65520.0f) return sign | 0x7c00;
  if (a < 0x1p-14f) return static_cast<uint16_t>(sign | static_cast<uint16_t>(std::nearbyint(a * 0x1p24f)));
  uint32_t bits = std::bit_cast<uint32_t>(a);
  bits += 0xfff + (bits >> 13 & 1);
  return static_cast<uint16_t>(sign | ((bits >> 13) - (112u << 10)));
}
float bfloatToFloat(uint16_t b) { return std::bit_cast<float>(uint32_t{b} << 16); }
uint16_t floatToBfloat(float f) {
  if (std::isnan(f)) return 0x7fff;
  uint32_t bits = std::bit_cast<uint32_t>(f);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
float flush(float f) { return std::fabs(f) < 0x1p-126f ? std::copysign(0.0f, f) : f; }

template <class T, class F>
void each(uint8_t* to, const uint8_t* from, size_t bytes, F f) {
  for (size_t k = 0; k + sizeof(T) <= bytes; k += sizeof(T)) {
    T a, b;
    std::memcpy(&a, to + k, sizeof a);
    std::memcpy(&b, from + k, sizeof b);
    a = f(a, b);
    std::memcpy(to + k, &a, sizeof a);
  }
}

template <class T, Reduction op>
void integer(uint8_t* to, const uint8_t* from, size_t bytes) {
  each<T>(to, from, bytes, [](T a, T b) -> T {
    using U = std::make_unsigned_t<T>;
    if constexpr (op == Reduction::add) return static_cast<T>(static_cast<U>(a) + static_cast<U>(b));
    else if constexpr (op == Reduction::min) return b < a ? b : a;
    else if constexpr (op == Reduction::max) return b > a ? b : a;
    else if constexpr (op == Reduction::inc) return a >= b ? 0 : a + 1;
    else if constexpr (op == Reduction::dec) return a == 0 || a > b ? b : a - 1;
    else if constexpr (op == Reduction::and_) return a & b;
    else if constexpr (op == Reduction::or_) return a | b;
    else return a ^ b;
  });
}

void addFloat(uint8_t* to, const uint8_t* from, size_t bytes) {
  each<float>(to, from, bytes, [](float a, float b) {
    float s = flush(flush(a) + flush(b));
    return std::isnan(s) ? std::bit_cast<float>(0x7fffffffu) : s;
  });
}
void addDouble(uint8_t* to, const uint8_t* from, size_t bytes) {
  each<double>(to, from, bytes, [](double a, double b) { return a + b; });
}

// NaN loses against a number; -0 is below +0.
template <Reduction op>
float extreme(float a, float b) {
  if (std::isnan(a)) return b;
  if (std::isnan(b)) return a;
  if (a == 0 && b == 0) {
    bool negative = op == Reduction::min ? std::signbit(a) || std::signbit(b) : std::signbit(a) && std::signbit(b);
    return negative ? -0.0f : 0.0f;
  }
  return op == Reduction::min ? (b < a ? b : a) : (b > a ? b : a);
}
template <auto widen, auto narrow, Reduction op>
void half(uint8_t* to, const uint8_t* from, size_t bytes) {
  each<uint16_t>(to, from, bytes, [](uint16_t a, uint16_t b) {
    float x = widen(a), y = widen(b);
    if constexpr (op == Reduction::add) return narrow(x + y);
    else return narrow(extreme<op>(x, y));
  });
}

template <Reduction op>
Reduce arithmetic(Type t) {
  switch (t) {
    case Type::u32: return integer<uint32_t, op>;
    case Type::s32: return integer<int32_t, op>;
    case Type::u64: return integer<uint64_t, op>;
    case Type::s64: return integer<int64_t, op>;
    case Type::f16: return half<halfToFloat, floatToHalf, op>;
    case Type::bf16: return half<bfloatToFloat, floatToBfloat, op>;
    default: return nullptr;
  }
}
template <Reduction op>
Reduce bitwise(Type t) {
  switch (sizeOf(t)) {
    case 4: return integer<uint32_t, op>;
    case 8: return integer<uint64_t, op>;
    default: return nullptr;
  }
}

}  // namespace

Reduce reduceOf(Reduction op, Type t) {
  switch (op) {
    case Reduction::add:
      if (t == Type::f32) return addFloat;
      if (t == Type::f64) return addDouble;
      return arithmetic<Reduction::add>(t);
    case Reduction::min: return arithmetic<Reduction::min>(t);
    case Reduction::max: return arithmetic<Reduction::max>(t);
    case Reduction::inc: return t == Type::u32 ? integer<uint32_t, Reduction::inc> : nullptr;
    case Reduction::dec: return t == Type::u32 ? integer<uint32_t, Reduction::dec> : nullptr;
    case Reduction::and_: return isFloat(t) ? nullptr : bitwise<Reduction::and_>(t);
    case Reduction::or_: return isFloat(t) ? nullptr : bitwise<Reduction::or_>(t);
    case Reduction::xor_: return isFloat(t) ? nullptr : bitwise<Reduction::xor_>(t);
    case Reduction::none: return nullptr;
  }
  return nullptr;
}

Reduction reductionOf(const Resolve& r) {
  static constexpr std::pair<Modifier, Reduction> kNames[] = {
      {Modifier::add_, Reduction::add}, {Modifier::min_, Reduction::min}, {Modifier::max_, Reduction::max},
      {Modifier::inc_, Reduction::inc}, {Modifier::dec_, Reduction::dec}, {Modifier::and_, Reduction::and_},
      {Modifier::or_, Reduction::or_},  {Modifier::xor_, Reduction::xor_}};
  for (auto [m, op] : kNames)
    if (r.has(m)) return op;
  return Reduction::none;
}

}  // namespace dsvc::emulator
