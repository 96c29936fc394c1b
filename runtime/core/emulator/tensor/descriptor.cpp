#include "descriptor.h"

#include <algorithm>
#include <cstring>

#include "../memory.h"
#include "../report.h"

namespace dsvc::emulator::tensor {

namespace {
constexpr uint64_t kReservedBits = ~(0x3fffull | 0x3fffull << 16 | 0x3fffull << 32 | 7ull << 49 | 3ull << 62);
constexpr uint32_t kSwizzleBytes[4] = {0, 128, 64, 32};

DescriptorProblem wrong(std::string message, std::string fix) {
  return {"emu/wgmma-descriptor", std::move(message), std::move(fix)};
}
}  // namespace

Descriptor::Descriptor(uint64_t bits)
    : start(static_cast<uint32_t>(bits & 0x3fff) << 4),
      leading(static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4),
      stride(static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4),
      swizzle(kSwizzleBytes[bits >> 62]),
      baseOffset(static_cast<uint32_t>(bits >> 49 & 7)),
      reserved((bits & kReservedBits) != 0) {}

DescriptorProblem problemOf(const Descriptor& d, bool isMnMajor, uint32_t rows, uint32_t k, uint32_t sharedBytes) {
  if (d.reserved)
    return wrong("a bit of the descriptor that must be zero is set",
                 "descriptors of sm_90 have fields at bits 0-13, 16-29, 32-45, 49-51 and 62-63 only");
  if (d.baseOffset)
    return wrong(format("base offset %u: the emulator knows matrices whose swizzle pattern starts at its own boundary only",
                        d.baseOffset),
                 format("align the tile to %u bytes and leave the base offset 0", d.swizzle ? 8 * d.swizzle : 16));
  if (d.swizzle) {
    const uint32_t pattern = 8 * d.swizzle, into = d.start % pattern;
    if (into >= d.swizzle)
      return wrong(format("the matrix starts at 0x%x, %u bytes into a %u-byte swizzle pattern", d.start, into, pattern),
                   format("align the tile to %u bytes; inside a pattern only steps along its %u-byte rows keep it whole",
                          pattern, d.swizzle));
    const uint32_t along = isMnMajor ? (rows * 2 + d.swizzle - 1) / d.swizzle : 1;
    const bool strideUsed = isMnMajor ? k > 8 : rows > 8;
    const bool leadingUsed = isMnMajor && along > 1;
    if (strideUsed && d.stride % pattern)
      return wrong(format("stride-dimension offset %u is no multiple of the %u-byte swizzle pattern", d.stride, pattern),
                   "the next eight rows must start at a pattern's boundary");
    if (leadingUsed && d.leading % pattern)
      return wrong(format("leading-dimension offset %u is no multiple of the %u-byte swizzle pattern", d.leading, pattern),
                   "the next columns of atoms must start at a pattern's boundary");
  }
  uint32_t least = UINT32_MAX, most = 0;
  forEachChunk(d, isMnMajor, rows, k, [&](uint32_t, uint32_t, uint32_t at) {
    least = std::min(least, at);
    most = std::max(most, at + 16);
  });
  if (least < shared::kReserved || most > sharedBytes)
    return {"emu/out-of-bounds",
            format("the matrix takes bytes 0x%x to 0x%x of shared memory, which ends at 0x%x and starts at 0x%x", least, most,
                   sharedBytes, shared::kReserved),
            "check the descriptor's address (bits 4-17 of the shared address) and its offsets (all >> 4)"};
  return {};
}

void readMatrix(const Descriptor& d, bool isMnMajor, uint32_t rows, uint32_t k, const uint8_t* shared, uint32_t* tile) {
  if (!isMnMajor) {
    forEachChunk(d, false, rows, k, [&](uint32_t row, uint32_t chunk, uint32_t at) {
      std::memcpy(tile + row * kRowWords + 4 * chunk, shared + at, 16);
    });
    return;
  }
  auto* halves = reinterpret_cast<uint16_t*>(tile);
  forEachChunk(d, true, rows, k, [&](uint32_t i, uint32_t chunk, uint32_t at) {
    uint16_t eight[8];
    std::memcpy(eight, shared + at, 16);
    for (uint32_t j = 0; j < 8; ++j) halves[(8 * chunk + j) * 2 * kRowWords + i] = eight[j];
  });
}

}  // namespace dsvc::emulator::tensor
