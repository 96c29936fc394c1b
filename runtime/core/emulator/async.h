// Work that completes later than it was issued: bulk copies, cp.async, wgmma, st.async, red.async. Each is an event
// with a seeded, permuted delay; the machine runs due events between quanta, and the next one at once when nothing
// else can run. A deadlock is: no path can run and no event is pending.
//
// The families that issue such work keep their own state per thread block and per warp in CtaAsync and WarpAsync
// (defined by them), which Cta and Warp hold.
#pragma once
#include <cstdint>
#include <functional>
#include <queue>
#include <string>
#include <vector>

namespace dsvc::emulator {

struct CtaAsync;   // mbarriers' bookkeeping, ...: defined by the asynchronous family
struct WarpAsync;  // commit groups, wgmma groups, ...

class AsyncEngine {
 public:
  explicit AsyncEngine(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15ull + 0x1234567), seeded_(seed != 0) {}

  // Runs `complete` between `least` and `most` ticks from now (a tick is one turn of a warp), chosen by the seed.
  // Seed 0 takes the least delay, and the order of issue among equals. A CTA that the function touches must still be
  // there: capture its cluster (Cta::cluster, a shared_ptr): it keeps the CTAs, and they keep
  // their shared memory, until all of them have ended; then Cluster::ctas is empty.
  void post(uint64_t least, uint64_t most, std::function<void()> complete);
  // Runs what is due at the current tick; true when something ran.
  bool runDue();
  // Moves time to the next event and runs it; false when there is none.
  bool runNext();
  bool pending() const { return !queue_.empty(); }
  void tick(uint64_t n = 1) { now_ += n; }
  uint64_t now() const { return now_; }
  uint64_t completed = 0;  // events run so far
  // A seeded number, for families that permute inside one operation.
  uint64_t random();

 private:
  struct Event {
    uint64_t due, sequence;
    std::function<void()> complete;
    bool operator>(const Event& o) const { return due != o.due ? due > o.due : sequence > o.sequence; }
  };
  std::priority_queue<Event, std::vector<Event>, std::greater<>> queue_;
  uint64_t now_ = 0, sequence_ = 0, state_;
  bool seeded_;
  void runTop();
};

}  // namespace dsvc::emulator
