// Copies and fills. They run in stream order; a copy whose host side is ordinary memory is over when the call returns, or
// has taken its data.
#include <cstring>

#include "queue.h"

using namespace dsvc::driver;
namespace emu = dsvc::emulator;

namespace {

// One side of a copy.
struct End {
  uint8_t* bytes = nullptr;
  emu::Allocation* allocation = nullptr;  // null: ordinary memory of the host
  uint64_t offset = 0;
};
enum class Place { device, host, any };

// Finds `bytes` bytes; a null result's reason has been printed.
End find(Process& p, uint64_t address, uint64_t bytes, Place place, const char* what) {
  End e;
  int gpu = -1;
  emu::Allocation* a = allocationOf(p, address, gpu);
  if (!a && place != Place::device) {
    e.bytes = reinterpret_cast<uint8_t*>(address);
    return e;
  }
  if (!a) {
    explain("emu/out-of-bounds", emu::format("%s of %llu bytes at 0x%llx: no allocation lies there", what, static_cast<unsigned long long>(bytes),
                                             static_cast<unsigned long long>(address)));
    return e;
  }
  if (!a->bytes || !a->holds(address, bytes)) {
    explain(a->bytes ? "emu/out-of-bounds" : "emu/use-after-free",
            emu::format("%s of %llu bytes at 0x%llx: %s has %llu bytes%s", what, static_cast<unsigned long long>(bytes), static_cast<unsigned long long>(address),
                        a->name.c_str(), static_cast<unsigned long long>(a->size), a->bytes ? "" : " and was freed"));
    return e;
  }
  e.allocation = a;
  e.offset = address - a->base;
  e.bytes = a->bytes + e.offset;
  return e;
}

// What is known to be written goes along with the bytes.
void markCopied(const End& to, const End& from, uint64_t bytes) {
  if (!to.allocation) return;
  if (!from.allocation || from.allocation->isInitialised(from.offset, bytes)) return to.allocation->markInitialised(to.offset, bytes, true);
  auto bit = [&](uint64_t at) { return from.allocation->isInitialised(at, 1); };
  for (uint64_t k = 0; k < bytes;) {
    bool value = bit(from.offset + k);
    uint64_t end = k + 1;
    while (end < bytes && bit(from.offset + end) == value) ++end;
    to.allocation->markInitialised(to.offset + k, end - k, value);
    k = end;
  }
}

struct Copy {
  uint64_t to = 0, from = 0, width = 0, height = 1, toPitch = 0, fromPitch = 0;
  Place toPlace = Place::any, fromPlace = Place::any;
};

CUresult perform(Process& p, const Copy& c, const uint8_t* staged) {
  uint64_t toSpan = (c.height - 1) * c.toPitch + c.width, fromSpan = (c.height - 1) * c.fromPitch + c.width;
  End to = find(p, c.to, toSpan, c.toPlace, "a copy to device memory");
  End from;
  if (staged) from.bytes = const_cast<uint8_t*>(staged);
  else from = find(p, c.from, fromSpan, c.fromPlace, "a copy from device memory");
  if (!to.bytes || !from.bytes) return CUDA_ERROR_INVALID_VALUE;
  for (uint64_t row = 0; row < c.height; ++row) {
    End a = to, b = from;
    a.offset += row * c.toPitch;
    b.offset += row * c.fromPitch;
    std::memmove(to.bytes + row * c.toPitch, from.bytes + row * c.fromPitch, c.width);
    markCopied(a, b, c.width);
  }
  return CUDA_SUCCESS;
}

bool isOrdinary(Process& p, uint64_t address) {
  int gpu = -1;
  return allocationOf(p, address, gpu) == nullptr;
}

// Queues a copy; waits for it when `wait`, or when ordinary memory of the host receives it.
CUresult copy(const Copy& c, CUstream stream, bool wait) {
  return inContext([&](Process& p, CUctx_st& context) -> CUresult {
    CUstream s = streamOf(p, context, stream);
    if (!s) return CUDA_ERROR_INVALID_HANDLE;
    if (c.width == 0 || c.height == 0) return CUDA_SUCCESS;
    uint64_t toSpan = (c.height - 1) * c.toPitch + c.width, fromSpan = (c.height - 1) * c.fromPitch + c.width;
    if (!find(p, c.to, toSpan, c.toPlace, "a copy to device memory").bytes) return CUDA_ERROR_INVALID_VALUE;
    if (!find(p, c.from, fromSpan, c.fromPlace, "a copy from device memory").bytes) return CUDA_ERROR_INVALID_VALUE;
    const bool idle = s->queue.empty();
    std::shared_ptr<std::vector<uint8_t>> staged;
    if (!wait && !idle && isOrdinary(p, c.from)) {
      auto* from = reinterpret_cast<const uint8_t*>(c.from);
      staged = std::make_shared<std::vector<uint8_t>>(from, from + fromSpan);
    }
    wait |= isOrdinary(p, c.to) || (isOrdinary(p, c.from) && !staged);
    p.queue->issue(s, [&p, c, staged] { return perform(p, c, staged ? staged->data() : nullptr); });
    if (!wait) return CUDA_SUCCESS;
    return p.queue->finish(s);
  });
}

uint64_t addressOf(const void* p) { return reinterpret_cast<uint64_t>(p); }
Copy linear(uint64_t to, Place toPlace, uint64_t from, Place fromPlace, uint64_t bytes) { return {to, from, bytes, 1, 0, 0, toPlace, fromPlace}; }

CUresult copy2d(const CUDA_MEMCPY2D* m, CUstream stream, bool wait) {
  if (!m) return CUDA_ERROR_INVALID_VALUE;
  if (m->srcMemoryType == CU_MEMORYTYPE_ARRAY || m->dstMemoryType == CU_MEMORYTYPE_ARRAY) return CUDA_ERROR_NOT_SUPPORTED;
  auto side = [](CUmemorytype type, const void* host, CUdeviceptr device, uint64_t& address, Place& place) {
    place = type == CU_MEMORYTYPE_HOST ? Place::host : type == CU_MEMORYTYPE_DEVICE ? Place::device : Place::any;
    address = type == CU_MEMORYTYPE_HOST ? addressOf(host) : device;
    return type == CU_MEMORYTYPE_HOST || type == CU_MEMORYTYPE_DEVICE || type == CU_MEMORYTYPE_UNIFIED;
  };
  Copy c;
  if (!side(m->srcMemoryType, m->srcHost, m->srcDevice, c.from, c.fromPlace) || !side(m->dstMemoryType, m->dstHost, m->dstDevice, c.to, c.toPlace))
    return CUDA_ERROR_INVALID_VALUE;
  c.width = m->WidthInBytes;
  c.height = m->Height;
  c.fromPitch = m->srcPitch ? m->srcPitch : c.width + m->srcXInBytes;
  c.toPitch = m->dstPitch ? m->dstPitch : c.width + m->dstXInBytes;
  if (c.fromPitch < c.width + m->srcXInBytes || c.toPitch < c.width + m->dstXInBytes) return CUDA_ERROR_INVALID_VALUE;
  c.from += m->srcY * c.fromPitch + m->srcXInBytes;
  c.to += m->dstY * c.toPitch + m->dstXInBytes;
  return copy(c, stream, wait);
}

template <class T>
CUresult fill(CUdeviceptr to, size_t pitch, T value, size_t width, size_t height, CUstream stream, bool wait) {
  return inContext([&](Process& p, CUctx_st& context) -> CUresult {
    CUstream s = streamOf(p, context, stream);
    if (!s) return CUDA_ERROR_INVALID_HANDLE;
    if (width == 0 || height == 0) return CUDA_SUCCESS;
    uint64_t row = width * sizeof(T), step = pitch ? pitch : row, span = (height - 1) * step + row;
    if (to % sizeof(T) || step % sizeof(T) || (height > 1 && step < row)) return CUDA_ERROR_INVALID_VALUE;
    if (!find(p, to, span, Place::device, "a fill").bytes) return CUDA_ERROR_INVALID_VALUE;
    p.queue->issue(s, [=, &p] {
      End e = find(p, to, span, Place::device, "a fill");
      if (!e.bytes) return CUDA_ERROR_INVALID_VALUE;
      for (size_t y = 0; y < height; ++y) {
        for (size_t x = 0; x < width; ++x) std::memcpy(e.bytes + y * step + x * sizeof(T), &value, sizeof(T));
        e.allocation->markInitialised(e.offset + y * step, row, true);
      }
      return CUDA_SUCCESS;
    });
    return wait ? p.queue->finish(s) : CUDA_SUCCESS;
  });
}

}  // namespace

CUresult cuMemcpy(CUdeviceptr to, CUdeviceptr from, size_t n) { return copy(linear(to, Place::any, from, Place::any, n), nullptr, true); }
CUresult cuMemcpyAsync(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) { return copy(linear(to, Place::any, from, Place::any, n), s, false); }
CUresult cuMemcpyHtoD_v2(CUdeviceptr to, const void* from, size_t n) { return copy(linear(to, Place::device, addressOf(from), Place::host, n), nullptr, true); }
CUresult cuMemcpyDtoH_v2(void* to, CUdeviceptr from, size_t n) { return copy(linear(addressOf(to), Place::host, from, Place::device, n), nullptr, true); }
CUresult cuMemcpyDtoD_v2(CUdeviceptr to, CUdeviceptr from, size_t n) { return copy(linear(to, Place::device, from, Place::device, n), nullptr, true); }
CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, size_t n, CUstream s) {
  return copy(linear(to, Place::device, addressOf(from), Place::host, n), s, false);
}
CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, size_t n, CUstream s) {
  return copy(linear(addressOf(to), Place::host, from, Place::device, n), s, false);
}
CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, size_t n, CUstream s) {
  return copy(linear(to, Place::device, from, Place::device, n), s, false);
}
CUresult cuMemcpyPeer(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t n) {
  return copy(linear(to, Place::device, from, Place::device, n), nullptr, true);
}
CUresult cuMemcpyPeerAsync(CUdeviceptr to, CUcontext, CUdeviceptr from, CUcontext, size_t n, CUstream s) {
  return copy(linear(to, Place::device, from, Place::device, n), s, false);
}
CUresult cuMemcpy2D_v2(const CUDA_MEMCPY2D* m) { return copy2d(m, nullptr, true); }
CUresult cuMemcpy2DUnaligned_v2(const CUDA_MEMCPY2D* m) { return copy2d(m, nullptr, true); }
CUresult cuMemcpy2DAsync_v2(const CUDA_MEMCPY2D* m, CUstream s) { return copy2d(m, s, false); }

CUresult cuMemsetD8_v2(CUdeviceptr to, unsigned char v, size_t n) { return fill(to, 0, v, n, 1, nullptr, true); }
CUresult cuMemsetD16_v2(CUdeviceptr to, unsigned short v, size_t n) { return fill(to, 0, v, n, 1, nullptr, true); }
CUresult cuMemsetD32_v2(CUdeviceptr to, unsigned int v, size_t n) { return fill(to, 0, v, n, 1, nullptr, true); }
CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char v, size_t n, CUstream s) { return fill(to, 0, v, n, 1, s, false); }
CUresult cuMemsetD16Async(CUdeviceptr to, unsigned short v, size_t n, CUstream s) { return fill(to, 0, v, n, 1, s, false); }
CUresult cuMemsetD32Async(CUdeviceptr to, unsigned int v, size_t n, CUstream s) { return fill(to, 0, v, n, 1, s, false); }
CUresult cuMemsetD2D8_v2(CUdeviceptr to, size_t pitch, unsigned char v, size_t w, size_t h) { return fill(to, pitch, v, w, h, nullptr, true); }
CUresult cuMemsetD2D16_v2(CUdeviceptr to, size_t pitch, unsigned short v, size_t w, size_t h) { return fill(to, pitch, v, w, h, nullptr, true); }
CUresult cuMemsetD2D32_v2(CUdeviceptr to, size_t pitch, unsigned int v, size_t w, size_t h) { return fill(to, pitch, v, w, h, nullptr, true); }
