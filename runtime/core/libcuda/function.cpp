// Functions, and kernels of libraries: attributes, and what else can be asked of them.
#include <algorithm>

#include "queue.h"

using namespace dsvc::driver;
namespace emu = dsvc::emulator;

namespace dsvc::driver {

CUfunction makeFunction(Process& p, CUmodule module, const std::string& name) {
  auto it = module->functions.find(name);
  if (it != module->functions.end()) return it->second.get();
  const emu::Function* f = module->program->kernel(name);
  if (!f) return nullptr;
  auto made = std::make_unique<CUfunc_st>();
  made->module = module;
  made->function = f;
  made->maxDynamicShared = static_cast<int>(emu::shared::kWithoutOptIn) - static_cast<int>(module->program->sharedOf(*f).staticBytes);
  CUfunction raw = made.get();
  module->functions[name] = std::move(made);
  p.live.insert(raw);
  return raw;
}

CUmodule moduleOf(Process& p, CUctx_st& c, CUlibrary library) {
  auto it = library->modules.find(&c);
  if (it != library->modules.end()) return it->second;
  CUmodule m = newModule(p, c, library->program, library->source);
  library->modules[&c] = m;
  return m;
}

CUfunction functionOf(Process& p, CUctx_st& context, CUfunction handle) {
  if (!p.alive(handle)) return nullptr;
  // Kernels of libraries are launched as functions.
  for (auto& library : p.libraries)
    for (auto& [name, kernel] : library->kernels)
      if (static_cast<void*>(kernel.get()) == static_cast<void*>(handle)) return makeFunction(p, moduleOf(p, context, library.get()), name);
  return handle;
}

}  // namespace dsvc::driver

namespace {

constexpr int kMostShared = emu::shared::kMaximum;

CUresult attributeOf(Process&, CUfunction f, CUfunction_attribute attribute, int* value) {
  const emu::Function& k = *f->function;
  const emu::Program& program = *f->module->program;
  uint64_t constant = 0;
  for (const emu::Variable& v : program.variables)
    if (v.space == emu::VariableSpace::constant) constant += v.size;
  auto threads = [](const uint32_t* v) { return static_cast<int>(v[0] * std::max(1u, v[1]) * std::max(1u, v[2])); };
  uint32_t registers = k.registersPerThread();
  const uint32_t* cluster = k.reqnctapercluster;
  auto required = [&](int axis) { return cluster[0] ? static_cast<int>(std::max(1u, cluster[axis])) : f->requiredCluster[axis]; };
  switch (static_cast<int>(attribute)) {
    case CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = k.reqntid[0] ? threads(k.reqntid) : k.maxntid[0] ? threads(k.maxntid) : 1024; break;
    case CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = static_cast<int>(program.sharedOf(k).staticBytes); break;
    case CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: *value = static_cast<int>(constant); break;
    case CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = static_cast<int>(k.localBytes); break;
    case CU_FUNC_ATTRIBUTE_NUM_REGS: *value = static_cast<int>(registers ? registers : 32); break;
    case CU_FUNC_ATTRIBUTE_PTX_VERSION: {
      // The target as a number: sm_90a is 90.
      int number = 0;
      for (char c : program.target)
        if (c >= '0' && c <= '9') number = number * 10 + (c - '0');
      *value = number;
      break;
    }
    case CU_FUNC_ATTRIBUTE_BINARY_VERSION: *value = 90; break;
    case CU_FUNC_ATTRIBUTE_CACHE_MODE_CA: *value = 0; break;
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = f->maxDynamicShared; break;
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: *value = f->carveout; break;
    case CU_FUNC_ATTRIBUTE_CLUSTER_SIZE_MUST_BE_SET: *value = k.explicitCluster && !cluster[0]; break;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH: *value = required(0); break;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT: *value = required(1); break;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH: *value = required(2); break;
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED: *value = f->nonPortableClusters; break;
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE: *value = f->clusterPolicy; break;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
  return CUDA_SUCCESS;
}

CUresult setAttribute(CUfunction f, CUfunction_attribute attribute, int value) {
  bool declared = f->function->reqnctapercluster[0] != 0;
  switch (static_cast<int>(attribute)) {
    case CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: {
      int own = static_cast<int>(f->module->program->sharedOf(*f->function).staticBytes);
      if (value < 0 || value > kMostShared - own) {
        explain("emu/launch-contract",
                emu::format("%s: %d bytes of dynamic shared memory beside %d static ones; a block has at most %d", f->function->name.c_str(), value, own, kMostShared));
        return CUDA_ERROR_INVALID_VALUE;
      }
      f->maxDynamicShared = value;
      return CUDA_SUCCESS;
    }
    case CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT:
      if (value < -1 || value > 100) return CUDA_ERROR_INVALID_VALUE;
      f->carveout = value;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_HEIGHT:
    case CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_DEPTH:
      if (value < 0 || declared) return CUDA_ERROR_INVALID_VALUE;
      f->requiredCluster[attribute - CU_FUNC_ATTRIBUTE_REQUIRED_CLUSTER_WIDTH] = value;
      return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED: f->nonPortableClusters = value != 0; return CUDA_SUCCESS;
    case CU_FUNC_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      if (value < 0 || value > 2) return CUDA_ERROR_INVALID_VALUE;
      f->clusterPolicy = value;
      return CUDA_SUCCESS;
    default: return CUDA_ERROR_INVALID_VALUE;
  }
}

}  // namespace

CUresult cuKernelGetFunction(CUfunction* function, CUkernel kernel) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (!function) return CUDA_ERROR_INVALID_VALUE;
    if (!p.alive(kernel)) return CUDA_ERROR_INVALID_HANDLE;
    *function = makeFunction(p, moduleOf(p, c, kernel->library), kernel->name);
    return CUDA_SUCCESS;
  });
}

namespace {
// A kernel's attributes on a device are those of its function in the device's contexts: the current one, else its primary.
template <class F>
CUresult withKernel(CUkernel kernel, CUdevice device, F body) {
  return inContext([&](Process& p, CUctx_st& current) -> CUresult {
    if (!p.alive(kernel)) return CUDA_ERROR_INVALID_HANDLE;
    if (device < 0 || static_cast<size_t>(device) >= p.gpus.size()) return CUDA_ERROR_INVALID_DEVICE;
    bool here = current.gpu == static_cast<uint32_t>(device);
    CUcontext c = here ? &current : p.gpus[static_cast<size_t>(device)]->primary;
    if (!c) return CUDA_ERROR_INVALID_CONTEXT;
    return body(p, makeFunction(p, moduleOf(p, *c, kernel->library), kernel->name));
  });
}
}  // namespace

CUresult cuKernelGetAttribute(int* value, CUfunction_attribute attribute, CUkernel kernel, CUdevice device) {
  if (!value) return CUDA_ERROR_INVALID_VALUE;
  return withKernel(kernel, device, [&](Process& p, CUfunction f) { return attributeOf(p, f, attribute, value); });
}
CUresult cuKernelSetAttribute(CUfunction_attribute attribute, int value, CUkernel kernel, CUdevice device) {
  return withKernel(kernel, device, [&](Process&, CUfunction f) { return setAttribute(f, attribute, value); });
}

CUresult cuFuncGetAttribute(int* value, CUfunction_attribute attribute, CUfunction function) {
  return inContext([&](Process& p, CUctx_st& c) {
    CUfunction f = functionOf(p, c, function);
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    return f ? attributeOf(p, f, attribute, value) : CUDA_ERROR_INVALID_HANDLE;
  });
}
CUresult cuFuncSetAttribute(CUfunction function, CUfunction_attribute attribute, int value) {
  return inContext([&](Process& p, CUctx_st& c) {
    CUfunction f = functionOf(p, c, function);
    return f ? setAttribute(f, attribute, value) : CUDA_ERROR_INVALID_HANDLE;
  });
}
CUresult cuFuncSetCacheConfig(CUfunction function, CUfunc_cache) {
  return inContext([&](Process& p, CUctx_st& c) { return functionOf(p, c, function) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_HANDLE; });
}
CUresult cuFuncGetModule(CUmodule* module, CUfunction function) {
  return inContext([&](Process& p, CUctx_st& c) {
    CUfunction f = functionOf(p, c, function);
    if (!module) return CUDA_ERROR_INVALID_VALUE;
    if (!f) return CUDA_ERROR_INVALID_HANDLE;
    *module = f->module;
    return CUDA_SUCCESS;
  });
}
CUresult cuFuncGetName(const char** name, CUfunction function) {
  return inContext([&](Process& p, CUctx_st& c) {
    CUfunction f = functionOf(p, c, function);
    if (!name) return CUDA_ERROR_INVALID_VALUE;
    if (!f) return CUDA_ERROR_INVALID_HANDLE;
    *name = f->function->name.c_str();
    return CUDA_SUCCESS;
  });
}
CUresult cuFuncGetParamInfo(CUfunction function, size_t index, size_t* offset, size_t* bytes) {
  return inContext([&](Process& p, CUctx_st& c) {
    CUfunction f = functionOf(p, c, function);
    if (!offset) return CUDA_ERROR_INVALID_VALUE;
    if (!f) return CUDA_ERROR_INVALID_HANDLE;
    if (index >= f->function->params.size()) return CUDA_ERROR_INVALID_VALUE;
    *offset = f->function->params[index].offset;
    if (bytes) *bytes = f->function->params[index].size;
    return CUDA_SUCCESS;
  });
}
