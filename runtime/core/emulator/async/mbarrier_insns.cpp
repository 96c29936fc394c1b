// mbarrier instructions but the waits.
#include <cinttypes>

#include "family.h"
#include "mbarrier.h"

namespace dsvc::emulator {

Order orderOf(const Resolve& r, Order whenAbsent) {
  if (r.has(Modifier::relaxed_)) return Order::relaxed;
  if (r.has(Modifier::acquire_)) return Order::acquire;
  if (r.has(Modifier::release_)) return Order::release;
  if (r.hasAny(Modifier::acq_rel_, Modifier::sc_)) return Order::acquireRelease;
  return whenAbsent;
}
Scope scopeOf(const Resolve& r, Scope whenAbsent) {
  if (r.has(Modifier::cta_)) return Scope::cta;
  if (r.has(Modifier::cluster_)) return Scope::cluster;
  if (r.has(Modifier::gpu_)) return Scope::gpu;
  if (r.has(Modifier::sys_)) return Scope::sys;
  return whenAbsent;
}

namespace {

enum class Kind : uint8_t { arrive, expectTx, completeTx };

struct Barrier : Extra {
  AddressOperand address;
  Space space = Space::generic;
  Kind kind = Kind::arrive;
  bool drop = false, expects = false, noComplete = false, sink = false;
  Slot count = slot::kNone;  // of arrivals, or bytes of a transaction
  Order order = Order::release;
  Scope scope = Scope::cta;
};

bool refused(Warp& w, const Insn& i, int lane, const Misuse& m) {
  if (!m) return false;
  w.report(i, lane, Severity::error, m.code, m.message, m.fix);
  return true;
}

Flow init(Warp& w, const Insn& i, Mask m) {
  const auto& x = extraOf<Barrier>(i);
  for (int l : lanesOf(m)) {
    uint32_t offset = 0;
    MbarrierPlace p = locateMbarrierBytes(w, i, l, x.space, x.address.of(w, l), offset);
    if (!p.cta) continue;
    if (p.cta != &w.cta) {
      w.report(i, l, Severity::error, "emu/mbarrier-remote", format("mbarrier.init on the shared memory of block rank %u", p.cta->rank),
               "let each block of the cluster init its own mbarriers");
      continue;
    }
    Misuse misuse;
    initMbarrier(w.cta, offset, w.in<uint32_t>(x.count)[l], w.site(i, l), misuse);
    if (refused(w, i, l, misuse)) continue;
    if (Checks* o = w.machine.checks.get()) o->onMbarrierInit(w, i, l, w.cta, offset, false);
  }
  return Flow::next;
}

Flow inval(Warp& w, const Insn& i, Mask m) {
  const auto& x = extraOf<Barrier>(i);
  for (int l : lanesOf(m)) {
    MbarrierPlace p = locateMbarrier(w, i, l, x.space, x.address.of(w, l));
    if (!p) continue;
    if (p.cta != &w.cta) {
      w.report(i, l, Severity::error, "emu/mbarrier-remote", format("mbarrier.inval on the shared memory of block rank %u", p.cta->rank),
               "let each block of the cluster invalidate its own mbarriers");
      continue;
    }
    Misuse misuse;
    uint32_t offset = p.barrier->offset;
    invalMbarrier(*p.cta, *p.barrier, misuse);
    if (refused(w, i, l, misuse)) continue;
    w.machine.changed();  // who still waits for it finds it gone
    if (Checks* o = w.machine.checks.get()) o->onMbarrierInit(w, i, l, w.cta, offset, true);
  }
  return Flow::next;
}

// One lane's arrive, arrive_drop, expect_tx or complete_tx.
void apply(Warp& w, const Insn& i, int l, const Barrier& x, MbarrierPlace p) {
  Misuse misuse;
  Mbarrier& b = *p.barrier;
  uint32_t n = x.count == slot::kNone ? 1 : w.in<uint32_t>(x.count)[l];
  if (x.kind == Kind::expectTx) {
    expectTx(w.machine, *p.cta, b, n, misuse);
  } else if (x.kind == Kind::completeTx) {
    completeTx(w.machine, *p.cta, b, n, misuse);
  } else {
    if (x.expects) {
      expectTx(w.machine, *p.cta, b, n, misuse);
      if (refused(w, i, l, misuse)) return;
      n = 1;
    }
    if (x.noComplete && b.pending == n && b.tx == 0)
      misuse = {"emu/mbarrier-no-complete", format("arrive.noComplete of %u completes the phase of %s", n, describe(b).c_str()),
                "use .noComplete only where other arrivals must still follow, else the plain form"};
    else if (x.drop)
      arriveAndDrop(w.machine, *p.cta, b, n, misuse);
    else
      arriveOn(w.machine, *p.cta, b, n, misuse);
  }
  refused(w, i, l, misuse);
}

Flow update(Warp& w, const Insn& i, Mask m) {
  const auto& x = extraOf<Barrier>(i);
  Checks* o = w.machine.checks.get();
  for (int l : lanesOf(m)) {
    MbarrierPlace p = locateMbarrier(w, i, l, x.space, x.address.of(w, l));
    if (!p) continue;
    if (x.kind == Kind::arrive && !x.sink && p.cta != &w.cta) {
      w.report(i, l, Severity::error, "emu/mbarrier-remote", format("an arrive on the mbarrier of block rank %u gives no state", p.cta->rank),
               "write _ as the destination, and let that block wait");
      continue;
    }
    if (x.kind == Kind::arrive && !x.sink) w.out<uint64_t>(i.d)[l] = stateOf(*p.barrier);
    if (o && x.kind == Kind::arrive) o->onMbarrierArrive(w, i, l, *p.cta, p.barrier->offset, p.barrier->phase, x.order, x.scope);
    apply(w, i, l, x, p);
  }
  return Flow::next;
}

Flow pendingCount(Warp& w, const Insn& i, Mask m) {
  for (int l : lanesOf(m)) w.out<uint32_t>(i.d)[l] = pendingOfState(w.in<uint64_t>(i.a)[l]);
  return Flow::next;
}

}  // namespace

void resolveMbarrier(Resolve& r) {
  if (r.hasAny(Modifier::test_wait_, Modifier::try_wait_)) return resolveMbarrierWait(r);
  if (r.has(Modifier::pending_count_)) {
    r.out.d = r.destination(0, Type::u32);
    r.out.a = r.source(1, Type::b64);
    r.out.run = pendingCount;
    return;
  }
  auto& x = r.extra<Barrier>();
  x.space = spaceAt(r, 0);
  x.order = orderOf(r, Order::release);
  x.scope = scopeOf(r, Scope::cta);
  if (r.hasAny(Modifier::arrive_, Modifier::arrive_drop_)) {
    x.drop = r.has(Modifier::arrive_drop_);
    x.expects = r.has(Modifier::expect_tx_);
    x.noComplete = r.has(Modifier::noComplete_);
    x.sink = r.operand(0).kind == OperandKind::sink;
    r.out.d = r.destination(0, Type::b64);
    x.address = addressAt(r, 1);
    if (r.operands() > 2) x.count = r.source(2, Type::u32);
    else if (x.expects || x.noComplete) r.unsupported("the count is missing");
    r.out.run = update;
    return;
  }
  x.address = addressAt(r, 0);
  if (r.has(Modifier::inval_)) {
    r.out.run = inval;
    return;
  }
  x.count = r.source(1, Type::u32);
  if (r.has(Modifier::init_)) {
    r.out.run = init;
  } else if (r.has(Modifier::expect_tx_)) {
    x.kind = Kind::expectTx;
    r.out.run = update;
  } else if (r.has(Modifier::complete_tx_)) {
    x.kind = Kind::completeTx;
    r.out.run = update;
  }
}

}  // namespace dsvc::emulator
