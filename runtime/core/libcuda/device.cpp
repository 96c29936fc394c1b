// Devices: what an H800 says of itself.
#include <algorithm>
#include <cstdio>
#include <cstring>

#include "queue.h"

using namespace dsvc::driver;

namespace {
bool isDevice(Process& p, CUdevice d) { return d >= 0 && static_cast<size_t>(d) < p.gpus.size(); }
}  // namespace

CUresult cuDriverGetVersion(int* version) {
  if (!version) return CUDA_ERROR_INVALID_VALUE;
  *version = 12080;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult error, const char** text) {
  if (!text) return CUDA_ERROR_INVALID_VALUE;
  *text = nullptr;
  switch (error) {
#define DSVC_ERROR(name, value, words) \
  case name: *text = #name; return CUDA_SUCCESS;
#include "errors.inc"
#undef DSVC_ERROR
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuGetErrorString(CUresult error, const char** text) {
  if (!text) return CUDA_ERROR_INVALID_VALUE;
  *text = nullptr;
  switch (error) {
#define DSVC_ERROR(name, value, words) \
  case name: *text = words; return CUDA_SUCCESS;
#include "errors.inc"
#undef DSVC_ERROR
  }
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return inProcess([&](Process& p) {
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    if (!isDevice(p, ordinal)) return CUDA_ERROR_INVALID_DEVICE;
    *device = ordinal;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetCount(int* count) {
  return inProcess([&](Process& p) {
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    *count = static_cast<int>(p.gpus.size());
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetName(char* name, int length, CUdevice device) {
  return inProcess([&](Process& p) {
    if (!name || length <= 0) return CUDA_ERROR_INVALID_VALUE;
    if (!isDevice(p, device)) return CUDA_ERROR_INVALID_DEVICE;
    std::snprintf(name, static_cast<size_t>(length), "NVIDIA H800 (emulated by dsvc)");
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetUuid_v2(CUuuid* uuid, CUdevice device) {
  return inProcess([&](Process& p) {
    if (!uuid) return CUDA_ERROR_INVALID_VALUE;
    if (!isDevice(p, device)) return CUDA_ERROR_INVALID_DEVICE;
    std::memcpy(uuid->bytes, "dsvc emulated  ", 16);
    uuid->bytes[15] = static_cast<char>(device);
    return CUDA_SUCCESS;
  });
}
CUresult cuDeviceGetUuid(CUuuid* uuid, CUdevice device) { return cuDeviceGetUuid_v2(uuid, device); }

CUresult cuDeviceTotalMem_v2(size_t* bytes, CUdevice device) {
  return inProcess([&](Process& p) {
    if (!bytes) return CUDA_ERROR_INVALID_VALUE;
    if (!isDevice(p, device)) return CUDA_ERROR_INVALID_DEVICE;
    *bytes = kDeviceBytes;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetAttribute(int* value, CUdevice_attribute attribute, CUdevice device) {
  return inProcess([&](Process& p) {
    if (!value || attribute <= 0) return CUDA_ERROR_INVALID_VALUE;
    if (!isDevice(p, device)) return CUDA_ERROR_INVALID_DEVICE;
    *value = 0;
    switch (static_cast<int>(attribute)) {
      case CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: *value = static_cast<int>(p.settings.options.sms); return CUDA_SUCCESS;
      case CU_DEVICE_ATTRIBUTE_PCI_BUS_ID: *value = device; return CUDA_SUCCESS;
      case CU_DEVICE_ATTRIBUTE_HOST_NUMA_ID: *value = -1; return CUDA_SUCCESS;
    }
    switch (static_cast<int>(attribute)) {
#define DSVC_ATTRIBUTE(name, number, is) \
  case number: *value = is; break;
#include "attributes.inc"
#undef DSVC_ATTRIBUTE
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceComputeCapability(int* major, int* minor, CUdevice device) {
  return inProcess([&](Process& p) {
    if (!major || !minor) return CUDA_ERROR_INVALID_VALUE;
    if (!isDevice(p, device)) return CUDA_ERROR_INVALID_DEVICE;
    *major = 9;
    *minor = 0;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetPCIBusId(char* text, int length, CUdevice device) {
  return inProcess([&](Process& p) {
    if (!text || length < 13) return CUDA_ERROR_INVALID_VALUE;
    if (!isDevice(p, device)) return CUDA_ERROR_INVALID_DEVICE;
    std::snprintf(text, static_cast<size_t>(length), "0000:%02x:00.0", static_cast<unsigned>(device));
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetByPCIBusId(CUdevice* device, const char* text) {
  return inProcess([&](Process& p) {
    if (!device || !text) return CUDA_ERROR_INVALID_VALUE;
    unsigned domain = 0, bus = 0, slot = 0, function = 0;
    if (std::sscanf(text, "%x:%x:%x.%x", &domain, &bus, &slot, &function) < 3 && std::sscanf(text, "%x:%x", &bus, &slot) < 2)
      return CUDA_ERROR_INVALID_VALUE;
    if (domain || slot || function || !isDevice(p, static_cast<int>(bus))) return CUDA_ERROR_INVALID_DEVICE;
    *device = static_cast<int>(bus);
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceCanAccessPeer(int* can, CUdevice device, CUdevice peer) {
  return inProcess([&](Process& p) {
    if (!can) return CUDA_ERROR_INVALID_VALUE;
    if (!isDevice(p, device) || !isDevice(p, peer)) return CUDA_ERROR_INVALID_DEVICE;
    *can = device != peer;
    return CUDA_SUCCESS;
  });
}

CUresult cuDeviceGetP2PAttribute(int* value, CUdevice_P2PAttribute attribute, CUdevice source, CUdevice target) {
  return inProcess([&](Process& p) {
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    if (!isDevice(p, source) || !isDevice(p, target) || source == target) return CUDA_ERROR_INVALID_DEVICE;
    switch (static_cast<int>(attribute)) {
      case CU_DEVICE_P2P_ATTRIBUTE_PERFORMANCE_RANK: *value = 0; return CUDA_SUCCESS;
      case CU_DEVICE_P2P_ATTRIBUTE_ACCESS_SUPPORTED: *value = 1; return CUDA_SUCCESS;
      case CU_DEVICE_P2P_ATTRIBUTE_NATIVE_ATOMIC_SUPPORTED: *value = 1; return CUDA_SUCCESS;
      case CU_DEVICE_P2P_ATTRIBUTE_CUDA_ARRAY_ACCESS_SUPPORTED: *value = 0; return CUDA_SUCCESS;
    }
    return CUDA_ERROR_INVALID_VALUE;
  });
}
