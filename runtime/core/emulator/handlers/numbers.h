// Number formats below 32 bits, as scalar functions: f16, bf16, e4m3, e5m2, tf32. Decoding is exact; encoding takes a
// double, so that every narrower input is rounded once.
#pragma once
#include <bit>
#include <algorithm>
#include <cmath>
#include <cstdint>

#include "families.h"

namespace dsvc::emulator::DSVC_ARCH {

enum class Rounding : uint8_t { nearest, zero, down, up, away };  // away: to nearest, ties away from zero

inline float bf16ToFloat(uint16_t h) { return std::bit_cast<float>(uint32_t{h} << 16); }

// Branch-free, so that loops of it become SIMD: the exponent is scaled by a multiplication, which is exact also for
// subnormals.
inline float f16ToFloat(uint16_t h) {
  uint32_t body = (uint32_t{h} & 0x7fffu) << 13, sign = (uint32_t{h} & 0x8000u) << 16;
  float scaled = std::bit_cast<float>(body) * 0x1p112f;
  uint32_t bits = std::bit_cast<uint32_t>(scaled);
  // Exponent 31 means infinity or NaN.
  bits = body >= 0x0f800000u ? (body | 0x7f800000u) : bits;
  return std::bit_cast<float>(bits | sign);
}

// A finite double to a format with `mantissa` fraction bits, smallest normal exponent `least`; the result is a
// multiple of the format's unit there, as an exact double (it may lie beyond the format's range).
inline double roundTo(double v, int mantissa, int least, Rounding mode) {
  if (v == 0 || !std::isfinite(v)) return v;
  int e;
  std::frexp(v, &e);  // |v| in [2^(e-1), 2^e)
  int unit = std::max(e - 1, least) - mantissa;
  double scaled = std::ldexp(v, -unit), r;  // exact, and below 2^53
  switch (mode) {
    case Rounding::nearest: {
      r = std::floor(scaled);
      double rest = scaled - r;
      if (rest > 0.5 || (rest == 0.5 && std::fmod(r, 2) != 0)) r += 1;
      break;
    }
    case Rounding::away: r = scaled < 0 ? std::ceil(scaled - 0.5) : std::floor(scaled + 0.5); break;
    case Rounding::zero: r = std::trunc(scaled); break;
    case Rounding::down: r = std::floor(scaled); break;
    default: r = std::ceil(scaled); break;
  }
  return std::copysign(std::ldexp(r, unit), v);
}

// Shape of a format with an implicit leading bit. hasInf false: the largest exponent holds numbers, all ones is NaN.
struct Format {
  int exponentBits, mantissaBits, bias;
  double most;
  bool hasInf;
  uint16_t nan;
};
inline constexpr Format kF16{5, 10, 15, 65504.0, true, 0x7fff};
inline constexpr Format kBf16{8, 7, 127, 0x1.fep127, true, 0x7fff};
inline constexpr Format kE4m3{4, 3, 7, 448.0, false, 0x7f};
inline constexpr Format kE5m2{5, 2, 15, 57344.0, true, 0x7f};

inline uint16_t encode(double v, const Format& f, Rounding mode, bool saturate) {
  uint16_t signBit = static_cast<uint16_t>(1u << (f.exponentBits + f.mantissaBits));
  uint16_t infinity = static_cast<uint16_t>(((1u << f.exponentBits) - 1) << f.mantissaBits);
  if (std::isnan(v)) return f.nan;
  uint16_t sign = std::signbit(v) ? signBit : 0;
  double r = roundTo(std::fabs(v), f.mantissaBits, 1 - f.bias, mode == Rounding::down ? (sign ? Rounding::up : Rounding::zero)
                                                               : mode == Rounding::up ? (sign ? Rounding::zero : Rounding::up) : mode);
  if (r > f.most) {
    // Beyond the range: infinity, or the largest number when the rounding points inwards.
    bool inwards = std::isfinite(v) && (mode == Rounding::zero || (mode == Rounding::down && !sign) || (mode == Rounding::up && sign));
    if (saturate || inwards || !f.hasInf) r = f.most;
    else return sign | infinity;
  }
  if (r == 0) return sign;
  int e;
  std::frexp(r, &e);
  int exponent = e - 1 < 1 - f.bias ? 1 - f.bias : e - 1;
  uint32_t significand = static_cast<uint32_t>(std::ldexp(r, f.mantissaBits - exponent));
  uint32_t hidden = 1u << f.mantissaBits;
  uint32_t biased = significand & hidden ? static_cast<uint32_t>(exponent + f.bias) : 0;
  return static_cast<uint16_t>(sign | biased << f.mantissaBits | (significand & (hidden - 1)));
}

// Round to nearest even in integer steps: SIMD forms of the common encodings.
inline uint16_t floatToBf16(float v) {
  uint32_t b = std::bit_cast<uint32_t>(v);
  uint32_t rounded = (b + 0x7fffu + (b >> 16 & 1)) >> 16;
  return static_cast<uint16_t>((b & 0x7fffffffu) > 0x7f800000u ? 0x7fffu : rounded);
}
inline uint16_t floatToF16(float v) {
  uint32_t b = std::bit_cast<uint32_t>(v), sign = b >> 16 & 0x8000u, a = b & 0x7fffffffu;
  // Normal results: rebias and round. Subnormal ones: adding a magic number lets the adder round at the right place.
  uint32_t normal = (a - 0x38000000u + 0xfffu + (a >> 13 & 1)) >> 13;
  uint32_t subnormal = std::bit_cast<uint32_t>(std::bit_cast<float>(a) + 0.5f) - 0x3f000000u;
  uint32_t r = a < 0x38800000u ? subnormal : normal;
  r = a >= 0x477ff000u ? 0x7c00u : r;
  r = a > 0x7f800000u ? 0x7fffu : r | sign;
  return static_cast<uint16_t>(r);
}

inline float e4m3ToFloat(uint8_t v) {
  uint32_t e = v >> 3 & 15, m = v & 7;
  float magnitude = (v & 0x7f) == 0x7f ? std::bit_cast<float>(0x7fffffffu) : e == 0 ? static_cast<float>(m) * 0x1p-9f : std::ldexp(static_cast<float>(8 + m), static_cast<int>(e) - 10);
  return v & 0x80 ? -magnitude : magnitude;
}
inline float e5m2ToFloat(uint8_t v) { return f16ToFloat(static_cast<uint16_t>(v << 8)); }

}  // namespace dsvc::emulator::DSVC_ARCH
