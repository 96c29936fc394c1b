// What blocks and warps remember of asynchronous work: mbarriers and commit groups. Cta::async and Warp::async point
// here; both are made at first use.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <unordered_map>
#include <vector>

#include "../insn.h"
#include "../machine.h"

namespace dsvc::emulator {

// What one warp instruction set under way, as commit groups see it: done when its writes are, and, for copies out of
// shared memory, read when its sources may be overwritten.
struct AsyncOperation {
  bool read = false, done = false;
  std::vector<std::function<void()>> whenDone;
};
using AsyncOperationPointer = std::shared_ptr<AsyncOperation>;

// The commit groups of one thread: cp.async and bulk copies have separate ones.
class CommitGroups {
 public:
  void add(AsyncOperationPointer o) { open_.push_back(std::move(o)); }
  void commit() {
    committed_.push_back(std::move(open_));
    open_.clear();
  }
  // True when every group but the `newest` ones is done (with `readOnly`: has read its sources).
  bool settled(size_t newest, bool readOnly);
  // All operations that are not done, committed or not.
  std::vector<AsyncOperationPointer> unfinished() const;

 private:
  std::vector<AsyncOperationPointer> open_;
  std::vector<std::vector<AsyncOperationPointer>> committed_;
};

// A wait on an mbarrier that found its phase incomplete: the thread is expected to come back for the same phase.
struct MissedWait {
  uint32_t barrier = 0;  // Mbarrier::serial; 0: none
  uint64_t phase = 0;
  uint32_t spins = 0;  // how often in a row
};

struct WarpAsync {
  CommitGroups copies[kLanes];  // cp.async
  CommitGroups bulk[kLanes];    // cp.async.bulk, cp.reduce.async.bulk with .bulk_group
  MissedWait missed[kLanes];
  std::shared_ptr<void> matrix;  // the tensor-core family's own state
};

// An mbarrier object. Its 8 bytes in shared memory hold an image of it, so that stray writes are found.
struct Mbarrier {
  static constexpr uint32_t kMaxCount = (1u << 20) - 1;

  uint32_t serial = 0;  // tells inits apart; never 0
  uint32_t offset = 0;  // in the block's shared memory
  uint64_t phase = 0;   // the incomplete one
  uint32_t expected = 0, pending = 0;
  int64_t tx = 0;
  uint64_t observed = 0;  // phases below this were seen complete by some wait
  uint32_t inFlight = 0;  // copies and arrivals under way that will signal it
  Site init;

  uint64_t image() const;
};

struct CtaAsync {
  std::unordered_map<uint32_t, Mbarrier> barriers;  // by offset; live ones
  uint32_t serials = 0;
  // The time limit of try_wait, one timer for all waits of the block: see mbarrier_wait.cpp.
  bool timerRuns = false;
  uint64_t timerGeneration = 1;
  uint32_t quietTimeouts = 0;
  uint64_t instructionsAtTimeout = 0;
};

inline CtaAsync& asyncOf(Cta& cta) {
  if (!cta.async) cta.async = std::make_shared<CtaAsync>();
  return *cta.async;
}
inline WarpAsync& asyncOf(Warp& w) {
  if (!w.async) w.async = std::make_shared<WarpAsync>();
  return *w.async;
}

}  // namespace dsvc::emulator
