// Fragments of mma.sync, ldmatrix and stmatrix as CuTe partitions them, and the packed conversions that CUTLASS uses.
#include "recorder.h"

#include <cute/tensor.hpp>
#include <cutlass/array.h>
#include <cutlass/bfloat16.h>
#include <cutlass/float8.h>
#include <cutlass/half.h>
#include <cutlass/numeric_conversion.h>
#include <cutlass/tfloat32.h>

using namespace cute;
using cutlass::bfloat16_t;
using cutlass::float_e4m3_t;
using cutlass::float_e5m2_t;
using cutlass::half_t;
using cutlass::tfloat32_t;

/** One warp: D = A . B' + C, every fragment loaded and stored element by element. */
template <class Op_>
struct Sync {
  using Op = Op_;
  using Traits = MMA_Traits<Op>;
  using A = typename Traits::ValTypeA;
  using B = typename Traits::ValTypeB;
  using C = typename Traits::ValTypeC;
  using D = typename Traits::ValTypeD;
  using S = typename Traits::Shape_MNK;
  static constexpr int m = size<0>(S{}), n = size<1>(S{}), k = size<2>(S{});
  static __device__ void run(A const* a, B const* b, C const* c, D* d) {
    auto mma = make_tiled_mma(Op{});
    auto thread = mma.get_thread_slice(threadIdx.x);
    Tensor gA = make_tensor(make_gmem_ptr(a), Shape<Int<m>, Int<k>>{}, Stride<Int<k>, _1>{});
    Tensor gB = make_tensor(make_gmem_ptr(b), Shape<Int<n>, Int<k>>{}, Stride<Int<k>, _1>{});
    Tensor gC = make_tensor(make_gmem_ptr(c), Shape<Int<m>, Int<n>>{}, Stride<Int<n>, _1>{});
    Tensor gD = make_tensor(make_gmem_ptr(d), Shape<Int<m>, Int<n>>{}, Stride<Int<n>, _1>{});
    Tensor rA = thread.partition_fragment_A(gA);
    Tensor rB = thread.partition_fragment_B(gB);
    Tensor rC = thread.partition_fragment_C(gD);
    copy(thread.partition_A(gA), rA);
    copy(thread.partition_B(gB), rB);
    copy(thread.partition_C(gC), rC);
    gemm(mma, rA, rB, rC);
    copy(rC, thread.partition_C(gD));
  }
  template <class T>
  static constexpr int least = std::is_same_v<T, uint8_t> ? 0 : -4;
  static void record(char const* name) {
    auto a = confirm::smalls(m * k, 1, least<A>, 4), b = confirm::smalls(n * k, 2, least<B>, 4), c = confirm::smalls(m * n, 3, -100, 100);
    std::vector<int> d;
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j) {
        int sum = c[i * n + j];
        for (int x = 0; x < k; ++x) sum += a[i * k + x] * b[j * k + x];
        d.push_back(sum);
      }
    std::string prefix = name;
    A* pa = confirm::input(prefix + ".a", confirm::as<A>(a));
    B* pb = confirm::input(prefix + ".b", confirm::as<B>(b));
    C* pc = confirm::input(prefix + ".c", confirm::as<C>(c));
    confirm::launch(name, dim3(1), dim3(32), dim3(1), 0, pa, pb, pc, confirm::output(prefix + ".d", confirm::as<D>(d)));
  }
};
#define SYNC(name, op)                                                                                                          \
  using name##_kernel = Sync<op>;                                                                                                    \
  extern "C" __global__ void name(name##_kernel::A const* a, name##_kernel::B const* b, name##_kernel::C const* c, name##_kernel::D* d) {           \
    name##_kernel::run(a, b, c, d);                                                                                                  \
  }                                                                                                                             \
  static confirm::Case name##_case([] { name##_kernel::record(#name); });
SYNC(mma_f16_16x8x8, SM80_16x8x8_F16F16F16F16_TN)
SYNC(mma_f16_16x8x16, SM80_16x8x16_F16F16F16F16_TN)
SYNC(mma_f16_f32_16x8x8, SM80_16x8x8_F32F16F16F32_TN)
SYNC(mma_f16_f32_16x8x16, SM80_16x8x16_F32F16F16F32_TN)
SYNC(mma_bf16_16x8x8, SM80_16x8x8_F32BF16BF16F32_TN)
SYNC(mma_bf16_16x8x16, SM80_16x8x16_F32BF16BF16F32_TN)
SYNC(mma_tf32_16x8x4, SM80_16x8x4_F32TF32TF32F32_TN)
SYNC(mma_tf32_16x8x8, SM80_16x8x8_F32TF32TF32F32_TN)
SYNC(mma_f64_8x8x4, SM80_8x8x4_F64F64F64F64_TN)
SYNC(mma_f64_16x8x4, SM90_16x8x4_F64F64F64F64_TN)
SYNC(mma_f64_16x8x8, SM90_16x8x8_F64F64F64F64_TN)
SYNC(mma_f64_16x8x16, SM90_16x8x16_F64F64F64F64_TN)
SYNC(mma_s8_8x8x16, SM80_8x8x16_S32S8S8S32_TN)
SYNC(mma_s8_16x8x16, SM80_16x8x16_S32S8S8S32_TN)
SYNC(mma_s8_16x8x32, SM80_16x8x32_S32S8S8S32_TN)
SYNC(mma_u8_s8_16x8x32, SM80_16x8x32_S32U8S8S32_TN_SATURATE)
SYNC(mma_e4m3_16x8x32, SM89_16x8x32_F32E4M3E4M3F32_TN)
SYNC(mma_e5m2_e4m3_16x8x32, SM89_16x8x32_F32E5M2E4M3F32_TN)
SYNC(mma_e4m3_f16_16x8x32, SM89_16x8x32_F16E4M3E4M3F16_TN)

/** One warp: operands come from shared memory with ldmatrix, the f16 result goes there with stmatrix. */
template <class LoadA, class LoadB, class StoreD, bool isMMajorA, bool isNMajorB, bool isMMajorD>
struct Matrices {
  static constexpr int m = 32, n = 32, k = 32;
  template <bool isMnMajor, int rows, int columns>
  static constexpr auto layoutOf() {
    if constexpr (isMnMajor) return tile_to_shape(SM90::GMMA::Layout_MN_SW64_Atom<half_t>{}, Shape<Int<rows>, Int<columns>>{});
    else return tile_to_shape(SM90::GMMA::Layout_K_SW64_Atom<half_t>{}, Shape<Int<rows>, Int<columns>>{});
  }
  static __device__ void run(half_t const* a, half_t const* b, half_t* d) {
    alignas(1024) __shared__ half_t storage[3][m * k];
    Tensor sA = as_position_independent_swizzle_tensor(make_tensor(make_smem_ptr(storage[0]), layoutOf<isMMajorA, m, k>()));
    Tensor sB = as_position_independent_swizzle_tensor(make_tensor(make_smem_ptr(storage[1]), layoutOf<isNMajorB, n, k>()));
    Tensor sD = as_position_independent_swizzle_tensor(make_tensor(make_smem_ptr(storage[2]), layoutOf<isMMajorD, m, n>()));
    for (int i = threadIdx.x; i < m * k; i += 32) sA(i / k, i % k) = a[i];
    for (int i = threadIdx.x; i < n * k; i += 32) sB(i / k, i % k) = b[i];
    __syncthreads();
    auto mma = make_tiled_mma(SM80_16x8x16_F32F16F16F32_TN{}, Layout<Shape<_1, _1, _1>>{}, Tile<_32, _32, _16>{});
    auto thread = mma.get_thread_slice(threadIdx.x);
    Tensor rA = thread.partition_fragment_A(sA);
    Tensor rB = thread.partition_fragment_B(sB);
    Tensor acc = partition_fragment_C(mma, Shape<Int<m>, Int<n>>{});
    clear(acc);
    auto copyA = make_tiled_copy_A(Copy_Atom<LoadA, half_t>{}, mma);
    auto copyB = make_tiled_copy_B(Copy_Atom<LoadB, half_t>{}, mma);
    auto copyD = make_tiled_copy_C(Copy_Atom<StoreD, half_t>{}, mma);
    auto sliceA = copyA.get_thread_slice(threadIdx.x);
    auto sliceB = copyB.get_thread_slice(threadIdx.x);
    auto sliceD = copyD.get_thread_slice(threadIdx.x);
    copy(copyA, sliceA.partition_S(sA), sliceA.retile_D(rA));
    copy(copyB, sliceB.partition_S(sB), sliceB.retile_D(rB));
    gemm(mma, rA, rB, acc);
    Tensor rD = make_fragment_like<half_t>(acc);
    for (int i = 0; i < size(acc); ++i) rD(i) = half_t(acc(i));
    copy(copyD, sliceD.retile_S(rD), sliceD.partition_D(sD));
    __syncthreads();
    for (int i = threadIdx.x; i < m * n; i += 32) d[i] = sD(i / n, i % n);
  }
  static void record(char const* name) {
    auto a = confirm::smalls(m * k, 1, -3, 3), b = confirm::smalls(n * k, 2, -3, 3);
    std::vector<int> d;
    for (int i = 0; i < m; ++i)
      for (int j = 0; j < n; ++j) {
        int sum = 0;
        for (int x = 0; x < k; ++x) sum += a[i * k + x] * b[j * k + x];
        d.push_back(sum);
      }
    std::string prefix = name;
    half_t* pa = confirm::input(prefix + ".a", confirm::as<half_t>(a));
    half_t* pb = confirm::input(prefix + ".b", confirm::as<half_t>(b));
    confirm::launch(name, dim3(1), dim3(32), dim3(1), 0, pa, pb, confirm::output(prefix + ".d", confirm::as<half_t>(d)));
  }
};
#define MATRICES(name, ...)                                                                    \
  using name##_kernel = Matrices<__VA_ARGS__>;                                                      \
  extern "C" __global__ void name(half_t const* a, half_t const* b, half_t* d) { name##_kernel::run(a, b, d); } \
  static confirm::Case name##_case([] { name##_kernel::record(#name); });
MATRICES(matrix_x4_n, SM75_U32x4_LDSM_N, SM75_U32x4_LDSM_N, SM90_U32x4_STSM_N, false, false, false)
MATRICES(matrix_x4_t, SM75_U16x8_LDSM_T, SM75_U16x8_LDSM_T, SM90_U16x8_STSM_T, true, true, true)
MATRICES(matrix_x2, SM75_U32x2_LDSM_N, SM75_U16x4_LDSM_T, SM90_U32x2_STSM_N, false, true, false)
MATRICES(matrix_x2_t, SM75_U16x4_LDSM_T, SM75_U32x2_LDSM_N, SM90_U16x4_STSM_T, true, false, true)
MATRICES(matrix_x1, SM75_U32x1_LDSM_N, SM75_U32x1_LDSM_N, SM90_U32x1_STSM_N, false, false, false)
MATRICES(matrix_x1_t, SM75_U16x2_LDSM_T, SM75_U16x2_LDSM_T, SM90_U16x2_STSM_T, true, true, true)

/** CUTLASS converts several numbers at once; the host, one by one. */
template <class To_, class From_, int count>
struct Convert {
  using To = To_;
  using From = From_;
  static constexpr int numbers = 512;
  static __device__ void run(From const* x, To* y) {
    cutlass::Array<From, count> from;
    int at = (blockIdx.x * blockDim.x + threadIdx.x) * count;
    for (int i = 0; i < count; ++i) from[i] = x[at + i];
    cutlass::NumericArrayConverter<To, From, count> convert;
    cutlass::Array<To, count> to = convert(from);
    for (int i = 0; i < count; ++i) y[at + i] = to[i];
  }
  static void record(char const* name) {
    std::vector<From> x;
    std::vector<To> y;
    for (int i = 0; i < numbers; ++i) {
      // Of every size that an FP8 has, and beyond; ties too.
      float v = float(confirm::small(i, 63)) / 8.0f;
      int scale = i % 19 - 9;
      v = scale < 0 ? v / float(1 << -scale) : v * float(1 << scale);
      x.push_back(static_cast<From>(v));
      y.push_back(static_cast<To>(static_cast<float>(x.back())));
    }
    std::string prefix = name;
    From* px = confirm::input(prefix + ".x", x);
    confirm::launch(name, dim3(numbers / count / 32), dim3(32), dim3(1), 0, px, confirm::output(prefix + ".y", y));
  }
};
#define CONVERT(name, ...)                                                                          \
  using name##_kernel = Convert<__VA_ARGS__>;                                                            \
  extern "C" __global__ void name(name##_kernel::From const* x, name##_kernel::To* y) { name##_kernel::run(x, y); } \
  static confirm::Case name##_case([] { name##_kernel::record(#name); });
CONVERT(f32_to_e4m3, float_e4m3_t, float, 4)
CONVERT(f32_to_e5m2, float_e5m2_t, float, 4)
CONVERT(e4m3_to_f32, float, float_e4m3_t, 4)
CONVERT(e5m2_to_f32, float, float_e5m2_t, 4)
CONVERT(e4m3_to_f16, half_t, float_e4m3_t, 4)
CONVERT(f16_to_e4m3, float_e4m3_t, half_t, 4)
CONVERT(f32_to_bf16, bfloat16_t, float, 2)
CONVERT(f32_to_f16, half_t, float, 2)
CONVERT(e4m3_to_bf16, bfloat16_t, float_e4m3_t, 4)

int main(int argc, char** argv) { return confirm::write(argc, argv); }
