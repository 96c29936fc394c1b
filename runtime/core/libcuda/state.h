// What the stand-in libcuda knows: devices, contexts, modules, streams, events, and the frame that every function of the
// API runs in: one lock, checks of the context, errors of the core as CUresult.
#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "../emulator/machine.h"
#include "types.h"

#include "functions.h"

namespace dsvc::driver {
namespace emu = dsvc::emulator;

// What the environment says (docs/EMULATOR.md lists the variables).
struct Settings {
  uint32_t devices = 1;
  emu::Options options;
  std::string diagnostics;  // file for reports as JSON lines; empty: none
  bool background = true;   // run queued work when the program has long made no call
};

// The PTX of a module, for reports; shared with launches that outlive it.
struct Source {
  std::string name;
  std::string text;  // empty: a decoded program without its PTX
};

struct EventState {
  uint64_t recorded = 0, completed = 0;  // numbers of records: asked for, reached
  uint64_t nanoseconds = 0;              // of the virtual clock, at the last record that was reached
  bool timing = true;
};

// Something in a stream's queue.
struct Op {
  uint64_t sequence = 0;  // order of issue over all streams
  std::function<bool()> ready;        // null: at once
  std::function<CUresult()> action;   // null: a launch
  bool unlocked = false;              // calls back into the program: without our lock
  // A launch.
  std::shared_ptr<emu::Program> program;
  std::shared_ptr<const Source> source;
  emu::LaunchRequest request;
  emu::Grid* grid = nullptr;  // once it runs
};

struct Gpu {
  Gpu(uint32_t ordinal, const emu::Options& options) : device(ordinal, options) {}
  emu::Device device;
  CUcontext primary = nullptr;
  unsigned int primaryFlags = 0, primaryUses = 0;
  uint64_t used = 0;  // bytes allocated
};
constexpr uint64_t kDeviceBytes = 85520809984;  // 81559 MiB

}  // namespace dsvc::driver

// The objects behind the API's handles.
struct CUstream_st {
  CUcontext context = nullptr;
  unsigned int flags = 0;
  int priority = 0;
  uint64_t id = 0;
  bool destroyed = false;  // goes when its queue is empty
  std::deque<dsvc::driver::Op> queue;
};
struct CUevent_st {
  CUcontext context = nullptr;
  std::shared_ptr<dsvc::driver::EventState> state;
};
struct CUfunc_st {
  CUmodule module = nullptr;
  const dsvc::emulator::Function* function = nullptr;
  int maxDynamicShared = 0, carveout = -1, nonPortableClusters = 0, clusterPolicy = 0;
  int requiredCluster[3] = {0, 0, 0};
};
struct CUmod_st {
  CUcontext context = nullptr;
  std::shared_ptr<dsvc::emulator::Program> program;
  std::shared_ptr<const dsvc::driver::Source> source;
  std::unordered_map<std::string, std::unique_ptr<CUfunc_st>> functions;
};
struct CUkern_st {
  CUlibrary library = nullptr;
  std::string name;
};
struct CUlib_st {
  std::vector<uint8_t> program;  // decoded
  std::shared_ptr<const dsvc::driver::Source> source;
  std::unordered_map<CUcontext, CUmodule> modules;
  std::unordered_map<std::string, std::unique_ptr<CUkern_st>> kernels;
};
struct CUctx_st {
  uint32_t gpu = 0;
  unsigned int flags = 0;
  uint64_t id = 0;
  bool isPrimary = false;
  CUresult failure = CUDA_SUCCESS;  // of a kernel: every later call returns it
  std::unique_ptr<CUstream_st> legacy;
  std::vector<std::unique_ptr<CUstream_st>> streams;
  std::unordered_map<uint64_t, CUstream> perThread;  // default streams of threads, by thread; owned by `streams`
  std::vector<std::unique_ptr<CUmod_st>> modules;
  std::vector<std::unique_ptr<CUevent_st>> events;
  std::unordered_set<CUcontext> peers;
  std::unordered_set<uint64_t> allocations;  // of device memory: they go with the context
  std::unordered_map<int, size_t> limits;
  CUfunc_cache cache = CU_FUNC_CACHE_PREFER_NONE;
};

namespace dsvc::driver {

struct HostRange {
  uint64_t bytes = 0;
  unsigned int flags = 0;
  enum class Kind : uint8_t { allocated, registered, managed } kind = Kind::allocated;
  CUcontext owner = nullptr;
};

class Queue;

struct Process {
  Process();
  ~Process();
  std::mutex lock;
  std::condition_variable changed;
  std::atomic<int> wanting{0};  // threads that wait for the lock
  std::chrono::steady_clock::time_point lastCall;
  bool initialised = false;
  Settings settings;
  std::vector<std::unique_ptr<Gpu>> gpus;
  // Memory of the host that kernels may reach, at its own addresses.
  emu::GlobalMemory host{0xffff};
  std::unordered_map<uint64_t, HostRange> hostRanges;
  std::unordered_set<CUcontext> contexts;
  std::vector<std::unique_ptr<CUctx_st>> owned;
  std::vector<std::unique_ptr<CUlib_st>> libraries;
  std::unordered_set<const void*> live;  // modules, functions, streams, events, libraries and kernels
  std::unique_ptr<Queue> queue;
  uint64_t sequence = 0, ids = 0;

  Gpu& of(CUcontext c) { return *gpus[c->gpu]; }
  bool alive(const void* handle) const { return handle && live.contains(handle); }
};
Process& process();

// Per thread: the stack of current contexts; whether the null stream is the thread's own now (_ptds and _ptsz forms).
struct Thread {
  std::vector<CUcontext> stack;
  bool ownNullStream = false;
  uint64_t id = 0;
};
Thread& thread();

// Prints why a call failed, as a diagnostic; CUresult alone says little.
void explain(const std::string& code, const std::string& message, const std::string& fix = "");
// Prints a report of a launch, and appends it to the file of DSVC_EMULATOR_DIAGNOSTICS.
void print(const emu::Report& report, const Source* source);
// The sticky error that a report of error severity stands for.
CUresult resultOf(const std::string& code);

struct Lock {
  Lock() {
    Process& p = process();
    ++p.wanting;
    p.lock.lock();
    --p.wanting;
    p.lastCall = std::chrono::steady_clock::now();
  }
  ~Lock() {
    process().lastCall = std::chrono::steady_clock::now();
    process().lock.unlock();
  }
  Lock(const Lock&) = delete;
};

CUresult refused(const emu::EmulatorError& e);

// Runs a function of the API that needs cuInit only.
template <class F>
CUresult inProcess(F body) {
  Lock hold;
  if (!process().initialised) return CUDA_ERROR_NOT_INITIALIZED;
  try {
    return body(process());
  } catch (const emu::EmulatorError& e) {
    return refused(e);
  } catch (const std::bad_alloc&) {
    return CUDA_ERROR_OUT_OF_MEMORY;
  }
}
// Runs a function of the API that needs a context, which must not have failed.
template <class F>
CUresult inContext(F body) {
  return inProcess([&](Process& p) -> CUresult {
    Thread& t = thread();
    if (t.stack.empty() || !t.stack.back()) return CUDA_ERROR_INVALID_CONTEXT;
    CUcontext c = t.stack.back();
    if (!p.contexts.contains(c)) return CUDA_ERROR_CONTEXT_IS_DESTROYED;
    if (c->failure != CUDA_SUCCESS) return c->failure;
    return body(p, *c);
  });
}

// The stream behind a handle, null, legacy and per-thread ones too; null for a handle that is none.
CUstream streamOf(Process& p, CUctx_st& current, CUstream handle);
CUstream newStream(Process& p, CUctx_st& context, unsigned int flags, int priority);
CUcontext newContext(Process& p, uint32_t gpu, unsigned int flags, bool isPrimary);
void dropContext(Process& p, CUcontext context);
void dropModule(Process& p, CUmodule module);
// Gives back what a context has allocated.
void dropMemory(Process& p, CUctx_st& context);
// Gives each device access to the memory that its contexts have enabled access to.
void updatePeers(Process& p);
// A module of the current context from a decoded program.
CUmodule newModule(Process& p, CUctx_st& context, std::span<const uint8_t> program, std::shared_ptr<const Source> source);
// A module's function, null when it has none of that name; a library's module in a context.
CUfunction makeFunction(Process& p, CUmodule module, const std::string& name);
CUmodule moduleOf(Process& p, CUctx_st& context, CUlibrary library);
// The function that a handle names in the context: kernels of libraries too. Null when there is none.
CUfunction functionOf(Process& p, CUctx_st& context, CUfunction handle);
// Records an event in a stream.
void recordEvent(Process& p, CUevent event, CUstream stream);

// What a block of a kernel takes of an SM.
struct Footprint {
  uint32_t warps = 0, registers = 0, sharedBytes = 0;
  uint32_t blocksPerSm(const emu::SmLimits& limits) const;  // 0: not even one fits
  // Clusters of `size` blocks that are resident at once: each inside one GPC.
  uint64_t clusters(const emu::Device& device, uint32_t size) const;
};
Footprint footprintOf(CUfunction function, uint32_t threads, uint64_t dynamicBytes);

// Gives the allocation that holds an address, of a device or of the host; null when none does. `gpu`: -1 for the host.
emu::Allocation* allocationOf(Process& p, uint64_t address, int& gpu);

}  // namespace dsvc::driver
