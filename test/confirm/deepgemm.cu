// DeepGEMM's FP8 GEMM for DeepSeek-V3: one scale per row and 128 of K for A, one per 128 x 128 for B, sums promoted to f32.
// Its maps are those of its own host code, which needs PyTorch and is not compiled here.
#include "recorder.h"

#include <cuda_bf16.h>
#include <cuda_fp8.h>
#include <cutlass/bfloat16.h>
#include <cutlass/float8.h>
#include <deep_gemm/impls/sm90_fp8_gemm_1d2d.cuh>

using cutlass::bfloat16_t;
using cutlass::float_e4m3_t;

template <int blockM, int blockN, int swizzleD, int cluster, bool isMulticastOnA>
struct Gemm {
  static constexpr int stages = 4, blocks = 4, math = blockM <= 64 ? 128 : 256, threads = 128 + math;

  static CUtensorMap mapOf(CUtensorMapDataType type, int size, void* at, int inner, int outer, int boxInner, int boxOuter, int stride, int swizzle) {
    CUtensorMap map;
    if (swizzle) boxInner = swizzle / size;
    cuuint64_t dims[] = {cuuint64_t(inner), cuuint64_t(outer)}, strides[] = {cuuint64_t(stride) * size};
    cuuint32_t box[] = {cuuint32_t(boxInner), cuuint32_t(boxOuter)}, steps[] = {1, 1};
    auto mode = swizzle == 128  ? CU_TENSOR_MAP_SWIZZLE_128B
                : swizzle == 64 ? CU_TENSOR_MAP_SWIZZLE_64B
                : swizzle == 32 ? CU_TENSOR_MAP_SWIZZLE_32B
                                : CU_TENSOR_MAP_SWIZZLE_NONE;
    cuTensorMapEncodeTiled(&map, type, 2, at, dims, strides, box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, mode, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                           CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
    return map;
  }

  static void record(char const* kernel, char const* name, int m, int n, int k) {
    int kBlocks = (k + 127) / 128, nBlocks = (n + 127) / 128, alignedM = (m + 3) / 4 * 4;
    auto a = confirm::smalls(m * k, 1, -2, 2), b = confirm::smalls(n * k, 2, -2, 2);
    // Powers of two, so that every order of scaling is exact.
    auto scaleA = confirm::smalls(alignedM * kBlocks, 3, -2, 1), scaleB = confirm::smalls(nBlocks * kBlocks, 4, -1, 2);
    auto power = [](int e) { return e < 0 ? 1.0f / float(1 << -e) : float(1 << e); };
    auto powers = [&](std::vector<int> const& list) {
      std::vector<float> v;
      for (int e : list) v.push_back(power(e));
      return v;
    };
    std::vector<bfloat16_t> d;
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j) {
        float sum = 0;
        for (int block = 0; block < kBlocks; ++block) {
          int part = 0;
          for (int x = 128 * block; x < std::min(k, 128 * (block + 1)); ++x) part += a[i * k + x] * b[j * k + x];
          sum += float(part) * power(scaleA[block * alignedM + i]) * power(scaleB[j / 128 * kBlocks + block]);
        }
        d.push_back(static_cast<bfloat16_t>(sum));
      }
    std::string prefix = name;
    auto* pa = confirm::input(prefix + ".a", confirm::as<float_e4m3_t>(a));
    auto* pb = confirm::input(prefix + ".b", confirm::as<float_e4m3_t>(b));
    auto* sa = confirm::input(prefix + ".sa", powers(scaleA));
    auto* sb = confirm::input(prefix + ".sb", powers(scaleB));
    auto* pd = confirm::output(prefix + ".d", d);
    auto mapA = mapOf(CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, pa, k, m, 128, blockM, k, 128);
    auto mapB = mapOf(CU_TENSOR_MAP_DATA_TYPE_UINT8, 1, pb, k, n, 128, blockN, k, 128);
    auto mapD = mapOf(CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 2, pd, n, m, blockN, blockM, n, swizzleD);
    auto mapS = mapOf(CU_TENSOR_MAP_DATA_TYPE_FLOAT32, 4, sa, alignedM, kBlocks, blockM, 1, alignedM, 0);
    size_t shared = (blockM * blockN * 2 + 1023) / 1024 * 1024 + stages * (blockM * 128 + blockN * 128 + (blockM * 4 + 127) / 128 * 128) +
                    (kBlocks * 8 + 15) / 16 * 16 + stages * 16;
    int* none = nullptr;
    confirm::launch(kernel, dim3(blocks), dim3(threads), dim3(cluster), shared, sb, none, uint32_t(m), uint32_t(n), uint32_t(k), mapA, mapB, mapD,
                    mapS);
  }
};

// The kernel is a template, so its name in the PTX is mangled: "*..." is a part of it that no other has.
#define KERNEL(name, m, n, k, blockM, blockN, swizzleD, cluster, isMulticastOnA)                                                          \
  using name##_gemm = Gemm<blockM, blockN, swizzleD, cluster, isMulticastOnA>;                                                            \
  auto* const name##_kernel =                                                                                                             \
      &deep_gemm::sm90_fp8_gemm_1d2d_impl<cute::UMMA::Major::K, 0, 0, 0, 1, blockM, blockN, 128, 128, 128, swizzleD, name##_gemm::stages, \
                                          128, name##_gemm::math, cluster, isMulticastOnA, name##_gemm::blocks,                           \
                                          deep_gemm::GemmType::Normal, bfloat16_t, deep_gemm::epilogue::transform::EpilogueIdentity>;     \
  static confirm::Case name##_case([] { name##_gemm::record("*ELj1ELj" #blockM "ELj" #blockN "ELj128ELj", #name, m, n, k); });
KERNEL(rows_64, 200, 256, 512, 64, 128, 128, 2, false)
KERNEL(rows_128, 300, 384, 400, 128, 128, 128, 2, true)
KERNEL(columns_96, 200, 288, 384, 64, 96, 64, 1, false)

int main(int argc, char** argv) { return confirm::write(argc, argv); }
