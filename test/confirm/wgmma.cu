// wgmma as CuTe spells it, for every kind of operand: element type, majorness, swizzle, A in shared memory or registers.
// CuTe makes the shared-memory layouts, the tensor maps, the matrix descriptors, and the partition of the accumulators.
#include "recorder.h"

#include <cute/tensor.hpp>
#include <cute/arch/cluster_sm90.hpp>
#include <cutlass/arch/barrier.h>
#include <cutlass/float8.h>
#include <cutlass/half.h>
#include <cutlass/bfloat16.h>
#include <cutlass/tfloat32.h>

using namespace cute;
using cutlass::bfloat16_t;
using cutlass::float_e4m3_t;
using cutlass::float_e5m2_t;
using cutlass::half_t;
using cutlass::tfloat32_t;

constexpr auto K = SM90::GMMA::Major::K;
constexpr auto MN = SM90::GMMA::Major::MN;

/** Bytes of swizzle; 0: none. */
template <class T, SM90::GMMA::Major major, int swizzle>
constexpr auto atomOf() {
  if constexpr (swizzle == 0) return SM90::GMMA::Layout_INTER_Atom<T, major>{};
  else if constexpr (swizzle == 32) return SM90::GMMA::Layout_SW32_Atom<T, major>{};
  else if constexpr (swizzle == 64) return SM90::GMMA::Layout_SW64_Atom<T, major>{};
  else return SM90::GMMA::Layout_SW128_Atom<T, major>{};
}

/** Tiles of bM x bN x bK; the grid is 2 x 2 of them. D = A . B' is written plainly. */
template <class A_, class B_, class D_, int bM, int bN, int bK, SM90::GMMA::Major majorA, SM90::GMMA::Major majorB, int swizzleA, int swizzleB,
          bool fromRegisters = false, int warpgroups = 1>
struct Gemm {
  using A = A_;
  using B = B_;
  using D = D_;
  using Tile = Shape<Int<bM>, Int<bN>, Int<bK>>;
  static constexpr int m = 2 * bM, n = 2 * bN, k = bK, threads = 128 * warpgroups;
  static auto op() {
    if constexpr (fromRegisters) return SM90::GMMA::rs_op_selector<A, B, D, Tile, majorA, majorB>();
    else return SM90::GMMA::ss_op_selector<A, B, D, Tile, majorA, majorB>();
  }
  using Mma = decltype(make_tiled_mma(op(), Layout<Shape<Int<warpgroups>, _1, _1>>{}));
  using SmemA = decltype(tile_to_shape(atomOf<A, majorA, swizzleA>(), Shape<Int<bM>, Int<bK>>{}));
  using SmemB = decltype(tile_to_shape(atomOf<B, majorB, swizzleB>(), Shape<Int<bN>, Int<bK>>{}));
  static constexpr int bytesA = sizeof(A) * bM * bK, bytesB = sizeof(B) * bN * bK;
  // B follows at the next multiple of the largest pattern.
  static constexpr int sharedBytes = (bytesA + 1023) / 1024 * 1024 + bytesB + 1024;

  template <SM90::GMMA::Major major, class T>
  static auto global(T const* p, int rows) {
    if constexpr (major == K) return make_tensor(make_gmem_ptr(p), make_shape(rows, k), make_stride(k, _1{}));
    else return make_tensor(make_gmem_ptr(p), make_shape(rows, k), make_stride(_1{}, rows));
  }
  static auto copyA(A const* p) { return make_tma_copy(SM90_TMA_LOAD{}, global<majorA>(p, m), SmemA{}); }
  static auto copyB(B const* p) { return make_tma_copy(SM90_TMA_LOAD{}, global<majorB>(p, n), SmemB{}); }
  using CopyA = decltype(copyA(nullptr));
  using CopyB = decltype(copyB(nullptr));

  static __device__ void run(CopyA const& tmaA, CopyB const& tmaB, D* d) {
    extern __shared__ uint8_t raw[];
    __shared__ alignas(8) uint64_t bar;
    uint8_t* base = raw + (-cast_smem_ptr_to_uint(raw) & 1023);
    Tensor sA = make_tensor(make_smem_ptr(reinterpret_cast<A*>(base)), SmemA{});
    Tensor sB = make_tensor(make_smem_ptr(reinterpret_cast<B*>(base + (bytesA + 1023) / 1024 * 1024)), SmemB{});
    Tensor gA = local_tile(tmaA.get_tma_tensor(make_shape(m, k)), Shape<Int<bM>, Int<bK>>{}, make_coord(int(blockIdx.x), 0));
    Tensor gB = local_tile(tmaB.get_tma_tensor(make_shape(n, k)), Shape<Int<bN>, Int<bK>>{}, make_coord(int(blockIdx.y), 0));
    using Barrier = cutlass::arch::ClusterTransactionBarrier;
    if (threadIdx.x == 0) Barrier::init(&bar, 1);
    cutlass::arch::fence_barrier_init();
    __syncthreads();
    if (threadIdx.x == 0) {
      Barrier::arrive_and_expect_tx(&bar, bytesA + bytesB);
      auto a = tmaA.get_slice(_0{});
      auto b = tmaB.get_slice(_0{});
      copy(tmaA.with(bar), a.partition_S(gA), a.partition_D(sA));
      copy(tmaB.with(bar), b.partition_S(gB), b.partition_D(sB));
    }
    Barrier::wait(&bar, 0);

    Mma mma;
    auto thread = mma.get_thread_slice(threadIdx.x);
    Tensor gD = make_tensor(make_gmem_ptr(d), make_shape(m, n), make_stride(n, _1{}));
    Tensor tD = thread.partition_C(local_tile(gD, Shape<Int<bM>, Int<bN>>{}, make_coord(int(blockIdx.x), int(blockIdx.y))));
    Tensor acc = thread.make_fragment_C(tD);
    Tensor rB = thread.make_fragment_B(thread.partition_B(sB));
    auto multiply = [&](auto const& rA) {
      warpgroup_fence_operand(acc);
      warpgroup_arrive();
      mma.accumulate_ = SM90::GMMA::ScaleOut::Zero;
      CUTE_UNROLL
      for (int s = 0; s < size<2>(rA); ++s) {
        gemm(mma, rA(_, _, s), rB(_, _, s), acc);
        mma.accumulate_ = SM90::GMMA::ScaleOut::One;
      }
      warpgroup_commit_batch();
      warpgroup_wait<0>();
      warpgroup_fence_operand(acc);
    };
    if constexpr (fromRegisters) {
      Tensor plain = as_position_independent_swizzle_tensor(sA);
      Tensor rA = thread.partition_fragment_A(plain);
      copy(thread.partition_A(plain), rA);
      warpgroup_fence_operand(rA);
      multiply(rA);
    } else {
      multiply(thread.make_fragment_A(thread.partition_A(sA)));
    }
    copy(acc, tD);
  }

  template <class T>
  static constexpr bool isUnsigned = std::is_same_v<T, uint8_t>;
  template <class T>
  static std::vector<T> arranged(std::vector<int> const& rowMajor, int rows, SM90::GMMA::Major major) {
    std::vector<int> v(rowMajor.size());
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < k; ++c) v[major == K ? r * k + c : c * rows + r] = rowMajor[r * k + c];
    return as<T>(v);
  }
  static void record(char const* name) {
    // f16 and FP8 sums stay within what f16 and 13 bits hold.
    bool narrow = std::is_same_v<D, half_t> || sizeof(A) == 1 && !std::is_same_v<D, int32_t>;
    int most = narrow ? 2 : 4;
    auto a = confirm::smalls(m * k, 1, isUnsigned<A> ? 0 : -most, most), b = confirm::smalls(n * k, 2, isUnsigned<B> ? 0 : -most, most);
    std::vector<D> d;
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j) {
        int sum = 0;
        for (int c = 0; c < k; ++c) sum += a[i * k + c] * b[j * k + c];
        d.push_back(static_cast<D>(static_cast<float>(sum)));
      }
    std::string prefix = name;
    A* pa = confirm::input(prefix + ".a", arranged<A>(a, m, majorA));
    B* pb = confirm::input(prefix + ".b", arranged<B>(b, n, majorB));
    D* pd = confirm::output(prefix + ".d", d);
    confirm::launch(name, dim3(2, 2), dim3(threads), dim3(1), sharedBytes, copyA(pa), copyB(pb), pd);
  }
  template <class T>
  static std::vector<T> as(std::vector<int> const& v) { return confirm::as<T>(v); }
};

#define GEMM(name, ...)                                                                                                              \
  using name##_gemm = Gemm<__VA_ARGS__>;                                                                                             \
  extern "C" __global__ void __launch_bounds__(name##_gemm::threads)                                                                 \
      name(__grid_constant__ name##_gemm::CopyA const a, __grid_constant__ name##_gemm::CopyB const b, name##_gemm::D* d) {          \
    name##_gemm::run(a, b, d);                                                                                                       \
  }                                                                                                                                  \
  static confirm::Case name##_case([] { name##_gemm::record(#name); });

// The parts can be compiled apart, which takes less time on several cores.
#ifndef PART
#define PART 0
#endif
#include "wgmma-cases.h"

int main(int argc, char** argv) { return confirm::write(argc, argv); }
