// What a tensor-core instruction computes, apart from where its operands lie: D = A * B + C over packed tiles.
//
// Tiles. A is m rows, B is n rows (its columns), each of kRowWords words with the k elements packed from the lowest bit
// on: what registers and shared memory hold. C and D are m x n words, row-major: f32 bits, f16 bits, or s32.
#pragma once
#include <cstdint>

namespace dsvc::emulator::tensor {

enum class Element : uint8_t { f16, bf16, tf32, e4m3, e5m2, s8, u8, s4, u4, b1 };
enum class Result : uint8_t { f32, f16, s32 };

// How floating-point sums are formed (docs/EMULATOR.md, tensor cores).
//   wgmma  one fused sum of all products and C, truncated to 25 fraction bits of the largest exponent; for FP8 to 13,
//          and an f32 result keeps 13 fraction bits.
//   mma    25 bits for every type. FP8 is what ptxas makes of it for sm_90a: two fused sums over f16, then an addition.
//   plain  f32 multiplications and additions in the order of k.
enum class Model : uint8_t { wgmma, mma, plain };

struct Operation {
  Element a = Element::f16, b = Element::f16;
  Result c = Result::f32, d = Result::f32;
  uint32_t m = 0, n = 0, k = 0;
  bool negate = false;    // the products' signs (imm-scale-a * imm-scale-b = -1)
  bool saturate = false;  // .satfinite of s32 results
  bool isXor = false;     // b1: xor instead of and
  Model model = Model::mma;
};

constexpr uint32_t kRowWords = 8;
constexpr uint32_t kMaxRows = 64;
constexpr uint32_t kMaxColumns = 256;

constexpr uint32_t bitsOf(Element e) {
  switch (e) {
    case Element::f16: case Element::bf16: return 16;
    case Element::tf32: return 32;
    case Element::s4: case Element::u4: return 4;
    case Element::b1: return 1;
    default: return 8;
  }
}
constexpr bool isFp8(Element e) { return e == Element::e4m3 || e == Element::e5m2; }
constexpr bool isInteger(Element e) { return e >= Element::s8; }

// `c` and `d` may be the same tile. A null c stands for zeros.
using Multiply = void (*)(const Operation&, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d);

}  // namespace dsvc::emulator::tensor
