// cp.async (4, 8 or 16 bytes a thread), its link to mbarriers, and the commit groups of cp.async and of bulk copies.
#include <cinttypes>

#include "family.h"
#include "mbarrier.h"

namespace dsvc::emulator {

namespace {

struct SmallCopy : Extra {
  AddressOperand to, from;
  Space toSpace = Space::shared;
  uint32_t bytes = 0;
  Slot sourceBytes = slot::kNone;  // how many come from the source; the rest is zeros
  Slot ignore = slot::kNone;       // predicate: all zeros
};

// One warp instruction's copies, which complete together.
struct SmallCopies {
  Origin origin;
  uint64_t id;
  std::shared_ptr<AsyncOperation> operation;
  struct One {
    Region to, from;
    uint32_t bytes, fromSource, lane;
  };
  std::vector<One> list;
};

void finish(AsyncOperation& o, Machine& machine) {
  o.read = o.done = true;
  auto after = std::move(o.whenDone);
  o.whenDone.clear();
  machine.changed();
  for (auto& f : after) f();
}

void runCopies(const SmallCopies& c) {
  Machine& machine = *c.origin.machine;
  Checks* o = machine.checks.get();
  for (const auto& one : c.list) {
    if (hasExited(c.origin, one.to, one.bytes)) continue;
    uint8_t data[16] = {}, known[16];
    for (uint8_t& k : known) k = 1;
    if (one.fromSource) {
      if (o) o->onTransfer(c.id + one.lane, one.from, 0, one.fromSource, AccessKind::read);
      one.from.load(0, data, known, one.fromSource);
    }
    if (o) o->onTransfer(c.id + one.lane, one.to, 0, one.bytes, AccessKind::write);
    one.to.save(0, data, known, one.bytes);
  }
  finish(*c.operation, machine);
}

Flow copySmall(Warp& w, const Insn& i, Mask m) {
  const auto& x = extraOf<SmallCopy>(i);
  auto c = std::make_shared<SmallCopies>(SmallCopies{Origin(w, i, -1), nextOperation(), std::make_shared<AsyncOperation>(), {}});
  WarpAsync& mine = asyncOf(w);
  for (int l : lanesOf(m)) {
    uint32_t take = x.bytes;
    if (x.sourceBytes != slot::kNone) {
      take = w.in<uint32_t>(x.sourceBytes)[l];
      if (take > x.bytes) {
        w.report(i, l, Severity::error, "emu/copy-size", format("the source size is %u, more than the %u bytes copied", take, x.bytes),
                 "the source size is at most the copy's size");
        continue;
      }
    }
    if (x.ignore != slot::kNone && (w.predicate(x.ignore) >> l & 1)) take = 0;
    Place to = w.locate(i, l, x.toSpace, x.to.of(w, l), x.bytes, x.bytes, AccessKind::write);
    Place from;
    // Bytes that are not read may lie anywhere, but the address must still be aligned.
    uint64_t source = x.from.of(w, l);
    if (take) from = w.locate(i, l, Space::global, source, take, 1, AccessKind::read);
    if (source % x.bytes != 0)
      w.report(i, l, Severity::error, "emu/misaligned", format("cp.async of %u bytes from 0x%" PRIx64, x.bytes, source),
               "align the source to the size of the copy");
    if (!to.bytes || (take && !from.bytes)) continue;
    c->list.push_back({regionOf(to), regionOf(from), x.bytes, take, static_cast<uint32_t>(l)});
  }
  for (int l : lanesOf(m)) mine.copies[l].add(c->operation);
  if (Checks* o = w.machine.checks.get()) o->onIssue(c->id, w, i, m, Proxy::generic);
  postLater(w.machine, [c] { runCopies(*c); });
  return Flow::next;
}

struct Link : Extra {
  AddressOperand barrier;
  Space space = Space::generic;
  bool noinc = false;
};

// An arrival for each thread, once its cp.asyncs so far are done.
Flow linkToBarrier(Warp& w, const Insn& i, Mask m) {
  const auto& x = extraOf<Link>(i);
  WarpAsync& mine = asyncOf(w);
  for (int l : lanesOf(m)) {
    MbarrierPlace p = locateMbarrier(w, i, l, x.space, x.barrier.of(w, l));
    if (!p) continue;
    if (p.cta != &w.cta) {
      w.report(i, l, Severity::error, "emu/mbarrier-remote", format("cp.async.mbarrier.arrive on the mbarrier of block rank %u", p.cta->rank),
               "cp.async can only signal an mbarrier of the own block");
      continue;
    }
    Misuse misuse;
    if (!x.noinc) addPending(*p.cta, *p.barrier, misuse);
    if (misuse) {
      w.report(i, l, Severity::error, misuse.code, misuse.message, misuse.fix);
      continue;
    }
    struct Arrival {
      Origin origin;
      uint64_t id;
      Signal signal;
      size_t left;
    };
    auto waits = mine.copies[l].unfinished();
    auto a = std::make_shared<Arrival>(Arrival{Origin(w, i, l), nextOperation(), promise(*p.cta, *p.barrier), waits.size()});
    if (Checks* o = w.machine.checks.get()) o->onCopyArrive(w, i, l, *p.cta, p.barrier->offset, p.barrier->phase);
    Machine& machine = w.machine;
    auto arrive = [a, &machine] { postLater(machine, [a] { signalArrival(a->origin, a->id, a->signal); }); };
    if (waits.empty()) arrive();
    for (auto& op : waits)
      op->whenDone.push_back([a, arrive] {
        if (--a->left == 0) arrive();
      });
  }
  return Flow::next;
}

constexpr uint32_t kBulk = 1, kReadOnly = 2, kAll = 4;

CommitGroups* groupsOf(Warp& w, const Insn& i) { return i.flags & kBulk ? asyncOf(w).bulk : asyncOf(w).copies; }

Flow commit(Warp& w, const Insn& i, Mask m) {
  CommitGroups* groups = groupsOf(w, i);
  for (int l : lanesOf(m)) groups[l].commit();
  if (Checks* o = w.machine.checks.get()) o->onGroupCommit(w, i, m, i.flags & kBulk);
  return Flow::next;
}

Flow waitGroups(Warp& w, const Insn& i, Mask m) {
  CommitGroups* groups = groupsOf(w, i);
  Path& path = w.path();
  if ((i.flags & kAll) && path.stage == 0) {
    for (int l : lanesOf(m)) groups[l].commit();
    if (Checks* o = w.machine.checks.get()) o->onGroupCommit(w, i, m, i.flags & kBulk);
  }
  path.stage = 1;
  for (int l : lanesOf(m))
    if (!groups[l].settled(static_cast<size_t>(i.immediate), i.flags & kReadOnly)) return w.block(WaitKind::asyncGroup);
  path.stage = 0;
  if (Checks* o = w.machine.checks.get()) o->onGroupWait(w, i, m, i.flags & kBulk, i.flags & kReadOnly);
  return Flow::next;
}

}  // namespace

void resolveAsyncCopy(Resolve& r) {
  auto& x = r.extra<SmallCopy>();
  x.toSpace = spaceAt(r, 0);
  if (x.toSpace != Space::shared) r.unsupported("cp.async writes to the own block's shared memory");
  x.to = addressAt(r, 0);
  x.from = addressAt(r, 1);
  int64_t n = r.constant(2);
  if (!(n == 16 || (r.has(Modifier::ca_) && (n == 4 || n == 8)))) r.unsupported(".ca copies 4, 8 or 16 bytes, .cg 16");
  x.bytes = static_cast<uint32_t>(n);
  // Then src-size or ignore-src, then the cache policy.
  bool policy = r.has(Modifier::L2__cache_hint_);
  if (r.operands() > (policy ? 4u : 3u)) {
    const Operand& o = r.operand(3);
    bool isPredicate = (o.kind == OperandKind::reg && o.cls == 0) || o.kind == OperandKind::notPredicate;
    if (isPredicate) x.ignore = r.predicate(3);
    else x.sourceBytes = r.source(3, Type::u32);
  }
  r.out.run = copySmall;
}

void resolveCopyMbarrier(Resolve& r) {
  auto& x = r.extra<Link>();
  x.space = spaceAt(r, 0);
  x.noinc = r.has(Modifier::noinc_);
  x.barrier = addressAt(r, 0);
  r.out.run = linkToBarrier;
}

void resolveCopyGroup(Resolve& r) {
  r.out.flags = (r.has(Modifier::bulk_) ? kBulk : 0) | (r.has(Modifier::read_) ? kReadOnly : 0);
  if (r.has(Modifier::commit_group_)) {
    r.out.run = commit;
    return;
  }
  if (r.has(Modifier::wait_all_)) {
    r.out.flags |= kAll;
  } else {
    r.out.immediate = r.constant(0);
    if (r.out.immediate < 0) r.unsupported("the number of groups is negative");
  }
  r.out.run = waitGroups;
}

void resolveCp(Resolve& r) {
  if (!r.has(Modifier::async_)) return;
  if (r.hasAny(Modifier::commit_group_, Modifier::wait_group_, Modifier::wait_all_)) return resolveCopyGroup(r);
  if (r.has(Modifier::tensor_)) return resolveTensorCopy(r);
  if (r.has(Modifier::bulk_)) return resolveBulkCopy(r);
  if (r.has(Modifier::mbarrier_)) return resolveCopyMbarrier(r);
  return resolveAsyncCopy(r);
}

}  // namespace dsvc::emulator
