// Modules and libraries: loading, and what they define.
#include <algorithm>
#include <cstring>
#include <unordered_map>

#include "image.h"
#include "queue.h"

using namespace dsvc::driver;
namespace emu = dsvc::emulator;

namespace {

constexpr int kWithoutOptIn = emu::shared::kWithoutOptIn;

// The options that a caller may pass to a load; only the log buffers mean something here.
struct Log {
  char* text = nullptr;
  size_t size = 0;
  void** written = nullptr;
  void write(const std::string& what) {
    if (text && size) {
      size_t n = std::min(what.size(), size - 1);
      std::memcpy(text, what.data(), n);
      text[n] = 0;
      if (written) *written = reinterpret_cast<void*>(n);
    } else if (written) {
      *written = nullptr;
    }
  }
};
struct Options {
  Log info, error;
  Options(unsigned int count, CUjit_option* options, void** values) {
    for (unsigned int k = 0; options && values && k < count; ++k) {
      switch (options[k]) {
        case CU_JIT_INFO_LOG_BUFFER: info.text = static_cast<char*>(values[k]); break;
        case CU_JIT_ERROR_LOG_BUFFER: error.text = static_cast<char*>(values[k]); break;
        case CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES:
          info.size = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(values[k]));
          info.written = &values[k];
          break;
        case CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES:
          error.size = static_cast<uint32_t>(reinterpret_cast<uintptr_t>(values[k]));
          error.written = &values[k];
          break;
        default: break;
      }
    }
  }
};

// Refuses what ptxas would: a kernel whose static shared memory is more than a block gets without asking.
CUresult checkProgram(std::span<const uint8_t> bytes, std::string& log) {
  std::unique_ptr<emu::Program> p = emu::Program::load(bytes);
  for (const emu::Function& f : p->functions) {
    if (!f.isEntry) continue;
    uint64_t used = p->sharedOf(f).staticBytes;
    if (used > kWithoutOptIn) {
      log = emu::format("error[emu/launch-contract]: kernel %s declares %llu bytes of shared memory; a block has at most %d without dynamic shared memory\n",
                        f.name.c_str(), static_cast<unsigned long long>(used), kWithoutOptIn);
      return CUDA_ERROR_INVALID_PTX;
    }
  }
  return CUDA_SUCCESS;
}

// Reads and checks; fills the logs. What is wrong is printed where the caller gave no log for it.
CUresult load(const void* image, const char* file, const Options& given, Image& out) {
  Options options = given;
  std::string log;
  CUresult r = file ? readImageFile(file, out, log) : readImage(image, 0, "module.ptx", out, log);
  if (r == CUDA_SUCCESS) {
    try {
      r = checkProgram(out.program, log);
    } catch (const emu::EmulatorError& e) {
      log = emu::format("error[%s]: %s\n", e.code.c_str(), e.message.c_str());
      r = CUDA_ERROR_INVALID_IMAGE;
    }
  }
  if (r != CUDA_SUCCESS) {
    options.error.write(log);
    options.info.write("");
    if (!options.error.text) explain("emu/module", "the module was not loaded: " + log);
  } else {
    options.error.write("");
    options.info.write(log);
  }
  return r;
}

CUresult globalOf(Process& p, CUmodule module, const char* name, CUdeviceptr* address, size_t* bytes) {
  const auto& at = p.of(module->context).device.module(*module->program).addresses;
  const auto& variables = module->program->variables;
  for (size_t k = 0; k < variables.size(); ++k) {
    if (variables[k].name != name || !at[k]) continue;
    if (address) *address = at[k];
    if (bytes) *bytes = variables[k].size;
    return CUDA_SUCCESS;
  }
  return CUDA_ERROR_NOT_FOUND;
}

CUresult loadModule(CUmodule* module, const void* image, const char* file, const Options& options) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (!module || (!image && !file)) return CUDA_ERROR_INVALID_VALUE;
    Image read;
    if (CUresult r = load(image, file, options, read); r != CUDA_SUCCESS) return r;
    *module = newModule(p, c, read.program, read.source);
    return CUDA_SUCCESS;
  });
}

CUresult loadLibrary(CUlibrary* library, const void* image, const char* file, const Options& options) {
  return inProcess([&](Process& p) {
    if (!library || (!image && !file)) return CUDA_ERROR_INVALID_VALUE;
    Image read;
    if (CUresult r = load(image, file, options, read); r != CUDA_SUCCESS) return r;
    auto made = std::make_unique<CUlib_st>();
    made->program = std::move(read.program);
    made->source = std::move(read.source);
    *library = made.get();
    p.live.insert(made.get());
    p.libraries.push_back(std::move(made));
    return CUDA_SUCCESS;
  });
}

}  // namespace

CUresult cuModuleLoad(CUmodule* module, const char* file) { return loadModule(module, nullptr, file, {0, nullptr, nullptr}); }
CUresult cuModuleLoadData(CUmodule* module, const void* image) { return loadModule(module, image, nullptr, {0, nullptr, nullptr}); }
CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned int count, CUjit_option* options, void** values) {
  return loadModule(module, image, nullptr, {count, options, values});
}
CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) { return loadModule(module, image, nullptr, {0, nullptr, nullptr}); }

CUresult cuModuleUnload(CUmodule module) {
  return inContext([&](Process& p, CUctx_st&) {
    if (!p.alive(module)) return CUDA_ERROR_INVALID_HANDLE;
    CUresult r = p.queue->finish(*module->context);
    if (p.alive(module)) dropModule(p, module);
    return r;
  });
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  return inContext([&](Process& p, CUctx_st&) {
    if (!function || !name) return CUDA_ERROR_INVALID_VALUE;
    if (!p.alive(module)) return CUDA_ERROR_INVALID_HANDLE;
    CUfunction f = makeFunction(p, module, name);
    if (!f) return CUDA_ERROR_NOT_FOUND;
    *function = f;
    return CUDA_SUCCESS;
  });
}

CUresult cuModuleGetFunctionCount(unsigned int* count, CUmodule module) {
  return inContext([&](Process& p, CUctx_st&) {
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    if (!p.alive(module)) return CUDA_ERROR_INVALID_HANDLE;
    const auto& all = module->program->functions;
    *count = static_cast<unsigned int>(std::count_if(all.begin(), all.end(), [](auto& f) { return f.isEntry; }));
    return CUDA_SUCCESS;
  });
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr* address, size_t* bytes, CUmodule module, const char* name) {
  return inContext([&](Process& p, CUctx_st&) {
    if (!name) return CUDA_ERROR_INVALID_VALUE;
    if (!p.alive(module)) return CUDA_ERROR_INVALID_HANDLE;
    return globalOf(p, module, name, address, bytes);
  });
}

CUresult cuLibraryLoadData(CUlibrary* library, const void* image, CUjit_option* options, void** values, unsigned int count, CUlibraryOption*, void**,
                           unsigned int) {
  return loadLibrary(library, image, nullptr, {count, options, values});
}
CUresult cuLibraryLoadFromFile(CUlibrary* library, const char* file, CUjit_option* options, void** values, unsigned int count, CUlibraryOption*,
                               void**, unsigned int) {
  return loadLibrary(library, nullptr, file, {count, options, values});
}

CUresult cuLibraryUnload(CUlibrary library) {
  return inProcess([&](Process& p) {
    if (!p.alive(library)) return CUDA_ERROR_INVALID_HANDLE;
    auto modules = library->modules;
    for (auto& [context, module] : modules) {
      p.queue->finish(*context);
      if (p.alive(module)) dropModule(p, module);
    }
    for (auto& [name, kernel] : library->kernels) p.live.erase(kernel.get());
    p.live.erase(library);
    std::erase_if(p.libraries, [&](auto& l) { return l.get() == library; });
    return CUDA_SUCCESS;
  });
}

CUresult cuLibraryGetKernel(CUkernel* kernel, CUlibrary library, const char* name) {
  return inProcess([&](Process& p) {
    if (!kernel || !name) return CUDA_ERROR_INVALID_VALUE;
    if (!p.alive(library)) return CUDA_ERROR_INVALID_HANDLE;
    auto& slot = library->kernels[name];
    if (!slot) {
      if (!emu::Program::load(library->program)->kernel(name)) {
        library->kernels.erase(name);
        return CUDA_ERROR_NOT_FOUND;
      }
      slot = std::make_unique<CUkern_st>(CUkern_st{library, name});
      p.live.insert(slot.get());
    }
    *kernel = slot.get();
    return CUDA_SUCCESS;
  });
}

CUresult cuLibraryGetModule(CUmodule* module, CUlibrary library) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (!module) return CUDA_ERROR_INVALID_VALUE;
    if (!p.alive(library)) return CUDA_ERROR_INVALID_HANDLE;
    *module = moduleOf(p, c, library);
    return CUDA_SUCCESS;
  });
}

CUresult cuLibraryGetGlobal(CUdeviceptr* address, size_t* bytes, CUlibrary library, const char* name) {
  return inContext([&](Process& p, CUctx_st& c) {
    if (!name) return CUDA_ERROR_INVALID_VALUE;
    if (!p.alive(library)) return CUDA_ERROR_INVALID_HANDLE;
    return globalOf(p, moduleOf(p, c, library), name, address, bytes);
  });
}
