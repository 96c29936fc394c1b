// Which lane holds which element: the fragments of mma.sync, wgmma and wmma, all in words of 32 bits (64 for f64) of a
// row of A or a column of B. g = lane / 4, q = lane % 4.
#pragma once
#include <cstdint>

namespace dsvc::emulator::tensor {

// A (16 rows a warp): register r of lane l holds word `wordOfA` of row `rowOfA`. With eight rows (m8) only even ones
// exist: pass 2 * r.
constexpr uint32_t rowOfA(uint32_t r, uint32_t l) { return l / 4 + 8 * (r % 2); }
constexpr uint32_t wordOfA(uint32_t r, uint32_t l) { return l % 4 + 4 * (r / 2); }
// B (8 columns): register r of lane l holds word `wordOfB` of column l / 4.
constexpr uint32_t columnOfB(uint32_t l) { return l / 4; }
constexpr uint32_t wordOfB(uint32_t r, uint32_t l) { return l % 4 + 4 * r; }
// C and D: element i of lane l (f16: two a register, the lower half first).
constexpr uint32_t rowOfC(uint32_t i, uint32_t l) { return l / 4 + 8 * (i / 2 % 2); }
constexpr uint32_t columnOfC(uint32_t i, uint32_t l) { return 2 * (l % 4) + i % 2 + 8 * (i / 4); }

}  // namespace dsvc::emulator::tensor
