// mbarriers: what arrivals release and waits acquire, the visibility of their initialisation, and proxy fences.
#include <algorithm>

#include "races.h"

namespace dsvc::emulator {

namespace {
bool says(const DecodedInsn& d, Modifier m) { return std::find(d.modifiers.begin(), d.modifiers.end(), m) != d.modifiers.end(); }
}  // namespace

RaceMbarrier* RaceCheck::mbarrierOf(Cta& cta, uint32_t offset) {
  auto& all = blockOf(cta).mbarriers;
  auto it = all.find(offset);
  return it == all.end() ? nullptr : &it->second;
}

void RaceCheck::onMbarrierInit(Warp& w, const Insn& i, int lane, Cta& cta, uint32_t offset, bool inval) {
  RaceWarp& rw = warpOf(w);
  RaceBlock& block = blockOf(cta);
  Access how{AccessKind::write};
  Touch t;
  Record r = records_[recordOf(rw, w, i, how)];
  const auto l = static_cast<uint32_t>(lane);
  if (inval) {
    if (RaceMbarrier* b = mbarrierOf(cta, offset)) usesMbarrier(w, i, lane, cta, *b, offset);
    block.mbarriers.erase(offset);
    uint64_t count;
    for (uint64_t at = offset; at < offset + 8; at += 4) {
      Cell& c = *block.shadow.cells(at, count);
      store_.unsplit(c);
      c = {word::one(recordOf(rw, w, i, how), l, Spread::full), 0};
    }
    return;
  }
  t.record = recordOf(rw, w, i, how);
  t.mine = r;
  t.warp = &rw;
  t.shadow = &block.shadow;
  t.cta = &cta;
  range(t, offset, 8, l, 1u << lane, Spread::full);
  // From now on its bytes are only for mbarrier instructions.
  r.mbarrier = true;
  const uint32_t record = addRecord(r);
  uint64_t count;
  for (uint64_t at = offset; at < offset + 8; at += 4) {
    Cell& c = *block.shadow.cells(at, count);
    store_.unsplit(c);
    c = {word::one(record, l, Spread::full), 0};
  }
  RaceMbarrier b;
  b.entity = newEntities(1);
  b.initRecord = record;
  b.initLane = lane;
  b.initCount = ++block.inits;
  block.mbarriers[offset] = b;
  auto known = std::make_shared<Clock>();
  known->raise(block.initEntity, b.initCount);
  acquire(rw, 1u << lane, w.live, known);
}

// The init must be known to whoever uses the object.
void RaceCheck::usesMbarrier(const Record& me, int lane, const Clock& clock, Cta& cta, RaceMbarrier& b, uint32_t offset) {
  const RaceBlock& block = blockOf(cta);
  if (clock.knows(block.initEntity, 0, b.initCount)) return;
  const bool other = me.actor->blockNumber != block.actor->blockNumber;
  say("emu/missing-mbarrier-init-fence", Severity::error, me, lane, records_[b.initRecord], b.initLane,
      format("the mbarrier at shared offset 0x%x%s is used, but nothing orders that after its mbarrier.init", offset,
             other ? format(" of block rank %u", cta.rank).c_str() : ""),
      cta.cluster->ctas.size() > 1
          ? "after mbarrier.init execute fence.mbarrier_init.release.cluster, then barrier.cluster.arrive and .wait in every block"
          : "put bar.sync (between lanes of one warp bar.warp.sync) between mbarrier.init and its first use by other threads");
}

void RaceCheck::usesMbarrier(Warp& w, const Insn& i, int lane, Cta& cta, RaceMbarrier& b, uint32_t offset) {
  const auto& rw = *static_cast<RaceWarp*>(w.races);
  if (rw.of(lane)->knows(blockOf(cta).initEntity, 0, b.initCount)) return;
  Record me;
  me.insn = &w.decoded(i);
  me.actor = rw.actor;
  usesMbarrier(me, lane, *rw.of(lane), cta, b, offset);
}

// Phases before `phase` have completed: what was released up to each is what its waits acquire.
void RaceCheck::moveTo(RaceMbarrier& b, uint64_t phase) {
  while (b.phase < phase) {
    b.completed[b.phase & 3] = b.current;
    ++b.phase;
  }
}

void RaceCheck::onMbarrierArrive(Warp& w, const Insn& i, int lane, Cta& cta, uint32_t offset, uint64_t phase, Order order, Scope scope) {
  RaceMbarrier* b = mbarrierOf(cta, offset);
  if (!b) return;
  usesMbarrier(w, i, lane, cta, *b, offset);
  moveTo(*b, phase);
  if (order == Order::relaxed) return arriveRelaxed(w, lane, *b);
  // Lanes arrive one after the other in one instruction: their clock moves on when they do something else.
  auto& rw = *static_cast<RaceWarp*>(w.races);
  // The scope that is not written is .cta, yet common code arrives at other blocks' mbarriers without one: only a
  // written .cta is held against it.
  if (&cta != &w.cta && scope == Scope::cta && says(w.decoded(i), Modifier::cta_)) {
    joinInto(own(b->current).narrow, released(rw, lane));
  } else {
    joinInto(b->current, rw.of(lane));
    addOwn(own(b->current), rw, 1u << lane, rw.exists);
  }
  rw.arrived = true;
  rw.actor->arrived = rw.clock;
}

// Releases what a fence before it has made releasable.
void RaceCheck::arriveRelaxed(Warp& w, int lane, RaceMbarrier& b) {
  auto& rw = *static_cast<RaceWarp*>(w.races);
  if (!rw.sync) return;
  for (size_t s = static_cast<size_t>(Scope::cta); s < 5; ++s) joinInto(b.current, markedClock(rw, lane, s));
}

void RaceCheck::onMbarrierWait(Warp& w, const Insn& i, int lane, Cta& cta, uint32_t offset, uint64_t phase, Order order, Scope) {
  RaceMbarrier* b = mbarrierOf(cta, offset);
  if (!b) return;
  usesMbarrier(w, i, lane, cta, *b, offset);
  moveTo(*b, phase + 1);
  RaceWarp& rw = warpOf(w);
  ClockPointer& c = b->completed[phase & 3];
  // Copies that the phase counted are done.
  if (!c || !c->knows(b->entity, 0, static_cast<uint32_t>(phase) + 1)) own(c).raise(b->entity, static_cast<uint32_t>(phase) + 1);
  if (order == Order::relaxed) return joinInto(syncOf(rw, lane).observed[static_cast<size_t>(Scope::cta)], c);
  acquire(rw, 1u << lane, w.live, c);
}

void RaceCheck::onCopyArrive(Warp& w, const Insn& i, int lane, Cta& cta, uint32_t offset, uint64_t phase) {
  RaceMbarrier* b = mbarrierOf(cta, offset);
  if (!b) return;
  usesMbarrier(w, i, lane, cta, *b, offset);
  moveTo(*b, phase);
  RaceWarp& rw = warpOf(w);
  LaneClocks copies;
  copies.known.fill(rw.copies);
  own(b->current).raiseLanes(rw.entity + kOfCopies, 1u << lane, false, copies);
}

// The lanes' accesses so far, and the cp.asyncs that they know to be done, may be followed by the async proxy.
void RaceCheck::onProxyFence(Warp& w, const Insn&, Mask m, ProxyFence kind, Order, Scope) {
  RaceWarp& rw = warpOf(w);
  if (kind == ProxyFence::mbarrierInit) {
    rw.block->fencedInits = rw.block->inits;
    return;
  }
  if (kind == ProxyFence::alias || kind == ProxyFence::tensormap) return;
  // Of global memory only the warp's last fence is remembered.
  if (kind != ProxyFence::asyncShared) rw.actor->globalFenced = rw.clock;
  if (kind == ProxyFence::asyncGlobal) {
    ++rw.clock;
    return;
  }
  for (int l : lanesOf(m)) {
    rw.fenced[static_cast<size_t>(l)] = rw.clock;
    rw.copied.fenced[static_cast<size_t>(l)] = rw.copied.known[static_cast<size_t>(l)];
  }
  ++rw.clock;
  if (copyEntities_.empty()) return;
  // cp.async writes when it completes, so whoever knows of that can fence it.
  ClockPointer last, made;
  for (int l : lanesOf(m)) {
    const ClockPointer before = rw.of(l);
    if (before != last) {
      last = before;
      made = nullptr;
      for (const ClockEntry& e : before->entries) {
        if (!copyEntities_.contains(e.entity)) continue;
        ClockEntry& f = own(made).at(e.entity);
        f.fenced = f.known = e.known;
        if (e.lanes) {
          auto lanes = std::make_shared<LaneClocks>(*e.lanes);
          lanes->fenced = lanes->known;
          f.lanes = std::move(lanes);
        }
      }
    }
    if (made) acquire(rw, 1u << l, w.live, made);
  }
}

}  // namespace dsvc::emulator
