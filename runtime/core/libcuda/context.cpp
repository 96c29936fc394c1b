// Contexts, and peer access between them.
#include "queue.h"

using namespace dsvc::driver;

namespace {

bool isDevice(Process& p, CUdevice d) { return d >= 0 && static_cast<size_t>(d) < p.gpus.size(); }

CUresult create(CUcontext* context, unsigned int flags, CUdevice device) {
  return inProcess([&](Process& p) {
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    if (!isDevice(p, device)) return CUDA_ERROR_INVALID_DEVICE;
    if ((flags & 7) == 3 || (flags & 7) > 4 || (flags & ~0xffu)) return CUDA_ERROR_INVALID_VALUE;
    *context = newContext(p, static_cast<uint32_t>(device), flags, false);
    thread().stack.push_back(*context);
    return CUDA_SUCCESS;
  });
}

// A function of the current context that works even when the context has failed.
template <class F>
CUresult inAnyContext(F body) {
  return inProcess([&](Process& p) -> CUresult {
    Thread& t = thread();
    if (t.stack.empty() || !t.stack.back()) return CUDA_ERROR_INVALID_CONTEXT;
    if (!p.contexts.contains(t.stack.back())) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    return body(p, *t.stack.back());
  });
}

}  // namespace

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice device) {
  return inProcess([&](Process& p) {
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    if (!isDevice(p, device)) return CUDA_ERROR_INVALID_DEVICE;
    Gpu& g = *p.gpus[static_cast<size_t>(device)];
    if (!g.primary) g.primary = newContext(p, static_cast<uint32_t>(device), g.primaryFlags, true);
    ++g.primaryUses;
    *context = g.primary;
    return CUDA_SUCCESS;
  });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice device) {
  return inProcess([&](Process& p) {
    if (!isDevice(p, device)) return CUDA_ERROR_INVALID_DEVICE;
    Gpu& g = *p.gpus[static_cast<size_t>(device)];
    if (g.primaryUses == 0) return CUDA_ERROR_INVALID_CONTEXT;
    if (--g.primaryUses > 0) return CUDA_SUCCESS;
    dropContext(p, g.primary);
    g.primary = nullptr;
    return CUDA_SUCCESS;
  });
}
CUresult cuDevicePrimaryCtxRelease(CUdevice device) { return cuDevicePrimaryCtxRelease_v2(device); }

CUresult cuDevicePrimaryCtxReset_v2(CUdevice device) {
  return inProcess([&](Process& p) {
    if (!isDevice(p, device)) return CUDA_ERROR_INVALID_DEVICE;
    Gpu& g = *p.gpus[static_cast<size_t>(device)];
    if (g.primary) dropContext(p, g.primary);
    g.primary = nullptr;
    g.primaryUses = 0;
    return CUDA_SUCCESS;
  });
}
CUresult cuDevicePrimaryCtxReset(CUdevice device) { return cuDevicePrimaryCtxReset_v2(device); }

CUresult cuDevicePrimaryCtxSetFlags_v2(CUdevice device, unsigned int flags) {
  return inProcess([&](Process& p) {
    if (!isDevice(p, device)) return CUDA_ERROR_INVALID_DEVICE;
    p.gpus[static_cast<size_t>(device)]->primaryFlags = flags;
    return CUDA_SUCCESS;
  });
}
CUresult cuDevicePrimaryCtxSetFlags(CUdevice device, unsigned int flags) { return cuDevicePrimaryCtxSetFlags_v2(device, flags); }

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned int* flags, int* active) {
  return inProcess([&](Process& p) {
    if (!flags || !active) return CUDA_ERROR_INVALID_VALUE;
    if (!isDevice(p, device)) return CUDA_ERROR_INVALID_DEVICE;
    Gpu& g = *p.gpus[static_cast<size_t>(device)];
    *flags = g.primaryFlags;
    *active = g.primary != nullptr;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxCreate_v2(CUcontext* context, unsigned int flags, CUdevice device) { return create(context, flags, device); }
CUresult cuCtxCreate_v3(CUcontext* context, CUexecAffinityParam* affinity, int count, unsigned int flags, CUdevice device) {
  return affinity || count ? CUDA_ERROR_NOT_SUPPORTED : create(context, flags, device);
}
CUresult cuCtxCreate_v4(CUcontext* context, CUctxCreateParams* given, unsigned int flags, CUdevice device) {
  bool plain = !given || (!given->execAffinityParams && given->numExecAffinityParams == 0 && !given->cigParams);
  return plain ? create(context, flags, device) : CUDA_ERROR_NOT_SUPPORTED;
}

CUresult cuCtxDestroy_v2(CUcontext context) {
  return inProcess([&](Process& p) {
    if (!p.contexts.contains(context) || context->isPrimary) return CUDA_ERROR_INVALID_CONTEXT;
    dropContext(p, context);
    auto& stack = thread().stack;
    if (!stack.empty() && stack.back() == context) stack.pop_back();
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxPushCurrent_v2(CUcontext context) {
  return inProcess([&](Process& p) {
    if (!p.contexts.contains(context)) return CUDA_ERROR_INVALID_CONTEXT;
    thread().stack.push_back(context);
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxPopCurrent_v2(CUcontext* context) {
  return inProcess([&](Process&) {
    auto& stack = thread().stack;
    if (stack.empty()) return CUDA_ERROR_INVALID_CONTEXT;
    if (context) *context = stack.back();
    stack.pop_back();
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxSetCurrent(CUcontext context) {
  return inProcess([&](Process& p) {
    if (context && !p.contexts.contains(context)) return CUDA_ERROR_INVALID_CONTEXT;
    auto& stack = thread().stack;
    if (!stack.empty()) stack.pop_back();
    if (context) stack.push_back(context);
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  return inProcess([&](Process&) {
    if (!context) return CUDA_ERROR_INVALID_VALUE;
    *context = thread().stack.empty() ? nullptr : thread().stack.back();
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetDevice(CUdevice* device) {
  return inAnyContext([&](Process&, CUctx_st& c) {
    if (!device) return CUDA_ERROR_INVALID_VALUE;
    *device = static_cast<CUdevice>(c.gpu);
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetFlags(unsigned int* flags) {
  return inAnyContext([&](Process&, CUctx_st& c) {
    if (!flags) return CUDA_ERROR_INVALID_VALUE;
    *flags = c.flags;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetId(CUcontext context, unsigned long long* id) {
  return inAnyContext([&](Process& p, CUctx_st& current) {
    if (!id) return CUDA_ERROR_INVALID_VALUE;
    if (context && !p.contexts.contains(context)) return CUDA_ERROR_INVALID_CONTEXT;
    *id = context ? context->id : current.id;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetApiVersion(CUcontext context, unsigned int* version) {
  return inProcess([&](Process& p) {
    if (!version) return CUDA_ERROR_INVALID_VALUE;
    if (context && !p.contexts.contains(context)) return CUDA_ERROR_INVALID_CONTEXT;
    *version = 3020;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetStreamPriorityRange(int* least, int* greatest) {
  return inAnyContext([&](Process&, CUctx_st&) {
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return CUDA_SUCCESS;
  });
}

namespace {
// What an H100 starts with; the emulator needs none of these.
const std::unordered_map<int, size_t> kLimits = {{CU_LIMIT_STACK_SIZE, 1024},
                                                 {CU_LIMIT_PRINTF_FIFO_SIZE, 7340032},
                                                 {CU_LIMIT_MALLOC_HEAP_SIZE, 8388608},
                                                 {CU_LIMIT_DEV_RUNTIME_PENDING_LAUNCH_COUNT, 2048},
                                                 {CU_LIMIT_MAX_L2_FETCH_GRANULARITY, 64},
                                                 {CU_LIMIT_PERSISTING_L2_CACHE_SIZE, 0}};
}  // namespace

CUresult cuCtxGetLimit(size_t* value, CUlimit limit) {
  return inContext([&](Process&, CUctx_st& c) {
    if (!value) return CUDA_ERROR_INVALID_VALUE;
    auto it = kLimits.find(limit);
    if (it == kLimits.end()) return CUDA_ERROR_UNSUPPORTED_LIMIT;
    auto own = c.limits.find(limit);
    *value = own == c.limits.end() ? it->second : own->second;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxSetLimit(CUlimit limit, size_t value) {
  return inContext([&](Process&, CUctx_st& c) {
    if (!kLimits.contains(limit)) return CUDA_ERROR_UNSUPPORTED_LIMIT;
    c.limits[limit] = value;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxGetCacheConfig(CUfunc_cache* config) {
  return inContext([&](Process&, CUctx_st& c) {
    if (!config) return CUDA_ERROR_INVALID_VALUE;
    *config = c.cache;
    return CUDA_SUCCESS;
  });
}
CUresult cuCtxSetCacheConfig(CUfunc_cache config) {
  return inContext([&](Process&, CUctx_st& c) {
    c.cache = config;
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxSynchronize(void) {
  return inContext([&](Process& p, CUctx_st& c) { return p.queue->finish(c); });
}

CUresult cuCtxEnablePeerAccess(CUcontext peer, unsigned int flags) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
    if (!p.contexts.contains(peer)) return CUDA_ERROR_INVALID_CONTEXT;
    if (peer->gpu == c.gpu) return CUDA_ERROR_PEER_ACCESS_UNSUPPORTED;
    if (!c.peers.insert(peer).second) return CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED;
    updatePeers(p);
    return CUDA_SUCCESS;
  });
}

CUresult cuCtxDisablePeerAccess(CUcontext peer) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (!p.contexts.contains(peer)) return CUDA_ERROR_INVALID_CONTEXT;
    if (!c.peers.contains(peer)) return CUDA_ERROR_PEER_ACCESS_NOT_ENABLED;
    // Kernels that were launched before still have it.
    CUresult r = p.queue->finish(c);
    c.peers.erase(peer);
    updatePeers(p);
    return r;
  });
}
