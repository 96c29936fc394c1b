// What the race check remembers: of warps and blocks, barriers and mbarriers, operations under way, and accesses.
#pragma once
#include <array>
#include <bit>
#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "../machine.h"
#include "clocks.h"
#include "shadow.h"

namespace dsvc::emulator {

// Whose an access was: outlives the block.
struct Actor {
  const Program* program = nullptr;
  const Function* kernel = nullptr;
  uint32_t block[3] = {0, 0, 0};
  int32_t warp = -1;
  uint64_t blockNumber = 0, cluster = 0;  // unique in a launch
  uint32_t device = 0;
  uint32_t globalFenced = 0;  // the warp's clock at its last proxy fence that covers global memory
  uint32_t arrived = 0;  // the warp's clock when one of its lanes last arrived at an mbarrier
};

// Accesses of one instruction by one warp at one time of its clock, or of one asynchronous operation.
struct Record {
  uint32_t entity = 0, clock = 0;
  const DecodedInsn* insn = nullptr;
  const Actor* actor = nullptr;
  AccessKind kind = AccessKind::read;
  Proxy proxy = Proxy::generic;
  bool asynchronous = false;
  bool strong = false;  // not weak: races with no other strong access in scope
  Scope scope = Scope::thread;
  bool nonCoherent = false;
  bool mbarrier = false;  // the object's own bytes
  uint64_t source = 0;    // of a copy's write: where its bytes come from, as one number; 0: not known
  uint64_t used = 0;      // when it was last made, or the operation issued, in accesses of the launch
};

// Entities of a warp: itself, its cp.asyncs, its bulk copies' reads and its bulk copies.
constexpr uint32_t kOfCopies = 1, kOfBulkReads = 2, kOfBulk = 3, kWarpEntities = 4;

struct LaneSync {
  // At the last fence of each scope: what the lane knew, and its own time.
  struct Mark {
    ClockPointer before;
    uint32_t clock = 0, fenced = 0;
  };
  std::array<Mark, 5> released;
  bool fresh = false;  // a fence since the last barrier
  // Read by relaxed accesses, and not yet followed by a fence: by the scope that it needs.
  std::array<ClockPointer, 5> observed;
};

// The same of the threads that met at a barrier: a fence before it and an atomic of another thread after it is a common
// way to release, and an atomic before it and fences after it one to acquire.
struct FenceMarks {
  std::array<ClockPointer, 5> released, observed;
};

struct RaceBlock;
struct RaceWarp {
  RaceBlock* block = nullptr;
  Actor* actor = nullptr;
  uint32_t entity = 0;
  uint32_t clock = 1;
  bool arrived = false;  // lanes have arrived at an mbarrier: what they do next comes after
  Mask exists = 0;
  // What each lane knows. One pointer while all know the same.
  bool uniform = true;
  ClockPointer all;
  std::array<ClockPointer, 32> lanes;
  std::array<uint32_t, 32> fenced{};  // the lane's clock at its last proxy fence
  LaneClocks copied;                  // the lane's cp.asyncs that it has waited for, and of them those fenced
  std::unique_ptr<std::array<LaneSync, 32>> sync;
  // Groups of cp.async and bulk copies, by lane: how many operations were issued at each commit.
  uint32_t copies = 0, bulk = 0;
  std::unique_ptr<std::array<std::deque<uint32_t>, 32>> copyGroups, bulkGroups;
  struct Cached {
    const Insn* insn = nullptr;
    uint32_t clock = 0, record = 0;
  };
  std::vector<Cached> cache = std::vector<Cached>(16);  // by instruction; grows while it is too small

  const ClockPointer& of(int lane) const { return uniform ? all : lanes[static_cast<size_t>(lane)]; }
};

struct RaceBarrier {
  struct Generation {
    uint64_t number = ~0ull;
    ClockPointer clock;
    std::unique_ptr<FenceMarks> marks;
  };
  std::array<Generation, 4> generations;
};

struct RaceMbarrier {
  uint32_t entity = 0;
  uint64_t phase = 0;     // of `current`
  ClockPointer current;   // released so far, up to this phase
  std::array<ClockPointer, 4> completed;
  uint32_t initRecord = 0;
  int initLane = 0;
  uint32_t initEntity = 0, initCount = 0;
};

struct RaceBlock {
  explicit RaceBlock(uint64_t sharedBytes) : shadow(sharedBytes) {}
  Shadow shadow;
  Actor* actor = nullptr;
  std::vector<std::unique_ptr<RaceWarp>> warps;
  std::array<RaceBarrier, 16> barriers;
  std::unordered_map<uint32_t, RaceMbarrier> mbarriers;
  uint32_t inits = 0, initEntity = 0;
  std::vector<uint32_t> warpgroups;  // entities
  uint32_t fencedInits = 0;  // those that fence.mbarrier_init has released
};

// What an issuing lane knew, and its own epochs then.
struct RaceIssuer {
  ClockPointer clock;
  uint32_t entity = 0, count = 0, fenced = 0, copied = 0, copiedFenced = 0;
};

struct RaceOperation {
  Mask lanes = 0;
  std::vector<RaceIssuer> issuers;  // one for each of the lanes
  uint64_t issued = 0;              // the engine's time
  uint32_t read = 0, write = 0;     // records
  struct Target {
    const Cta* to;
    uint32_t record;
  };
  std::vector<Target> targets;

  const RaceIssuer& of(uint32_t lane) const {
    return issuers[lanes >> lane & 1 ? static_cast<size_t>(std::popcount(lanes & ((1u << lane) - 1))) : 0];
  }
};

// One access on its way through the shadow.
struct Touch {
  uint32_t record = 0;
  Record mine;
  const RaceWarp* warp = nullptr;  // generic accesses and products
  const Clock* clock = nullptr;          // products: the warp's
  const RaceIssuer* issuer = nullptr;    // asynchronous ones
  bool collective = false;         // any lane's knowledge is the warp's
  Shadow* shadow = nullptr;
  const Cta* cta = nullptr;
  const Allocation* allocation = nullptr;
  uint32_t harmless = UINT32_MAX;  // a record that is in order for every lane
  const Clock* harmlessTo = nullptr;
  uint64_t harmlessSet = 0;        // a set of such; the word without its lane
  struct Added {
    uint64_t from = 0, to = 0;
  };
  Added added;
  struct Group {
    uint64_t from = ~0ull, to = 0;
    Mask lanes = 0;
  };
  Group group;  // the same for lanes that share a cell
  // For writes: the bytes that a lane is about to write, to tell harmless equal ones.
  const Accesses* accesses = nullptr;
  const Warp* values = nullptr;
};

}  // namespace dsvc::emulator
