// Releases and acquires at memory locations, and fences.
//
// A releasing write, or a fence and then a strong write, leaves the thread's clock at the location; an acquiring read, or
// a strong read and then a fence, takes it. Both sides' scopes must span the two threads: a clock that only fails that is
// kept as `narrow`, so that a race that it would have prevented is reported as one of scope. Reads are taken to see
// the latest write, which is so here.
#include <algorithm>

#include "races.h"

namespace dsvc::emulator {

namespace {
bool releases(Order o) { return o == Order::release || o == Order::acquireRelease; }
bool acquires(Order o) { return o == Order::acquire || o == Order::acquireRelease; }
}  // namespace

LaneSync& RaceCheck::syncOf(RaceWarp& rw, int lane) {
  if (!rw.sync) rw.sync = std::make_unique<std::array<LaneSync, 32>>();
  return (*rw.sync)[static_cast<size_t>(lane)];
}

void RaceCheck::releaseAt(std::vector<Released>& list, const RaceWarp& rw, const ClockPointer& clock, Scope scope) {
  const Actor& a = *rw.actor;
  const uint64_t domain = scope == Scope::cta ? a.blockNumber : scope == Scope::cluster ? a.cluster : scope == Scope::gpu ? a.device : 0;
  for (Released& r : list)
    if (r.scope == static_cast<uint32_t>(scope) && r.domain == domain) {
      if (r.block != a.blockNumber) r.block = 0;
      if (r.cluster != a.cluster) r.cluster = 0;
      joinInto(r.clock, clock);
      return;
    }
  list.push_back({static_cast<uint32_t>(scope), domain, a.blockNumber, a.cluster, a.device, clock});
}

void RaceCheck::acquireFrom(RaceWarp& rw, Warp& w, int lane, const std::vector<Released>& list, Order order, Scope scope) {
  const Actor& a = *rw.actor;
  for (const Released& r : list) {
    const Scope least = r.block == a.blockNumber ? Scope::cta : r.cluster == a.cluster ? Scope::cluster : r.device == a.device ? Scope::gpu : Scope::sys;
    const bool wide = static_cast<Scope>(r.scope) >= least && scope >= least;
    ClockPointer from = r.clock;
    if (!wide) {
      from = std::make_shared<Clock>();
      from->narrow = r.clock;
    }
    if (acquires(order)) {
      acquire(rw, 1u << lane, w.live, from);
    } else {
      // A fence must follow, whose scope counts too.
      joinInto(syncOf(rw, lane).observed[static_cast<size_t>(least)], from);
    }
  }
}

ClockPointer RaceCheck::markedClock(RaceWarp& rw, int lane, size_t scope) {
  const LaneSync::Mark& mark = syncOf(rw, lane).released[scope];
  if (!mark.before) return nullptr;
  auto c = std::make_shared<Clock>(*mark.before);
  LaneClocks mine;
  mine.known.fill(mark.clock);
  mine.fenced.fill(mark.fenced);
  c->raiseLanes(rw.entity, 1u << lane, false, mine);
  return c;
}

void RaceCheck::synchronise(Warp& w, RaceWarp& rw, const Accesses& a, Shadow& shadow) {
  const bool reads = a.how.kind != AccessKind::write, writes = a.how.kind != AccessKind::read;
  const Scope scope = a.how.scope == Scope::thread ? (a.how.kind == AccessKind::atomic ? Scope::gpu : Scope::sys) : a.how.scope;
  const bool strong = a.how.order != Order::weak || a.how.kind == AccessKind::atomic;
  bool released = false;
  for (int l : lanesOf(a.lanes)) {
    const uint64_t at = a.offsets[l] & ~3ull;
    if (!strong) {
      if (writes) shadow.locations.erase(at);
      continue;
    }
    if (reads)
      if (auto it = shadow.locations.find(at); it != shadow.locations.end()) acquireFrom(rw, w, l, it->second, a.how.order, scope);
    if (!writes) continue;
    // An atomic update goes on with the release sequence that it read from; a plain write begins anew.
    std::vector<Released> now;
    if (releases(a.how.order)) {
      releaseAt(now, rw, this->released(rw, l), scope);
      released = true;
    }
    if (rw.sync)
      for (size_t s = 0; s < 5; ++s)
        if (const ClockPointer c = markedClock(rw, l, s)) releaseAt(now, rw, c, std::min(static_cast<Scope>(s), scope));
    if (a.how.kind == AccessKind::write) {
      if (now.empty()) shadow.locations.erase(at);
      else shadow.locations[at] = std::move(now);
    } else if (!now.empty()) {
      auto& list = shadow.locations[at];
      for (const Released& r : now) releaseAt(list, rw, r.clock, static_cast<Scope>(r.scope));
    }
  }
  if (released) ++rw.clock;
}

void RaceCheck::passMarks(std::unique_ptr<FenceMarks>& into, RaceWarp& rw, Mask m) {
  for (int l : lanesOf(m)) {
    LaneSync& s = syncOf(rw, l);
    for (size_t k = 0; k < 5; ++k) {
      const bool releases = s.fresh && s.released[k].before;
      if (!releases && !s.observed[k]) continue;
      if (!into) into = std::make_unique<FenceMarks>();
      if (s.observed[k]) joinInto(into->observed[k], s.observed[k]);
      if (!releases) continue;
      const LaneSync::Mark& mark = s.released[k];
      joinInto(into->released[k], mark.before);
      LaneClocks mine;
      mine.known.fill(mark.clock);
      mine.fenced.fill(mark.fenced);
      own(into->released[k]).raiseLanes(rw.entity, 1u << l, false, mine);
    }
    s.fresh = false;
  }
}

void RaceCheck::takeMarks(const FenceMarks& from, RaceWarp& rw, Mask m) {
  for (int l : lanesOf(m)) {
    LaneSync& s = syncOf(rw, l);
    for (size_t k = 0; k < 5; ++k) {
      joinInto(s.released[k].before, from.released[k]);
      joinInto(s.observed[k], from.observed[k]);
    }
  }
}

void RaceCheck::onFence(Warp& w, const Insn&, Mask m, Order order, Scope scope) {
  RaceWarp& rw = warpOf(w);
  if (order != Order::release && rw.sync)
    for (int l : lanesOf(m)) {
      LaneSync& s = syncOf(rw, l);
      for (size_t need = 0; need < 5; ++need) {
        if (!s.observed[need]) continue;
        ClockPointer from = s.observed[need];
        if (scope < static_cast<Scope>(need)) {
          from = std::make_shared<Clock>();
          from->narrow = s.observed[need];
        }
        acquire(rw, 1u << l, w.live, from);
        s.observed[need] = nullptr;
      }
    }
  if (order != Order::acquire) {
    for (int l : lanesOf(m)) {
      LaneSync& s = syncOf(rw, l);
      s.released[static_cast<size_t>(scope)] = {rw.of(l), rw.clock, rw.fenced[static_cast<size_t>(l)]};
      s.fresh = true;
    }
    ++rw.clock;
  }
}

}  // namespace dsvc::emulator
