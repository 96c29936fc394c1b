// Accesses on their way through the shadow.
#include <algorithm>
#include <bit>

#include "races.h"

namespace dsvc::emulator {

uint32_t RaceCheck::addRecord(const Record& r) {
  if (!freeRecords_.empty()) {
    const uint32_t id = freeRecords_.back();
    freeRecords_.pop_back();
    records_[id] = r;
    return id;
  }
  records_.push_back(r);
  return static_cast<uint32_t>(records_.size() - 1);
}

// Frees the records and sets that no cell, operation or warp names any more, when there are many.
void RaceCheck::collect() {
  if (records_.size() - freeRecords_.size() + store_.sets() < collectAt_) return;
  forgetOperations();
  std::vector<Shadow*> shadows;
  for (auto& [cta, block] : blocks_) shadows.push_back(&block->shadow);
  for (Ended& e : ended_) shadows.push_back(&e.block->shadow);
  for (auto& [allocation, shadow] : allocations_) shadows.push_back(shadow.get());
  store_.collect(shadows);
  std::vector<bool> used(records_.size(), false);
  used[0] = true;
  for (Shadow* s : shadows)
    s->eachCell([&](const Cell& c) { store_.eachRecord(c, [&](uint32_t record) { used[record] = true; }); });
  for (auto& [id, o] : operations_) {
    used[o.read] = used[o.write] = true;
    for (const RaceOperation::Target& t : o.targets) used[t.record] = true;
  }
  for (auto& [cta, block] : blocks_) {
    for (auto& [offset, b] : block->mbarriers) used[b.initRecord] = true;
    for (auto& w : block->warps)
      for (const RaceWarp::Cached& c : w->cache)
        if (c.clock == w->clock) used[c.record] = true;
  }
  for (Ended& e : ended_)
    for (auto& [offset, b] : e.block->mbarriers) used[b.initRecord] = true;
  freeRecords_.clear();
  for (uint32_t id = 0; id < used.size(); ++id)
    if (!used[id]) freeRecords_.push_back(id);
  collectAt_ = std::max(kCollect, 2 * (records_.size() - freeRecords_.size() + store_.sets()));
}

uint32_t RaceCheck::recordOf(RaceWarp& rw, Warp& w, const Insn& i, const Access& how) {
  const size_t hash = reinterpret_cast<uintptr_t>(&i) / sizeof(Insn);
  if (const RaceWarp::Cached& c = rw.cache[hash % rw.cache.size()]; c.insn == &i && c.clock == rw.clock) return c.record;
  // Two instructions that take turns on one place would need a record each time.
  constexpr size_t kMost = 4096;
  while (rw.cache.size() < kMost) {
    const RaceWarp::Cached& c = rw.cache[hash % rw.cache.size()];
    if (c.clock != rw.clock || c.insn == &i) break;
    std::vector<RaceWarp::Cached> more(rw.cache.size() * 2);
    for (const RaceWarp::Cached& old : rw.cache)
      if (old.insn) more[reinterpret_cast<uintptr_t>(old.insn) / sizeof(Insn) % more.size()] = old;
    rw.cache = std::move(more);
  }
  RaceWarp::Cached& c = rw.cache[hash % rw.cache.size()];
  Record r;
  r.entity = rw.entity;
  r.clock = rw.clock;
  r.insn = &w.decoded(i);
  r.actor = rw.actor;
  r.kind = how.kind;
  r.strong = how.order != Order::weak || how.kind == AccessKind::atomic;
  r.scope = how.scope;
  if (how.kind == AccessKind::atomic && how.scope == Scope::thread) r.scope = Scope::gpu;
  r.nonCoherent = how.nonCoherent;
  c = {&i, rw.clock, addRecord(r)};
  return c.record;
}

Shadow* RaceCheck::shadowOf(const Accesses& a) {
  if (a.cta) return &blockOf(*a.cta).shadow;
  if (!a.allocation || a.allocation->isConstant || a.space != Space::global) return nullptr;
  if (a.allocation == recentAllocation_) return recentShadow_;
  auto& s = allocations_[a.allocation];
  if (!s) s = std::make_unique<Shadow>(a.allocation->size);
  recentAllocation_ = a.allocation;
  return recentShadow_ = s.get();
}

Shadow* RaceCheck::shadowOf(const Region& r) {
  if (r.cta) return r.cta->races ? &static_cast<RaceBlock*>(r.cta->races)->shadow : nullptr;
  Accesses a;
  a.allocation = r.allocation;
  return shadowOf(a);
}

void RaceCheck::onAccess(Warp& w, const Insn& i, const Accesses& a) {
  Shadow* shadow = shadowOf(a);
  if (!shadow || !w.races) return;
  collect();
  RaceWarp& rw = warpOf(w);
  Touch t;
  t.record = recordOf(rw, w, i, a.how);
  records_[t.record].used = ++now_;
  t.mine = records_[t.record];
  t.warp = &rw;
  t.shadow = shadow;
  t.cta = a.cta;
  t.allocation = a.allocation;
  t.accesses = &a;
  t.values = &w;
  if (a.dense && a.lanes == kFull && a.bytes <= 16 && a.offsets[0] % 4 == 0) dense(t, a, a.bytes);
  else sparse(t, a);
  if (t.mine.strong || !shadow->locations.empty()) synchronise(w, rw, a, *shadow);
}

// One cell, or one byte of a split one, of which all is accessed alike.
void RaceCheck::cellWhole(Touch& t, Cell& c, uint64_t offset, uint32_t lane, Mask lanes, Spread spread, uint32_t bytes) {
  const bool writes = t.mine.kind == AccessKind::write;
  bool chain = false;
  if (t.mine.kind == AccessKind::atomic && (c.write & word::kTag) == word::kOne && word::id(c.write) == t.record) {
    // Another lane of the same instruction came first: what it met is in order for this one too.
    c.read = withReader(t, c.read, lane, lanes, spread);
    return;
  }
  if (c.write) {
    if (const uint32_t record = word::id(c.write); (c.write & word::kTag) == word::kOne && records_[record].mbarrier) {
      inOrder(t, lane, record, 0, offset);
      return;
    }
    // An atomic update that gives the old value saw all updates before it: who comes after it comes after them.
    const bool fine = againstWord(t, c.write, offset, lane, lanes, spread, bytes, true, true);
    chain = fine && (c.write & word::kTag) == word::kOne && records_[word::id(c.write)].kind == AccessKind::atomic &&
            records_[word::id(c.write)].insn->mnemonic == Mnemonic::atom_;
  }
  if (t.mine.kind == AccessKind::read) {
    if (!chain && (c.read & word::kTag) == word::kSet && store_.set(word::id(c.read)).atomics)
      againstWord(t, c.read, offset, lane, lanes, spread, bytes, true, false);
    c.read = withReader(t, c.read, lane, lanes, spread);
    return;
  }
  if (c.read) againstWord(t, c.read, offset, lane, lanes, spread, bytes, !chain, true);
  c.write = word::one(t.record, lane, lanes == 1u << lane || spread < Spread::full ? spread : Spread::any);
  c.read = writes ? 0 : withReader(t, c.read, lane, lanes, spread);
}

void RaceCheck::range(Touch& t, uint64_t offset, uint64_t bytes, uint32_t lane, Mask lanes, Spread spread) {
  while (bytes) {
    uint64_t count;
    Cell* c = t.shadow->cells(offset, count);
    if (offset % 4 == 0 && bytes >= 4) {
      for (; count && bytes >= 4; ++c, --count, offset += 4, bytes -= 4) {
        if ((c->write & word::kTag) != word::kSplit) {
          cellWhole(t, *c, offset, lane, lanes, spread, 15);
          continue;
        }
        auto part = [&](uint32_t b) {
          // The set of parts may grow: looked up anew for each.
          Cell one = store_.split(word::id(c->write))[b];
          const bool whole = spread == Spread::full || spread == Spread::any;
          const uint32_t l = whole ? lane : (lane + (b >> static_cast<uint32_t>(spread))) & 31;
          cellWhole(t, one, offset + b, l, whole ? lanes : 1u << l, Spread::full, 1);
          store_.split(word::id(c->write))[b] = one;
        };
        for (uint32_t b = 0; b < 4; ++b) part(b);
        if (t.mine.kind == AccessKind::write) {
          store_.unsplit(*c);
          c->write = word::one(t.record, lane, lanes == 1u << lane || spread < Spread::full ? spread : Spread::any);
        }
      }
      continue;
    }
    store_.splitOf(*c);
    const auto b = static_cast<uint32_t>(offset % 4);
    Cell one = store_.split(word::id(c->write))[b];
    cellWhole(t, one, offset, lane, lanes, Spread::full, 1);
    store_.split(word::id(c->write))[b] = one;
    ++offset;
    --bytes;
  }
}

// All 32 lanes, each with the bytes after the lane before. What is often so is done here: nothing there yet, or the
// same again, or something that is known to be in order.
void RaceCheck::dense(Touch& t, const Accesses& a, uint32_t bytes) {
  uint64_t offset = a.offsets[0];
  const uint32_t cellsPerLane = bytes >= 4 ? bytes / 4 : 1, lanesPerCell = bytes >= 4 ? 1 : 4 / bytes;
  const Spread spread = bytes >= 4 ? Spread::full : bytes == 2 ? Spread::half : Spread::quarter;
  const bool reads = t.mine.kind == AccessKind::read, writes = t.mine.kind == AccessKind::write;
  const bool plain = t.warp->uniform;
  const Clock* all = plain ? t.warp->all.get() : nullptr;
  uint64_t left = 32 * bytes / 4;
  uint32_t lane = 0, inLane = 0;
  while (left) {
    uint64_t count;
    Cell* c = t.shadow->cells(offset, count);
    if (count > left) count = left;
    left -= count;
    for (; count; --count, ++c, offset += 4) {
      const uint64_t w = c->write, r = c->read, mine = word::one(t.record, lane, spread);
      const bool writeFine = w == 0 || w == mine || (plain && (w & word::kTag) == word::kOne && word::id(w) == t.harmless && all == t.harmlessTo);
      if (writeFine && reads && (r == 0 || r == mine)) {
        c->read = mine;
      } else if (writeFine && writes && (r == 0 || r == mine || (plain && (r & word::kTag) == word::kOne && word::id(r) == t.harmless && all == t.harmlessTo))) {
        c->write = mine;
        c->read = 0;
      } else {
        range(t, offset, 4, lane, 1u << lane, spread);
      }
      if (++inLane == cellsPerLane) {
        inLane = 0;
        lane += lanesPerCell;
      }
    }
  }
}

void RaceCheck::sparse(Touch& t, const Accesses& a) {
  Mask left = a.lanes;
  while (left) {
    const int l = std::countr_zero(left);
    const uint64_t offset = a.offsets[l];
    Mask same = 0;
    for (int o : lanesOf(left)) same |= static_cast<Mask>(a.offsets[o] == offset) << o;
    left &= ~same;
    const auto lane = static_cast<uint32_t>(l);
    // Two lanes that share a cell are one word, as in dense accesses.
    if (a.bytes == 2 && offset % 4 == 0 && same == 1u << l && l < 31 && (left >> (l + 1) & 1) && a.offsets[l + 1] == offset + 2) {
      left &= ~(2u << l);
      range(t, offset, 4, lane, same, Spread::half);
      continue;
    }
    if (t.mine.kind == AccessKind::write && same != 1u << l)
      for (int o : lanesOf(same & (same - 1)))
        if (!equalValues(a, *t.values, l, o)) {
          conflict(t, static_cast<uint32_t>(o), t.record, lane, offset, Problem::race);
          break;
        }
    range(t, offset, a.bytes, lane, same, Spread::full);
  }
}

}  // namespace dsvc::emulator
