// wgmma's matrix descriptors: 64 bits that say where in shared memory a matrix lies and how.
//
//   [13:0] start, [29:16] leading-dimension offset (LBO), [45:32] stride-dimension offset (SBO), each in 16 bytes;
//   [51:49] base offset; [63:62] swizzle: 0 none, 1 128 bytes, 2 64, 3 32. Other bits are zero.
//
// One instruction reads 32 bytes of K of each row (of each column of B). Byte addresses, with W bytes of swizzle and
// `swizzle` the exclusive-or of the address's bits 4.. with its bits 7..:
//   K-major, swizzled    swizzle(start + (row % 8) * W + (row / 8) * SBO + 16 * chunk)
//   K-major, plain       start + (row % 8) * 16 + (row / 8) * SBO + chunk * LBO
//   MN-major, swizzled   swizzle(start + (row * 2 % W) + (row * 2 / W) * LBO + (k % 8) * W + (k / 8) * SBO)
//   MN-major, plain      start + (row / 8) * SBO + (k % 8) * 16 + (k / 8) * LBO          (16-bit elements)
#pragma once
#include <cstdint>
#include <string>

#include "operation.h"

namespace dsvc::emulator::tensor {

struct Descriptor {
  uint32_t start = 0, leading = 0, stride = 0;  // bytes
  uint32_t swizzle = 0;                         // bytes: 0, 32, 64, 128
  uint32_t baseOffset = 0;
  bool reserved = false;  // a bit that must be zero is set

  explicit Descriptor(uint64_t bits);
};

// What is wrong with a descriptor for `rows` rows in a block with `sharedBytes` of shared memory (the reserved KiB
// included); an empty code when nothing is.
struct DescriptorProblem {
  const char* code = nullptr;
  std::string message, fix;
};
DescriptorProblem problemOf(const Descriptor& d, bool isMnMajor, uint32_t rows, uint32_t k, uint32_t sharedBytes);

// Calls visit(row or k, chunk, address) for every 16 bytes that one instruction reads: K-major for both 16-byte halves of
// every row; MN-major (16-bit elements) for every k and every eight rows.
template <class Visit>
void forEachChunk(const Descriptor& d, bool isMnMajor, uint32_t rows, uint32_t k, Visit visit) {
  const uint32_t w = d.swizzle, mask = w / 16 ? w / 16 - 1 : 0;
  auto swizzled = [mask](uint32_t at) { return at ^ ((at >> 7 & mask) << 4); };
  if (!isMnMajor) {
    const uint32_t pitch = w ? w : 16, next = w ? 16 : d.leading;
    for (uint32_t r = 0; r < rows; ++r) {
      const uint32_t at = d.start + r % 8 * pitch + r / 8 * d.stride;
      for (uint32_t chunk = 0; chunk < 2; ++chunk) visit(r, chunk, swizzled(at + chunk * next));
    }
    return;
  }
  for (uint32_t i = 0; i < k; ++i)
    for (uint32_t chunk = 0; chunk < rows / 8; ++chunk) {
      const uint32_t along = chunk * 16;
      const uint32_t at = w ? d.start + along % w + along / w * d.leading + i % 8 * w + i / 8 * d.stride
                            : d.start + chunk * d.stride + i % 8 * 16 + i / 8 * d.leading;
      visit(i, chunk, swizzled(at));
    }
}

// Copies the matrix out of shared memory: rows of kRowWords words with K innermost.
void readMatrix(const Descriptor& d, bool isMnMajor, uint32_t rows, uint32_t k, const uint8_t* shared, uint32_t* tile);

}  // namespace dsvc::emulator::tensor
