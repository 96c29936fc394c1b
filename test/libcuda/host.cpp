// A host program of the driver API, as people write them: it knows nothing of the emulator. `host KERNELS.ptx SCENARIO`
// prints what it found; libcuda.test.ts runs it on the stand-in libcuda.
#include "host-kernels.h"
#include "host-streams.h"

// Modules, globals, streams, events, copies.
static void basic() {
  int count = 0, sms = 0, major = 0;
  CHECK(cuDeviceGetCount(&count));
  CHECK(cuDeviceGetAttribute(&sms, CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 0));
  CHECK(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 0));
  std::printf("devices %d, sms %d, sm_%d\n", count, sms, major);
  open();
  constexpr int n = 5000;
  const size_t bytes = n * sizeof(float);
  float *x, *z;
  CHECK(cuMemAllocHost(reinterpret_cast<void**>(&x), bytes));
  CHECK(cuMemAllocHost(reinterpret_cast<void**>(&z), bytes));
  std::vector<float> y(n);
  for (int i = 0; i < n; ++i) {
    x[i] = i * 0.5f;
    y[i] = 1000.0f - i;
  }
  size_t free0 = 0, free1 = 0, total = 0;
  CHECK(cuMemGetInfo(&free0, &total));
  CUdeviceptr dx = bufferOf(bytes), dy = bufferOf(bytes), dz = bufferOf(bytes), scale;
  CHECK(cuMemGetInfo(&free1, &total));
  EXPECT(free0 - free1 == 3 * bytes);
  size_t scaleBytes = 0;
  CHECK(cuModuleGetGlobal(&scale, &scaleBytes, module, "scale"));
  EXPECT(scaleBytes == 4);
  const float three = 3.0f;
  CHECK(cuMemcpyHtoD(scale, &three, 4));

  CUstream s;
  CUevent before, after;
  CHECK(cuStreamCreate(&s, CU_STREAM_NON_BLOCKING));
  CHECK(cuEventCreate(&before, CU_EVENT_DEFAULT));
  CHECK(cuEventCreate(&after, CU_EVENT_DEFAULT));
  CHECK(cuMemcpyHtoDAsync(dx, x, bytes, s));
  CHECK(cuMemcpyHtoDAsync(dy, y.data(), bytes, s));
  CHECK(cuMemsetD32Async(dz, 0xffffffffu, n, s));
  CHECK(cuEventRecord(before, s));
  int size = n;
  CHECK(launch(functionOf("scaled_add"), (n + 255) / 256, 256, s, {&dx, &dy, &dz, &size}));
  CHECK(cuEventRecord(after, s));
  CHECK(cuMemcpyDtoHAsync(z, dz, bytes, s));
  EXPECT(cuEventQuery(before) == CUDA_SUCCESS || cuEventQuery(before) == CUDA_ERROR_NOT_READY);
  CHECK(cuStreamSynchronize(s));
  CHECK(cuEventSynchronize(after));
  CHECK(cuStreamQuery(s));
  float ms = 0;
  CHECK(cuEventElapsedTime(&ms, before, after));
  EXPECT(ms > 0);
  for (int i = 0; i < n; ++i) EXPECT(z[i] == 3.0f * x[i] + y[i] + 10.0f * (i % 4 + 1));

  unsigned int type = 0;
  int ordinal = -1;
  CHECK(cuPointerGetAttribute(&type, CU_POINTER_ATTRIBUTE_MEMORY_TYPE, dz + 16));
  EXPECT(type == CU_MEMORYTYPE_DEVICE);
  CHECK(cuPointerGetAttribute(&ordinal, CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, dz));
  EXPECT(ordinal == 0);
  CUdeviceptr base;
  size_t range = 0;
  CHECK(cuMemGetAddressRange(&base, &range, dz + 100));
  EXPECT(base == dz && range == bytes);
  // A rectangle out of a pitched array.
  CUdeviceptr pitched;
  size_t pitch = 0;
  CHECK(cuMemAllocPitch(&pitched, &pitch, 100, 8, 4));
  CHECK(cuMemsetD2D8(pitched, pitch, 7, 100, 8));
  CUDA_MEMCPY2D copy{};
  copy.srcMemoryType = CU_MEMORYTYPE_DEVICE;
  copy.srcDevice = pitched;
  copy.srcPitch = pitch;
  copy.srcXInBytes = 4;
  copy.srcY = 2;
  std::vector<unsigned char> part(3 * 10);
  copy.dstMemoryType = CU_MEMORYTYPE_HOST;
  copy.dstHost = part.data();
  copy.dstPitch = 10;
  copy.WidthInBytes = 10;
  copy.Height = 3;
  CHECK(cuMemcpy2D(&copy));
  for (unsigned char c : part) EXPECT(c == 7);

  // The parameter block as one buffer; a stream-ordered allocation; a function looked up by name.
  struct {
    CUdeviceptr x, y, z;
    int n;
  } block = {dx, dy, 0, n};
  CHECK(cuMemAllocAsync(&block.z, bytes, s));
  size_t blockBytes = 28;
  void* extra[] = {CU_LAUNCH_PARAM_BUFFER_POINTER, &block, CU_LAUNCH_PARAM_BUFFER_SIZE, &blockBytes, CU_LAUNCH_PARAM_END};
  decltype(&cuLaunchKernel) found = nullptr;
  CHECK(cuGetProcAddress("cuLaunchKernel", reinterpret_cast<void**>(&found), 12000, 0, nullptr));
  CHECK(found(functionOf("scaled_add"), 20, 1, 1, 256, 1, 1, 0, s, nullptr, extra));
  CHECK(cuMemcpyDtoHAsync(z, block.z, bytes, s));
  CHECK(cuMemFreeAsync(block.z, s));
  CHECK(cuStreamSynchronize(s));
  for (int i = 0; i < n; ++i) EXPECT(z[i] == 3.0f * x[i] + y[i] + 10.0f * (i % 4 + 1));
  // Memory that host and device share.
  CUdeviceptr managed;
  CHECK(cuMemAllocManaged(&managed, bytes, CU_MEM_ATTACH_GLOBAL));
  auto* shared = reinterpret_cast<float*>(managed);
  for (int i = 0; i < n; ++i) shared[i] = 1.0f;
  CHECK(launch(functionOf("scaled_add"), 20, 256, nullptr, {&managed, &dx, &managed, &size}));
  CHECK(cuCtxSynchronize());
  for (int i = 0; i < n; ++i) EXPECT(shared[i] == 3.0f + x[i] + 10.0f * (i % 4 + 1));
  CHECK(cuMemFree(managed));

  CHECK(cuMemFree(dx));
  EXPECT(cuMemFree(dx) == CUDA_ERROR_INVALID_VALUE);
  CHECK(cuMemFreeHost(x));
  CHECK(cuEventDestroy(before));
  EXPECT(cuEventQuery(before) == CUDA_ERROR_INVALID_HANDLE);
  CHECK(cuStreamDestroy(s));
  CHECK(cuModuleUnload(module));
  CHECK(cuDevicePrimaryCtxRelease(0));
  EXPECT(cuCtxSynchronize() == CUDA_ERROR_CONTEXT_IS_DESTROYED);
}

static void freed() {
  open();
  int n = 64;
  CUdeviceptr x = bufferOf(256), y = bufferOf(256), z = bufferOf(256);
  CHECK(cuMemsetD32(x, 0, 64));
  CHECK(cuMemsetD32(z, 0, 64));
  CHECK(cuMemFree(y));
  CHECK(launch(functionOf("scaled_add"), 1, 64, nullptr, {&x, &y, &z, &n}));
  std::printf("freed: %s\n", nameOf(cuCtxSynchronize()));
  std::printf("afterwards: %s\n", nameOf(cuMemsetD32(x, 0, 64)));
  // A reset gives the device back, with a new context.
  CHECK(cuDevicePrimaryCtxReset(0));
  open();
  // Its memory went with the old one.
  EXPECT(cuMemsetD32(x, 0, 64) == CUDA_ERROR_INVALID_VALUE);
  for (CUdeviceptr* p : {&x, &y, &z}) {
    *p = bufferOf(256);
    CHECK(cuMemsetD32(*p, 0, 64));
  }
  CHECK(launch(functionOf("scaled_add"), 1, 64, nullptr, {&x, &y, &z, &n}));
  CHECK(cuCtxSynchronize());
}

static void images() {
  open();
  std::string broken = ptx;
  size_t at = broken.find("ld.global");
  broken.replace(at, 9, "ld.globul");
  std::vector<char> log(2000);
  CUjit_option options[] = {CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES};
  void* values[] = {log.data(), reinterpret_cast<void*>(log.size())};
  CUmodule other;
  std::printf("broken: %s\n", nameOf(cuModuleLoadDataEx(&other, broken.c_str(), 2, options, values)));
  EXPECT(reinterpret_cast<size_t>(values[1]) == std::strlen(log.data()));
  std::printf("%.*s\n", static_cast<int>(std::strcspn(log.data(), "\n")), log.data());
  values[1] = reinterpret_cast<void*>(log.size());
  std::printf("cubin: %s\n", nameOf(cuModuleLoadDataEx(&other, "\177ELF\2\1\1", 2, options, values)));
  std::printf("%s\n", log.data());
  std::printf("no file: %s\n", nameOf(cuModuleLoad(&other, "no/such/file.ptx")));
  CUfunction f;
  std::printf("no kernel: %s\n", nameOf(cuModuleGetFunction(&f, module, "none")));
  // A library, whose kernels belong to no context.
  CUlibrary library;
  CUkernel kernel;
  CHECK(cuLibraryLoadFromFile(&library, ptxFile.c_str(), nullptr, nullptr, 0, nullptr, nullptr, 0));
  CHECK(cuLibraryGetKernel(&kernel, library, "count"));
  CUdeviceptr counter = bufferOf(4);
  CHECK(cuMemsetD32(counter, 0, 1));
  CHECK(launch(reinterpret_cast<CUfunction>(kernel), 2, 32, nullptr, {&counter}));
  unsigned n = 0;
  CHECK(cuMemcpyDtoH(&n, counter, 4));
  EXPECT(n == 64);
  CHECK(cuLibraryUnload(library));
}

// Only what a decoded program needs: no node.
static void decoded() {
  CUcontext context;
  CHECK(createContext(&context, 0));
  CUmodule fromFile, fromMemory;
  CHECK(cuModuleLoad(&fromFile, ptxFile.c_str()));
  CHECK(cuModuleLoadData(&fromMemory, ptx.data()));
  CUdeviceptr counter = bufferOf(4);
  CHECK(cuMemsetD32(counter, 0, 1));
  CHECK(launch(functionOf("count", fromFile), 1, 32, nullptr, {&counter}));
  CHECK(launch(functionOf("count", fromMemory), 1, 32, nullptr, {&counter}));
  unsigned n = 0;
  CHECK(cuMemcpyDtoH(&n, counter, 4));
  EXPECT(n == 64);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  EXPECT(cuCtxSynchronize() == CUDA_ERROR_NOT_INITIALIZED);
  CHECK(cuInit(0));
  ptxFile = argv[1];
  std::ifstream in(ptxFile, std::ios::binary);
  ptx.assign(std::istreambuf_iterator<char>(in), {});
  const std::pair<const char*, void (*)()> scenarios[] = {
      {"basic", basic},   {"shared", shared}, {"cluster", cluster},   {"tma", tma},         {"bad-map", badMap},
      {"streams", streams}, {"poll", poll}, {"no-peer", noPeer}, {"freed", freed},     {"images", images}, {"decoded", decoded}, {"maps", maps},
      {"ring", [] { ringOf(false); }}, {"ring-threads", [] { ringOf(true); }}};
  for (auto& [name, run] : scenarios)
    if (std::strcmp(name, argv[2]) == 0) {
      run();
      std::printf("done\n");
      return 0;
    }
  return 2;
}
