// Moves and addresses: mov with packing and unpacking, cvta, isspacep, mapa, getctarank, createpolicy.
#include "lanes.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

struct Copy {
  template <class T>
  static T of(T a) { return a; }
};
Flow movePredicate(Warp& w, const Insn& i, Mask m) {
  w.setPredicate(i.d, w.predicate(i.a), m);
  return Flow::next;
}
// Of a special register that is a predicate: %is_explicit_cluster.
Flow moveFlag(Warp& w, const Insn& i, Mask m) {
  const uint32_t* a = w.in<uint32_t>(i.a);
  Mask value = 0;
  for (int l : lanesOf(m)) value |= static_cast<Mask>(a[l] != 0) << l;
  w.setPredicate(i.d, value, m);
  return Flow::next;
}
Flow moveQuad(Warp& w, const Insn& i, Mask m) {
  const uint64_t* a = w.in<uint64_t>(i.a);
  uint64_t* d = w.out<uint64_t>(i.d);
  for (int l : lanesOf(m)) {
    uint64_t low = a[2 * l], up = a[2 * l + 1];
    d[2 * l] = low;
    d[2 * l + 1] = up;
  }
  return Flow::next;
}

// Elements of 1 to 8 bytes to and from one value of up to 16.
struct PackExtra : Extra {
  std::vector<Slot> parts;
  uint32_t partBytes = 0, bytes = 0;
};
size_t cellBytesOf(uint32_t bytes) { return bytes <= 4 ? 4 : bytes; }

Flow pack(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<PackExtra>(i);
  const size_t cell = cellBytesOf(e.bytes), part = cellBytesOf(e.partBytes);
  uint8_t* d = w.out<uint8_t>(i.d);
  for (int l : lanesOf(m)) {
    uint8_t v[16] = {};
    for (size_t k = 0; k < e.parts.size(); ++k) std::memcpy(v + k * e.partBytes, w.in<uint8_t>(e.parts[k]) + part * l, e.partBytes);
    std::memcpy(d + cell * l, v, cell);
  }
  return Flow::next;
}
Flow unpack(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<PackExtra>(i);
  const size_t cell = cellBytesOf(e.bytes), part = cellBytesOf(e.partBytes);
  for (int l : lanesOf(m)) {
    uint8_t v[16];
    std::memcpy(v, w.in<uint8_t>(i.a) + cell * l, cell);
    for (size_t k = 0; k < e.parts.size(); ++k) {
      uint8_t out[16] = {};
      std::memcpy(out, v + k * e.partBytes, e.partBytes);
      std::memcpy(w.out<uint8_t>(e.parts[k]) + part * l, out, part);
    }
  }
  return Flow::next;
}
// The common pairs, in SIMD: two 16-bit halves, two words.
Flow pack16(Warp& w, const Insn& i, Mask m) {
  const uint32_t* a = w.in<uint32_t>(i.a);
  const uint32_t* b = w.in<uint32_t>(i.b);
  store<uint32_t>(w, i.d, m, [&](int l) { return (a[l] & 0xffff) | b[l] << 16; });
  return Flow::next;
}
Flow unpack16(Warp& w, const Insn& i, Mask m) {
  // Through copies: a destination may be the source.
  uint32_t v[kLanes];
  std::memcpy(v, w.in<uint32_t>(i.a), sizeof v);
  store<uint32_t>(w, i.d, m, [&](int l) { return v[l] & 0xffff; });
  store<uint32_t>(w, i.b, m, [&](int l) { return v[l] >> 16; });
  return Flow::next;
}
Flow pack32(Warp& w, const Insn& i, Mask m) {
  const uint32_t* a = w.in<uint32_t>(i.a);
  const uint32_t* b = w.in<uint32_t>(i.b);
  store<uint64_t>(w, i.d, m, [&](int l) { return uint64_t{a[l]} | uint64_t{b[l]} << 32; });
  return Flow::next;
}
Flow unpack32(Warp& w, const Insn& i, Mask m) {
  const uint64_t* a = w.in<uint64_t>(i.a);
  store<uint32_t>(w, i.d, m, [&](int l) { return static_cast<uint32_t>(a[l]); });
  store<uint32_t>(w, i.b, m, [&](int l) { return static_cast<uint32_t>(a[l] >> 32); });
  return Flow::next;
}

Type bitsType(uint32_t bytes) {
  return bytes == 1 ? Type::b8 : bytes == 2 ? Type::b16 : bytes == 4 ? Type::b32 : bytes == 8 ? Type::b64 : Type::none;
}

void resolveMove(Resolve& r) {
  Type t = r.type(0);
  const Operand& d = r.operand(0);
  const Operand& a = r.operand(1);
  if (d.kind == OperandKind::vector || a.kind == OperandKind::vector) {
    const Operand& v = d.kind == OperandKind::vector ? d : a;
    bool unpacking = &v == &d;
    uint32_t n = static_cast<uint32_t>(v.parts.size());
    if (n == 0 || sizeOf(t) % n) r.unsupported("the vector's elements do not fill the type");
    Type part = bitsType(sizeOf(t) / n);
    if (part == Type::none) r.unsupported("elements of this width");
    std::vector<Slot> slots;
    for (const Operand& o : v.parts) slots.push_back(unpacking ? r.destinationOf(o, part) : r.sourceOf(o, part));
    if (n == 2 && (sizeOf(t) == 4 || sizeOf(t) == 8)) {
      bool words = sizeOf(t) == 8;
      if (unpacking) {
        r.out.a = r.source(1, t);
        r.out.d = slots[0];
        r.out.b = slots[1];
        r.out.run = words ? unpack32 : unpack16;
      } else {
        r.out.a = slots[0];
        r.out.b = slots[1];
        r.out.d = r.destination(0, t);
        r.out.run = words ? pack32 : pack16;
      }
      return;
    }
    auto& e = r.extra<PackExtra>();
    e.parts = slots;
    e.partBytes = sizeOf(part);
    e.bytes = sizeOf(t);
    if (unpacking) r.out.a = r.source(1, t);
    else r.out.d = r.destination(0, t);
    r.out.run = unpacking ? unpack : pack;
    return;
  }
  if (t == Type::pred && a.kind == OperandKind::special) {
    r.out.a = r.program.specialSlot(false, 1, a.index);
    r.out.d = r.destination(0, t);
    r.out.run = moveFlag;
    return;
  }
  r.out.a = r.source(1, t);
  r.out.d = r.destination(0, t);
  switch (classOf(t)) {
    case 0: r.out.run = movePredicate; break;
    case 1: r.out.run = sizeOf(t) == 2 ? unary<uint16_t, uint16_t, Copy> : unary<uint32_t, uint32_t, Copy>; break;
    case 2: r.out.run = unary<uint64_t, uint64_t, Copy>; break;
    default: r.out.run = moveQuad; break;
  }
}

// --- address spaces ------------------------------------------------------------------------------------------------
uint64_t windowOf(Resolve& r) {
  if (r.hasAny(Modifier::shared_, Modifier::shared__cta_, Modifier::shared__cluster_)) return window::kShared;
  if (r.has(Modifier::local_)) return window::kLocal;
  if (r.hasAny(Modifier::param_, Modifier::param__entry_)) return window::kParam;
  return 0;
}
Flow addWindow(Warp& w, const Insn& i, Mask m) {
  const uint64_t* a = w.in<uint64_t>(i.a);
  uint64_t add = static_cast<uint64_t>(i.immediate);
  store<uint64_t>(w, i.d, m, [&](int l) { return a[l] + add; });
  return Flow::next;
}
void resolveCvta(Resolve& r) {
  Type t = r.type(0);
  if (sizeOf(t) != 8) r.unsupported("addresses have 64 bits here");
  uint64_t base = windowOf(r);
  r.out.a = r.source(1, Type::u64);
  r.out.d = r.destination(0, Type::u64);
  r.out.immediate = static_cast<int64_t>(r.has(Modifier::to_) ? 0 - base : base);
  r.out.run = addWindow;
}

enum SpaceTest : uint32_t { testGlobal, testShared, testSharedCta, testLocal, testParam, testConst };
Flow isSpace(Warp& w, const Insn& i, Mask m) {
  const uint64_t* a = w.in<uint64_t>(i.a);
  Mask result = 0;
  for (int l : lanesOf(m)) {
    uint64_t v = a[l];
    bool yes = false;
    switch (i.flags) {
      case testGlobal: case testConst: {
        const Allocation* found = v >= window::kGlobalPerDevice ? w.cta.grid->device->memory.find(v) : nullptr;
        yes = i.flags == testConst ? found && found->isConstant : v >= window::kGlobalPerDevice && !(found && found->isConstant);
        break;
      }
      case testShared: yes = v >> 32 == window::kShared >> 32; break;
      case testSharedCta: yes = v >> shared::kRankShift == (window::kShared >> shared::kRankShift) + w.cta.rank; break;
      case testLocal: yes = v >> 32 == window::kLocal >> 32; break;
      default: yes = v >> 32 == window::kParam >> 32; break;
    }
    result |= static_cast<Mask>(yes) << l;
  }
  w.setPredicate(i.d, result, m);
  return Flow::next;
}
void resolveIsSpace(Resolve& r) {
  r.out.a = r.source(1, Type::u64);
  r.out.d = r.destination(0, Type::pred);
  r.out.flags = r.has(Modifier::global_)                               ? testGlobal
                : r.has(Modifier::shared__cluster_)                    ? testShared
                : r.hasAny(Modifier::shared_, Modifier::shared__cta_)  ? testSharedCta
                : r.has(Modifier::local_)                              ? testLocal
                : r.hasAny(Modifier::param_, Modifier::param__entry_)  ? testParam
                                                                       : testConst;
  r.out.run = isSpace;
}

struct Mapa {
  template <class T>
  static T of(T a, uint32_t rank) {
    return static_cast<T>((a & ~(T{0xff} << shared::kRankShift)) | static_cast<T>(rank & 0xff) << shared::kRankShift);
  }
};
struct CtaRank {
  template <class T>
  static uint32_t of(T a) { return static_cast<uint32_t>(a >> shared::kRankShift) & 0xff; }
};
template <class T>
Flow mapAddress(Warp& w, const Insn& i, Mask m) {
  const uint32_t* rank = w.in<uint32_t>(i.b);
  uint32_t size = static_cast<uint32_t>(w.cta.cluster->ctas.size());
  for (int l : lanesOf(m))
    if (rank[l] >= size) {
      w.report(i, l, Severity::error, "emu/cluster-rank", format("mapa to block %u of a cluster of %u", rank[l], size), "ranks go from 0 to %cluster_nctarank - 1");
      break;
    }
  return binary<T, T, uint32_t, Mapa>(w, i, m);
}
void resolveMapa(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t, Type::u32);
  r.out.run = sizeOf(t) == 8 ? mapAddress<uint64_t> : mapAddress<uint32_t>;
}
void resolveCtaRank(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, Type::u32, t);
  r.out.run = sizeOf(t) == 8 ? unary<uint32_t, uint64_t, CtaRank> : unary<uint32_t, uint32_t, CtaRank>;
}
// Cache policies change speed only: a fixed value.
struct Policy {
  static uint64_t of(uint64_t) { return 0x14f0000000000000ull; }
};
void resolvePolicy(Resolve& r) {
  r.out.a = r.program.constants.doubleWord(0);
  r.out.d = r.destination(0, Type::b64);
  r.out.run = unary<uint64_t, uint64_t, Policy>;
}

}  // namespace

void registerMove(Resolver& r) {
  r.add(Mnemonic::mov_, resolveMove);
  r.add(Mnemonic::cvta_, resolveCvta);
  r.add(Mnemonic::isspacep_, resolveIsSpace);
  r.add(Mnemonic::mapa_, resolveMapa);
  r.add(Mnemonic::getctarank_, resolveCtaRank);
  r.add(Mnemonic::createpolicy_, resolvePolicy);
}

}  // namespace dsvc::emulator::DSVC_ARCH
