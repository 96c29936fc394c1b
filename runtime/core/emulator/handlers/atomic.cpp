// Atomics and reductions: atom and red in every operation, type and space, vectors of floats; fences.
//
// Lanes act one after the other, lowest first, and warps take turns, so an atomic update is indivisible here. Orders
// and scopes matter to the checks only.
#include "access.h"
#include "floats.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

enum class Op : uint8_t { add, inc, dec, min, max, band, bor, bxor, exch, cas };

struct AtomicExtra : Extra {
  AccessInfo info;
  Op op = Op::add;
  Type type = Type::none;
  uint32_t bytes = 0;
  std::vector<Slot> operands, results;  // of a vector; results empty for red
  Slot compare = slot::kNone;           // cas
  bool flushes = false;                 // f32 add on global memory
};

template <class T>
T integer(Op op, T old, T v, T compare) {
  using U = std::make_unsigned_t<T>;
  switch (op) {
    case Op::add: return static_cast<T>(static_cast<U>(old) + static_cast<U>(v));
    case Op::inc: return old >= v ? 0 : old + 1;
    case Op::dec: return old == 0 || old > v ? v : old - 1;
    case Op::min: return v < old ? v : old;
    case Op::max: return v > old ? v : old;
    case Op::band: return old & v;
    case Op::bor: return old | v;
    case Op::bxor: return old ^ v;
    case Op::exch: return v;
    case Op::cas: return old == compare ? v : old;
  }
  return old;
}

uint16_t half(Op op, uint16_t old, uint16_t v, bool bf16) {
  float a = bf16 ? bf16ToFloat(old) : f16ToFloat(old), b = bf16 ? bf16ToFloat(v) : f16ToFloat(v);
  if (op == Op::add) return bf16 ? floatToBf16(a + b) : floatToF16(a + b);
  if (a != a && b != b) return 0x7fff;
  if (a != a) return v;
  if (b != b) return old;
  bool first = op == Op::max ? a > b || (a == b && !(old & 0x8000)) : a < b || (a == b && (old & 0x8000));
  return first ? old : v;
}

template <class T>
T bits(uint64_t v) {
  T out;
  std::memcpy(&out, &v, sizeof out);
  return out;
}

uint64_t apply(const AtomicExtra& e, uint64_t old, uint64_t v, uint64_t compare) {
  switch (e.type) {
    case Type::f32: {
      float a = bits<float>(old), b = bits<float>(v);
      if (e.flushes) return std::bit_cast<uint32_t>(flush(canonical(flush(a) + flush(b))));
      return std::bit_cast<uint32_t>(canonical(a + b));
    }
    case Type::f64: return std::bit_cast<uint64_t>(bits<double>(old) + bits<double>(v));
    case Type::f16: return half(e.op, static_cast<uint16_t>(old), static_cast<uint16_t>(v), false);
    case Type::bf16: return half(e.op, static_cast<uint16_t>(old), static_cast<uint16_t>(v), true);
    case Type::f16x2:
    case Type::bf16x2: {
      bool bf16 = e.type == Type::bf16x2;
      uint32_t low = half(e.op, static_cast<uint16_t>(old), static_cast<uint16_t>(v), bf16);
      return low | uint32_t{half(e.op, static_cast<uint16_t>(old >> 16), static_cast<uint16_t>(v >> 16), bf16)} << 16;
    }
    case Type::s32: return static_cast<uint32_t>(integer<int32_t>(e.op, static_cast<int32_t>(old), static_cast<int32_t>(v), static_cast<int32_t>(compare)));
    case Type::s64: return static_cast<uint64_t>(integer<int64_t>(e.op, static_cast<int64_t>(old), static_cast<int64_t>(v), static_cast<int64_t>(compare)));
    case Type::b16: return integer<uint16_t>(e.op, static_cast<uint16_t>(old), static_cast<uint16_t>(v), static_cast<uint16_t>(compare));
    case Type::u32:
    case Type::b32: return integer<uint32_t>(e.op, static_cast<uint32_t>(old), static_cast<uint32_t>(v), static_cast<uint32_t>(compare));
    default: return integer<uint64_t>(e.op, old, v, compare);
  }
}

uint64_t readCell(Warp& w, Slot s, int l, uint32_t bytes) { return bytes == 8 ? w.in<uint64_t>(s)[l] : w.in<uint32_t>(s)[l]; }

template <bool Checked>
Flow atomic(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<AtomicExtra>(i);
  const uint64_t* a = w.in<uint64_t>(i.a);
  const uint32_t n = static_cast<uint32_t>(e.operands.size()), total = e.bytes * n;
  // All inputs first: a result's register may be an operand or the address of another lane's turn.
  uint64_t address[kLanes];
  for (int l : lanesOf(m)) address[l] = a[l] + static_cast<uint64_t>(i.immediate);
  Region region;
  if constexpr (!Checked) region = regionOf(w, i, e.info.space, address[std::countr_zero(m)], true);
  for (int l : lanesOf(m)) {
    uint8_t* at = nullptr;
    uint64_t offset = address[l] - region.base;
    if (region.bytes && offset < region.size && total <= region.size - offset && !(address[l] & (total - 1))) {
      at = region.bytes + offset;
    } else {
      Place p = w.locate(i, l, e.info.space, address[l], total, total, AccessKind::atomic);
      at = p.bytes;
      if (!at) continue;
      if constexpr (Checked)
        if (w.machine.checks) tell(w, i, {AccessKind::atomic, e.info.order, e.info.scope}, l, p, total);
    }
    for (uint32_t k = 0; k < n; ++k, at += e.bytes) {
      uint64_t old = 0;
      std::memcpy(&old, at, e.bytes);
      uint64_t v = readCell(w, e.operands[k], l, e.bytes);
      uint64_t compare = e.compare == slot::kNone ? 0 : readCell(w, e.compare, l, e.bytes);
      if (e.bytes == 2) {
        v &= 0xffff;
        compare &= 0xffff;
      }
      uint64_t now = apply(e, old, v, compare);
      std::memcpy(at, &now, e.bytes);
      if (!e.results.empty()) {
        if (e.bytes == 8) w.out<uint64_t>(e.results[k])[l] = old;
        else w.out<uint32_t>(e.results[k])[l] = static_cast<uint32_t>(old);
      }
    }
  }
  // Loops around an atomic are how locks spin.
  w.charge += 32;
  w.machine.changed();
  return Flow::next;
}

// 128-bit exch and cas.
Flow atomicQuad(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<AtomicExtra>(i);
  const uint64_t* a = w.in<uint64_t>(i.a);
  for (int l : lanesOf(m)) {
    Place p = w.locate(i, l, e.info.space, a[l] + static_cast<uint64_t>(i.immediate), 16, 16, AccessKind::atomic);
    if (!p.bytes) continue;
    if (w.machine.checks) tell(w, i, {AccessKind::atomic, e.info.order, e.info.scope}, l, p, 16);
    uint8_t old[16], v[16];
    std::memcpy(old, p.bytes, 16);
    std::memcpy(v, w.in<uint8_t>(e.operands[0]) + 16 * l, 16);
    if (e.op == Op::exch || std::memcmp(old, w.in<uint8_t>(e.compare) + 16 * l, 16) == 0) std::memcpy(p.bytes, v, 16);
    if (!e.results.empty()) std::memcpy(w.out<uint8_t>(e.results[0]) + 16 * l, old, 16);
  }
  w.charge += 32;
  w.machine.changed();
  return Flow::next;
}

Op opOf(Resolve& r) {
  for (Modifier m : r.in.modifiers) switch (m) {
      case Modifier::add_: return Op::add;
      case Modifier::inc_: return Op::inc;
      case Modifier::dec_: return Op::dec;
      case Modifier::min_: return Op::min;
      case Modifier::max_: return Op::max;
      case Modifier::and_: return Op::band;
      case Modifier::or_: return Op::bor;
      case Modifier::xor_: return Op::bxor;
      case Modifier::exch_: return Op::exch;
      case Modifier::cas_: return Op::cas;
      default: break;
    }
  r.unsupported("no operation is named");
}

void resolveAtomic(Resolve& r) {
  bool returns = r.in.mnemonic == Mnemonic::atom_;
  if (!returns && r.has(Modifier::async_)) {
    if (!resolveReduceAsync) r.unsupported("the emulator does not execute this instruction");
    return resolveReduceAsync(r);
  }
  auto& e = r.extra<AtomicExtra>();
  e.info = accessOf(r);
  e.op = opOf(r);
  e.type = r.type(0);
  e.bytes = sizeOf(e.type);
  if (e.bytes < 2) r.unsupported("an atomic of this type");
  bool floating = isFloat(e.type);
  if (floating && e.op != Op::add && !((e.op == Op::min || e.op == Op::max) && (e.bytes == 2 || e.type == Type::f16x2 || e.type == Type::bf16x2)))
    r.unsupported("the operation does not exist for this type");
  // f32 sums on global memory flush subnormals; in shared memory they do not. Generic addresses are taken as global.
  e.flushes = e.type == Type::f32 && (e.info.space == Space::global || e.info.space == Space::generic);
  size_t at = returns ? 1 : 0;
  Resolve::Address a = r.address(at);
  auto listed = [&](const Operand& o, auto slotOf) {
    std::vector<Slot> list;
    if (o.kind == OperandKind::vector)
      for (const Operand& q : o.parts) list.push_back(slotOf(q));
    else list.push_back(slotOf(o));
    return list;
  };
  size_t value = at + 1;
  if (e.op == Op::cas) {
    e.compare = r.source(value, e.type);
    ++value;
  }
  e.operands = listed(r.operand(value), [&](const Operand& o) { return r.sourceOf(o, e.type); });
  if (returns) e.results = listed(r.operand(0), [&](const Operand& o) { return r.destinationOf(o, e.type); });
  if (returns && r.operand(0).kind == OperandKind::sink) e.results.clear();
  if (!e.results.empty() && e.results.size() != e.operands.size()) r.unsupported("the vectors differ in length");
  r.out.a = a.base;
  r.out.immediate = a.offset;
  r.out.run = e.bytes == 16 ? atomicQuad : r.checked ? atomic<true> : atomic<false>;
}

Flow fence(Warp& w, const Insn& i, Mask m) {
  if (w.machine.checks)
    w.machine.checks->onFence(w, i, m, static_cast<Order>(i.flags & 15), static_cast<Scope>(i.flags >> 4 & 15));
  return Flow::next;
}
void resolveFence(Resolve& r) {
  Scope s = r.hasAny(Modifier::sys_)                        ? Scope::sys
            : r.hasAny(Modifier::gpu_, Modifier::gl_)       ? Scope::gpu
            : r.has(Modifier::cluster_)                     ? Scope::cluster
                                                            : Scope::cta;
  Order o = r.has(Modifier::acquire_) ? Order::acquire : r.has(Modifier::release_) ? Order::release : Order::acquireRelease;
  r.out.flags = static_cast<uint32_t>(o) | static_cast<uint32_t>(s) << 4;
  r.out.run = fence;
}

}  // namespace

void registerAtomic(Resolver& r) {
  r.add(Mnemonic::atom_, resolveAtomic);
  r.add(Mnemonic::red_, resolveAtomic);
  r.add(Mnemonic::fence_, resolveFence);
  r.add(Mnemonic::membar_, resolveFence);
}

}  // namespace dsvc::emulator::DSVC_ARCH
