// Data races, by vector clocks over what the PTX memory model orders: program order of a thread, bar.warp.sync, barriers
// of blocks and clusters, mbarriers, release and acquire patterns with their scopes, and the completion mechanisms of
// asynchronous operations. Results do not depend on when a transfer happens to run: it is checked against what its
// issuer knew, and what it did is known to those that waited for its completion.
//
//   races.cpp         launches, blocks, warps and what orders their lanes
//   races_memory.cpp  accesses on their way over shadow cells
//   races_order.cpp   when two accesses conflict
//   races_location.cpp  fences, releases and acquires at memory locations
//   races_async.cpp   copies, commit groups, tensor cores
//   races_mbarrier.cpp  mbarriers
//   races_report.cpp  what is said
#pragma once
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "../async/copy.h"
#include "race_state.h"

namespace dsvc::emulator {

class RaceCheck : public Checks {
 public:
  explicit RaceCheck(Machine& machine);

  void onAccess(Warp&, const Insn&, const Accesses&) override;
  void onFence(Warp&, const Insn&, Mask, Order, Scope) override;
  void onProxyFence(Warp&, const Insn&, Mask, ProxyFence, Order, Scope) override;
  void onBarrier(Cta&, uint32_t, uint64_t, Warp&, const Insn&, Mask, bool arrive, bool leave) override;
  void onWarpSync(Warp&, const Insn&, Mask) override;
  void onIssue(uint64_t, Warp&, const Insn&, Mask, Proxy) override;
  void onTarget(uint64_t, const Region&, Cta&, uint32_t, uint64_t) override;
  void onTransfer(uint64_t, const Region&, uint64_t, uint64_t, AccessKind) override;
  void onSignal(uint64_t, Cta&, uint32_t, uint64_t) override;
  void onMbarrierInit(Warp&, const Insn&, int, Cta&, uint32_t, bool) override;
  void onMbarrierArrive(Warp&, const Insn&, int, Cta&, uint32_t, uint64_t, Order, Scope) override;
  void onMbarrierWait(Warp&, const Insn&, int, Cta&, uint32_t, uint64_t, Order, Scope) override;
  void onCopyArrive(Warp&, const Insn&, int, Cta&, uint32_t, uint64_t) override;
  void onGroupCommit(Warp&, const Insn&, Mask, bool) override;
  void onGroupWait(Warp&, const Insn&, Mask, bool, bool) override;
  void onProduct(Warp&, const Insn&, uint64_t, const std::vector<uint32_t>&) override;
  void onProductWait(Warp&, const Insn&, uint64_t) override;
  void onCtaStart(Cta&) override;
  void onCtaEnd(Cta&) override;
  void onGridEnd(Grid&) override;

 private:
  Machine& machine_;
  std::deque<Actor> actors_;
  std::deque<Record> records_;
  std::vector<uint32_t> freeRecords_;
  static constexpr size_t kCollect = 1 << 21;
  size_t collectAt_ = kCollect;
  ShadowStore store_;
  std::unordered_map<const Allocation*, std::unique_ptr<Shadow>> allocations_;
  const Allocation* recentAllocation_ = nullptr;
  Shadow* recentShadow_ = nullptr;
  std::unordered_map<const Cta*, std::unique_ptr<RaceBlock>> blocks_;
  // Blocks that have ended, kept for copies that may still read or write their memory.
  struct Ended {
    std::shared_ptr<Cta> cta;
    std::unique_ptr<RaceBlock> block;
  };
  std::deque<Ended> ended_;
  void dropEnded(size_t most);
  std::unordered_map<const Cluster*, RaceBarrier> clusterBarriers_;
  std::unordered_map<uint64_t, RaceOperation> operations_;
  uint64_t recentOperation_ = 0;
  size_t kept_ = 0;  // operations left by the last sweep
  RaceOperation* recentOperationAt_ = nullptr;
  uint32_t entities_ = 1;
  std::unordered_map<const Cluster*, uint64_t> clusterNumbers_;
  uint64_t nextCluster_ = 0, nextBlock_ = 0;
  std::unordered_set<uint32_t> copyEntities_;  // of cp.async
  uint64_t now_ = 0;
  std::set<std::string> chosen_;  // codes to look for; empty: all
  std::map<std::pair<const char*, const DecodedInsn*>, size_t> said_;  // where in the machine's reports

  // --- clocks ---------------------------------------------------------------------------------------------------
  uint32_t newEntities(uint32_t n);
  RaceBlock& blockOf(Cta& cta);
  RaceWarp& warpOf(Warp& w) {
    auto& rw = *static_cast<RaceWarp*>(w.races);
    rw.clock += rw.arrived;
    rw.arrived = false;
    return rw;
  }
  // Adds the lanes' own epochs to a clock.
  void addOwn(Clock& c, const RaceWarp& rw, Mask m, Mask live) const;
  // The lane's clock with its own epochs: what it releases.
  ClockPointer released(const RaceWarp& rw, int lane) const;
  // Joins what the lanes release into a clock.
  void release(ClockPointer& into, RaceWarp& rw, Mask m, Mask live);
  void acquire(RaceWarp& rw, Mask m, Mask live, const ClockPointer& from);
  void setClock(RaceWarp& rw, Mask m, Mask live, const ClockPointer& to);
  void unify(RaceWarp& rw, Mask live);
  RaceBarrier::Generation& generationOf(RaceBarrier& b, uint64_t generation);
  // A warp's knowledge as one: for instructions of the whole warp.
  ClockPointer collective(RaceWarp& rw, Mask live);
  struct Memo {
    const Clock* before = nullptr;
    const Clock* source = nullptr;
    ClockPointer after, held, heldSource;
  } memo_;

  // --- records --------------------------------------------------------------------------------------------------
  uint32_t recordOf(RaceWarp& rw, Warp& w, const Insn& i, const Access& how);
  uint32_t addRecord(const Record& r);
  void collect();

  // --- memory ---------------------------------------------------------------------------------------------------
  Shadow* shadowOf(const Accesses& a);
  Shadow* shadowOf(const Region& r);
  void dense(Touch& t, const Accesses& a, uint32_t bytes);
  void sparse(Touch& t, const Accesses& a);
  // Lanes `lanes` (one, or several that access the same bytes) access [offset, offset + bytes).
  void range(Touch& t, uint64_t offset, uint64_t bytes, uint32_t lane, Mask lanes, Spread spread);
  template <bool Write>
  void cellSlow(Touch& t, Cell& c, uint64_t offset, uint32_t lane, Mask lanes, Spread spread);
  void cellWhole(Touch& t, Cell& c, uint64_t offset, uint32_t lane, Mask lanes, Spread spread, uint32_t bytes);
  bool againstWord(Touch& t, uint64_t w, uint64_t offset, uint32_t lane, Mask lanes, Spread spread, uint32_t bytes, bool atomics, bool reads);
  bool inOrder(Touch& t, uint32_t lane, uint32_t record, uint32_t otherLane, uint64_t offset);
  uint64_t withReader(Touch& t, uint64_t w, uint32_t lane, Mask lanes, Spread spread);
  bool readerGone(Touch& t, uint32_t lane, Mask lanes, const Reader& r, uint32_t base);
  const Clock* clockOf(const Touch& t, uint32_t lane) const;
  bool equalValues(const Accesses& a, const Warp& w, int x, int y) const;
  bool rewrites(const Touch& t, uint32_t lane, uint64_t offset) const;

  // --- locations ------------------------------------------------------------------------------------------------
  void synchronise(Warp& w, RaceWarp& rw, const Accesses& a, Shadow& shadow);
  void releaseAt(std::vector<Released>& list, const RaceWarp& rw, const ClockPointer& clock, Scope scope);
  void acquireFrom(RaceWarp& rw, Warp& w, int lane, const std::vector<Released>& list, Order order, Scope scope);
  LaneSync& syncOf(RaceWarp& rw, int lane);
  // What the lane's last fence of the scope made releasable; null: there was none.
  ClockPointer markedClock(RaceWarp& rw, int lane, size_t scope);
  void passMarks(std::unique_ptr<FenceMarks>& into, RaceWarp& rw, Mask m);
  void takeMarks(const FenceMarks& from, RaceWarp& rw, Mask m);

  // --- asynchronous ---------------------------------------------------------------------------------------------
  RaceOperation* operation(uint64_t id);
  void forgetOperations();
  RaceMbarrier* mbarrierOf(Cta& cta, uint32_t offset);
  void usesMbarrier(const Record& me, int lane, const Clock& clock, Cta& cta, RaceMbarrier& b, uint32_t offset);
  void usesMbarrier(Warp& w, const Insn& i, int lane, Cta& cta, RaceMbarrier& b, uint32_t offset);
  void arriveRelaxed(Warp& w, int lane, RaceMbarrier& b);
  void moveTo(RaceMbarrier& b, uint64_t phase);

  // --- reports --------------------------------------------------------------------------------------------------
  // True when nothing more is to be said: the code is not looked for, or was reported here before and is counted.
  bool silent(const char* code, const DecodedInsn* at);
  Site siteOf(const Record& r, int lane) const;
  void say(const char* code, Severity severity, const Record& at, int lane, const Record& other, int otherLane, const std::string& message,
           const std::string& fix);
  enum class Problem { race, scope, proxyFence, proxyFenceAfterRead, nonCoherent, equalValues, mbarrier };
  void conflict(Touch& t, uint32_t lane, uint32_t record, uint32_t otherLane, uint64_t offset, Problem p);
  std::string place(const Touch& t, uint64_t offset) const;
};

}  // namespace dsvc::emulator
