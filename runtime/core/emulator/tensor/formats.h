// The tensor cores' number formats, decoded for exact sums: value, exponent, and whether it is infinite or NaN.
#pragma once
#include <bit>
#include <cstdint>

#include "operation.h"

namespace dsvc::emulator::tensor {

// Exponents as the adder sees them: of a subnormal number that of the smallest normal one, its significand being below
// one. A zero takes no part in finding the largest exponent.
constexpr int kZeroExponent8 = -60;      // FP8: sums of two stay in a signed byte, below every nonzero product
constexpr int kZeroExponent16 = -10000;  // wider formats
constexpr int kLeastExponent = -126;     // what C contributes even when it is zero

struct Decoded {
  float value = 0;    // exact; 0 for infinities and NaN
  int16_t exponent = kZeroExponent16;
  bool special = false;
};

// All formats of up to 32 bits, as the operand's bits stand in the low end of `bits`. `full` gives infinities and NaN
// their values.
Decoded decode(Element e, uint32_t bits);
float valueOf(Element e, uint32_t bits);

// The 256 codes of an FP8 format.
struct Fp8Table {
  float value[256];
  int8_t exponent[256];  // kZeroExponent8 for zeros
  bool special[256];
};
const Fp8Table& fp8Table(Element e);

float halfToFloat(uint32_t h);
uint16_t doubleToHalf(double x);  // round to nearest even; NaN is 0x7fff

constexpr uint32_t kNan32 = 0x7fffffff;
constexpr uint32_t kNan16 = 0x7fff;

inline double powerOfTwo(int e) { return std::bit_cast<double>(static_cast<uint64_t>(e + 1023) << 52); }

// Toward zero, subnormal results included. Zero is always positive; 2^128 and above is infinite.
inline uint32_t truncateToFloat(double x) {
  double magnitude = x < 0 ? -x : x;
  if (magnitude >= 0x1p128) return x < 0 ? 0xff800000u : 0x7f800000u;
  float f = static_cast<float>(x);
  uint32_t bits = std::bit_cast<uint32_t>(f);
  float rounded = f < 0 ? -f : f;
  if (static_cast<double>(rounded) > magnitude) --bits;
  return (bits << 1) == 0 ? 0 : bits;
}

}  // namespace dsvc::emulator::tensor
