// Memory of devices, and of the host where kernels may reach it. All addresses are one space, as on the chip: a pointer
// says whose it is.
#include <sys/mman.h>

#include <algorithm>
#include <cstring>

#include "queue.h"

using namespace dsvc::driver;
namespace emu = dsvc::emulator;

namespace {

CUresult allocate(Process& p, CUctx_st& c, uint64_t bytes, const char* how, CUdeviceptr* address) {
  if (!address || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  Gpu& g = p.of(&c);
  if (bytes > kDeviceBytes - g.used) return CUDA_ERROR_OUT_OF_MEMORY;
  std::string name = emu::format("allocation %llu (%s)", static_cast<unsigned long long>(++p.ids), how);
  *address = g.device.memory.allocate(bytes, name, p.settings.options.checked()).base;
  g.used += bytes;
  c.allocations.insert(*address);
  return CUDA_SUCCESS;
}

CUresult allocateHost(Process& p, CUctx_st& c, uint64_t bytes, unsigned int flags, HostRange::Kind kind, void** address) {
  if (!address || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
  void* at = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (at == MAP_FAILED) return CUDA_ERROR_OUT_OF_MEMORY;
  const char* what = kind == HostRange::Kind::managed ? "managed allocation" : "host allocation";
  p.host.adopt(static_cast<uint8_t*>(at), bytes, emu::format("%s %llu", what, static_cast<unsigned long long>(++p.ids)));
  p.hostRanges[reinterpret_cast<uint64_t>(at)] = {bytes, flags, kind, &c};
  *address = at;
  return CUDA_SUCCESS;
}

CUresult freeHost(Process& p, uint64_t address, HostRange::Kind kind) {
  auto it = p.hostRanges.find(address);
  if (it == p.hostRanges.end() || it->second.kind != kind) return CUDA_ERROR_INVALID_VALUE;
  p.host.free(address);
  if (kind != HostRange::Kind::registered) munmap(reinterpret_cast<void*>(address), it->second.bytes);
  p.hostRanges.erase(it);
  return CUDA_SUCCESS;
}

CUresult freeDevice(Process& p, CUdeviceptr address) {
  int gpu = -1;
  emu::Allocation* a = allocationOf(p, address, gpu);
  if (!a || gpu < 0 || a->base != address || !a->bytes) {
    explain("emu/bad-free", emu::format("0x%llx is not the start of a live allocation", address), "free what cuMemAlloc returned, once");
    return CUDA_ERROR_INVALID_VALUE;
  }
  p.gpus[static_cast<size_t>(gpu)]->used -= a->size;
  p.gpus[static_cast<size_t>(gpu)]->device.memory.free(address);
  for (CUcontext c : p.contexts) c->allocations.erase(address);
  return CUDA_SUCCESS;
}

// Of managed memory only. What is not in reach of the device or the host is told by the place alone.
CUresult adviseManaged(CUdeviceptr address, size_t bytes) {
  return inContext([&](Process& p, CUctx_st&) {
    int gpu = -1;
    emu::Allocation* a = allocationOf(p, address, gpu);
    bool managed = a && gpu < 0 && p.hostRanges[a->base].kind == HostRange::Kind::managed;
    return managed && bytes > 0 && a->holds(address, bytes) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_VALUE;
  });
}

}  // namespace

namespace dsvc::driver {
void dropMemory(Process& p, CUctx_st& context) {
  while (!context.allocations.empty())
    if (freeDevice(p, *context.allocations.begin()) != CUDA_SUCCESS) context.allocations.erase(context.allocations.begin());
  std::vector<std::pair<uint64_t, HostRange::Kind>> own;
  for (auto& [base, range] : p.hostRanges)
    if (range.owner == &context) own.emplace_back(base, range.kind);
  for (auto& [base, kind] : own) freeHost(p, base, kind);
}
}  // namespace dsvc::driver

CUresult cuMemGetInfo_v2(size_t* free, size_t* total) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (free) *free = kDeviceBytes - p.of(&c).used;
    if (total) *total = kDeviceBytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAlloc_v2(CUdeviceptr* address, size_t bytes) {
  return inContext([&](Process& p, CUctx_st& c) { return allocate(p, c, bytes, "cuMemAlloc", address); });
}

CUresult cuMemAllocPitch_v2(CUdeviceptr* address, size_t* pitch, size_t width, size_t height, unsigned int elementBytes) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (!pitch || width == 0 || height == 0 || (elementBytes != 4 && elementBytes != 8 && elementBytes != 16)) return CUDA_ERROR_INVALID_VALUE;
    size_t rounded = (width + 511) / 512 * 512;
    CUresult r = allocate(p, c, rounded * height, "cuMemAllocPitch", address);
    if (r == CUDA_SUCCESS) *pitch = rounded;
    return r;
  });
}

CUresult cuMemAllocManaged(CUdeviceptr* address, size_t bytes, unsigned int flags) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (flags != 1 && flags != 2) return CUDA_ERROR_INVALID_VALUE;
    return allocateHost(p, c, bytes, flags, HostRange::Kind::managed, reinterpret_cast<void**>(address));
  });
}

CUresult cuMemFree_v2(CUdeviceptr address) {
  return inContext([&](Process& p, CUctx_st& c) -> CUresult {
    if (address == 0) return CUDA_SUCCESS;
    // What still runs may use it.
    CUresult before = p.queue->finish(c);
    auto it = p.hostRanges.find(address);
    CUresult r = it != p.hostRanges.end() && it->second.kind == HostRange::Kind::managed ? freeHost(p, address, HostRange::Kind::managed)
                                                                                        : freeDevice(p, address);
    return before != CUDA_SUCCESS ? before : r;
  });
}

// Managed memory lies with the host: moving it changes nothing.
CUresult cuMemAdvise(CUdeviceptr address, size_t bytes, CUmem_advise, CUdevice) { return adviseManaged(address, bytes); }
CUresult cuMemAdvise_v2(CUdeviceptr address, size_t bytes, CUmem_advise, CUmemLocation) { return adviseManaged(address, bytes); }
CUresult cuMemPrefetchAsync(CUdeviceptr address, size_t bytes, CUdevice, CUstream) { return adviseManaged(address, bytes); }
CUresult cuMemPrefetchAsync_v2(CUdeviceptr address, size_t bytes, CUmemLocation, unsigned int, CUstream) { return adviseManaged(address, bytes); }

CUresult cuMemAllocAsync(CUdeviceptr* address, size_t bytes, CUstream stream) {
  return inContext([&](Process& p, CUctx_st& c) {
    CUstream s = streamOf(p, c, stream);
    return s ? allocate(p, *s->context, bytes, "cuMemAllocAsync", address) : CUDA_ERROR_INVALID_HANDLE;
  });
}

CUresult cuMemFreeAsync(CUdeviceptr address, CUstream stream) {
  return inContext([&](Process& p, CUctx_st& c) -> CUresult {
    CUstream s = streamOf(p, c, stream);
    if (!s) return CUDA_ERROR_INVALID_HANDLE;
    if (address == 0) return CUDA_SUCCESS;
    int gpu = -1;
    emu::Allocation* a = allocationOf(p, address, gpu);
    if (!a || gpu < 0 || a->base != address || !a->bytes) return freeDevice(p, address);
    p.queue->issue(s, [&p, address] { return freeDevice(p, address); });
    return CUDA_SUCCESS;
  });
}

CUresult cuMemHostAlloc(void** address, size_t bytes, unsigned int flags) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (flags & ~7u) return CUDA_ERROR_INVALID_VALUE;
    return allocateHost(p, c, bytes, flags | 2, HostRange::Kind::allocated, address);
  });
}
CUresult cuMemAllocHost_v2(void** address, size_t bytes) { return cuMemHostAlloc(address, bytes, 0); }

CUresult cuMemFreeHost(void* address) {
  return inContext([&](Process& p, CUctx_st& c) -> CUresult {
    if (!address) return CUDA_SUCCESS;
    CUresult before = p.queue->finish(c);
    CUresult r = freeHost(p, reinterpret_cast<uint64_t>(address), HostRange::Kind::allocated);
    return before != CUDA_SUCCESS ? before : r;
  });
}

CUresult cuMemHostRegister_v2(void* address, size_t bytes, unsigned int flags) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (!address || bytes == 0) return CUDA_ERROR_INVALID_VALUE;
    uint64_t at = reinterpret_cast<uint64_t>(address);
    for (auto& [base, range] : p.hostRanges)
      if (at < base + range.bytes && base < at + bytes) return CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED;
    p.host.adopt(static_cast<uint8_t*>(address), bytes, emu::format("registered memory %llu", static_cast<unsigned long long>(++p.ids)));
    p.hostRanges[at] = {bytes, flags | 2, HostRange::Kind::registered, &c};
    return CUDA_SUCCESS;
  });
}

CUresult cuMemHostUnregister(void* address) {
  return inContext([&](Process& p, CUctx_st& c) -> CUresult {
    if (!address) return CUDA_ERROR_INVALID_VALUE;
    CUresult before = p.queue->finish(c);
    CUresult r = freeHost(p, reinterpret_cast<uint64_t>(address), HostRange::Kind::registered);
    if (r == CUDA_ERROR_INVALID_VALUE) r = CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED;
    return before != CUDA_SUCCESS ? before : r;
  });
}

CUresult cuMemHostGetDevicePointer_v2(CUdeviceptr* device, void* address, unsigned int flags) {
  return inContext([&](Process& p, CUctx_st&) {
    if (!device || flags != 0) return CUDA_ERROR_INVALID_VALUE;
    int gpu = 0;
    emu::Allocation* a = allocationOf(p, reinterpret_cast<uint64_t>(address), gpu);
    if (!a || gpu >= 0) return CUDA_ERROR_INVALID_VALUE;
    *device = reinterpret_cast<uint64_t>(address);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemHostGetFlags(unsigned int* flags, void* address) {
  return inContext([&](Process& p, CUctx_st&) {
    int gpu = 0;
    emu::Allocation* a = allocationOf(p, reinterpret_cast<uint64_t>(address), gpu);
    if (!flags || !a || gpu >= 0) return CUDA_ERROR_INVALID_VALUE;
    *flags = p.hostRanges[a->base].flags;
    return CUDA_SUCCESS;
  });
}

CUresult cuMemGetAddressRange_v2(CUdeviceptr* base, size_t* bytes, CUdeviceptr address) {
  return inContext([&](Process& p, CUctx_st&) {
    int gpu = 0;
    emu::Allocation* a = allocationOf(p, address, gpu);
    if (!a || !a->bytes) return CUDA_ERROR_NOT_FOUND;
    if (base) *base = a->base;
    if (bytes) *bytes = a->size;
    return CUDA_SUCCESS;
  });
}

CUresult cuPointerGetAttribute(void* data, CUpointer_attribute attribute, CUdeviceptr address) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (!data) return CUDA_ERROR_INVALID_VALUE;
    int gpu = -1;
    emu::Allocation* a = allocationOf(p, address, gpu);
    if (!a || !a->bytes) return CUDA_ERROR_INVALID_VALUE;
    bool host = gpu < 0, managed = host && p.hostRanges[a->base].kind == HostRange::Kind::managed;
    auto put = [&](auto value) { std::memcpy(data, &value, sizeof value); };
    switch (static_cast<int>(attribute)) {
      case CU_POINTER_ATTRIBUTE_CONTEXT: {
        CUcontext of = host || c.gpu == static_cast<uint32_t>(gpu) ? &c : p.gpus[static_cast<size_t>(gpu)]->primary;
        put(of);
        return CUDA_SUCCESS;
      }
      case CU_POINTER_ATTRIBUTE_MEMORY_TYPE: put(static_cast<unsigned int>(host && !managed ? CU_MEMORYTYPE_HOST : CU_MEMORYTYPE_DEVICE)); return CUDA_SUCCESS;
      case CU_POINTER_ATTRIBUTE_DEVICE_POINTER: put(address); return CUDA_SUCCESS;
      case CU_POINTER_ATTRIBUTE_HOST_POINTER:
        if (!host) return CUDA_ERROR_INVALID_VALUE;
        put(address);
        return CUDA_SUCCESS;
      case CU_POINTER_ATTRIBUTE_SYNC_MEMOPS: put(static_cast<unsigned int>(0)); return CUDA_SUCCESS;
      case CU_POINTER_ATTRIBUTE_BUFFER_ID: put(static_cast<unsigned long long>(a->base)); return CUDA_SUCCESS;
      case CU_POINTER_ATTRIBUTE_IS_MANAGED: put(static_cast<unsigned int>(managed)); return CUDA_SUCCESS;
      case CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL: put(host ? static_cast<int>(c.gpu) : gpu); return CUDA_SUCCESS;
      case CU_POINTER_ATTRIBUTE_RANGE_START_ADDR: put(a->base); return CUDA_SUCCESS;
      case CU_POINTER_ATTRIBUTE_RANGE_SIZE: put(static_cast<size_t>(a->size)); return CUDA_SUCCESS;
      case CU_POINTER_ATTRIBUTE_MAPPED: put(static_cast<unsigned int>(1)); return CUDA_SUCCESS;
      default: return CUDA_ERROR_INVALID_VALUE;
    }
  });
}

CUresult cuPointerGetAttributes(unsigned int count, CUpointer_attribute* attributes, void** data, CUdeviceptr address) {
  if (!attributes || !data) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned int k = 0; k < count; ++k) {
    CUresult r = cuPointerGetAttribute(data[k], attributes[k], address);
    if (r != CUDA_SUCCESS && r != CUDA_ERROR_INVALID_VALUE) return r;
    // A pointer that is nobody's has no values: zeros, as the documentation says.
    if (r == CUDA_ERROR_INVALID_VALUE && data[k]) {
      bool wide = attributes[k] == CU_POINTER_ATTRIBUTE_CONTEXT || attributes[k] == CU_POINTER_ATTRIBUTE_DEVICE_POINTER ||
                  attributes[k] == CU_POINTER_ATTRIBUTE_HOST_POINTER || attributes[k] == CU_POINTER_ATTRIBUTE_BUFFER_ID ||
                  attributes[k] == CU_POINTER_ATTRIBUTE_RANGE_START_ADDR || attributes[k] == CU_POINTER_ATTRIBUTE_RANGE_SIZE;
      std::memset(data[k], 0, wide ? 8 : 4);
      if (attributes[k] == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL) std::memset(data[k], 0xff, 4);
    }
  }
  return CUDA_SUCCESS;
}
