// Tensor maps: the 128-byte object that cuTensorMapEncodeTiled makes and tensormap.replace changes. Its layout is not
// published; fields lie where the code that ptxas makes of tensormap.replace for sm_90a writes them. Maps carry a mark of
// ours in bytes that no field uses (runtime/emulator/tensor-map.ts).
#pragma once
#include <cstdint>
#include <string>

#include "../types.h"
#include "copy.h"

namespace dsvc::emulator {

constexpr uint32_t kTensorMapBytes = 128, kTensorMapAlign = 64;

struct TensorMap {
  uint32_t rank = 0;
  uint32_t element = 0;  // number of the type, as tensormap.replace has it
  uint32_t size = 0;     // bytes of an element
  uint32_t interleave = 0, swizzle = 0;  // swizzle: 0 none, 1 32 bytes, 2 64, 3 128
  bool fillNan = false;
  uint64_t address = 0;
  // By dimension, the innermost first. stride in bytes; count: elements of the box that are moved, ceil(box / step).
  uint64_t dim[5] = {}, stride[5] = {};
  uint32_t box[5] = {}, step[5] = {}, count[5] = {};
  uint64_t boxBytes = 0;
  uint32_t rowBytes = 0;

  Type type() const;         // Type::none for those that only exist here
  bool flushes() const;      // f32.ftz, tf32.ftz
  std::string text() const;  // "2-d BF16 tensor 64x128, box 64x64"
};

// Reads the object and checks every rule of the encode call (device code may have changed fields).
void decodeTensorMap(const uint8_t* bytes, TensorMap& map, Misuse& misuse);
bool isTensorMap(const uint8_t* bytes);

// The element at this swizzle: where byte `at` of shared memory (an absolute offset) really lies.
constexpr uint64_t swizzled(uint64_t at, uint32_t swizzle) {
  constexpr uint64_t kRows[4] = {0, 1, 3, 7};
  return at ^ (at >> 7 & kRows[swizzle]) << 4;
}

}  // namespace dsvc::emulator
