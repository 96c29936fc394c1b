#include "state.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "queue.h"

namespace dsvc::driver {

namespace {

[[noreturn]] void badVariable(const char* name, const char* value, const char* wanted) {
  emu::refuse("emu/bad-option", emu::format("%s is \"%s\": %s", name, value, wanted));
}

uint64_t numberOf(const char* name, uint64_t otherwise, uint64_t least, uint64_t most) {
  const char* text = std::getenv(name);
  if (!text || !*text) return otherwise;
  char* end = nullptr;
  errno = 0;
  uint64_t v = std::strtoull(text, &end, 0);
  if (*end || errno || *text == '-' || v < least || v > most)
    badVariable(name, text, emu::format("a number from %llu to %llu", static_cast<unsigned long long>(least), static_cast<unsigned long long>(most)).c_str());
  return v;
}

Settings readSettings() {
  Settings s;
  s.devices = static_cast<uint32_t>(numberOf("DSVC_EMULATOR_DEVICES", 1, 0, 64));
  s.options.seed = numberOf("DSVC_EMULATOR_SEED", 0, 0, UINT64_MAX);
  s.options.sms = static_cast<uint32_t>(numberOf("DSVC_EMULATOR_SMS", 132, 1, 1024));
  s.options.maxInstructions = numberOf("DSVC_EMULATOR_MAX_INSTRUCTIONS", s.options.maxInstructions, 1, UINT64_MAX);
  // One run tells all that is wrong with a kernel.
  s.options.stopAtError = false;
  if (const char* t = std::getenv("DSVC_EMULATOR_TENSOR_CORE"); t && *t) {
    if (std::strcmp(t, "exact") != 0 && std::strcmp(t, "f32") != 0) badVariable("DSVC_EMULATOR_TENSOR_CORE", t, "exact or f32");
    s.options.tensorCoreExact = std::strcmp(t, "exact") == 0;
  }
  const char* checks = std::getenv("DSVC_EMULATOR_CHECK");
  std::string list = checks && *checks ? checks : "all";
  for (size_t at = 0; at <= list.size();) {
    size_t comma = std::min(list.find(',', at), list.size());
    std::string name = list.substr(at, comma - at);
    if (name.starts_with("emu/")) name = name.substr(4);
    if (!name.empty() && name != "none") s.options.checks.push_back(name);
    at = comma + 1;
  }
  if (const char* f = std::getenv("DSVC_EMULATOR_DIAGNOSTICS")) s.diagnostics = f;
  s.background = numberOf("DSVC_EMULATOR_BACKGROUND", 1, 0, 1) == 1;
  return s;
}

}  // namespace

Process::Process() { queue = std::make_unique<Queue>(*this); }
// Never runs: see process().
Process::~Process() = default;

// Lives to the very end: the program's own destructors may call the API.
Process& process() {
  static Process& p = *new Process;
  return p;
}

Thread& thread() {
  static std::atomic<uint64_t> threads{0};
  thread_local Thread t{{}, false, ++threads};
  return t;
}

CUresult refused(const emu::EmulatorError& e) {
  std::string where = e.ptxLine ? emu::format(" (line %u, column %u of the PTX)", e.ptxLine, e.ptxColumn) : "";
  explain(e.code, e.message + where);
  if (e.code == "emu/out-of-memory") return CUDA_ERROR_OUT_OF_MEMORY;
  if (e.code == "emu/no-such-kernel" || e.code == "emu/no-such-variable") return CUDA_ERROR_NOT_FOUND;
  if (e.code == "emu/unsupported-instruction") return CUDA_ERROR_NOT_SUPPORTED;
  if (e.code == "emu/program-format") return CUDA_ERROR_INVALID_IMAGE;
  return CUDA_ERROR_INVALID_VALUE;
}

CUresult resultOf(const std::string& code) {
  static const std::unordered_map<std::string, CUresult> kResults = {
      {"emu/out-of-bounds", CUDA_ERROR_ILLEGAL_ADDRESS},
      {"emu/use-after-free", CUDA_ERROR_ILLEGAL_ADDRESS},
      {"emu/write-to-constant", CUDA_ERROR_ILLEGAL_ADDRESS},
      {"emu/remote-shared-after-exit", CUDA_ERROR_ILLEGAL_ADDRESS},
      {"emu/cluster-rank", CUDA_ERROR_ILLEGAL_ADDRESS},
      {"emu/misaligned", CUDA_ERROR_MISALIGNED_ADDRESS},
      {"emu/mbarrier-misaligned", CUDA_ERROR_MISALIGNED_ADDRESS},
      {"emu/tma-misaligned", CUDA_ERROR_MISALIGNED_ADDRESS},
      {"emu/tensor-map-misaligned", CUDA_ERROR_MISALIGNED_ADDRESS},
      {"emu/mbarrier-not-shared", CUDA_ERROR_INVALID_ADDRESS_SPACE},
      {"emu/deadlock", CUDA_ERROR_LAUNCH_TIMEOUT},
      {"emu/divergent-barrier", CUDA_ERROR_LAUNCH_TIMEOUT},
      {"emu/too-long", CUDA_ERROR_LAUNCH_TIMEOUT},
      {"emu/branch-index", CUDA_ERROR_INVALID_PC},
      {"emu/bad-call", CUDA_ERROR_INVALID_PC},
      {"emu/stack-overflow", CUDA_ERROR_HARDWARE_STACK_ERROR},
      {"emu/setmaxnreg", CUDA_ERROR_ILLEGAL_INSTRUCTION},
      {"emu/not-a-tensor-map", CUDA_ERROR_ILLEGAL_INSTRUCTION},
      {"emu/tensor-map-invalid", CUDA_ERROR_ILLEGAL_INSTRUCTION},
      {"emu/tensor-map-rank", CUDA_ERROR_ILLEGAL_INSTRUCTION},
      {"emu/tensor-map-type", CUDA_ERROR_ILLEGAL_INSTRUCTION},
      {"emu/bulk-size", CUDA_ERROR_ILLEGAL_INSTRUCTION},
      {"emu/wgmma-descriptor", CUDA_ERROR_ILLEGAL_INSTRUCTION},
      {"emu/wgmma-partial-warpgroup", CUDA_ERROR_ILLEGAL_INSTRUCTION},
      {"emu/barrier-operands", CUDA_ERROR_ILLEGAL_INSTRUCTION},
  };
  auto it = kResults.find(code);
  return it == kResults.end() ? CUDA_ERROR_LAUNCH_FAILED : it->second;
}

CUstream newStream(Process& p, CUctx_st& context, unsigned int flags, int priority) {
  auto s = std::make_unique<CUstream_st>();
  s->context = &context;
  s->flags = flags;
  s->priority = std::clamp(priority, -5, 0);
  s->id = ++p.ids;
  CUstream raw = s.get();
  context.streams.push_back(std::move(s));
  p.live.insert(raw);
  p.queue->add(raw);
  return raw;
}

CUstream streamOf(Process& p, CUctx_st& current, CUstream handle) {
  auto value = reinterpret_cast<uintptr_t>(handle);
  Thread& t = thread();
  if (value == 2 || (value == 0 && t.ownNullStream)) {
    auto [it, made] = current.perThread.try_emplace(t.id, nullptr);
    if (made) it->second = newStream(p, current, CU_STREAM_DEFAULT, 0);
    return it->second;
  }
  if (value <= 1) return current.legacy.get();
  return p.alive(handle) && !handle->destroyed ? handle : nullptr;
}

CUcontext newContext(Process& p, uint32_t gpu, unsigned int flags, bool isPrimary) {
  auto c = std::make_unique<CUctx_st>();
  c->gpu = gpu;
  c->flags = flags;
  c->id = ++p.ids;
  c->isPrimary = isPrimary;
  c->legacy = std::make_unique<CUstream_st>();
  c->legacy->context = c.get();
  c->legacy->id = ++p.ids;
  p.queue->add(c->legacy.get());
  CUcontext raw = c.get();
  p.contexts.insert(raw);
  p.owned.push_back(std::move(c));
  return raw;
}

void dropContext(Process& p, CUcontext context) {
  p.queue->finish(*context);
  p.queue->drop(*context);
  while (!context->modules.empty()) dropModule(p, context->modules.back().get());
  while (!context->streams.empty()) p.queue->forget(context->streams.back().get());
  for (auto& e : context->events) p.live.erase(e.get());
  p.queue->forget(context->legacy.get());
  for (auto& lib : p.libraries) lib->modules.erase(context);
  dropMemory(p, *context);
  p.contexts.erase(context);
  for (CUcontext other : p.contexts) other->peers.erase(context);
  updatePeers(p);
  std::erase_if(p.owned, [&](auto& o) { return o.get() == context; });
}

// Contexts of one device share its access.
void updatePeers(Process& p) {
  for (auto& g : p.gpus) g->device.memory.peers.assign(1, &p.host);
  for (CUcontext c : p.contexts)
    for (CUcontext peer : c->peers) {
      auto& list = p.of(c).device.memory.peers;
      auto* memory = &p.of(peer).device.memory;
      if (std::find(list.begin(), list.end(), memory) == list.end()) list.push_back(memory);
    }
}

CUmodule newModule(Process& p, CUctx_st& context, std::span<const uint8_t> program, std::shared_ptr<const Source> source) {
  auto m = std::make_unique<CUmod_st>();
  m->context = &context;
  m->program = emu::Program::load(program);
  m->source = std::move(source);
  p.of(&context).device.module(*m->program);  // its variables are there from now on
  CUmodule raw = m.get();
  context.modules.push_back(std::move(m));
  p.live.insert(raw);
  return raw;
}

void dropModule(Process& p, CUmodule module) {
  for (auto& [name, f] : module->functions) p.live.erase(f.get());
  p.of(module->context).device.forget(*module->program);
  p.live.erase(module);
  std::erase_if(module->context->modules, [&](auto& m) { return m.get() == module; });
}

emu::Allocation* allocationOf(Process& p, uint64_t address, int& gpu) {
  gpu = -1;
  for (size_t k = 0; k < p.gpus.size(); ++k) {
    emu::Allocation* a = p.gpus[k]->device.memory.nearest(address);
    if (a && a->holds(address, 1)) {
      gpu = static_cast<int>(k);
      return a;
    }
  }
  emu::Allocation* a = p.host.nearest(address);
  return a && a->holds(address, 1) && a->bytes ? a : nullptr;
}

}  // namespace dsvc::driver

using namespace dsvc::driver;

CUresult cuInit(unsigned int flags) {
  Lock hold;
  Process& p = process();
  if (flags != 0) return CUDA_ERROR_INVALID_VALUE;
  if (p.initialised) return p.gpus.empty() ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
  try {
    p.settings = readSettings();
    for (uint32_t k = 0; k < p.settings.devices; ++k) {
      p.gpus.push_back(std::make_unique<Gpu>(k, p.settings.options));
      p.gpus.back()->device.memory.peers.push_back(&p.host);
    }
    for (auto& a : p.gpus)
      for (auto& b : p.gpus)
        if (a != b) a->device.memory.others.push_back(&b->device.memory);
  } catch (const dsvc::emulator::EmulatorError& e) {
    return refused(e);
  }
  p.initialised = true;
  if (p.settings.background) p.queue->startWatch();
  return p.gpus.empty() ? CUDA_ERROR_NO_DEVICE : CUDA_SUCCESS;
}
