#include "formats.h"

#include <cmath>
#include <limits>

namespace dsvc::emulator::tensor {

namespace {
// A binary format of `exponentBits` and `fractionBits`; `hasInfinity`: the top exponent is infinity and NaN (IEEE),
// else only its all-ones fraction is NaN (e4m3).
struct Format {
  int exponentBits, fractionBits;
  bool hasInfinity;
};

Decoded decodeAs(Format f, uint32_t bits, bool full) {
  const int bias = (1 << (f.exponentBits - 1)) - 1, top = (1 << f.exponentBits) - 1;
  const uint32_t fraction = bits & ((1u << f.fractionBits) - 1);
  const int field = static_cast<int>(bits >> f.fractionBits) & top;
  const bool negative = bits >> (f.exponentBits + f.fractionBits) & 1;
  Decoded d;
  const bool isNan = field == top && (f.hasInfinity ? fraction != 0 : fraction == (1u << f.fractionBits) - 1);
  if (isNan || (f.hasInfinity && field == top)) {
    d.special = true;
    if (full) d.value = isNan ? std::numeric_limits<float>::quiet_NaN() : std::numeric_limits<float>::infinity();
  } else {
    const int exponent = (field ? field : 1) - bias;
    const uint32_t significand = fraction | (field ? 1u << f.fractionBits : 0);
    if (significand) d.exponent = static_cast<int16_t>(exponent);
    d.value = std::ldexp(static_cast<float>(significand), exponent - f.fractionBits);
  }
  if (negative) d.value = -d.value;
  return d;
}

Format formatOf(Element e) {
  switch (e) {
    case Element::f16: return {5, 10, true};
    case Element::bf16: return {8, 7, true};
    case Element::tf32: return {8, 10, true};
    case Element::e5m2: return {5, 2, true};
    default: return {4, 3, false};
  }
}

Fp8Table tableOf(Element e) {
  Fp8Table t;
  for (uint32_t code = 0; code < 256; ++code) {
    Decoded d = decode(e, code);
    t.value[code] = d.value;
    t.exponent[code] = static_cast<int8_t>(d.exponent == kZeroExponent16 ? kZeroExponent8 : d.exponent);
    t.special[code] = d.special;
  }
  return t;
}
}  // namespace

// tf32 stands in the upper 19 bits of a word; the lower 13 are ignored.
Decoded decode(Element e, uint32_t bits) { return decodeAs(formatOf(e), e == Element::tf32 ? bits >> 13 : bits, false); }
float valueOf(Element e, uint32_t bits) {
  return decodeAs(formatOf(e), e == Element::tf32 ? bits >> 13 : bits, true).value;
}

const Fp8Table& fp8Table(Element e) {
  static const Fp8Table e4m3 = tableOf(Element::e4m3), e5m2 = tableOf(Element::e5m2);
  return e == Element::e4m3 ? e4m3 : e5m2;
}

float halfToFloat(uint32_t h) { return decodeAs({5, 10, true}, h & 0xffff, true).value; }

uint16_t doubleToHalf(double x) {
  if (std::isnan(x)) return kNan16;
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0;
  const double magnitude = std::fabs(x);
  if (magnitude >= 65520.0) return sign | 0x7c00;  // half way to 2^16 and above
  // The spacing of f16 numbers around x; nearbyint rounds to even, as the default rounding mode says.
  int exponent = magnitude < 0x1p-14 ? -14 : std::ilogb(magnitude);
  const double units = std::nearbyint(std::ldexp(magnitude, 10 - exponent));
  uint32_t code = static_cast<uint32_t>(units) + (static_cast<uint32_t>(exponent + 14) << 10);
  return static_cast<uint16_t>(code == 0 ? 0 : sign | code);
}

}  // namespace dsvc::emulator::tensor
