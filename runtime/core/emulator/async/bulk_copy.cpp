// cp.async.bulk, cp.reduce.async.bulk and cp.async.bulk.prefetch over plain byte ranges.
#include <cinttypes>

#include "bulk.h"
#include "family.h"
#include "mbarrier.h"
#include "reduction.h"

namespace dsvc::emulator {

std::vector<Destination> destinationsOf(Warp& w, const Insn& i, int lane, const Place& to, uint64_t bytes, uint64_t barrierAddress,
                                        bool multicast, uint32_t mask) {
  std::vector<Destination> found;
  if (!multicast) {
    MbarrierPlace barrier = locateMbarrier(w, i, lane, Space::sharedCluster, barrierAddress);
    if (!barrier) return found;
    if (barrier.cta != to.cta)
      w.report(i, lane, Severity::warning, "emu/copy-signals-other-block",
               format("the copy writes to block rank %u but signals an mbarrier of block rank %u", to.cta->rank, barrier.cta->rank),
               "name an mbarrier of the block that gets the bytes");
    found.push_back({regionOf(to), promise(*barrier.cta, *barrier.barrier)});
    return found;
  }
  uint32_t barrierOffset = 0;
  if (!locateMbarrierBytes(w, i, lane, Space::sharedCluster, barrierAddress, barrierOffset).cta) return found;
  const auto& ctas = w.cta.cluster->ctas;
  uint32_t exist = ctas.size() >= 32 ? ~0u : (1u << ctas.size()) - 1;
  mask &= 0xffff;
  if (mask & ~exist) {
    w.report(i, lane, Severity::error, "emu/multicast-mask",
             format("the multicast mask 0x%04x names blocks that the cluster of %zu does not have", mask, ctas.size()),
             "set one bit for each block rank of the cluster that gets the copy");
    return found;
  }
  if (mask == 0)
    w.report(i, lane, Severity::error, "emu/multicast-mask", "the multicast mask is empty: nothing is copied", "set one bit for each block rank that gets the copy");
  for (uint32_t rank = 0; rank < ctas.size(); ++rank) {
    if (!(mask >> rank & 1)) continue;
    // The same offsets in each block; the addresses' own rank does not matter.
    uint64_t at = uint64_t{rank} << shared::kRankShift;
    Place p = w.locate(i, lane, Space::sharedCluster, at | to.offset, static_cast<uint32_t>(bytes), 16, AccessKind::write);
    if (!p.bytes) continue;
    MbarrierPlace b = locateMbarrier(w, i, lane, Space::sharedCluster, at | barrierOffset);
    if (!b) continue;
    found.push_back({regionOf(p), promise(*b.cta, *b.barrier)});
  }
  return found;
}

void tellTarget(Machine& machine, uint64_t id, const Destination& d) {
  if (!machine.checks) return;
  Misuse misuse;
  if (const Mbarrier* b = findMbarrier(*d.signal.cta, d.signal.offset, misuse))
    machine.checks->onTarget(id, d.to, *d.signal.cta, d.signal.offset, b->phase);
}

void storeLater(Machine& machine, std::shared_ptr<AsyncOperation> operation, std::function<void()> read, std::function<void()> write) {
  postLater(machine, [&machine, operation, read = std::move(read), write = std::move(write)] {
    read();
    operation->read = true;
    machine.changed();
    postLater(machine, [&machine, operation, write] {
      write();
      operation->done = true;
      machine.changed();
    });
  });
}

namespace {

struct BulkCopy : Extra {
  AddressOperand to, from, barrier;
  Space toSpace = Space::generic, fromSpace = Space::generic;
  Slot bytes = slot::kNone, mask = slot::kNone;
  bool multicast = false, strictlyRemote = false;
  Reduce reduce = nullptr;
  uint32_t element = 1;
};

// What a copy under way needs.
struct Transfer {
  Origin origin;
  uint64_t id;
  Region from, to;
  Signal signal;
  uint64_t bytes;
  Reduce reduce;
};

void put(const Transfer& t, const Region& to, Cargo& cargo) {
  Checks* o = t.origin.machine->checks.get();
  if (o) o->onTransfer(t.id, to, 0, t.bytes, t.reduce ? AccessKind::atomic : AccessKind::write);
  if (t.reduce) {
    Cargo old(t.bytes);
    to.load(0, old.data.data(), old.known.data(), t.bytes);
    t.reduce(old.data.data(), cargo.data.data(), t.bytes);
    for (size_t k = 0; k < t.bytes; ++k) cargo.known[k] &= old.known[k];
    cargo.data = std::move(old.data);
  }
  to.save(0, cargo.data.data(), cargo.known.data(), t.bytes);
  t.origin.saved(to, 0, cargo.known.data(), t.bytes);
}
void take(const Transfer& t, Cargo& cargo) {
  if (Checks* o = t.origin.machine->checks.get()) o->onTransfer(t.id, t.from, 0, t.bytes, AccessKind::read);
  t.from.load(0, cargo.data.data(), cargo.known.data(), t.bytes);
}

// The size, when it is one.
bool sizeOfCopy(Warp& w, const Insn& i, int l, const BulkCopy& x, uint32_t& n) {
  n = w.in<uint32_t>(x.bytes)[l];
  if (n % 16 == 0) return true;
  w.report(i, l, Severity::error, "emu/bulk-size", format("the bulk copy's size is %u bytes", n), "bulk copies move multiples of 16 bytes");
  return false;
}

Flow copyToShared(Warp& w, const Insn& i, Mask m) {
  const auto& x = extraOf<BulkCopy>(i);
  for (int l : lanesOf(m)) {
    uint32_t n = 0;
    if (!sizeOfCopy(w, i, l, x, n)) continue;
    Place from = w.locate(i, l, x.fromSpace, x.from.of(w, l), n, 16, AccessKind::read);
    Place to = w.locate(i, l, x.toSpace, x.to.of(w, l), n, 16, AccessKind::write);
    if (!from.bytes || !to.bytes) continue;
    if (x.strictlyRemote && to.cta == &w.cta) {
      w.report(i, l, Severity::error, "emu/bulk-to-self", "a copy from shared::cta to shared::cluster whose destination is the own block",
               "name another block's memory (mapa), or copy with ld and st");
      continue;
    }
    uint64_t id = nextOperation();
    if (Checks* o = w.machine.checks.get()) o->onIssue(id, w, i, 1u << l, Proxy::async);
    uint32_t mask = x.multicast ? w.in<uint32_t>(x.mask)[l] : 0;
    for (Destination& d : destinationsOf(w, i, l, to, n, x.barrier.of(w, l), x.multicast, mask)) {
      tellTarget(w.machine, id, d);
      auto t = std::make_shared<Transfer>(Transfer{Origin(w, i, l), id, regionOf(from), d.to, d.signal, n, x.reduce});
      postLater(w.machine, [t] {
        if (hasExited(t->origin, t->to, t->bytes)) return;
        Cargo cargo(t->bytes);
        take(*t, cargo);
        put(*t, t->to, cargo);
        signalBytes(t->origin, t->id, t->signal, t->bytes);
      });
    }
  }
  return Flow::next;
}

Flow copyToGlobal(Warp& w, const Insn& i, Mask m) {
  const auto& x = extraOf<BulkCopy>(i);
  for (int l : lanesOf(m)) {
    uint32_t n = 0;
    if (!sizeOfCopy(w, i, l, x, n)) continue;
    Place from = w.locate(i, l, x.fromSpace, x.from.of(w, l), n, 16, AccessKind::read);
    Place to = w.locate(i, l, x.toSpace, x.to.of(w, l), n, 16, x.reduce ? AccessKind::atomic : AccessKind::write);
    if (!from.bytes || !to.bytes) continue;
    auto t = std::make_shared<Transfer>(Transfer{Origin(w, i, l), nextOperation(), regionOf(from), regionOf(to), {}, n, x.reduce});
    auto cargo = std::make_shared<Cargo>(n);
    auto operation = std::make_shared<AsyncOperation>();
    asyncOf(w).bulk[l].add(operation);
    if (Checks* o = w.machine.checks.get()) o->onIssue(t->id, w, i, 1u << l, Proxy::async);
    storeLater(
        w.machine, operation,
        [t, cargo] {
          warnAboutExit(t->origin, t->from, t->bytes);
          take(*t, *cargo);
        },
        [t, cargo] { put(*t, t->to, *cargo); });
  }
  return Flow::next;
}

// Moves nothing that a program can see; the rules still hold.
Flow prefetch(Warp& w, const Insn& i, Mask m) {
  const auto& x = extraOf<BulkCopy>(i);
  for (int l : lanesOf(m)) {
    uint32_t n = 0;
    if (!sizeOfCopy(w, i, l, x, n)) continue;
    uint64_t from = x.from.of(w, l);
    if (from % 16)
      w.report(i, l, Severity::error, "emu/misaligned", format("a bulk prefetch from 0x%" PRIx64, from), "bulk addresses are multiples of 16");
  }
  return Flow::next;
}

}  // namespace

void resolveBulkCopy(Resolve& r) {
  auto& x = r.extra<BulkCopy>();
  if (r.has(Modifier::prefetch_)) {
    x.from = addressAt(r, 0);
    x.bytes = r.source(1, Type::u32);
    r.out.run = prefetch;
    return;
  }
  x.toSpace = spaceAt(r, 0);
  x.fromSpace = spaceAt(r, 1);
  x.to = addressAt(r, 0);
  x.from = addressAt(r, 1);
  x.bytes = r.source(2, Type::u32);
  bool toGlobal = x.toSpace == Space::global && x.fromSpace == Space::shared && r.has(Modifier::bulk_group_);
  bool toShared = (x.toSpace == Space::shared || x.toSpace == Space::sharedCluster) &&
                  (x.fromSpace == Space::global || (x.fromSpace == Space::shared && x.toSpace == Space::sharedCluster)) &&
                  r.has(Modifier::mbarrier__complete_tx__bytes_);
  if (!toGlobal && !toShared) r.unsupported("no bulk copy goes between these spaces with this completion");
  if (r.has(Modifier::reduce_)) {
    Type t = r.type(0);
    x.element = sizeOf(t);
    x.reduce = reduceOf(reductionOf(r), t);
    bool half = t == Type::f16 || t == Type::bf16;
    bool wide = sizeOf(t) == 8 && !(t == Type::u64 && r.has(Modifier::add_));
    if (!x.reduce || x.fromSpace != Space::shared || (toShared && (isFloat(t) || wide)) ||
        (half && r.has(Modifier::add_) && !r.has(Modifier::noftz_)))
      r.unsupported("no bulk reduction has this operation and type");
  }
  x.strictlyRemote = x.fromSpace == Space::shared && toShared;
  if (toShared) {
    x.barrier = addressAt(r, 3);
    x.multicast = r.has(Modifier::multicast__cluster_);
    if (x.multicast) {
      if (x.toSpace != Space::sharedCluster || x.fromSpace != Space::global) r.unsupported("only copies from global to shared::cluster are multicast");
      x.mask = r.source(4, Type::u16);
    }
    r.out.run = copyToShared;
  } else {
    r.out.run = copyToGlobal;
  }
}

}  // namespace dsvc::emulator
