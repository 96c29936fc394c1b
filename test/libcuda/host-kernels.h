// Scenarios of host.cpp: dynamic shared memory, clusters, tensor maps.
#pragma once
#include "host.h"

static void shared() {
  open();
  CUfunction f = functionOf("reverse_rows");
  CUdeviceptr rows = bufferOf(2 * 65536);
  std::vector<unsigned> host(2 * 16384);
  for (unsigned i = 0; i < host.size(); ++i) host[i] = i * 2654435761u;
  CHECK(cuMemcpyHtoD(rows, host.data(), 2 * 65536));
  CUresult refused = launch(f, 2, 256, nullptr, {&rows}, 65536);
  std::printf("without opt-in: %s\n", nameOf(refused));
  CHECK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 65536));
  EXPECT(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, 228 * 1024) == CUDA_ERROR_INVALID_VALUE);
  int blocks = 0;
  CHECK(cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, f, 256, 65536));
  EXPECT(blocks == 3);
  CHECK(launch(f, 2, 256, nullptr, {&rows}, 65536));
  std::vector<unsigned> back(host.size());
  CHECK(cuMemcpyDtoH(back.data(), rows, 2 * 65536));
  for (unsigned i = 0; i < host.size(); ++i) EXPECT(back[i] == host[i / 16384 * 16384 + 16383 - i % 16384]);
}

static CUresult launchClusters(CUfunction f, unsigned grid, unsigned cluster, std::vector<void*> a) {
  CUlaunchAttribute attributes[2] = {};
  attributes[0].id = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
  attributes[0].value.clusterDim.x = cluster;
  attributes[0].value.clusterDim.y = attributes[0].value.clusterDim.z = 1;
  attributes[1].id = CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION;
  attributes[1].value.programmaticStreamSerializationAllowed = 1;
  CUlaunchConfig config = {};
  config.gridDimX = grid;
  config.gridDimY = config.gridDimZ = 1;
  config.blockDimX = 64;
  config.blockDimY = config.blockDimZ = 1;
  config.attrs = attributes;
  config.numAttrs = 2;
  return cuLaunchKernelEx(&config, f, a.data(), nullptr);
}

static void cluster() {
  open();
  CUfunction f = functionOf("cluster_sum");
  CUdeviceptr x = bufferOf(16 * 64 * 4), out = bufferOf(16 * 4);
  std::vector<unsigned> values(16 * 64), sums(16);
  for (unsigned i = 0; i < values.size(); ++i) values[i] = i * i + 1;
  CHECK(cuMemcpyHtoD(x, values.data(), values.size() * 4));
  for (unsigned size : {2u, 8u, 16u}) {
    if (size > 8) {
      std::printf("clusters of 16: %s\n", nameOf(launchClusters(f, 16, size, {&x, &out})));
      CHECK(cuFuncSetAttribute(f, CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1));
    }
    CHECK(launchClusters(f, 16, size, {&x, &out}));
    CHECK(cuMemcpyDtoH(sums.data(), out, 64));
    for (unsigned b = 0; b < 16; ++b) {
      unsigned sum = 0;
      for (unsigned i = b / size * size * 64; i < (b / size + 1) * size * 64; ++i) sum += values[i];
      EXPECT(sums[b] == sum);
    }
  }
  EXPECT(launchClusters(f, 16, 3, {&x, &out}) == CUDA_ERROR_INVALID_VALUE);
  // A cooperative launch must fit at once.
  std::vector<void*> a = {&x, &out};
  EXPECT(cuLaunchCooperativeKernel(f, 132 * 32 + 1, 1, 1, 64, 1, 1, 0, nullptr, a.data()) == CUDA_ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
}

static CUresult encode(CUtensorMap* map, CUdeviceptr at, cuuint64_t width, cuuint64_t height, cuuint64_t stride) {
  cuuint64_t dims[2] = {width, height}, strides[1] = {stride};
  cuuint32_t box[2] = {64, 32}, steps[2] = {1, 1};
  return cuTensorMapEncodeTiled(map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, reinterpret_cast<void*>(at), dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_128B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
}

static void tma() {
  open();
  constexpr int width = 200, height = 70, stride = 416;  // bytes of a row
  std::vector<unsigned char> matrix(height * stride);
  for (size_t i = 0; i < matrix.size(); ++i) matrix[i] = static_cast<unsigned char>(i * 37 + (i >> 8) * 11);
  CUdeviceptr in = bufferOf(matrix.size()), out = bufferOf(4096);
  CHECK(cuMemcpyHtoD(in, matrix.data(), matrix.size()));
  CUtensorMap map;
  CHECK(encode(&map, in, width, height, stride));
  for (auto [x, y] : {std::pair{0, 0}, {64, 32}, {168, 50}, {-3, -5}}) {
    CHECK(launch(functionOf("copy_box"), 1, 128, nullptr, {&map, &out, &x, &y}));
    std::vector<unsigned short> box(64 * 32);
    CHECK(cuMemcpyDtoH(box.data(), out, 4096));
    for (int r = 0; r < 32; ++r)
      for (int c = 0; c < 64; ++c) {
        unsigned short wanted = 0;
        if (y + r >= 0 && y + r < height && x + c >= 0 && x + c < width) std::memcpy(&wanted, &matrix[(y + r) * stride + (x + c) * 2], 2);
        EXPECT(box[r * 64 + c] == wanted);
      }
  }
}

static void badMap() {
  open();
  CUdeviceptr in = bufferOf(65536);
  CUtensorMap map;
  std::printf("stride: %s\n", nameOf(encode(&map, in, 200, 70, 400 + 8)));
  std::printf("address: %s\n", nameOf(encode(&map, in + 8, 200, 70, 416)));
  // A map that is none, and one that reaches past its buffer.
  CUdeviceptr out = bufferOf(4096);
  int x = 0, y = 0;
  CHECK(encode(&map, in, 200, 700, 416));
  y = 600;
  CHECK(launch(functionOf("copy_box"), 1, 128, nullptr, {&map, &out, &x, &y}));
  std::printf("past the end: %s\n", nameOf(cuCtxSynchronize()));
}

// One line a map: type, rank, address, interleave, swizzle, fill, then dims, strides, box and element strides. Prints the
// bytes, or "invalid".
static void maps() {
  unsigned long long address;
  int type, interleave, swizzle, fill;
  unsigned rank;
  while (std::scanf("%d %u %llu %d %d %d", &type, &rank, &address, &interleave, &swizzle, &fill) == 6) {
    cuuint64_t dims[5] = {}, strides[4] = {};
    cuuint32_t box[5] = {}, steps[5] = {};
    unsigned long long v = 0;
    auto read = [&](auto* to, unsigned n) {
      for (unsigned k = 0; k < n; ++k) {
        EXPECT(std::scanf("%llu", &v) == 1);
        to[k] = static_cast<std::remove_pointer_t<decltype(to)>>(v);
      }
    };
    read(dims, rank);
    read(strides, rank - 1);
    read(box, rank);
    read(steps, rank);
    CUtensorMap map;
    CUresult r = cuTensorMapEncodeTiled(&map, static_cast<CUtensorMapDataType>(type), rank, reinterpret_cast<void*>(address), dims, strides, box, steps,
                                        static_cast<CUtensorMapInterleave>(interleave), static_cast<CUtensorMapSwizzle>(swizzle), CU_TENSOR_MAP_L2_PROMOTION_NONE,
                                        static_cast<CUtensorMapFloatOOBfill>(fill));
    if (r != CUDA_SUCCESS) {
      std::printf("invalid\n");
      continue;
    }
    for (size_t k = 0; k < sizeof map; ++k) std::printf("%02x", reinterpret_cast<unsigned char*>(&map)[k]);
    std::printf("\n");
  }
}
