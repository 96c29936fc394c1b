// What the scenarios of host.cpp share: checks, the module, launches.
#pragma once
#include <cuda.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

static const char* nameOf(CUresult r) {
  const char* text = nullptr;
  cuGetErrorName(r, &text);
  return text ? text : "?";
}
#define CHECK(call)                                                       \
  do {                                                                    \
    CUresult r_ = (call);                                                 \
    if (r_ != CUDA_SUCCESS) {                                             \
      std::printf("%d: %s: %s\n", __LINE__, #call, nameOf(r_));           \
      std::exit(1);                                                       \
    }                                                                     \
  } while (0)
#define EXPECT(condition)                                                 \
  do {                                                                    \
    if (!(condition)) {                                                   \
      std::printf("%d: does not hold: %s\n", __LINE__, #condition);       \
      std::exit(1);                                                       \
    }                                                                     \
  } while (0)

static std::string ptxFile, ptx;
static CUmodule module;

// cuCtxCreate has another parameter since CUDA 13.
static CUresult createContext(CUcontext* context, CUdevice device) {
#if CUDA_VERSION >= 13000
  CUctxCreateParams nothing = {};
  return cuCtxCreate(context, device == 0 ? &nothing : nullptr, 0, device);
#else
  return cuCtxCreate(context, 0, device);
#endif
}
static CUcontext open(int device = 0) {
  CUcontext context;
  CHECK(cuDevicePrimaryCtxRetain(&context, device));
  CHECK(cuCtxSetCurrent(context));
  CHECK(cuModuleLoadData(&module, ptx.c_str()));
  return context;
}
static CUfunction functionOf(const char* name, CUmodule from = module) {
  CUfunction f;
  CHECK(cuModuleGetFunction(&f, from, name));
  return f;
}
static CUdeviceptr bufferOf(size_t bytes) {
  CUdeviceptr p;
  CHECK(cuMemAlloc(&p, bytes));
  return p;
}
static CUresult launch(CUfunction f, unsigned grid, unsigned block, CUstream s, std::vector<void*> a, unsigned shared = 0) {
  return cuLaunchKernel(f, grid, 1, 1, block, 1, 1, shared, s, a.data(), nullptr);
}
