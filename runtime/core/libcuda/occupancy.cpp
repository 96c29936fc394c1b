// How many blocks and clusters fit: by the limits that the emulator admits blocks with.
#include <algorithm>
#include <map>

#include "state.h"

using namespace dsvc::driver;
namespace emu = dsvc::emulator;

namespace dsvc::driver {

Footprint footprintOf(CUfunction function, uint32_t threads, uint64_t dynamicBytes) {
  const emu::Function& f = *function->function;
  Footprint p;
  p.warps = (threads + 31) / 32;
  uint32_t registers = f.registersPerThread();
  p.registers = p.warps * (((registers ? registers : 32) * 32 + 255) / 256 * 256);
  emu::SharedLayout layout = function->module->program->sharedOf(f);
  p.sharedBytes = static_cast<uint32_t>(dynamicBytes ? layout.dynamicOffset + dynamicBytes : emu::shared::kReserved + layout.staticBytes);
  return p;
}

uint32_t Footprint::blocksPerSm(const emu::SmLimits& limits) const {
  uint32_t most = std::min({limits.ctas, limits.warps / warps, limits.threads / (warps * 32)});
  if (registers) most = std::min(most, limits.registers / registers);
  if (sharedBytes) most = std::min(most, limits.sharedBytes / sharedBytes);
  return most;
}

uint64_t Footprint::clusters(const emu::Device& device, uint32_t size) const {
  uint32_t each = blocksPerSm(device.limits);
  if (size == 1) return uint64_t{each} * device.sms.size();
  std::map<uint32_t, uint64_t> blocks;  // by GPC
  for (const emu::Sm& s : device.sms) blocks[s.gpc] += each;
  uint64_t n = 0;
  for (auto& [gpc, count] : blocks) n += count / size;
  return n;
}

}  // namespace dsvc::driver

namespace {

template <class F>
CUresult withFunction(CUfunction handle, F body) {
  return inContext([&](Process& p, CUctx_st& c) -> CUresult {
    CUfunction f = functionOf(p, c, handle);
    return f ? body(p.of(&c).device, f) : CUDA_ERROR_INVALID_HANDLE;
  });
}

bool clusterOf(const CUlaunchConfig* config, CUfunction f, uint32_t& size) {
  uint32_t c[3] = {0, 0, 0};
  const uint32_t* own = f->function->reqnctapercluster;
  for (int k = 0; k < 3; ++k) c[k] = own[0] ? std::max(1u, own[k]) : static_cast<uint32_t>(f->requiredCluster[k]);
  for (unsigned int k = 0; k < config->numAttrs; ++k)
    if (config->attrs[k].id == CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION) {
      c[0] = config->attrs[k].value.clusterDim.x;
      c[1] = config->attrs[k].value.clusterDim.y;
      c[2] = config->attrs[k].value.clusterDim.z;
      if (!c[0] || !c[1] || !c[2]) return false;
    }
  size = std::max(1u, c[0]) * std::max(1u, c[1]) * std::max(1u, c[2]);
  return true;
}

uint64_t threadsOf(const CUlaunchConfig* c) { return uint64_t{c->blockDimX} * c->blockDimY * c->blockDimZ; }

}  // namespace

CUresult cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* blocks, CUfunction function, int blockSize, size_t dynamicBytes, unsigned int) {
  return withFunction(function, [&](emu::Device& d, CUfunction f) {
    if (!blocks || blockSize <= 0) return CUDA_ERROR_INVALID_VALUE;
    *blocks = blockSize > 1024 || dynamicBytes > emu::shared::kMaximum
                  ? 0
                  : static_cast<int>(footprintOf(f, static_cast<uint32_t>(blockSize), dynamicBytes).blocksPerSm(d.limits));
    return CUDA_SUCCESS;
  });
}
CUresult cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, CUfunction function, int blockSize, size_t dynamicBytes) {
  return cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(blocks, function, blockSize, dynamicBytes, 0);
}

CUresult cuOccupancyMaxPotentialBlockSize(int* grid, int* block, CUfunction function, CUoccupancyB2DSize dynamicOf, size_t dynamicBytes, int limit) {
  return withFunction(function, [&](emu::Device& d, CUfunction f) {
    if (!grid || !block) return CUDA_ERROR_INVALID_VALUE;
    const emu::Function& k = *f->function;
    uint32_t most = k.maxntid[0] ? k.maxntid[0] * std::max(1u, k.maxntid[1]) * std::max(1u, k.maxntid[2]) : 1024;
    if (limit > 0) most = std::min(most, static_cast<uint32_t>(limit));
    uint32_t best = 0;
    *grid = *block = 0;
    for (uint32_t threads = most; threads > 0; threads = threads > 32 ? (threads - 1) / 32 * 32 : 0) {
      size_t bytes = dynamicOf ? dynamicOf(static_cast<int>(threads)) : dynamicBytes;
      uint32_t n = footprintOf(f, threads, bytes).blocksPerSm(d.limits);
      if (n * threads <= best) continue;
      best = n * threads;
      *block = static_cast<int>(threads);
      *grid = static_cast<int>(n * d.sms.size());
    }
    return CUDA_SUCCESS;
  });
}

CUresult cuOccupancyAvailableDynamicSMemPerBlock(size_t* bytes, CUfunction function, int blocks, int blockSize) {
  return withFunction(function, [&](emu::Device& d, CUfunction f) {
    if (!bytes || blocks <= 0 || blockSize <= 0 || blockSize > 1024) return CUDA_ERROR_INVALID_VALUE;
    if (footprintOf(f, static_cast<uint32_t>(blockSize), 0).blocksPerSm(d.limits) < static_cast<uint32_t>(blocks)) return CUDA_ERROR_INVALID_VALUE;
    uint64_t own = f->module->program->sharedOf(*f->function).dynamicOffset;
    uint64_t each = std::min<uint64_t>(d.limits.sharedBytes / static_cast<uint32_t>(blocks), emu::shared::kMaximum + emu::shared::kReserved);
    *bytes = each > own ? each - own : 0;
    return CUDA_SUCCESS;
  });
}

CUresult cuOccupancyMaxActiveClusters(int* clusters, CUfunction function, const CUlaunchConfig* config) {
  return withFunction(function, [&](emu::Device& d, CUfunction f) {
    uint32_t size = 1;
    if (!clusters || !config || !clusterOf(config, f, size)) return CUDA_ERROR_INVALID_VALUE;
    uint64_t threads = threadsOf(config);
    if (threads == 0 || threads > 1024) return CUDA_ERROR_INVALID_VALUE;
    if (size > 16 || (size > 8 && !f->nonPortableClusters)) return CUDA_ERROR_INVALID_CLUSTER_SIZE;
    *clusters = static_cast<int>(footprintOf(f, static_cast<uint32_t>(threads), config->sharedMemBytes).clusters(d, size));
    return CUDA_SUCCESS;
  });
}

CUresult cuOccupancyMaxPotentialClusterSize(int* blocks, CUfunction function, const CUlaunchConfig* config) {
  return withFunction(function, [&](emu::Device& d, CUfunction f) {
    if (!blocks || !config) return CUDA_ERROR_INVALID_VALUE;
    uint64_t threads = threadsOf(config);
    if (threads == 0 || threads > 1024) return CUDA_ERROR_INVALID_VALUE;
    Footprint print = footprintOf(f, static_cast<uint32_t>(threads), config->sharedMemBytes);
    uint32_t size = f->nonPortableClusters ? 16 : 8;
    while (size > 1 && print.clusters(d, size) == 0) size /= 2;
    *blocks = static_cast<int>(size);
    return CUDA_SUCCESS;
  });
}
