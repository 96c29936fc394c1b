// Kernels of the proof of the stand-in libcuda. kernels.ptx is made of this by
//   nvcc -ptx -arch=sm_90a kernels.cu -o kernels.ptx
// and committed, so that the test needs no nvcc.
#include <cooperative_groups.h>
#include <cuda.h>

namespace cg = cooperative_groups;

__device__ float scale = 1.0f;
__constant__ int offsets[4] = {10, 20, 30, 40};

extern "C" __global__ void scaled_add(const float* x, const float* y, float* z, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) z[i] = scale * x[i] + y[i] + offsets[i & 3];
}

// Reverses rows of 16384 words: a row is 64 KiB of dynamic shared memory.
extern "C" __global__ void reverse_rows(unsigned* rows) {
  extern __shared__ unsigned row[];
  unsigned* mine = rows + 16384 * blockIdx.x;
  for (int i = threadIdx.x; i < 16384; i += blockDim.x) row[i] = mine[i];
  __syncthreads();
  for (int i = threadIdx.x; i < 16384; i += blockDim.x) mine[i] = row[16383 - i];
}

// Sums over the blocks of a cluster through distributed shared memory; out[block] = sum of the cluster.
extern "C" __global__ void cluster_sum(const unsigned* x, unsigned* out) {
  __shared__ unsigned part;
  cg::cluster_group cluster = cg::this_cluster();
  if (threadIdx.x == 0) part = 0;
  __syncthreads();
  atomicAdd(&part, x[blockIdx.x * blockDim.x + threadIdx.x]);
  cluster.sync();
  if (threadIdx.x == 0) {
    unsigned sum = 0;
    for (unsigned r = 0; r < cluster.num_blocks(); ++r) sum += *cluster.map_shared_rank(&part, r);
    out[blockIdx.x] = sum;
  }
  cluster.sync();
}

// Copies a box of 64 x 32 bf16 by TMA, 128-byte swizzle, and writes it row by row, unswizzled.
extern "C" __global__ void copy_box(const __grid_constant__ CUtensorMap map, unsigned short* out, int x, int y) {
  __shared__ alignas(1024) unsigned char box[32 * 128];
  __shared__ alignas(8) unsigned long long bar;
  unsigned to = static_cast<unsigned>(__cvta_generic_to_shared(box)), at = static_cast<unsigned>(__cvta_generic_to_shared(&bar));
  if (threadIdx.x == 0) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at));
    asm volatile("fence.mbarrier_init.release.cluster;");
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(4096));
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(to), "l"(&map), "r"(x),
                 "r"(y), "r"(at)
                 : "memory");
  }
  __syncthreads();
  asm volatile("{\n.reg .pred p;\nWAIT:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], 0;\n@!p bra WAIT;\n}" ::"r"(at) : "memory");
  for (int i = threadIdx.x; i < 32 * 64; i += blockDim.x) {
    int row = i / 64, column = i % 64, chunk = column / 8 ^ row % 8;
    out[i] = *reinterpret_cast<unsigned short*>(box + row * 128 + chunk * 16 + column % 8 * 2);
  }
}

__device__ unsigned load_acquire(const unsigned* p) {
  unsigned v;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(v) : "l"(p) : "memory");
  return v;
}
__device__ void store_release(unsigned* p, unsigned v) { asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(p), "r"(v) : "memory"); }

extern "C" __global__ void wait_for(const unsigned* flag, unsigned value, unsigned* out) {
  while (load_acquire(flag) != value) {
  }
  *out = value + 1;
}
extern "C" __global__ void set_flag(unsigned* flag, unsigned value) { store_release(flag, value); }

// Each device passes a value on around a ring: `rounds` times it waits for its own mailbox and writes the next one's.
extern "C" __global__ void ring(unsigned* mine, unsigned* next, unsigned rank, unsigned ranks, unsigned rounds, unsigned* seen) {
  for (unsigned r = 0; r < rounds; ++r) {
    unsigned wanted = r * ranks + rank;  // the token that reaches this rank in this round
    while (load_acquire(mine + 1) != wanted) {
    }
    seen[r] = mine[0];
    next[0] = mine[0] + rank + 1;
    store_release(next + 1, wanted + 1);
  }
}

extern "C" __global__ void count(unsigned* counter) { atomicAdd_system(counter, 1u); }
