// Operand tiles decoded once per instruction: values and exponents by row (A), or by blocks of columns with the columns
// innermost (B), so that sums run over a vector of columns. Compiled for each instruction-set level.
#pragma once
#include <cstring>
#include <memory>

#include "../handlers/families.h"
#include "formats.h"

namespace dsvc::emulator::DSVC_ARCH {

using namespace tensor;  // NOLINT: this file and its users are of the tensor cores

// Columns of a block.
constexpr uint32_t kNarrowBlock = 32, kWideBlock = 16, kPlainBlock = 32;

// The thread's own T. Behind a pointer, because finding a thread-local variable is a call, which compilers repeat at every
// use of one.
template <class T>
inline T& scratch() {
  static thread_local const std::unique_ptr<T> own = std::make_unique<T>();
  return *own;
}

inline Decoded decodeFast(Element e, uint32_t bits) {
  Decoded d;
  uint32_t field, top;
  if (e == Element::f16) {
    field = bits >> 10 & 31;
    top = 31;
    // The fraction moved to f32's place and its exponent re-biased by a multiplication, which subnormals survive.
    d.value = std::bit_cast<float>((bits & 0x7fff) << 13) * 0x1p112f;
    if (bits & 0x8000) d.value = -d.value;
    d.exponent = static_cast<int16_t>((field ? field : 1) - 15);
  } else {
    const uint32_t word = e == Element::bf16 ? bits << 16 : bits & 0xffffe000u;
    field = word >> 23 & 255;
    top = 255;
    d.value = std::bit_cast<float>(word);
    d.exponent = static_cast<int16_t>(static_cast<int>(field ? field : 1) - 127);
  }
  if (field == top) return {0.0f, kZeroExponent16, true};
  if (d.value == 0) d.exponent = kZeroExponent16;
  return d;
}

inline uint32_t elementAt(Element e, const uint32_t* row, uint32_t k) {
  const uint32_t bits = bitsOf(e), at = k * bits;
  const uint32_t word = row[at / 32] >> (at % 32);
  return bits == 32 ? word : word & ((1u << bits) - 1);
}

inline int32_t integerAt(Element e, const uint32_t* row, uint32_t k) {
  const uint32_t x = elementAt(e, row, k);
  switch (e) {
    case Element::s8: return static_cast<int8_t>(x);
    case Element::s4: return static_cast<int32_t>(x << 28) >> 28;
    default: return static_cast<int32_t>(x);
  }
}

// FP8 operands: values as f32, exponents as bytes.
struct NarrowRows {
  alignas(64) float value[kMaxRows][32];
  alignas(64) int8_t exponent[kMaxRows][32];
  bool special[kMaxRows];
  bool any = false;

  void load(Element e, const uint32_t* rows, uint32_t m, uint32_t k) {
    const Fp8Table& t = fp8Table(e);
    any = false;
    for (uint32_t r = 0; r < m; ++r) {
      const uint8_t* bytes = reinterpret_cast<const uint8_t*>(rows + r * kRowWords);
      bool found = false;
      for (uint32_t i = 0; i < k; ++i) {
        value[r][i] = t.value[bytes[i]];
        exponent[r][i] = t.exponent[bytes[i]];
        found |= t.special[bytes[i]];
      }
      special[r] = found;
      any |= found;
    }
  }
};

struct NarrowColumns {
  struct Block {
    alignas(64) float value[32][kNarrowBlock];
    alignas(64) int8_t exponent[32][kNarrowBlock];
  };
  Block blocks[kMaxColumns / kNarrowBlock];
  bool special[kMaxColumns];
  bool any = false;

  void load(Element e, const uint32_t* rows, uint32_t n, uint32_t k) {
    const Fp8Table& t = fp8Table(e);
    any = false;
    for (uint32_t c = 0; c < (n + kNarrowBlock - 1) / kNarrowBlock * kNarrowBlock; ++c) {
      Block& block = blocks[c / kNarrowBlock];
      const uint32_t at = c % kNarrowBlock;
      if (c >= n) {
        for (uint32_t i = 0; i < k; ++i) block.value[i][at] = 0, block.exponent[i][at] = kZeroExponent8;
        continue;
      }
      const uint8_t* bytes = reinterpret_cast<const uint8_t*>(rows + c * kRowWords);
      bool found = false;
      for (uint32_t i = 0; i < k; ++i) {
        block.value[i][at] = t.value[bytes[i]];
        block.exponent[i][at] = t.exponent[bytes[i]];
        found |= t.special[bytes[i]];
      }
      special[c] = found;
      any |= found;
    }
  }
};

// Wider operands, k of at most 16: values as f64, exponents as 16-bit integers.
struct WideRows {
  alignas(64) double value[kMaxRows][16];
  alignas(64) int16_t exponent[kMaxRows][16];
  bool special[kMaxRows];
  bool any = false;

  void load(Element e, const uint32_t* rows, uint32_t m, uint32_t k) {
    any = false;
    for (uint32_t r = 0; r < m; ++r) {
      bool found = false;
      for (uint32_t i = 0; i < k; ++i) {
        Decoded d = decodeFast(e, elementAt(e, rows + r * kRowWords, i));
        value[r][i] = d.value;
        exponent[r][i] = d.exponent;
        found |= d.special;
      }
      special[r] = found;
      any |= found;
    }
  }
};

struct WideColumns {
  struct Block {
    alignas(64) double value[16][kWideBlock];
    alignas(64) int16_t exponent[16][kWideBlock];
  };
  Block blocks[kMaxColumns / kWideBlock];
  bool special[kMaxColumns];
  bool any = false;

  void load(Element e, const uint32_t* rows, uint32_t n, uint32_t k) {
    any = false;
    for (uint32_t c = 0; c < (n + kWideBlock - 1) / kWideBlock * kWideBlock; ++c) {
      Block& block = blocks[c / kWideBlock];
      const uint32_t at = c % kWideBlock;
      bool found = false;
      for (uint32_t i = 0; i < k; ++i) {
        Decoded d = c < n ? decodeFast(e, elementAt(e, rows + c * kRowWords, i)) : Decoded{};
        block.value[i][at] = d.value;
        block.exponent[i][at] = d.exponent;
        found |= d.special;
      }
      if (c < n) special[c] = found;
      any |= found;
    }
  }
};

// C's value and exponent.
struct Addend {
  float value;
  int32_t exponent;
  bool special;
};
inline Addend addendOf(Result type, uint32_t bits) {
  if (type == Result::f16) {
    Decoded d = decodeFast(Element::f16, bits & 0xffff);
    return {d.value, d.value == 0 ? kLeastExponent : d.exponent, d.special};
  }
  const uint32_t field = bits >> 23 & 255;
  if (field == 255) return {0, kLeastExponent, true};
  return {std::bit_cast<float>(bits), static_cast<int32_t>(field ? field : 1) - 127, false};
}

inline uint32_t nanOf(Result type) { return type == Result::f16 ? kNan16 : kNan32; }

}  // namespace dsvc::emulator::DSVC_ARCH
