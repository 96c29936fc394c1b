// Barriers of a thread block (bar, barrier, named and reducing) and of a cluster (barrier.cluster).
#include "../barrier.h"

#include "lanes.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

enum class Reduce : uint8_t { none, all, any, count };
struct BarrierExtra : Extra {
  Slot id = slot::kNone, count = slot::kNone, predicate = slot::kNone;
  bool arriveOnly = false, aligned = false;
  Reduce reduce = Reduce::none;
};

// All lanes must agree on the barrier's number and count.
uint32_t uniform(Warp& w, const Insn& i, Slot s, Mask m, const char* what) {
  const uint32_t* v = w.in<uint32_t>(s);
  uint32_t first = v[std::countr_zero(m)];
  for (int l : lanesOf(m))
    if (v[l] != first) {
      w.report(i, l, Severity::error, "emu/barrier-operands", format("lanes of one warp give different %s: %u and %u", what, first, v[l]), "compute them from values that all lanes of the warp share");
      break;
    }
  return first;
}

Flow barrier(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<BarrierExtra>(i);
  Path& p = w.path();
  Cta& cta = w.cta;
  uint32_t id = p.stage == 0 ? uniform(w, i, e.id, m, "barrier numbers") : static_cast<uint32_t>(p.wait.id);
  if (p.stage == 0) {
    Flow otherwise;
    if (e.aligned && !w.converged(i, m, otherwise)) return otherwise;
    if (id > 15) {
      w.report(i, -1, Severity::error, "emu/barrier-operands", format("barrier %u: a block has barriers 0 to 15", id), "use one of the sixteen barriers");
      return Flow::next;
    }
    NamedBarrier& b = cta.barriers[id];
    uint32_t count = e.count == slot::kNone ? 0 : uniform(w, i, e.count, m, "thread counts");
    if (e.count != slot::kNone && (count == 0 || count % kLanes)) {
      w.report(i, -1, Severity::error, "emu/barrier-operands", format("a count of %u threads: it must be a multiple of 32", count), "count whole warps");
      return Flow::next;
    }
    bool reduces = e.reduce != Reduce::none;
    if (!b.first) {
      b.first = &i;
      b.expected = count;
      b.whole = count == 0;
      b.isReduction = reduces;
    } else if (b.expected != count || b.isReduction != reduces) {
      w.report(i, -1, Severity::error, "emu/barrier-operands",
               b.isReduction != reduces
                   ? format("barrier %u is used with and without .red in one generation", id)
                   : format("barrier %u: this warp gives a count of %u threads, an earlier one %u", id, count, b.expected),
               "use the same form and count in every warp, or another barrier");
      return Flow::next;
    }
    // With a count, a warp counts whole, as the ISA says; without, its threads that have not exited.
    uint32_t lanes = static_cast<uint32_t>(std::popcount(m));
    if (count && m == w.live) lanes = kLanes;
    b.arrived += lanes;
    if (count && b.arrived > b.expected) {
      w.report(i, -1, Severity::error, "emu/barrier-operands",
               format("barrier %u: %u threads arrived, %u were expected", id, b.arrived, b.expected),
               "let as many threads meet as the count says, and all give the same count");
      return Flow::next;
    }
    if (reduces) {
      Mask q = w.predicate(e.predicate) & m;
      b.population += static_cast<uint32_t>(std::popcount(q));
      b.all &= q == m;
      b.any |= q != 0;
    }
    uint64_t generation = b.generation;
    if (w.machine.checks) w.machine.checks->onBarrier(cta, id, generation, w, i, m, true, false);
    w.machine.changed();
    completeBarrier(w.machine, cta, id);
    if (e.arriveOnly) return Flow::next;
    p.token = generation;
    p.stage = 1;
    p.wait.id = id;
  }
  NamedBarrier& b = cta.barriers[id];
  if (b.generation == p.token) return w.block(WaitKind::barrier, id);
  if (w.machine.checks) w.machine.checks->onBarrier(cta, id, p.token, w, i, m, false, true);
  switch (e.reduce) {
    case Reduce::all: w.setPredicate(i.d, b.lastAll ? kFull : 0, m); break;
    case Reduce::any: w.setPredicate(i.d, b.lastAny ? kFull : 0, m); break;
    case Reduce::count: store<uint32_t>(w, i.d, m, [&](int) { return b.lastPopulation; }); break;
    case Reduce::none: break;
  }
  p.stage = 0;
  p.wait = {};
  return Flow::next;
}

// barrier.cluster: every thread of the cluster that has not exited arrives once and waits once per generation.
struct ClusterExtra : Extra {
  bool aligned = false;
};
Flow clusterArrive(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (extraOf<ClusterExtra>(i).aligned && !w.converged(i, m, otherwise)) return otherwise;
  Cluster& c = *w.cta.cluster;
  if (Mask twice = w.clusterArrived & m; twice) {
    w.report(i, std::countr_zero(twice), Severity::error, "emu/cluster-barrier",
             "barrier.cluster.arrive twice without barrier.cluster.wait between", "each arrive needs its own wait");
    return Flow::next;
  }
  for (int l : lanesOf(m)) w.clusterGeneration[l] = c.generation;
  w.clusterArrived |= m;
  c.arrived += static_cast<uint32_t>(std::popcount(m));
  if (w.machine.checks) w.machine.checks->onBarrier(w.cta, 16, c.generation, w, i, m, true, false);
  w.machine.changed();
  completeClusterBarrier(w.machine, c);
  return Flow::next;
}
Flow clusterWait(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (extraOf<ClusterExtra>(i).aligned && !w.converged(i, m, otherwise)) return otherwise;
  Cluster& c = *w.cta.cluster;
  if (Mask none = m & ~w.clusterArrived; none) {
    w.report(i, std::countr_zero(none), Severity::error, "emu/cluster-barrier", "barrier.cluster.wait without barrier.cluster.arrive before it", "arrive first");
    return Flow::next;
  }
  for (int l : lanesOf(m))
    if (w.clusterGeneration[l] == c.generation) return w.block(WaitKind::clusterBarrier);
  if (w.machine.checks) w.machine.checks->onBarrier(w.cta, 16, w.clusterGeneration[std::countr_zero(m)], w, i, m, false, true);
  w.clusterArrived &= ~m;
  return Flow::next;
}

void resolveBarrier(Resolve& r) {
  if (r.has(Modifier::cluster_)) {
    auto& e = r.extra<ClusterExtra>();
    e.aligned = r.has(Modifier::aligned_);
    r.out.run = r.has(Modifier::arrive_) ? clusterArrive : r.has(Modifier::wait_) ? clusterWait : nullptr;
    return;
  }
  if (r.has(Modifier::warp_)) return resolveWarpBarrier(r);
  auto& e = r.extra<BarrierExtra>();
  e.aligned = r.in.mnemonic == Mnemonic::bar_ || r.has(Modifier::aligned_);
  e.arriveOnly = r.has(Modifier::arrive_);
  if (r.has(Modifier::red_)) {
    // d, a{, b}, p
    size_t n = r.operands();
    e.reduce = r.has(Modifier::popc_) ? Reduce::count : r.has(Modifier::and_) ? Reduce::all : Reduce::any;
    e.id = r.source(1, Type::u32);
    if (n > 3) e.count = r.source(2, Type::u32);
    e.predicate = r.predicate(n - 1);
    r.out.d = r.destination(0, e.reduce == Reduce::count ? Type::u32 : Type::pred);
  } else {
    e.id = r.source(0, Type::u32);
    if (r.operands() > 1) e.count = r.source(1, Type::u32);
    else if (e.arriveOnly) r.unsupported("arrive needs a thread count");
  }
  r.out.run = barrier;
}

}  // namespace

void registerBarrier(Resolver& r) {
  r.add(Mnemonic::bar_, resolveBarrier);
  r.add(Mnemonic::barrier_, resolveBarrier);
}

}  // namespace dsvc::emulator::DSVC_ARCH
