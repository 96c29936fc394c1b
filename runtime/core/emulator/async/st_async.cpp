// st.async and red.async: single values to a block of the cluster, whose mbarrier counts their bytes.
#include <cinttypes>
#include <cstring>

#include "../checks/poison.h"
#include "family.h"
#include "mbarrier.h"
#include "reduction.h"

namespace dsvc::emulator {

namespace {

struct StoreAsync : Extra {
  AddressOperand to, barrier;
  Space space = Space::sharedCluster;
  std::vector<Slot> values;
  uint32_t element = 4;
  Reduce reduce = nullptr;
};

struct Value {
  Origin origin;
  uint64_t id;
  Region to;
  Signal signal;
  uint8_t bytes[16], poison[16];  // poison: 0xff for an uninitialised byte
  uint32_t count;
  Reduce reduce;
};

Flow storeAsync(Warp& w, const Insn& i, Mask m) {
  const auto& x = extraOf<StoreAsync>(i);
  uint32_t bytes = x.element * static_cast<uint32_t>(x.values.size());
  if (w.cta.cluster->ctas.size() < 2)
    w.report(i, -1, Severity::error, "emu/no-cluster", "st.async and red.async need a cluster of at least two blocks",
             "launch with a cluster (.reqnctapercluster), or store with st and arrive");
  for (int l : lanesOf(m)) {
    Place to = w.locate(i, l, x.space, x.to.of(w, l), bytes, bytes, x.reduce ? AccessKind::atomic : AccessKind::write);
    if (!to.bytes) continue;
    if (!to.cta) {
      w.report(i, l, Severity::error, "emu/out-of-bounds", format("0x%" PRIx64 " is not in shared memory", x.to.of(w, l)),
               "st.async and red.async write to shared memory of the cluster");
      continue;
    }
    MbarrierPlace b = locateMbarrier(w, i, l, x.space, x.barrier.of(w, l));
    if (!b) continue;
    if (b.cta != to.cta) {
      w.report(i, l, Severity::error, "emu/mbarrier-other-block",
               format("the value goes to block rank %u but the mbarrier is in block rank %u", to.cta->rank, b.cta->rank),
               "name an mbarrier of the block that gets the value");
      continue;
    }
    auto v = std::make_shared<Value>(Value{Origin(w, i, l), nextOperation(), regionOf(to), promise(*b.cta, *b.barrier), {}, {}, bytes, x.reduce});
    for (size_t k = 0; k < x.values.size(); ++k) {
      if (x.element == 8) std::memcpy(v->bytes + 8 * k, &w.in<uint64_t>(x.values[k])[l], 8);
      else std::memcpy(v->bytes + 4 * k, &w.in<uint32_t>(x.values[k])[l], 4);
      if (!w.machine.poison) continue;
      uint32_t lanes[kLanes];
      w.machine.poison->lanesOfRegister(w, x.values[k], lanes, x.element == 8 ? 2 : 1);
      for (uint32_t n = 0; n < x.element; n += 4) std::memcpy(v->poison + x.element * k + n, &lanes[l], 4);
    }
    // Not the async proxy: the ISA lists bulk copies and wgmma there.
    if (Checks* o = w.machine.checks.get()) {
      o->onIssue(v->id, w, i, 1u << l, Proxy::generic);
      o->onTarget(v->id, v->to, *b.cta, b.barrier->offset, b.barrier->phase);
    }
    postLater(w.machine, [v] {
      if (hasExited(v->origin, v->to, v->count)) return;
      if (Checks* o = v->origin.machine->checks.get())
        o->onTransfer(v->id, v->to, 0, v->count, v->reduce ? AccessKind::atomic : AccessKind::write);
      uint8_t data[16], known[16];
      v->to.load(0, data, known, v->count);
      if (v->reduce) {
        v->reduce(data, v->bytes, v->count);
        for (uint32_t k = 0; k < v->count; ++k) known[k] = known[k] && !v->poison[k];
        v->to.save(0, data, known, v->count);
      } else {
        for (uint32_t k = 0; k < v->count; ++k) known[k] = !v->poison[k];
        v->to.save(0, v->bytes, known, v->count);
      }
      signalBytes(v->origin, v->id, v->signal, v->count);
    });
  }
  return Flow::next;
}

void resolveValues(Resolve& r, StoreAsync& x, Type t) {
  if (!r.has(Modifier::mbarrier__complete_tx__bytes_)) r.unsupported("sm_90a only has the form with mbarrier::complete_tx::bytes");
  if (sizeOf(t) != 4 && sizeOf(t) != 8) r.unsupported("the type has 32 or 64 bits");
  if (spaceAt(r, 0) == Space::generic) x.space = Space::generic;
  x.element = sizeOf(t);
  x.to = addressAt(r, 0);
  const Operand& value = r.operand(1);
  if (value.kind == OperandKind::vector) {
    for (const Operand& o : value.parts) x.values.push_back(r.sourceOf(o, t));
  } else {
    x.values.push_back(r.sourceOf(value, t));
  }
  if (x.values.empty() || x.values.size() * x.element > 16) r.unsupported("at most 16 bytes are stored at once");
  x.barrier = addressAt(r, 2);
  r.out.run = storeAsync;
}

struct FenceForm : Extra {
  ProxyFence kind = ProxyFence::async;
  Order order = Order::acquireRelease;
  Scope scope = Scope::sys;
  AddressOperand address;
};

// Copies here see memory as it is when they run, so a proxy fence moves nothing: it only tells the checks.
Flow proxyFence(Warp& w, const Insn& i, Mask m) {
  const auto& x = extraOf<FenceForm>(i);
  if (x.address.base != slot::kNone)
    for (int l : lanesOf(m)) w.locate(i, l, Space::generic, x.address.of(w, l), 128, 64, AccessKind::read);
  if (Checks* o = w.machine.checks.get()) o->onProxyFence(w, i, m, x.kind, x.order, x.scope);
  return Flow::next;
}

}  // namespace

void resolveStAsync(Resolve& r) {
  auto& x = r.extra<StoreAsync>();
  resolveValues(r, x, r.type(0));
}

void resolveRedAsync(Resolve& r) {
  auto& x = r.extra<StoreAsync>();
  Type t = r.type(0);
  Reduction op = reductionOf(r);
  x.reduce = reduceOf(op, t);
  bool wide = sizeOf(t) == 8 && !(t == Type::u64 && op == Reduction::add);
  if (!x.reduce || isFloat(t) || wide) r.unsupported("red.async has no such operation and type");
  resolveValues(r, x, t);
}

void resolveProxyFence(Resolve& r) {
  auto& x = r.extra<FenceForm>();
  x.order = orderOf(r, Order::acquireRelease);
  x.scope = scopeOf(r, Scope::sys);
  if (r.has(Modifier::mbarrier_init_)) x.kind = ProxyFence::mbarrierInit;
  else if (r.has(Modifier::alias_)) x.kind = ProxyFence::alias;
  else if (r.has(Modifier::tensormap__generic_)) x.kind = ProxyFence::tensormap;
  else if (r.has(Modifier::global_)) x.kind = ProxyFence::asyncGlobal;
  else if (r.hasAny(Modifier::shared__cta_, Modifier::shared__cluster_)) x.kind = ProxyFence::asyncShared;
  if (x.kind == ProxyFence::tensormap && x.order == Order::acquire) {
    x.address = addressAt(r, 0);
    if (r.constant(1) != 128) r.unsupported("the size is 128");
  }
  r.out.run = proxyFence;
}

}  // namespace dsvc::emulator
