// Whether an access comes after those that the shadow remembers, and what it leaves there.
#include <bit>
#include <cstring>

#include "races.h"

namespace dsvc::emulator {

const Clock* RaceCheck::clockOf(const Touch& t, uint32_t lane) const {
  return t.clock ? t.clock : t.issuer ? t.issuer->clock.get() : t.warp->of(static_cast<int>(lane)).get();
}

// Whether the access is ordered after a lane's access of the record, or cannot conflict with it. Reports otherwise.
bool RaceCheck::inOrder(Touch& t, uint32_t lane, uint32_t record, uint32_t otherLane, uint64_t offset) {
  const Clock* clock = clockOf(t, lane);
  if (record == t.harmless && clock == t.harmlessTo) return true;
  const Record& r = records_[record];
  if (r.mbarrier) {
    conflict(t, lane, record, otherLane, offset, Problem::mbarrier);
    return false;
  }
  bool known = false, forAll = false;
  const ClockEntry* e = clock->find(r.entity);
  if (t.warp && r.entity == t.warp->entity && (otherLane == lane || t.collective)) {
    known = true;
  } else if (t.warp && r.entity == t.warp->entity + kOfCopies && (otherLane == lane || t.collective) && r.clock <= t.warp->copied.known[otherLane]) {
    known = true;
  } else if (t.issuer && otherLane == lane && (r.entity == t.issuer->entity ? r.clock <= t.issuer->count
                                               : r.entity == t.issuer->entity + kOfCopies && r.clock <= t.issuer->copied)) {
    known = true;
  } else if (e) {
    forAll = known = r.clock <= e->known;
    if (!known) known = e->knows(otherLane, r.clock);
  }
  if (!known) {
    if (r.strong && t.mine.strong) {
      const Actor &x = *t.mine.actor, &y = *r.actor;
      const Scope least = x.blockNumber == y.blockNumber ? Scope::cta
                          : x.cluster == y.cluster       ? Scope::cluster
                          : x.device == y.device         ? Scope::gpu
                                                         : Scope::sys;
      if (t.mine.scope >= least && r.scope >= least) return true;
      conflict(t, lane, record, otherLane, offset, Problem::scope);
      return false;
    }
    // A warp whose lanes all issue the same copy of the same bytes: needless, but nothing differs.
    if (r.source && r.source == t.mine.source && r.insn == t.mine.insn && r.actor == t.mine.actor) return true;
    bool narrow = clock->narrow && clock->narrow->knows(r.entity, otherLane, r.clock);
    bool equal = t.mine.kind == AccessKind::write && r.kind == AccessKind::write && rewrites(t, lane, offset);
    conflict(t, lane, record, otherLane, offset, narrow ? Problem::scope : equal ? Problem::equalValues : Problem::race);
    return false;
  }
  if (t.mine.proxy != Proxy::generic && r.proxy == Proxy::generic) {
    bool fenced = t.allocation && r.clock <= r.actor->globalFenced;
    if (t.allocation) forAll = false;
    else if (t.warp && r.entity == t.warp->entity) fenced = r.clock <= t.warp->fenced[otherLane];
    else if (t.warp && r.entity == t.warp->entity + kOfCopies) fenced = r.clock <= t.warp->copied.fenced[otherLane];
    else if (t.issuer && otherLane == lane && r.entity == t.issuer->entity) fenced = r.clock <= t.issuer->fenced;
    else if (t.issuer && otherLane == lane && r.entity == t.issuer->entity + kOfCopies) fenced = r.clock <= t.issuer->copiedFenced;
    if (!fenced && e && !t.allocation) fenced = e->fences(otherLane, r.clock);
    // Reads that an mbarrier hands over to the thread that fills the stage anew: what every pipeline does.
    if (!fenced && r.kind == AccessKind::read && r.actor->arrived >= r.clock) fenced = true;
    if (!fenced) {
      conflict(t, lane, record, otherLane, offset, r.kind == AccessKind::read ? Problem::proxyFenceAfterRead : Problem::proxyFence);
      return false;
    }
    if (!e || r.clock > e->fenced) forAll = false;
  }
  if ((t.mine.nonCoherent && r.kind != AccessKind::read) || (r.nonCoherent && t.mine.kind != AccessKind::read)) {
    conflict(t, lane, record, otherLane, offset, Problem::nonCoherent);
    return false;
  }
  if (forAll) {
    t.harmless = record;
    t.harmlessTo = clock;
  }
  return true;
}

// Checks lanes against all that a word names, but for atomic updates or plain reads. `bytes`: which of the cell's four are
// meant. False: one was not in order.
bool RaceCheck::againstWord(Touch& t, uint64_t w, uint64_t offset, uint32_t lane, Mask lanes, Spread spread, uint32_t bytes, bool atomics,
                            bool reads) {
  const bool oneClock = t.issuer || t.clock || t.warp->uniform;
  auto pair = [&](uint32_t record, Spread other, uint32_t otherLanes) {
    if (!(records_[record].kind == AccessKind::atomic ? atomics : reads)) return true;
    // Between strong accesses lanes make no difference.
    if (records_[record].strong && t.mine.strong) return inOrder(t, lane, record, static_cast<uint32_t>(std::countr_zero(otherLanes)), offset);
    if (oneClock && record == t.harmless && clockOf(t, lane) == t.harmlessTo) return true;
    const bool mineWhole = spread == Spread::full, otherWhole = other == Spread::full || other == Spread::any;
    for (uint32_t b = 0; b < 4; ++b) {
      if (!(bytes >> b & 1)) continue;
      const Mask mine = mineWhole ? lanes : 1u << ((lane + (b >> static_cast<uint32_t>(spread))) & 31);
      for (int l : lanesOf(mine)) {
        const auto me = static_cast<uint32_t>(l);
        if (otherWhole) {
          for (int o : lanesOf(otherLanes)) {
            const uint32_t whose = other == Spread::any && t.warp && records_[record].entity == t.warp->entity ? me : static_cast<uint32_t>(o);
            if (!inOrder(t, me, record, whose, offset + b)) return false;
          }
        } else {
          for (int o : lanesOf(std::rotl(otherLanes, static_cast<int>(b >> static_cast<uint32_t>(other)))))
            if (!inOrder(t, me, record, static_cast<uint32_t>(o), offset + b)) return false;
        }
      }
      if (mineWhole && otherWhole) break;
    }
    return true;
  };
  if ((w & word::kTag) == word::kOne) {
    return pair(word::id(w), word::spread(w), 1u << word::lane(w));
  } else if ((w & word::kTag) == word::kSet) {
    if (oneClock && t.harmlessSet == (word::kSet | word::id(w))) return true;
    const ReaderSet& set = store_.set(word::id(w));
    bool harmless = oneClock && atomics && reads;
    for (size_t k = 0; k < set.readers.size(); ++k) {
      const Reader r = set.readers[k];
      if (!pair(r.record, r.spread, std::rotl(r.lanes, static_cast<int>(word::lane(w))))) return false;
      harmless = harmless && r.record == t.harmless;
    }
    if (harmless) t.harmlessSet = word::kSet | word::id(w);
  }
  return true;
}

// Whether a reader need not be kept: the access that replaces it comes after it.
bool RaceCheck::readerGone(Touch& t, uint32_t lane, Mask lanes, const Reader& r, uint32_t base) {
  const Record& other = records_[r.record];
  if (other.nonCoherent != t.mine.nonCoherent) return false;
  const Clock* clock = clockOf(t, lane);
  const ClockEntry* e = clock->find(other.entity);
  if (e && other.clock <= e->known) return lanes == 1u << lane || !t.warp || t.warp->uniform;
  if (lanes != 1u << lane) {
    // A whole warp's access replaces an earlier one of the same lanes.
    return t.warp && other.entity == t.warp->entity && r.spread == Spread::full && (std::rotl(r.lanes, static_cast<int>(base)) & ~lanes) == 0;
  }
  if (t.warp && other.entity == t.warp->entity && r.spread == Spread::full && std::rotl(r.lanes, static_cast<int>(base)) == lanes) return true;
  return false;
}

uint64_t RaceCheck::withReader(Touch& t, uint64_t w, uint32_t lane, Mask lanes, Spread spread) {
  const bool alone = lanes == 1u << lane || spread < Spread::full;
  const uint64_t single = word::one(t.record, lane, spread);
  if (w == 0 && alone) return single;
  const uint64_t given = w ^ uint64_t{lane} << 40 ^ static_cast<uint64_t>(spread) << 50;
  if (!alone && t.group.from == given && t.group.lanes == lanes) return t.group.to;
  if ((w & word::kTag) == word::kSet)
    for (const Reader& r : store_.set(word::id(w)).readers)
      if (r.record == t.record && r.spread == spread && (std::rotl(r.lanes, static_cast<int>(word::lane(w))) & lanes) == lanes) return w;
  // The same with the lane taken out: neighbouring cells find it again.
  const uint32_t base = w ? word::lane(w) : 0;
  const uint64_t turned = (w & ~(31ull << 32)) | uint64_t{(lane - base) & 31} << 40 | static_cast<uint64_t>(spread) << 50;
  if (alone && t.added.from == turned && t.added.to) {
    if ((t.added.to & word::kTag) == word::kOne) return single;
    return word::set(word::id(t.added.to), (word::lane(t.added.to) + lane) & 31);
  }
  constexpr size_t kMost = 64;
  ReaderSet set;
  auto keep = [&](const Reader& r) {
    if (!readerGone(t, lane, lanes, r, base)) set.readers.push_back({r.record, std::rotl(r.lanes, static_cast<int>(base - lane) & 31), r.spread});
  };
  if ((w & word::kTag) == word::kOne) keep({word::id(w), 1u, word::spread(w)});
  else if (w)
    for (const Reader& r : store_.set(word::id(w)).readers) keep(r);
  const uint32_t mine = std::rotr(alone ? 1u << lane : lanes, static_cast<int>(lane));
  bool merged = false;
  for (Reader& r : set.readers) {
    const Record& other = records_[r.record];
    if (r.record == t.record ? r.spread != spread : other.entity != t.mine.entity || other.clock != t.mine.clock || other.kind != t.mine.kind || r.spread != spread) continue;
    r.lanes |= mine;
    merged = true;
    break;
  }
  if (!merged && set.readers.size() < kMost) set.readers.push_back({t.record, mine, spread});
  uint64_t made;
  if (set.readers.size() == 1 && std::popcount(set.readers[0].lanes) == 1 && set.readers[0].lanes == 1) {
    made = word::one(set.readers[0].record, lane, set.readers[0].spread);
  } else {
    for (const Reader& r : set.readers) set.atomics |= records_[r.record].kind == AccessKind::atomic;
    made = word::set(store_.intern(std::move(set)), lane);
  }
  if (!alone) t.group = {given, made, lanes};
  if (alone && (!t.warp || t.warp->uniform)) {
    t.added.from = turned;
    const bool isSingle = made == single;
    t.added.to = isSingle ? made : (made & word::kTag) == word::kSet ? word::set(word::id(made), 0) : 0;
  }
  return made;
}

bool RaceCheck::equalValues(const Accesses& a, const Warp& w, int x, int y) const {
  if (!a.partCount) return false;
  const uint32_t n = a.bytes / a.partCount;
  for (uint32_t k = 0; k < a.partCount; ++k) {
    const uint8_t* p = w.in<uint8_t>(a.parts[k]);
    const size_t stride = n == 16 ? 16 : n == 8 ? 8 : 4;
    if (std::memcmp(p + stride * static_cast<size_t>(x), p + stride * static_cast<size_t>(y), n)) return false;
  }
  return true;
}

// Whether the lane writes what the byte holds already.
bool RaceCheck::rewrites(const Touch& t, uint32_t lane, uint64_t offset) const {
  if (!t.accesses || !t.accesses->partCount) return false;
  const Accesses& a = *t.accesses;
  const uint64_t first = a.offsets[lane];
  const uint8_t* memory = a.cta ? a.cta->shared.get() : a.allocation ? a.allocation->bytes : nullptr;
  if (!memory || offset < first || offset >= first + a.bytes) return false;
  const uint32_t n = a.bytes / a.partCount;
  for (uint32_t k = 0; k < a.partCount; ++k) {
    const size_t stride = n == 16 ? 16 : n == 8 ? 8 : 4;
    if (std::memcmp(t.values->in<uint8_t>(a.parts[k]) + stride * lane, memory + first + uint64_t{k} * n, n)) return false;
  }
  return true;
}

}  // namespace dsvc::emulator
