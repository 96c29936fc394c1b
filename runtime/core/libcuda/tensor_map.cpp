// cuTensorMapEncodeTiled: the rules, and the 128-byte object of runtime/emulator/tensor-map.ts, bit for bit.
#include <cinttypes>
#include <cstring>

#include "../emulator/async/tensor_map.h"
#include "state.h"

using namespace dsvc::driver;
namespace emu = dsvc::emulator;

namespace {

// By CUtensorMapDataType: the number in the object (that of tensormap.replace), bytes, whether NaN exists.
struct Element {
  uint32_t code, bytes;
  bool isFloat;
  const char* name;
};
constexpr Element kElements[] = {{0, 1, false, "UINT8"},     {1, 2, false, "UINT16"},    {2, 4, false, "UINT32"},  {3, 4, false, "INT32"},
                                 {4, 8, false, "UINT64"},    {5, 8, false, "INT64"},     {6, 2, true, "FLOAT16"},  {7, 4, true, "FLOAT32"},
                                 {9, 8, true, "FLOAT64"},    {10, 2, true, "BFLOAT16"},  {8, 4, true, "FLOAT32_FTZ"}, {11, 4, true, "TFLOAT32"},
                                 {12, 4, true, "TFLOAT32_FTZ"}};
constexpr uint32_t kSpan[4] = {0, 32, 64, 128};

CUresult bad(const std::string& message, const std::string& fix) {
  explain("emu/tensor-map-invalid", "cuTensorMapEncodeTiled: " + message, fix);
  return CUDA_ERROR_INVALID_VALUE;
}

template <class T>
void put(uint8_t* at, T value) {
  std::memcpy(at, &value, sizeof value);
}

}  // namespace

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* global, const cuuint64_t* dims, const cuuint64_t* strides,
                                const cuuint32_t* box, const cuuint32_t* elementStrides, CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
  using emu::format;
  const uint64_t address = reinterpret_cast<uint64_t>(global);
  if (!map || !dims || !box || !elementStrides) return bad("a pointer is null", "pass all arrays");
  if (reinterpret_cast<uintptr_t>(map) % 64) return bad(format("the map itself is at 0x%" PRIxPTR, reinterpret_cast<uintptr_t>(map)), "align it to 64 bytes");
  if (static_cast<uint32_t>(type) >= std::size(kElements)) return bad(format("data type %d", static_cast<int>(type)), "sm_90 has UINT8 to TFLOAT32_FTZ");
  if (rank < 1 || rank > 5) return bad(format("%u dimensions", rank), "a tensor map has 1 to 5");
  if (rank > 1 && !strides) return bad("globalStrides is null", "pass a stride for each dimension but the innermost");
  if (static_cast<uint32_t>(interleave) > 2) return bad(format("interleave %d", static_cast<int>(interleave)), "NONE, 16B or 32B");
  if (static_cast<uint32_t>(swizzle) > 3) return bad(format("swizzle %d", static_cast<int>(swizzle)), "sm_90 has NONE, 32B, 64B and 128B");
  if (static_cast<uint32_t>(promotion) > 3) return bad(format("L2 promotion %d", static_cast<int>(promotion)), "NONE, 64B, 128B or 256B");
  if (static_cast<uint32_t>(fill) > 1) return bad(format("out-of-bounds fill %d", static_cast<int>(fill)), "NONE or NAN_REQUEST_ZERO_FMA");

  const Element& e = kElements[type];
  const uint64_t unit = interleave == CU_TENSOR_MAP_INTERLEAVE_32B ? 32 : 16;
  if (address % unit) return bad(format("the global address is 0x%" PRIx64, address), format("align it to %" PRIu64 " bytes", unit));
  for (uint32_t k = 0; k < rank; ++k)
    if (dims[k] < 1 || dims[k] > (1ull << 32)) return bad(format("globalDim[%u] is %" PRIu64, k, dims[k]), "sizes go from 1 to 2^32");
  for (uint32_t k = 0; k + 1 < rank; ++k)
    if (strides[k] % unit || strides[k] >= (1ull << 40))
      return bad(format("globalStrides[%u] is %" PRIu64 " bytes", k, strides[k]), format("strides are multiples of %" PRIu64 " bytes, below 2^40", unit));
  for (uint32_t k = 0; k < rank; ++k)
    if (box[k] < 1 || box[k] > 256) return bad(format("boxDim[%u] is %u", k, box[k]), "a box has 1 to 256 elements a dimension");
  const uint32_t row = box[0] * e.bytes;
  if (interleave == CU_TENSOR_MAP_INTERLEAVE_NONE && row % 16) return bad(format("a row of the box has %u bytes", row), "rows are multiples of 16 bytes");
  if (interleave == CU_TENSOR_MAP_INTERLEAVE_NONE && swizzle != CU_TENSOR_MAP_SWIZZLE_NONE && row > kSpan[swizzle])
    return bad(format("a row of the box has %u bytes, more than the swizzle's %u", row, kSpan[swizzle]),
               format("at most %u elements of %s a row, or another swizzle", kSpan[swizzle] / e.bytes, e.name));
  for (uint32_t k = 0; k < rank; ++k)
    if (elementStrides[k] < 1 || elementStrides[k] > 8) return bad(format("elementStrides[%u] is %u", k, elementStrides[k]), "element strides go from 1 to 8");
  if (interleave != CU_TENSOR_MAP_INTERLEAVE_NONE && rank < 3) return bad(format("interleaved, with %u dimensions", rank), "interleaved maps have at least 3");
  if (interleave == CU_TENSOR_MAP_INTERLEAVE_32B && swizzle != CU_TENSOR_MAP_SWIZZLE_32B)
    return bad("interleave 32B with another swizzle than 32B", "interleave 32B needs swizzle 32B");
  if (fill != CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE && !e.isFloat)
    return bad(format("NaN for what is out of bounds, but the elements are %s", e.name), "NaN exists in floating-point types only");

  uint8_t b[emu::kTensorMapBytes] = {};
  put(b, address);
  put<uint32_t>(b + 0x08, (rank - 1) << 4 | e.code << 7 | static_cast<uint32_t>(interleave) << 11 | static_cast<uint32_t>(swizzle) << 13 |
                              static_cast<uint32_t>(fill) << 15);
  uint32_t high = 0;  // bits 36..39 of each stride in units of 16 bytes
  for (uint32_t k = 0; k + 1 < rank; ++k) {
    put<uint32_t>(b + 0x0c + 4 * k, static_cast<uint32_t>(strides[k] >> 4));
    high |= static_cast<uint32_t>(strides[k] >> 36) << 4 * k;
  }
  put(b + 0x1c, high);
  uint32_t steps = 0;
  for (uint32_t k = 0; k < rank; ++k) {
    put<uint32_t>(b + 0x20 + 4 * k, static_cast<uint32_t>(dims[k] - 1));
    steps |= (elementStrides[k] - 1) << 3 * k;
    if (k > 0) b[0x38 + k - 1] = static_cast<uint8_t>(box[k] - 1);
  }
  put<uint32_t>(b + 0x34, steps | (box[0] - 1) << 24);
  std::memcpy(b + 0x40, "dsvcTMAP", 8);
  std::memcpy(map, b, sizeof b);
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
  put(b, address);
  return CUDA_SUCCESS;
}
