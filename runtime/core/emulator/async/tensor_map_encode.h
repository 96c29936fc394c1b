// Makes tensor maps, as cuTensorMapEncodeTiled does: every rule of the call, then the object that tensor_map.h reads.
#pragma once
#include <cstdint>

#include "copy.h"

namespace dsvc::emulator {

// Lists begin with the innermost dimension.
struct TensorMapSpec {
  uint32_t element = 0;  // number of the type, as tensormap.replace has it
  uint32_t rank = 0;
  uint64_t address = 0;
  uint64_t dims[5] = {};
  uint64_t strides[4] = {};  // bytes, of dimensions 1 and up
  uint32_t box[5] = {}, steps[5] = {1, 1, 1, 1, 1};
  uint32_t interleave = 0, swizzle = 0;  // positions in the lists none, 16B, 32B and none, 32B, 64B, 128B
  bool fillNan = false;
};

// The first broken rule, and then no object.
Misuse encodeTensorMap(const TensorMapSpec& spec, uint8_t (&object)[128]);

}  // namespace dsvc::emulator
