// Launches. A launch is checked whole when it is made, so that its error is returned by the call that made it; it runs
// when its stream comes to it.
#include <algorithm>
#include <cstring>

#include "queue.h"

using namespace dsvc::driver;
namespace emu = dsvc::emulator;

namespace {

// The block of parameters from pointers to each, or from the caller's own block. False: the arguments do not fit.
bool packParameters(const emu::Function& f, void** parameters, void** extra, std::vector<uint8_t>& block) {
  uint64_t bytes = 0;
  for (const emu::Parameter& q : f.params) bytes = std::max(bytes, q.offset + q.size);
  block.assign(bytes, 0);
  if (parameters && extra) return false;
  if (extra) {
    const void* buffer = nullptr;
    size_t given = 0;
    for (size_t k = 0; extra[k]; k += 2) {
      auto key = reinterpret_cast<uintptr_t>(extra[k]);
      if (key == 1) buffer = extra[k + 1];
      else if (key == 2) given = *static_cast<const size_t*>(extra[k + 1]);
      else return false;
    }
    if (bytes == 0) return true;
    // The caller's block may be padded at its end.
    if (!buffer || given < bytes) return false;
    std::memcpy(block.data(), buffer, bytes);
    return true;
  }
  if (f.params.empty()) return true;
  if (!parameters) return false;
  for (size_t k = 0; k < f.params.size(); ++k) {
    if (!parameters[k]) return false;
    std::memcpy(block.data() + f.params[k].offset, parameters[k], f.params[k].size);
  }
  return true;
}

struct Attributes {
  uint32_t cluster[3] = {0, 0, 0};
  bool cooperative = false;
  CUevent event = nullptr;
};

CUresult readAttributes(Process& p, const CUlaunchConfig& config, Attributes& out) {
  if (config.numAttrs && !config.attrs) return CUDA_ERROR_INVALID_VALUE;
  for (unsigned int k = 0; k < config.numAttrs; ++k) {
    const CUlaunchAttributeValue& v = config.attrs[k].value;
    switch (static_cast<int>(config.attrs[k].id)) {
      case CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION:
        out.cluster[0] = v.clusterDim.x;
        out.cluster[1] = v.clusterDim.y;
        out.cluster[2] = v.clusterDim.z;
        if (!out.cluster[0] || !out.cluster[1] || !out.cluster[2]) return CUDA_ERROR_INVALID_VALUE;
        break;
      case CU_LAUNCH_ATTRIBUTE_COOPERATIVE: out.cooperative = v.cooperative != 0; break;
      case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_EVENT:
      case 12:  // of the launch's completion
        if (!p.alive(v.programmaticEvent.event)) return CUDA_ERROR_INVALID_HANDLE;
        out.event = v.programmaticEvent.event;
        break;
      // A kernel that may start early may also start late; priorities and caches change no result.
      case CU_LAUNCH_ATTRIBUTE_IGNORE:
      case CU_LAUNCH_ATTRIBUTE_ACCESS_POLICY_WINDOW:
      case CU_LAUNCH_ATTRIBUTE_SYNCHRONIZATION_POLICY:
      case CU_LAUNCH_ATTRIBUTE_CLUSTER_SCHEDULING_POLICY_PREFERENCE:
      case CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION:
      case CU_LAUNCH_ATTRIBUTE_PRIORITY:
      case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN_MAP:
      case CU_LAUNCH_ATTRIBUTE_MEM_SYNC_DOMAIN:
      case 11:  // preferred cluster dimension
      case 14:  // preferred shared memory carve-out
      case 16:  // NVLink-centric scheduling
        break;
      default: return CUDA_ERROR_INVALID_VALUE;
    }
  }
  return CUDA_SUCCESS;
}

CUresult contract(const std::string& message, CUresult result, const char* fix = "") {
  explain("emu/launch-contract", message, fix);
  return result;
}

// What the emulator does not know of: opt-ins, and whether the launch can ever be resident.
CUresult checkShape(Process& p, CUctx_st& c, CUfunction f, const CUlaunchConfig& config, const Attributes& a, const emu::LaunchRequest& r) {
  const char* name = f->function->name.c_str();
  if (config.sharedMemBytes > static_cast<uint64_t>(std::max(0, f->maxDynamicShared)))
    return contract(emu::format("%s: %u bytes of dynamic shared memory; without opt-in the kernel may have %d", name, config.sharedMemBytes, f->maxDynamicShared),
                    CUDA_ERROR_INVALID_VALUE, "call cuFuncSetAttribute(function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, bytes) first");
  uint64_t threads = uint64_t{r.block[0]} * r.block[1] * r.block[2];
  if (threads == 0 || threads > 1024) return CUDA_SUCCESS;  // the emulator's own check says it
  const emu::Device& device = p.of(&c).device;
  Footprint print = footprintOf(f, static_cast<uint32_t>(threads), r.dynamicSharedBytes);
  if (print.registers > device.limits.registers)
    return contract(emu::format("%s: a block of %llu threads needs %u registers; an SM has %u", name, static_cast<unsigned long long>(threads), print.registers,
                                device.limits.registers),
                    CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, "use smaller blocks, or fewer registers per thread");
  const uint32_t* own = f->function->reqnctapercluster;
  if (f->function->explicitCluster && !own[0] && !r.cluster[0])
    return contract(emu::format("%s needs a cluster dimension", name), CUDA_ERROR_INVALID_CLUSTER_SIZE, "pass CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION");
  uint32_t size = 1;
  for (int k = 0; k < 3; ++k) size *= std::max(1u, own[0] ? own[k] : r.cluster[k]);
  if (size > 16 || (size > 8 && !f->nonPortableClusters))
    return contract(emu::format("%s: clusters of %u blocks; at most %d", name, size, f->nonPortableClusters ? 16 : 8), CUDA_ERROR_INVALID_CLUSTER_SIZE,
                    "set CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED for up to 16");
  if (print.blocksPerSm(device.limits) == 0) return CUDA_SUCCESS;  // too much shared memory: as above
  uint64_t resident = print.clusters(device, size), blocks = uint64_t{r.grid[0]} * r.grid[1] * r.grid[2];
  if (resident == 0)
    return contract(emu::format("%s: a cluster of %u blocks never fits a GPC of the device", name, size), CUDA_ERROR_INVALID_CLUSTER_SIZE);
  if (a.cooperative && blocks > resident * size)
    return contract(emu::format("%s: a cooperative launch of %llu blocks; %llu are resident at once", name, static_cast<unsigned long long>(blocks),
                                static_cast<unsigned long long>(resident * size)),
                    CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, "launch no more blocks than cuOccupancyMaxActiveBlocksPerMultiprocessor says");
  return CUDA_SUCCESS;
}

CUresult launch(const CUlaunchConfig& config, CUfunction handle, void** parameters, void** extra, bool cooperative) {
  return inContext([&](Process& p, CUctx_st& current) -> CUresult {
    CUstream s = streamOf(p, current, config.hStream);
    if (!s) return CUDA_ERROR_INVALID_HANDLE;
    CUctx_st& c = *s->context;
    CUfunction f = functionOf(p, c, handle);
    if (!f || f->module->context != &c) return CUDA_ERROR_INVALID_HANDLE;
    Attributes a;
    if (CUresult r = readAttributes(p, config, a); r != CUDA_SUCCESS) return r;
    a.cooperative |= cooperative;

    Op op;
    op.program = f->module->program;
    op.source = f->module->source;
    emu::LaunchRequest& r = op.request;
    r.kernel = f->function->name;
    const uint32_t grid[3] = {config.gridDimX, config.gridDimY, config.gridDimZ}, block[3] = {config.blockDimX, config.blockDimY, config.blockDimZ};
    std::copy_n(grid, 3, r.grid);
    std::copy_n(block, 3, r.block);
    std::copy_n(a.cluster, 3, r.cluster);
    if (!r.cluster[0] && f->requiredCluster[0])
      for (int k = 0; k < 3; ++k) r.cluster[k] = static_cast<uint32_t>(std::max(1, f->requiredCluster[k]));
    r.dynamicSharedBytes = config.sharedMemBytes;
    if (!packParameters(*f->function, parameters, extra, r.parameters))
      return contract(r.kernel + ": the arguments are not those of the kernel's parameters", CUDA_ERROR_INVALID_VALUE);
    if (CUresult bad = checkShape(p, c, f, config, a, r); bad != CUDA_SUCCESS) return bad;
    // The emulator checks the rest when a launch is submitted: to a machine that never runs.
    emu::Machine probe(p.settings.options);
    probe.submit(p.of(&c).device, *op.program, r);
    p.queue->push(s, std::move(op));
    if (a.event) recordEvent(p, a.event, s);
    return CUDA_SUCCESS;
  });
}

}  // namespace

CUresult cuLaunchKernel(CUfunction function, unsigned int gridX, unsigned int gridY, unsigned int gridZ, unsigned int blockX, unsigned int blockY,
                        unsigned int blockZ, unsigned int sharedBytes, CUstream stream, void** parameters, void** extra) {
  return launch({gridX, gridY, gridZ, blockX, blockY, blockZ, sharedBytes, stream, nullptr, 0}, function, parameters, extra, false);
}
CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned int gridX, unsigned int gridY, unsigned int gridZ, unsigned int blockX, unsigned int blockY,
                                   unsigned int blockZ, unsigned int sharedBytes, CUstream stream, void** parameters) {
  return launch({gridX, gridY, gridZ, blockX, blockY, blockZ, sharedBytes, stream, nullptr, 0}, function, parameters, nullptr, true);
}
CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra) {
  return config ? launch(*config, function, parameters, extra, false) : CUDA_ERROR_INVALID_VALUE;
}
