#include "races.h"

#include <algorithm>
#include <bit>

#include "listeners.h"

namespace dsvc::emulator {

RaceCheck::RaceCheck(Machine& machine) : machine_(machine) {
  records_.emplace_back();
  bool all = false;
  for (const std::string& c : machine.options.checks) {
    all |= c == "all";
    chosen_.insert("emu/" + c);
  }
  if (all) chosen_.clear();
}

uint32_t RaceCheck::newEntities(uint32_t n) {
  uint32_t first = entities_;
  entities_ += n;
  return first;
}

RaceBlock& RaceCheck::blockOf(Cta& cta) {
  if (cta.races) return *static_cast<RaceBlock*>(cta.races);
  auto made = std::make_unique<RaceBlock>(cta.sharedBytes);
  RaceBlock& b = *made;
  auto [it, isNew] = clusterNumbers_.try_emplace(cta.cluster.get(), nextCluster_ + 1);
  if (isNew) ++nextCluster_;
  actors_.emplace_back();
  Actor& a = actors_.back();
  a.program = cta.grid->program;
  a.kernel = cta.grid->kernel;
  std::copy_n(cta.id, 3, a.block);
  a.blockNumber = ++nextBlock_;
  a.cluster = it->second;
  a.device = cta.grid->device->ordinal;
  b.actor = &a;
  b.initEntity = newEntities(1);
  cta.races = &b;
  blocks_[&cta] = std::move(made);
  return b;
}

void RaceCheck::onCtaStart(Cta& cta) {
  RaceBlock& b = blockOf(cta);
  // A peer may be reached before its first turn.
  for (auto& peer : cta.cluster->ctas) blockOf(*peer);
  for (auto& w : cta.warps) {
    auto made = std::make_unique<RaceWarp>();
    actors_.push_back(*b.actor);
    actors_.back().warp = static_cast<int32_t>(w->index);
    made->block = &b;
    made->actor = &actors_.back();
    made->entity = newEntities(kWarpEntities);
    made->exists = w->exists;
    made->all = std::make_shared<Clock>();
    w->races = made.get();
    b.warps.push_back(std::move(made));
  }
}

// Shadows of a cluster go when its last block ends (until then a peer may access them) and no copy is under way.
void RaceCheck::onCtaEnd(Cta& cta) {
  if (cta.cluster->alive > 1) return;
  constexpr size_t kMost = 64;
  for (auto& peer : cta.cluster->ctas) {
    for (auto& w : peer->warps) w->races = nullptr;
    auto it = blocks_.find(peer.get());
    if (it == blocks_.end()) continue;
    ended_.push_back({peer, std::move(it->second)});
    blocks_.erase(it);
  }
  dropEnded(machine_.engine.pending() ? kMost : 0);
  clusterBarriers_.erase(cta.cluster.get());
  clusterNumbers_.erase(cta.cluster.get());
}

void RaceCheck::dropEnded(size_t most) {
  while (ended_.size() > most) {
    ended_.front().cta->races = nullptr;
    ended_.pop_front();
  }
}

void RaceCheck::onGridEnd(Grid&) {
  dropEnded(0);
  allocations_.clear();
  recentAllocation_ = nullptr;
  operations_.clear();
  recentOperationAt_ = nullptr;
}

// --- what lanes know ---------------------------------------------------------------------------------------------------

ClockPointer RaceCheck::released(const RaceWarp& rw, int lane) const {
  auto c = std::make_shared<Clock>(*rw.of(lane));
  addOwn(*c, rw, 1u << lane, rw.exists);
  return c;
}

void RaceCheck::addOwn(Clock& c, const RaceWarp& rw, Mask m, Mask live) const {
  LaneClocks mine;
  mine.known.fill(rw.clock);
  mine.fenced = rw.fenced;
  c.raiseLanes(rw.entity, m, m == live, mine);
  if (rw.copies) c.raiseLanes(rw.entity + kOfCopies, m, m == live, rw.copied);
}

void RaceCheck::release(ClockPointer& into, RaceWarp& rw, Mask m, Mask live) {
  if (rw.uniform) {
    joinInto(into, rw.all);
  } else {
    const Clock* last = nullptr;
    for (int l : lanesOf(m)) {
      const ClockPointer& p = rw.lanes[static_cast<size_t>(l)];
      if (p.get() != last) joinInto(into, p);
      last = p.get();
    }
  }
  addOwn(own(into), rw, m, live);
}

void RaceCheck::unify(RaceWarp& rw, Mask live) {
  if (rw.uniform || !live) return;
  const ClockPointer& first = rw.lanes[static_cast<size_t>(std::countr_zero(live))];
  for (int l : lanesOf(live))
    if (rw.lanes[static_cast<size_t>(l)] != first) return;
  rw.all = first;
  rw.lanes.fill(nullptr);
  rw.uniform = true;
}

void RaceCheck::setClock(RaceWarp& rw, Mask m, Mask live, const ClockPointer& to) {
  if (m == live) {
    rw.all = to;
    if (!rw.uniform) rw.lanes.fill(nullptr);
    rw.uniform = true;
    return;
  }
  if (rw.uniform) {
    rw.lanes.fill(rw.all);
    rw.all = nullptr;
    rw.uniform = false;
  }
  for (int l : lanesOf(m)) rw.lanes[static_cast<size_t>(l)] = to;
  unify(rw, live);
}

// Lanes that knew the same go on sharing a clock: the last join is kept.
void RaceCheck::acquire(RaceWarp& rw, Mask m, Mask live, const ClockPointer& from) {
  if (!from) return;
  auto joined = [&](const ClockPointer& before) -> const ClockPointer& {
    if (memo_.before == before.get() && memo_.source == from.get()) return memo_.after;
    memo_.held = before;
    memo_.heldSource = from;
    memo_.before = before.get();
    memo_.source = from.get();
    if (before->covers(*from)) {
      memo_.after = before;
    } else if (from->covers(*before)) {
      memo_.after = from;
    } else {
      memo_.after = std::make_shared<Clock>(*before);
      memo_.after->join(*from);
    }
    return memo_.after;
  };
  if (rw.uniform) {
    ClockPointer after = joined(rw.all);
    if (after != rw.all) setClock(rw, m, live, after);
    return;
  }
  for (int l : lanesOf(m)) {
    ClockPointer& p = rw.lanes[static_cast<size_t>(l)];
    p = ClockPointer(joined(p));
  }
  if (m >> (31 - std::countl_zero(live)) & 1) unify(rw, live);
}

ClockPointer RaceCheck::collective(RaceWarp& rw, Mask live) {
  if (rw.uniform) return rw.all;
  ClockPointer c;
  for (int l : lanesOf(live)) joinInto(c, rw.lanes[static_cast<size_t>(l)]);
  return c;
}

// --- barriers ----------------------------------------------------------------------------------------------------------

// Only bar.warp.sync orders memory accesses of a warp's lanes. The ISA promises that for it and for barrier; of shfl,
// vote, match and redux the CUDA programming guide says that they order nothing, and of elect.sync and of the .aligned
// tensor-core instructions nothing is said.
void RaceCheck::onWarpSync(Warp& w, const Insn& i, Mask m) {
  const Mnemonic name = w.decoded(i).mnemonic;
  if (name != Mnemonic::bar_ && name != Mnemonic::barrier_) return;
  RaceWarp& rw = warpOf(w);
  ClockPointer c;
  release(c, rw, m, w.live);
  setClock(rw, m, w.live, c);
  if (rw.sync) {
    std::unique_ptr<FenceMarks> marks;
    passMarks(marks, rw, m);
    if (marks) takeMarks(*marks, rw, m);
  }
  ++rw.clock;
}

RaceBarrier::Generation& RaceCheck::generationOf(RaceBarrier& b, uint64_t generation) {
  RaceBarrier::Generation& g = b.generations[generation & 3];
  if (g.number != generation) {
    g.number = generation;
    g.clock = nullptr;
    g.marks = nullptr;
  }
  return g;
}

namespace {
bool says(const DecodedInsn& d, Modifier m) { return std::find(d.modifiers.begin(), d.modifiers.end(), m) != d.modifiers.end(); }
}  // namespace

void RaceCheck::onBarrier(Cta& cta, uint32_t barrier, uint64_t generation, Warp& w, const Insn& i, Mask m, bool arrive, bool leave) {
  RaceWarp& rw = warpOf(w);
  RaceBlock& block = blockOf(cta);
  const bool isCluster = barrier == 16;
  RaceBarrier& b = isCluster ? clusterBarriers_[cta.cluster.get()] : block.barriers[barrier];
  if (arrive) {
    RaceBarrier::Generation& g = generationOf(b, generation);
    ClockPointer& c = g.clock;
    if (isCluster && says(w.decoded(i), Modifier::relaxed_)) {
      // Releases nothing but the mbarrier inits that fence.mbarrier_init has made visible.
      if (block.fencedInits) own(c).raise(block.initEntity, block.fencedInits);
      return;
    }
    release(c, rw, m, w.live);
    if (rw.sync) passMarks(g.marks, rw, m);
    ++rw.clock;
  }
  if (leave) {
    const RaceBarrier::Generation& g = generationOf(b, generation);
    acquire(rw, m, w.live, g.clock);
    if (g.marks) takeMarks(*g.marks, rw, m);
  }
}

std::unique_ptr<Checks> makeRaceCheck(Machine& machine) {
  constexpr const char* kCodes[] = {"race-shared",         "race-global",        "race-async-shared",          "race-async-global",
                                    "race-tensor-core",    "race-scope",         "race-same-value",            "missing-proxy-fence",
                                    "read-before-async-write", "non-coherent-read", "missing-mbarrier-init-fence", "mbarrier-plain-access"};
  for (const char* code : kCodes)
    if (machine.options.checks_(code)) return std::make_unique<RaceCheck>(machine);
  return nullptr;
}

}  // namespace dsvc::emulator
