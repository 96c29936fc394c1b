// cuTensorMapEncodeTiled: the rules of the call's arguments; those of maps are the emulator's (tensor_map_encode.h).
#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "../emulator/async/tensor_map.h"
#include "../emulator/async/tensor_map_encode.h"
#include "state.h"

using namespace dsvc::driver;
namespace emu = dsvc::emulator;

namespace {

// The number in the object (that of tensormap.replace) by CUtensorMapDataType.
constexpr uint32_t kElementOf[] = {0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 8, 11, 12};

CUresult bad(const std::string& message, const std::string& fix) {
  explain("emu/tensor-map-invalid", "cuTensorMapEncodeTiled: " + message, fix);
  return CUDA_ERROR_INVALID_VALUE;
}

}  // namespace

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* global, const cuuint64_t* dims, const cuuint64_t* strides,
                                const cuuint32_t* box, const cuuint32_t* elementStrides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  using emu::format;
  const uint64_t address = reinterpret_cast<uint64_t>(global);
  if (!map || !dims || !box || !elementStrides) return bad("a pointer is null", "pass all arrays");
  if (reinterpret_cast<uintptr_t>(map) % 64) return bad(format("the map itself is at 0x%" PRIxPTR, reinterpret_cast<uintptr_t>(map)), "align it to 64 bytes");
  if (static_cast<uint32_t>(type) >= std::size(kElementOf)) return bad(format("data type %d", static_cast<int>(type)), "sm_90 has UINT8 to TFLOAT32_FTZ");
  if (rank < 1 || rank > 5) return bad(format("%u dimensions", rank), "a tensor map has 1 to 5");
  if (rank > 1 && !strides) return bad("globalStrides is null", "pass a stride for each dimension but the innermost");
  if (static_cast<uint32_t>(promotion) > 3) return bad(format("L2 promotion %d", static_cast<int>(promotion)), "NONE, 64B, 128B or 256B");
  if (static_cast<uint32_t>(fill) > 1) return bad(format("out-of-bounds fill %d", static_cast<int>(fill)), "NONE or NAN_REQUEST_ZERO_FMA");

  emu::TensorMapSpec spec;
  spec.element = kElementOf[type];
  spec.rank = rank;
  spec.address = address;
  std::copy_n(dims, rank, spec.dims);
  if (rank > 1) std::copy_n(strides, rank - 1, spec.strides);
  std::copy_n(box, rank, spec.box);
  std::copy_n(elementStrides, rank, spec.steps);
  spec.interleave = static_cast<uint32_t>(interleave);
  spec.swizzle = static_cast<uint32_t>(swizzle);
  spec.fillNan = fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE;
  uint8_t object[emu::kTensorMapBytes];
  if (emu::Misuse found = emu::encodeTensorMap(spec, object)) return bad(found.message, found.fix);
  std::memcpy(map, object, sizeof object);
  return CUDA_SUCCESS;
}

CUresult cuTensorMapReplaceAddress(CUtensorMap* map, void* global) {
  if (!map || reinterpret_cast<uintptr_t>(map) % 64) return CUDA_ERROR_INVALID_VALUE;
  auto* b = reinterpret_cast<uint8_t*>(map);
  uint32_t flags;
  std::memcpy(&flags, b + 8, sizeof flags);
  const uint64_t address = reinterpret_cast<uint64_t>(global), unit = (flags >> 11 & 3) == 2 ? 32 : 16;
  if (!emu::isTensorMap(b)) return bad("the 128 bytes are no tensor map", "start from one that cuTensorMapEncodeTiled made");
  if (address % unit) return bad(emu::format("the global address is 0x%" PRIx64, address), emu::format("align it to %" PRIu64 " bytes", unit));
  std::memcpy(b, &address, sizeof address);
  return CUDA_SUCCESS;
}
