// wgmma in flight. The four warps of a warpgroup each issue a wgmma.mma_async in their own time; once the fourth has, an
// asynchronous event is posted that reads both matrices from shared memory, adds to the accumulators and writes them. A
// warpgroup's products complete in the order of issue, each at a seeded later time.
//
// A product counts as in flight for a warp until the warp has waited for its group, whether or not it has completed:
// what the warp may touch must not depend on timing.
#pragma once
#include <array>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "../insn.h"
#include "../warp.h"
#include "descriptor.h"
#include "operation.h"

namespace dsvc::emulator {

struct Cta;
class Machine;

// A resolved wgmma.mma_async.
struct WgmmaExtra : Extra {
  tensor::Operation operation;
  tensor::Multiply multiply = nullptr;
  std::vector<Slot> d;     // accumulators, in the ISA's order
  std::vector<Slot> a;     // A's registers; empty when A lies in shared memory
  Slot aDescriptor = slot::kNone, bDescriptor = slot::kNone, keep = slot::kNone;
  bool transposeA = false, transposeB = false;  // MN-major
};

// One wgmma.mma_async of a warpgroup.
struct Wgmma {
  const Insn* insn = nullptr;
  uint64_t a = 0, b = 0;  // descriptors
  bool keep = false;      // D += A * B
  uint32_t arrived = 0;   // warps that issued it, one bit each
  std::array<Frame*, 4> frames{};  // whose registers it uses, with a reference held
  bool failed = false;    // refused and reported: completes without a result
};

struct WarpgroupWarp {
  bool fenced = false;            // a wgmma.fence since the start
  uint64_t issued = 0;            // products issued
  uint64_t waited = 0;            // products it has waited for: the first `waited` of those issued
  std::deque<uint64_t> groups;    // pending groups: products issued at each commit
  // With checks on: when a register was last touched by anything but wgmma, and when the last fence was.
  Frame* frame = nullptr;
  std::vector<uint64_t> touched;  // by register (128 bytes of the frame)
  uint64_t clock = 1, fence = 0, issuedAtFence = 0;
};

struct Warpgroup {
  std::array<WarpgroupWarp, 4> warps;
  std::deque<Wgmma> products;  // from number `first` on
  uint64_t first = 0, completed = 0;

  Wgmma& product(uint64_t number) { return products[number - first]; }
  void dropFinished(Machine& machine);
};

// A thread block's warpgroups.
struct TensorAsync {
  TensorAsync(Machine& machine, Cta& cta);
  ~TensorAsync();
  TensorAsync(const TensorAsync&) = delete;
  TensorAsync& operator=(const TensorAsync&) = delete;

  Machine& machine;
  Cta& cta;
  std::vector<Warpgroup> groups;

  static TensorAsync& of(Warp& w);  // made at the first use
  // Posts the completion of the warpgroup's newest product, which all four warps have issued.
  void post(size_t group);
  // Runs the oldest product that all four warps have issued and that has not run.
  void runNext(size_t group);
};

// --- for the checks ------------------------------------------------------------------------------------------------
namespace tensor {
// Before an instruction other than wgmma: reports registers that a product in flight holds
// (emu/wgmma-register-in-flight), and remembers what was touched, so that a missing wgmma.fence is found
// (emu/wgmma-missing-fence). Called from Checks::onInsn.
void checkRegisters(Warp& w, const Insn& i);
// The product in flight that reads any of these bytes of the block's shared memory; null when none does.
const Insn* wgmmaReading(Cta& cta, uint32_t offset, uint32_t bytes);
}  // namespace tensor

}  // namespace dsvc::emulator
