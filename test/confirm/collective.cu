// Whole GEMM kernels as CUTLASS builds them for sm_90a: warp-specialised, persistent, TMA loads with multicast, an
// mbarrier pipeline, and an epilogue through shared memory (stmatrix for 16-bit outputs) and TMA stores. Sizes are not
// multiples of the tiles, so that edges are filled and clipped.
#include "recorder.h"

#include <cute/tensor.hpp>
#include <cutlass/cutlass.h>
#include <cutlass/detail/blockwise_scale_layout.hpp>
#include <cutlass/epilogue/collective/collective_builder.hpp>
#include <cutlass/gemm/collective/collective_builder.hpp>
#include <cutlass/gemm/dispatch_policy.hpp>
#include <cutlass/gemm/kernel/gemm_universal.hpp>
#include <cutlass/util/packed_stride.hpp>

using namespace cute;
using cutlass::bfloat16_t;
using cutlass::float_e4m3_t;
using cutlass::float_e5m2_t;
using cutlass::half_t;
using Row = cutlass::layout::RowMajor;
using Column = cutlass::layout::ColumnMajor;

template <class A_, class LayoutA_, class B_, class LayoutB_, class Acc, class D_, class LayoutD_, class Tile, class Cluster, class Schedule,
          class EpilogueSchedule, bool isBlockwise = false>
struct Gemm {
  using A = A_;
  using B = B_;
  using D = D_;
  using Compute = std::conditional_t<std::is_same_v<Acc, int32_t>, int32_t, float>;
  static constexpr int alignA = 16 / sizeof(A), alignB = 16 / sizeof(B), alignD = 16 / sizeof(D);
  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, Tile, Cluster, cutlass::epilogue::collective::EpilogueTileAuto, Acc, Compute, D, LayoutD_,
      alignD, D, LayoutD_, alignD, EpilogueSchedule>::CollectiveOp;
  using Scales = cutlass::detail::Sm90BlockwiseScaleConfig<1, 128, 128>;
  using ScaleA = decltype(Scales::deduce_layoutSFA());
  using ScaleB = decltype(Scales::deduce_layoutSFB());
  using LayoutA = std::conditional_t<isBlockwise, cute::tuple<LayoutA_, ScaleA>, LayoutA_>;
  using LayoutB = std::conditional_t<isBlockwise, cute::tuple<LayoutB_, ScaleB>, LayoutB_>;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90, cutlass::arch::OpClassTensorOp, A, LayoutA, alignA, B, LayoutB, alignB, Acc, Tile, Cluster,
      cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(sizeof(typename Epilogue::SharedStorage))>, Schedule>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<Shape<int, int, int, int>, Mainloop, Epilogue>;
  using Params = typename Kernel::Params;

  /** D = A . B + C / 2, with C random too. */
  static void record(char const* name, int m, int n, int k) {
    constexpr bool isInteger = std::is_same_v<Acc, int32_t>;
    auto a = confirm::smalls(m * k, 1, -2, 2), b = confirm::smalls(n * k, 2, -2, 2), c = confirm::smalls(m * n, 3, -3, 3);
    int blocks = (k + 127) / 128, columns = (n + 127) / 128;
    auto shape = make_shape(m, n, k, 1);
    auto layoutA = Scales::tile_atom_to_shape_SFA(shape);
    auto layoutB = Scales::tile_atom_to_shape_SFB(shape);
    // Powers of two, so that every order of scaling is exact.
    auto scaleA = confirm::smalls(m * blocks, 4, -2, 1), scaleB = confirm::smalls(columns * blocks, 5, -1, 2);
    auto power = [](int e) { return e < 0 ? 1.0f / float(1 << -e) : float(1 << e); };
    auto at = [](int r, int c, int rows, int cols, bool isRowMajor) { return isRowMajor ? r * cols + c : c * rows + r; };
    constexpr bool rowA = std::is_same_v<LayoutA_, Row>, columnB = std::is_same_v<LayoutB_, Column>, rowD = std::is_same_v<LayoutD_, Row>;
    std::vector<int> arrangedA(a.size()), arrangedB(b.size()), arrangedC(c.size());
    for (int r = 0; r < m; ++r)
      for (int j = 0; j < k; ++j) arrangedA[at(r, j, m, k, rowA)] = a[r * k + j];
    for (int r = 0; r < n; ++r)
      for (int j = 0; j < k; ++j) arrangedB[at(r, j, n, k, columnB)] = b[r * k + j];
    std::vector<D> d(m * n);
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j) {
        float sum = 0;
        for (int block = 0; block < blocks; ++block) {
          int part = 0;
          for (int x = 128 * block; x < std::min(k, 128 * (block + 1)); ++x) part += a[i * k + x] * b[j * k + x];
          sum += isBlockwise ? float(part) * power(scaleA[layoutA(i, 128 * block, 0)]) * power(scaleB[layoutB(j, 128 * block, 0)]) : float(part);
        }
        arrangedC[at(i, j, m, n, rowD)] = c[i * n + j] * (isInteger ? 1 : 2);
        d[at(i, j, m, n, rowD)] = static_cast<D>(sum + float(c[i * n + j]));
      }
    std::string prefix = name;
    A* pa = confirm::input(prefix + ".a", confirm::as<A>(arrangedA));
    B* pb = confirm::input(prefix + ".b", confirm::as<B>(arrangedB));
    D* pc = confirm::input(prefix + ".c", confirm::as<D>(arrangedC));
    D* pd = confirm::output(prefix + ".d", d);
    auto strideA = cutlass::make_cute_packed_stride(typename Kernel::StrideA{}, make_shape(m, k, 1));
    auto strideB = cutlass::make_cute_packed_stride(typename Kernel::StrideB{}, make_shape(n, k, 1));
    auto strideC = cutlass::make_cute_packed_stride(typename Kernel::StrideC{}, make_shape(m, n, 1));
    typename Mainloop::Arguments mainloop{};
    if constexpr (isBlockwise) {
      auto powers = [&](std::vector<int> const& e) {
        std::vector<float> v;
        for (int x : e) v.push_back(power(x));
        return v;
      };
      float* sa = confirm::input(prefix + ".sa", powers(scaleA));
      float* sb = confirm::input(prefix + ".sb", powers(scaleB));
      mainloop = {pa, strideA, pb, strideB, sa, layoutA, sb, layoutB};
    } else {
      mainloop = {pa, strideA, pb, strideB};
    }
    cutlass::KernelHardwareInfo hardware;
    hardware.sm_count = 4;  // fewer than tiles: every block takes several
    hardware.max_active_clusters = 4 / int(size(Cluster{}));
    typename Kernel::Arguments arguments{cutlass::gemm::GemmUniversalMode::kGemm, shape, mainloop, {{}, pc, strideC, pd, strideC}, hardware};
    arguments.epilogue.thread.alpha = Compute(1);
    arguments.epilogue.thread.beta = Compute(isInteger ? 1 : 0.5);
    if (!Kernel::can_implement(arguments)) {
      std::fprintf(stderr, "%s: CUTLASS does not take these sizes\n", name);
      std::exit(1);
    }
    Params params = Kernel::to_underlying_arguments(arguments, nullptr);
    confirm::launch(name, Kernel::get_grid_shape(params), Kernel::get_block_shape(), dim3(size<0>(Cluster{}), size<1>(Cluster{}), 1),
                    Kernel::SharedStorageSize, params);
  }
};

#define KERNEL(name, m, n, k, ...)                                                                                                  \
  using name##_gemm = Gemm<__VA_ARGS__>;                                                                                            \
  extern "C" __global__ void __launch_bounds__(name##_gemm::Kernel::MaxThreadsPerBlock, name##_gemm::Kernel::MinBlocksPerMultiprocessor) \
      name(__grid_constant__ name##_gemm::Params const params) {                                                                    \
    extern __shared__ char smem[];                                                                                                  \
    name##_gemm::Kernel{}(params, smem);                                                                                            \
  }                                                                                                                                 \
  static confirm::Case name##_case([] { name##_gemm::record(#name, m, n, k); });

using Pingpong = cutlass::gemm::KernelTmaWarpSpecializedPingpong;
using Cooperative = cutlass::gemm::KernelTmaWarpSpecializedCooperative;
using FastCooperative = cutlass::gemm::KernelTmaWarpSpecializedCooperativeFP8FastAccum;
using BlockwiseCooperative = cutlass::gemm::KernelTmaWarpSpecializedCooperativeFP8Blockwise;
using PingpongEpilogue = cutlass::epilogue::TmaWarpSpecialized;
using CooperativeEpilogue = cutlass::epilogue::TmaWarpSpecializedCooperative;

#ifndef PART
#define PART 0
#endif
#if PART == 0 || PART == 1
KERNEL(pingpong_bf16, 200, 264, 200, bfloat16_t, Row, bfloat16_t, Row, float, bfloat16_t, Row, Shape<_64, _128, _64>, Shape<_2, _1, _1>, Pingpong,
       PingpongEpilogue)
#endif
#if PART == 0 || PART == 2
KERNEL(cooperative_e4m3, 200, 272, 400, float_e4m3_t, Row, float_e4m3_t, Column, float, bfloat16_t, Row, Shape<_128, _128, _128>,
       Shape<_1, _2, _1>, Cooperative, CooperativeEpilogue)
#endif
#if PART == 0 || PART == 3
KERNEL(cooperative_e4m3_blockwise, 200, 256, 384, float_e4m3_t, Row, float_e4m3_t, Column, float, bfloat16_t, Row, Shape<_128, _128, _128>,
       Shape<_2, _1, _1>, BlockwiseCooperative, CooperativeEpilogue, true)
#endif
#if PART == 0 || PART == 4
KERNEL(fast_e5m2, 136, 264, 272, float_e5m2_t, Row, float_e4m3_t, Column, float, half_t, Column, Shape<_128, _256, _128>, Shape<_1, _1, _1>,
       FastCooperative, CooperativeEpilogue)
#endif
#if PART == 0 || PART == 5
KERNEL(cooperative_s8, 200, 272, 208, int8_t, Row, int8_t, Column, int32_t, int32_t, Row, Shape<_128, _64, _128>, Shape<_2, _2, _1>, Cooperative,
       CooperativeEpilogue)
#endif
#if PART == 0 || PART == 6
KERNEL(pingpong_f16_transposed, 200, 264, 136, half_t, Column, half_t, Column, float, float, Column, Shape<_64, _64, _64>, Shape<_1, _2, _1>,
       Pingpong, PingpongEpilogue)
#endif

int main(int argc, char** argv) { return confirm::write(argc, argv); }
