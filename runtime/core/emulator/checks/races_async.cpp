// Asynchronous operations. Each has its own record, made when it is issued, whose entity is what completes it: an
// mbarrier's phase, a lane's commit groups, a warpgroup's products. So its accesses are known to those that waited.
#include <bit>

#include "races.h"

namespace dsvc::emulator {

namespace {
bool isCopy(const DecodedInsn& d) { return d.mnemonic == Mnemonic::cp_; }
}  // namespace

RaceOperation* RaceCheck::operation(uint64_t id) {
  id /= kLanes;
  if (recentOperationAt_ && recentOperation_ == id) return recentOperationAt_;
  auto it = operations_.find(id);
  if (it == operations_.end()) return nullptr;
  recentOperation_ = id;
  return recentOperationAt_ = &it->second;
}

// Those that have run: an operation's last event is due a bounded time after its issue.
void RaceCheck::forgetOperations() {
  constexpr size_t kMany = 4096;
  constexpr uint64_t kLongest = 16384;  // ticks; twice what postLater allows, and more
  if (operations_.size() < kMany || operations_.size() < 2 * kept_) return;
  const uint64_t now = machine_.engine.now();
  std::erase_if(operations_, [&](const auto& o) { return o.second.issued + kLongest < now; });
  kept_ = operations_.size();
  recentOperationAt_ = nullptr;
}

void RaceCheck::onIssue(uint64_t id, Warp& w, const Insn& i, Mask m, Proxy proxy) {
  RaceWarp& rw = warpOf(w);
  const DecodedInsn& d = w.decoded(i);
  forgetOperations();
  RaceOperation o;
  o.lanes = m;
  o.issued = machine_.engine.now();
  for (int lane : lanesOf(m)) {
    const auto l = static_cast<size_t>(lane);
    o.issuers.push_back({rw.of(lane), rw.entity, rw.clock, rw.fenced[l], rw.copied.known[l], rw.copied.fenced[l]});
  }
  Record read, write;
  read.insn = &d;
  read.actor = rw.actor;
  read.proxy = proxy;
  read.asynchronous = true;
  read.used = ++now_;
  write = read;
  write.kind = AccessKind::write;
  if (proxy == Proxy::generic && isCopy(d)) {  // cp.async
    read.entity = write.entity = rw.entity + kOfCopies;
    read.clock = write.clock = ++rw.copies;
    copyEntities_.insert(read.entity);
  } else if (proxy != Proxy::generic) {
    // What a commit group completes; onTarget changes it where an mbarrier does.
    read.entity = rw.entity + kOfBulkReads;
    write.entity = rw.entity + kOfBulk;
    read.clock = write.clock = ++rw.bulk;
  }
  o.read = addRecord(read);
  o.write = addRecord(write);
  operations_[id / kLanes] = std::move(o);
  recentOperationAt_ = nullptr;
  ++rw.clock;  // what the lanes do from now on is not before it
}

void RaceCheck::onTarget(uint64_t id, const Region& to, Cta& cta, uint32_t offset, uint64_t phase) {
  RaceOperation* o = operation(id);
  if (!o || !cta.races) return;
  RaceMbarrier* b = mbarrierOf(cta, offset);
  if (!b) return;
  Record r = records_[o->write];
  usesMbarrier(r, std::countr_zero(o->lanes), *o->issuers[0].clock, cta, *b, offset);
  r.entity = b->entity;
  r.clock = static_cast<uint32_t>(phase) + 1;
  if (o->targets.empty()) {
    records_[o->read].entity = r.entity;
    records_[o->read].clock = r.clock;
  }
  o->targets.push_back({to.cta.get(), addRecord(r)});
}

void RaceCheck::onTransfer(uint64_t id, const Region& region, uint64_t at, uint64_t bytes, AccessKind kind) {
  RaceOperation* o = operation(id);
  Shadow* shadow = shadowOf(region);
  if (!o || !shadow || !bytes) return;
  uint32_t record = kind == AccessKind::read ? o->read : o->write;
  if (kind != AccessKind::read)
    for (const RaceOperation::Target& target : o->targets)
      if (target.to == region.cta.get()) record = target.record;
  if (kind == AccessKind::atomic) {
    // Asynchronous reductions are relaxed at the scope of the device (red.async: of the cluster, which is enough).
    Record& r = records_[record];
    r.kind = kind;
    r.strong = true;
    r.scope = Scope::gpu;
  }
  if (kind == AccessKind::read && !records_[o->write].source) {
    const uint64_t source = reinterpret_cast<uintptr_t>(shadow) + (region.offset + at) * 0x9e3779b97f4a7c15ull;
    records_[o->write].source = source;
    for (const RaceOperation::Target& target : o->targets) records_[target.record].source = source;
  }
  // A bulk operation's only lane; the lane that the id names of cp.async.
  const uint32_t lane = std::has_single_bit(o->lanes) ? static_cast<uint32_t>(std::countr_zero(o->lanes)) : static_cast<uint32_t>(id % kLanes);
  Touch t;
  t.record = record;
  t.mine = records_[record];
  t.issuer = &o->of(lane);
  t.shadow = shadow;
  t.cta = region.cta.get();
  t.allocation = region.allocation;
  range(t, region.offset + at, bytes, lane, 1u << lane, Spread::full);
}

// Its writes are done, in this phase of the mbarrier: the one at its issue, unless the program counts its bytes wrongly.
void RaceCheck::onSignal(uint64_t id, Cta& cta, uint32_t offset, uint64_t phase) {
  RaceOperation* o = operation(id);
  if (!o || !cta.races) return;
  RaceMbarrier* b = mbarrierOf(cta, offset);
  if (!b) return;
  for (const RaceOperation::Target& target : o->targets) {
    Record& r = records_[target.record];
    if (r.entity == b->entity && r.clock <= phase) r.clock = static_cast<uint32_t>(phase) + 1;
  }
}

// --- commit groups -----------------------------------------------------------------------------------------------------

void RaceCheck::onGroupCommit(Warp& w, const Insn&, Mask m, bool bulk) {
  RaceWarp& rw = warpOf(w);
  auto& groups = bulk ? rw.bulkGroups : rw.copyGroups;
  if (!groups) groups = std::make_unique<std::array<std::deque<uint32_t>, 32>>();
  for (int l : lanesOf(m)) (*groups)[static_cast<size_t>(l)].push_back(bulk ? rw.bulk : rw.copies);
}

void RaceCheck::onGroupWait(Warp& w, const Insn& i, Mask m, bool bulk, bool readOnly) {
  RaceWarp& rw = warpOf(w);
  auto& groups = bulk ? rw.bulkGroups : rw.copyGroups;
  if (!groups) return;
  const auto pending = static_cast<size_t>(i.immediate);
  // Lanes that waited for the same number of operations learn the same.
  Mask left = m;
  while (left) {
    const auto first = static_cast<size_t>(std::countr_zero(left));
    auto& mine = (*groups)[first];
    const uint32_t done = mine.size() > pending ? mine[mine.size() - pending - 1] : 0;
    Mask same = 0;
    for (int l : lanesOf(left)) {
      auto& other = (*groups)[static_cast<size_t>(l)];
      const uint32_t theirs = other.size() > pending ? other[other.size() - pending - 1] : 0;
      if (theirs == done) same |= 1u << l;
    }
    left &= ~same;
    // Each lane has waited for its own operations only.
    for (int l : lanesOf(done ? same : 0)) {
      LaneClocks mine;
      mine.known.fill(done);
      if (!bulk) {
        rw.copied.known[static_cast<size_t>(l)] = done;
        continue;
      }
      auto c = std::make_shared<Clock>();
      c->raiseLanes(rw.entity + kOfBulkReads, 1u << l, false, mine);
      if (!readOnly) c->raiseLanes(rw.entity + kOfBulk, 1u << l, false, mine);
      acquire(rw, 1u << l, w.live, c);
    }
    for (int l : lanesOf(same)) {
      auto& list = (*groups)[static_cast<size_t>(l)];
      while (list.size() > pending + 1) list.pop_front();
    }
  }
}

// --- tensor cores ------------------------------------------------------------------------------------------------------

void RaceCheck::onProduct(Warp& w, const Insn& i, uint64_t number, const std::vector<uint32_t>& chunks) {
  RaceWarp& rw = warpOf(w);
  RaceBlock& block = *rw.block;
  const size_t group = w.index / 4;
  while (block.warpgroups.size() <= group) block.warpgroups.push_back(newEntities(1));
  Record r;
  r.entity = block.warpgroups[group];
  r.clock = static_cast<uint32_t>(number) + 1;
  r.insn = &w.decoded(i);
  r.actor = rw.actor;
  r.proxy = Proxy::tensorCore;
  r.asynchronous = true;
  r.used = ++now_;
  const ClockPointer clock = collective(rw, w.live);
  Touch t;
  t.record = addRecord(r);
  t.mine = r;
  t.warp = &rw;
  t.clock = clock.get();
  t.collective = true;
  t.shadow = &block.shadow;
  t.cta = &w.cta;
  for (uint32_t at : chunks) range(t, at, 16, 0, 1, Spread::full);
}

void RaceCheck::onProductWait(Warp& w, const Insn&, uint64_t waited) {
  RaceWarp& rw = warpOf(w);
  const size_t group = w.index / 4;
  if (!waited || rw.block->warpgroups.size() <= group) return;
  auto c = std::make_shared<Clock>();
  c->raise(rw.block->warpgroups[group], static_cast<uint32_t>(waited));
  acquire(rw, w.live, w.live, c);
}

}  // namespace dsvc::emulator
