#include "tensor_map_encode.h"

#include <cinttypes>
#include <cstring>

namespace dsvc::emulator {

namespace {

constexpr uint32_t kElementBytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 4, 8, 2, 4, 4};
constexpr uint32_t kElementCount = 13, kFirstFloat = 6;

Misuse check(const TensorMapSpec& s) {
  auto wrong = [](std::string message, const char* fix) { return Misuse{"emu/tensor-map-invalid", "the tensor map " + std::move(message), fix}; };
  if (s.element >= kElementCount) return wrong(format("has element type %u", s.element), "types have the numbers 0 to 12");
  if (s.rank < 1 || s.rank > 5) return wrong(format("has %u dimensions", s.rank), "a tensor map has 1 to 5");
  if (s.interleave > 2) return wrong(format("has interleave %u", s.interleave), "interleaves are none (0), 16B (1) and 32B (2)");
  if (s.swizzle > 3) return wrong(format("has swizzle %u", s.swizzle), "swizzles are none (0), 32B (1), 64B (2) and 128B (3)");
  uint64_t unit = s.interleave == 2 ? 32 : 16;
  if (s.address % unit)
    return wrong(format("has the address 0x%" PRIx64, s.address), "a map's address is a multiple of 16, of 32 with interleave 32B");
  for (uint32_t k = 0; k < s.rank; ++k) {
    if (s.dims[k] < 1 || s.dims[k] > 1ull << 32)
      return wrong(format("has the size %" PRIu64 " in dimension %u", s.dims[k], k), "sizes go from 1 to 2^32");
    if (k > 0 && (s.strides[k - 1] % unit || s.strides[k - 1] >= 1ull << 40))
      return wrong(format("has a stride of %" PRIu64 " bytes for dimension %u", s.strides[k - 1], k),
                   "strides are multiples of 16 bytes (32 with interleave 32B), below 2^40");
    if (s.box[k] < 1 || s.box[k] > 256)
      return wrong(format("has a box of %u in dimension %u", s.box[k], k), "a box has 1 to 256 elements a dimension");
    if (s.steps[k] < 1 || s.steps[k] > 8)
      return wrong(format("has the element stride %u in dimension %u", s.steps[k], k), "element strides go from 1 to 8");
  }
  uint32_t row = s.box[0] * kElementBytes[s.element];
  if (s.interleave == 0 && row % 16) return wrong(format("has a box with rows of %u bytes", row), "a row of a box is a multiple of 16 bytes");
  if (s.interleave == 0 && s.swizzle && row > 16u << s.swizzle)
    return wrong(format("has a box with rows of %u bytes under a %u-byte swizzle", row, 16u << s.swizzle),
                 "a row of a box is at most as long as the swizzle");
  if (s.interleave && s.rank < 3) return wrong(format("is interleaved with %u dimensions", s.rank), "interleaved maps have at least 3");
  if (s.interleave == 2 && s.swizzle != 1) return wrong("has interleave 32B without swizzle 32B", "interleave 32B needs swizzle 32B");
  if (s.fillNan && s.element < kFirstFloat)
    return wrong("fills with NaN, but its elements are integers", "NaN exists in floating-point types only: fill with zeros");
  return {};
}

}  // namespace

Misuse encodeTensorMap(const TensorMapSpec& s, uint8_t (&object)[128]) {
  if (Misuse found = check(s)) return found;
  auto word = [&](uint32_t at, uint32_t v) { std::memcpy(object + at, &v, 4); };
  std::memset(object, 0, sizeof object);
  std::memcpy(object, &s.address, 8);
  word(0x08, (s.rank - 1) << 4 | s.element << 7 | s.interleave << 11 | s.swizzle << 13 | uint32_t{s.fillNan} << 15);
  uint32_t high = 0, steps = 0;
  for (uint32_t k = 0; k < s.rank; ++k) {
    word(0x20 + 4 * k, static_cast<uint32_t>(s.dims[k] - 1));
    steps |= (s.steps[k] - 1) << 3 * k;
    if (k == 0) continue;
    // In units of 16 bytes: 36 bits, the upper four of each apart.
    word(0x0c + 4 * (k - 1), static_cast<uint32_t>(s.strides[k - 1] >> 4));
    high |= static_cast<uint32_t>(s.strides[k - 1] >> 36) << 4 * (k - 1);
    object[0x38 + k - 1] = static_cast<uint8_t>(s.box[k] - 1);
  }
  word(0x1c, high);
  word(0x34, steps | (s.box[0] - 1) << 24);
  std::memcpy(object + 0x40, "dsvcTMAP", 8);
  return {};
}

}  // namespace dsvc::emulator
