// Tensor copies as CuTe makes them: boxes of 2 to 5 dimensions with edges, multicast, stores and reductions of swizzled
// tiles, and linear bulk copies.
#include "recorder.h"

#include <cute/tensor.hpp>
#include <cute/arch/cluster_sm90.hpp>
#include <cute/arch/copy_sm90_tma.hpp>
#include <cutlass/arch/barrier.h>
#include <cutlass/bfloat16.h>
#include <cutlass/half.h>

using namespace cute;
using cutlass::bfloat16_t;
using cutlass::half_t;
using Barrier = cutlass::arch::ClusterTransactionBarrier;

constexpr int kThreads = 64;

__device__ uint8_t* aligned(uint8_t* raw) { return raw + (-cast_smem_ptr_to_uint(raw) & 1023); }

/** Loads one tile per block and writes it, in the order of its coordinates, behind each other. */
template <class T_, class Copy_, class Smem, class TensorShape, int clusterX = 1>
struct Load {
  using T = T_;
  using Tile = decltype(product_each(shape(Smem{})));
  static constexpr int elements = size(Tile{}), bytes = elements * sizeof(T), sharedBytes = bytes + 1024;
  template <class Strides>
  static auto copyOf(T const* p, Strides strides) {
    return make_tma_copy(Copy_{}, make_tensor(make_gmem_ptr(p), TensorShape{}, strides), Smem{}, Tile{}, Int<clusterX>{});
  }
  template <class Copy, class Coordinate>
  static __device__ void run(Copy const& tma, Coordinate const& coordinate, int tile, T* out) {
    extern __shared__ uint8_t raw[];
    __shared__ alignas(8) uint64_t bar;
    Tensor s = make_tensor(make_smem_ptr(reinterpret_cast<T*>(aligned(raw))), Smem{});
    uint32_t rank = clusterX > 1 ? cute::block_rank_in_cluster() : 0;
    if (threadIdx.x == 0) {
      Barrier::init(&bar, 1);
      cutlass::arch::fence_barrier_init();
    }
    if constexpr (clusterX > 1) {
      cute::cluster_arrive_relaxed();
      cute::cluster_wait();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      Tensor g = local_tile(tma.get_tma_tensor(TensorShape{}), Tile{}, coordinate);
      auto slice = tma.get_slice(rank);
      Barrier::arrive_and_expect_tx(&bar, bytes);
      copy(tma.with(bar, uint16_t((1 << clusterX) - 1)), slice.partition_S(g), slice.partition_D(s));
    }
    Barrier::wait(&bar, 0);
    for (int i = threadIdx.x; i < elements; i += kThreads) out[tile * elements + i] = s(i);
    if constexpr (clusterX > 1) {
      cute::cluster_arrive();
      cute::cluster_wait();
    }
  }
};

/** What a load of one tile gives: zeros outside. Coordinates count whole tiles, innermost first. */
template <class T>
void addTile(std::vector<T>& out, std::vector<T> const& tensor, std::vector<int> const& dims, std::vector<int> const& strides,
             std::vector<int> const& tile, std::vector<int> const& at) {
  int count = 1;
  for (int n : tile) count *= n;
  for (int i = 0; i < count; ++i) {
    int rest = i, offset = 0;
    bool isInside = true;
    for (size_t d = 0; d < dims.size(); ++d) {
      int c = at[d] * tile[d] + rest % tile[d];
      rest /= tile[d];
      isInside &= c < dims[d];
      offset += c * strides[d];
    }
    out.push_back(isInside ? tensor[offset] : T(0));
  }
}

// --- 3 and 5 dimensions, edges -------------------------------------------------------------------------------------------
using Box3 = Load<float, SM90_TMA_LOAD, Layout<Shape<_16, _8, _2>>, Shape<Int<20>, Int<10>, Int<3>>>;
using Copy3 = decltype(Box3::copyOf(nullptr, Stride<_1, Int<24>, Int<240>>{}));
extern "C" __global__ void load_3d(__grid_constant__ Copy3 const tma, float* out) {
  Box3::run(tma, make_coord(int(blockIdx.x), int(blockIdx.y), int(blockIdx.z)), blockIdx.x + 2 * (blockIdx.y + 2 * blockIdx.z), out);
}
static confirm::Case load3([] {
  auto x = confirm::as<float>(confirm::smalls(24 * 10 * 3, 1, -9999, 9999));
  std::vector<float> want;
  for (int t = 0; t < 8; ++t) addTile<float>(want, x, {20, 10, 3}, {1, 24, 240}, {16, 8, 2}, {t % 2, t / 2 % 2, t / 4});
  float* p = confirm::input("load_3d.x", x);
  confirm::launch("load_3d", dim3(2, 2, 2), dim3(kThreads), dim3(1), Box3::sharedBytes, Box3::copyOf(p, Stride<_1, Int<24>, Int<240>>{}),
                  confirm::output("load_3d.y", want));
});

using Box5 = Load<uint16_t, SM90_TMA_LOAD, Layout<Shape<_8, _3, _2, _2, _2>>, Shape<Int<8>, Int<5>, Int<4>, Int<3>, Int<2>>>;
// With gaps, so that no two dimensions become one.
using Strides5 = Stride<_1, Int<16>, Int<96>, Int<400>, Int<1216>>;
using Copy5 = decltype(Box5::copyOf(nullptr, Strides5{}));
extern "C" __global__ void load_5d(__grid_constant__ Copy5 const tma, uint16_t* out) {
  Box5::run(tma, make_coord(0, int(blockIdx.x), int(blockIdx.y), int(blockIdx.z), 0), blockIdx.x + 2 * (blockIdx.y + 2 * blockIdx.z), out);
}
static confirm::Case load5([] {
  auto x = confirm::as<uint16_t>(confirm::smalls(2 * 1216, 2, 1, 9999));
  std::vector<uint16_t> want;
  for (int t = 0; t < 8; ++t)
    addTile<uint16_t>(want, x, {8, 5, 4, 3, 2}, {1, 16, 96, 400, 1216}, {8, 3, 2, 2, 2}, {0, t % 2, t / 2 % 2, t / 4, 0});
  uint16_t* p = confirm::input("load_5d.x", x);
  confirm::launch("load_5d", dim3(2, 2, 2), dim3(kThreads), dim3(1), Box5::sharedBytes, Box5::copyOf(p, Strides5{}),
                  confirm::output("load_5d.y", want));
});

// --- multicast: every block of the cluster loads its share of one tile for all of them -------------------------------------
template <int cluster, class Smem_>
struct Multicast {
  using Smem = Smem_;
  static constexpr int rows = 96, columns = 128;  // of the tensor; two tiles of 64 along, two across
  using Box = Load<half_t, SM90_TMA_LOAD_MULTICAST, Smem, Shape<Int<rows>, Int<columns>>, cluster>;
  using Strides = Stride<Int<columns>, _1>;
  using Copy = decltype(Box::copyOf(nullptr, Strides{}));
  static void record(char const* name) {
    auto x = confirm::as<half_t>(confirm::smalls(rows * columns, 3, -999, 999));
    std::vector<half_t> want;
    for (int block = 0; block < 4 * cluster; ++block)
      addTile<half_t>(want, x, {rows, columns}, {columns, 1}, {64, 64}, {block / cluster % 2, block / cluster / 2});
    half_t* p = confirm::input(std::string(name) + ".x", x);
    confirm::launch(name, dim3(4 * cluster), dim3(kThreads), dim3(cluster), Box::sharedBytes, Box::copyOf(p, Strides{}),
                    confirm::output(std::string(name) + ".y", want));
  }
  static __device__ void run(Copy const& tma, half_t* out) {
    int tile = blockIdx.x / cluster;
    Box::run(tma, make_coord(tile % 2, tile / 2), blockIdx.x, out);
  }
};
#define MULTICAST(name, cluster, atom)                                                                                   \
  using name##_kernel = Multicast<cluster, decltype(tile_to_shape(SM90::GMMA::atom<half_t>{}, Shape<_64, _64>{}))>;           \
  extern "C" __global__ void name(__grid_constant__ name##_kernel::Copy const tma, half_t* out) { name##_kernel::run(tma, out); } \
  static confirm::Case name##_case([] { name##_kernel::record(#name); });
MULTICAST(multicast_2_128, 2, Layout_K_SW128_Atom)
MULTICAST(multicast_4_64, 4, Layout_K_SW64_Atom)
MULTICAST(multicast_2_32, 2, Layout_K_SW32_Atom)
MULTICAST(multicast_8_128, 8, Layout_K_SW128_Atom)

// --- stores and reductions -----------------------------------------------------------------------------------------------
/** Tiles of 64 x 64 with the values of their places go to a tensor of 100 x 72; what lies outside is dropped. */
template <class T_, class Op, class Smem_>
struct Store {
  using T = T_;
  using Smem = Smem_;
  using Strides = Stride<Int<72>, _1>;
  using Shape2 = Shape<Int<100>, Int<72>>;
  static auto copyOf(T* p) { return make_tma_copy(Op{}, make_tensor(make_gmem_ptr(p), Shape2{}, Strides{}), Smem{}); }
  using Copy = decltype(copyOf(nullptr));
  static constexpr int sharedBytes = 64 * 64 * sizeof(T) + 1024;
  static constexpr bool isSum = std::is_same_v<Op, SM90_TMA_REDUCE_ADD>;
  __host__ __device__ static int value(int row, int column) { return (row * 7 + column * 3) % 61 - 30; }

  static __device__ void run(Copy const& tma) {
    extern __shared__ uint8_t raw[];
    Tensor s = make_tensor(make_smem_ptr(reinterpret_cast<T*>(aligned(raw))), Smem{});
    int row = blockIdx.x * 64, column = blockIdx.y * 64;
    for (int i = threadIdx.x; i < 64 * 64; i += kThreads)
      s(i / 64, i % 64) = static_cast<T>(static_cast<float>(value(row + i / 64, column + i % 64)));
    tma_store_fence();
    __syncthreads();
    if (threadIdx.x == 0) {
      Tensor g = local_tile(tma.get_tma_tensor(Shape2{}), Shape<_64, _64>{}, make_coord(int(blockIdx.x), int(blockIdx.y)));
      auto slice = tma.get_slice(_0{});
      copy(tma, slice.partition_S(s), slice.partition_D(g));
      tma_store_arrive();
      tma_store_wait<0>();
    }
  }
  static void record(char const* name) {
    std::vector<T> want;
    for (int i = 0; i < 100 * 72; ++i) want.push_back(static_cast<T>(static_cast<float>((isSum ? 2 : 1) * value(i / 72, i % 72) + (isSum ? 5 : 0))));
    T* p = confirm::output(name, want);
    if (isSum) {
      std::vector<T> five(want.size(), static_cast<T>(5.0f));
      std::memcpy(confirm::recording().buffers.back().bytes.data(), five.data(), five.size() * sizeof(T));
    }
    for (int times = 0; times < (isSum ? 2 : 1); ++times) confirm::launch(name, dim3(2, 2), dim3(kThreads), dim3(1), sharedBytes, copyOf(p));
  }
};
#define STORE(name, T, op, atom)                                                                       \
  using name##_kernel = Store<T, op, decltype(tile_to_shape(SM90::GMMA::atom<T>{}, Shape<_64, _64>{}))>;   \
  extern "C" __global__ void name(__grid_constant__ name##_kernel::Copy const tma) { name##_kernel::run(tma); } \
  static confirm::Case name##_case([] { name##_kernel::record(#name); });
STORE(store_bf16_128, bfloat16_t, SM90_TMA_STORE, Layout_K_SW128_Atom)
STORE(store_f32_64, float, SM90_TMA_STORE, Layout_K_SW64_Atom)
STORE(store_f32_32, float, SM90_TMA_STORE, Layout_K_SW32_Atom)
STORE(store_f16_0, half_t, SM90_TMA_STORE, Layout_K_INTER_Atom)
STORE(sum_f32_128, float, SM90_TMA_REDUCE_ADD, Layout_K_SW128_Atom)
STORE(sum_bf16_64, bfloat16_t, SM90_TMA_REDUCE_ADD, Layout_K_SW64_Atom)

// --- linear copies -------------------------------------------------------------------------------------------------------
extern "C" __global__ void bulk(float const* x, float* y) {
  extern __shared__ uint8_t raw[];
  __shared__ alignas(8) uint64_t bar;
  auto* s = reinterpret_cast<float*>(aligned(raw));
  int from = blockIdx.x * 1000;
  if (threadIdx.x == 0) {
    Barrier::init(&bar, 1);
    cutlass::arch::fence_barrier_init();
    Barrier::arrive_and_expect_tx(&bar, 4000);
    SM90_BULK_COPY_G2S::copy(x + from, &bar, s, 4000);
  }
  __syncthreads();
  Barrier::wait(&bar, 0);
  for (int i = threadIdx.x; i < 1000; i += kThreads) s[i] *= 2;
  tma_store_fence();
  __syncthreads();
  if (threadIdx.x == 0) {
    SM90_BULK_COPY_S2G::copy(s, y + from, 4000);
    tma_store_arrive();
    tma_store_wait<0>();
  }
}
static confirm::Case bulkCase([] {
  auto x = confirm::smalls(3000, 6, -999, 999), twice = x;
  for (int& v : twice) v *= 2;
  float* p = confirm::input("bulk.x", confirm::as<float>(x));
  confirm::launch("bulk", dim3(3), dim3(kThreads), dim3(1), 4000 + 1024, p, confirm::output("bulk.y", confirm::as<float>(twice)));
});

// --- maps changed on the device: as in grouped GEMMs -----------------------------------------------------------------------
/** Two tensors of other sizes and places than the map that the host made. */
using Box2 = Load<float, SM90_TMA_LOAD, Layout<Shape<_8, _8>, Stride<_1, _8>>, Shape<Int<64>, Int<64>>>;
using Strides2 = Stride<_1, Int<64>>;
using Copy2 = decltype(Box2::copyOf(nullptr, Strides2{}));
struct Groups {
  float const* tensor[2];
  uint32_t columns[2], rows[2];
};
extern "C" __global__ void replaced(__grid_constant__ Copy2 const tma, __grid_constant__ Groups const groups, TmaDescriptor* workspace, float* out) {
  extern __shared__ uint8_t raw[];
  alignas(128) __shared__ TmaDescriptor map;
  __shared__ alignas(8) uint64_t bar;
  Tensor s = make_tensor(make_smem_ptr(reinterpret_cast<float*>(aligned(raw))), Layout<Shape<_8, _8>, Stride<_1, _8>>{});
  int group = blockIdx.x;
  TmaDescriptor* made = workspace + group;
  if (threadIdx.x == 0) {
    Barrier::init(&bar, 1);
    cutlass::arch::fence_barrier_init();
    map = *tma.get_tma_descriptor();
    tma_descriptor_replace_addr_in_shared_mem(map, groups.tensor[group]);
    cute::array<uint32_t, 5> dims = {groups.columns[group], groups.rows[group], 1, 1, 1};
    cute::array<uint64_t, 5> strides = {0, groups.columns[group] * sizeof(float), 0, 0, 0};
    tma_descriptor_replace_dims_strides_in_shared_mem(map, dims, strides);
  }
  __syncthreads();
  if (threadIdx.x < 32) {
    tma_descriptor_cp_fence_release(made, map);
    tma_descriptor_fence_acquire(made);
  }
  for (int turn = 0; turn < 4; ++turn) {
    if (threadIdx.x == 0) {
      Tensor g = local_tile(tma.get_tma_tensor(Shape<Int<64>, Int<64>>{}), Shape<_8, _8>{}, make_coord(turn % 2, turn / 2));
      auto slice = tma.get_slice(_0{});
      Barrier::arrive_and_expect_tx(&bar, 256);
      copy(tma.with(made, bar), slice.partition_S(g), slice.partition_D(s));
    }
    Barrier::wait(&bar, turn & 1);
    out[(group * 4 + turn) * 64 + threadIdx.x] = s(threadIdx.x);
    __syncthreads();
  }
}
static confirm::Case replacedCase([] {
  auto x = confirm::as<float>(confirm::smalls(12 * 10, 7, -99, 99)), y = confirm::as<float>(confirm::smalls(16 * 9, 8, -99, 99));
  std::vector<float> want;
  for (int t = 0; t < 4; ++t) addTile<float>(want, x, {12, 10}, {1, 12}, {8, 8}, {t % 2, t / 2});
  for (int t = 0; t < 4; ++t) addTile<float>(want, y, {16, 9}, {1, 16}, {8, 8}, {t % 2, t / 2});
  float* p = confirm::input("replaced.none", std::vector<float>(64 * 64));
  Groups groups = {{confirm::input("replaced.x", x), confirm::input("replaced.y", y)}, {12, 16}, {10, 9}};
  auto* workspace = reinterpret_cast<TmaDescriptor*>(confirm::input("replaced.maps", std::vector<uint8_t>(256)));
  confirm::launch("replaced", dim3(2), dim3(kThreads), dim3(1), Box2::sharedBytes, Box2::copyOf(p, Strides2{}), groups, workspace,
                  confirm::output("replaced.out", want));
});

// --- st.async: every thread sends words to the next block of the cluster -----------------------------------------------------
extern "C" __global__ void exchange(uint32_t const* x, uint32_t* y) {
  __shared__ uint32_t words[2 * kThreads];
  __shared__ alignas(8) uint64_t bar;
  uint32_t rank = block_rank_in_cluster(), next = (rank + 1) % 4;
  if (threadIdx.x == 0) {
    Barrier::init(&bar, 1);
    cutlass::arch::fence_barrier_init();
    Barrier::arrive_and_expect_tx(&bar, sizeof words);
  }
  cluster_arrive();
  cluster_wait();
  for (int i = threadIdx.x; i < 2 * kThreads; i += kThreads)
    store_shared_remote(x[blockIdx.x * 2 * kThreads + i], cast_smem_ptr_to_uint(words + i), cast_smem_ptr_to_uint(&bar), next);
  Barrier::wait(&bar, 0);
  for (int i = threadIdx.x; i < 2 * kThreads; i += kThreads) y[blockIdx.x * 2 * kThreads + i] = words[i];
  cluster_arrive();
  cluster_wait();
}
static confirm::Case exchangeCase([] {
  auto x = confirm::as<uint32_t>(confirm::smalls(8 * 2 * kThreads, 9, 0, 9999));
  std::vector<uint32_t> want(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    size_t block = i / (2 * kThreads), from = block / 4 * 4 + (block + 3) % 4;
    want[i] = x[from * 2 * kThreads + i % (2 * kThreads)];
  }
  uint32_t* p = confirm::input("exchange.x", x);
  confirm::launch("exchange", dim3(8), dim3(kThreads), dim3(4), 0, p, confirm::output("exchange.y", want));
});

int main(int argc, char** argv) { return confirm::write(argc, argv); }
