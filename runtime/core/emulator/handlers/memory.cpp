// Loads and stores in every space, with vectors, and the hints that move no data.
#include "../calls.h"
#include "access.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

struct AccessExtra : Extra {
  AccessInfo info;
  std::vector<Slot> parts;  // of a vector; one for a scalar
  uint32_t bytes = 0;       // of an element
  bool isSigned = false;
};

// One element between memory and a lane's cell.
template <class T>
inline void intoCell(Warp& w, Slot s, int l, const uint8_t* from) {
  T v;
  std::memcpy(&v, from, sizeof v);
  w.out<Cell<T>>(s)[l] = put<T>(v);
}
template <class T>
inline void fromCell(Warp& w, Slot s, int l, uint8_t* to) {
  T v = get<T>(w.in<Cell<T>>(s)[l]);
  std::memcpy(to, &v, sizeof v);
}
struct Quad {
  uint64_t low, up;
};
template <>
inline void intoCell<Quad>(Warp& w, Slot s, int l, const uint8_t* from) { std::memcpy(w.out<uint8_t>(s) + 16 * l, from, 16); }
template <>
inline void fromCell<Quad>(Warp& w, Slot s, int l, uint8_t* to) { std::memcpy(to, w.in<uint8_t>(s) + 16 * l, 16); }

template <class T, bool Checked>
void loadSlowly(Warp& w, const Insn& i, Mask m, const AccessExtra& e) {
  const uint64_t* a = w.in<uint64_t>(i.a);
  const uint32_t bytes = static_cast<uint32_t>(sizeof(T) * e.parts.size());
  uint64_t addresses[kLanes];  // first all addresses: a destination may be the base register
  for (int l : lanesOf(m)) addresses[l] = a[l] + static_cast<uint64_t>(i.immediate);
  static const uint8_t zeros[64] = {};
  for (int l : lanesOf(m)) {
    Place p = w.locate(i, l, e.info.space, addresses[l], bytes, bytes, AccessKind::read);
    if constexpr (Checked)
      if (p.bytes && w.machine.checks)
        tell(w, i, {AccessKind::read, e.info.order, e.info.scope, e.info.nonCoherent, e.isSigned}, l, p, bytes, e.parts.data(), e.parts.size());
    for (size_t k = 0; k < e.parts.size(); ++k) intoCell<T>(w, e.parts[k], l, p.bytes ? p.bytes + k * sizeof(T) : zeros);
  }
}

template <class T, bool Checked>
Flow load(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<AccessExtra>(i);
  if (e.info.polls) w.charge += 64;
  {
    const uint64_t* a = w.in<uint64_t>(i.a);
    const uint32_t bytes = static_cast<uint32_t>(sizeof(T) * e.parts.size());
    const uint64_t offset = static_cast<uint64_t>(i.immediate);
    Region region = regionOf(w, i, e.info.space, a[std::countr_zero(m)] + offset, false);
    Offsets o;
    if (region.bytes) offsetsIn(o, region, a, offset, bytes, m);
    if (o.inside) {
      if constexpr (Checked)
        if (w.machine.checks) tell(w, i, {AccessKind::read, e.info.order, e.info.scope, e.info.nonCoherent, e.isSigned}, region, o, bytes, m, e.parts);
      if (e.parts.size() == 1) {
        if constexpr (!std::is_same_v<T, Quad>) {
          Cell<T>* d = w.out<Cell<T>>(e.parts[0]);
          if (o.dense) {
            const uint8_t* from = region.bytes + o.at[0];
            if constexpr (sizeof(T) == sizeof(Cell<T>)) {
              std::memcpy(d, from, sizeof(T) * kLanes);
            } else {
              T v[kLanes];
              std::memcpy(v, from, sizeof v);
              DSVC_LANES d[l] = put<T>(v[l]);
            }
            return Flow::next;
          }
        }
        for (int l : lanesOf(m)) intoCell<T>(w, e.parts[0], l, region.bytes + o.at[l]);
        return Flow::next;
      }
      for (size_t k = 0; k < e.parts.size(); ++k)
        for (int l : lanesOf(m)) intoCell<T>(w, e.parts[k], l, region.bytes + o.at[l] + k * sizeof(T));
      return Flow::next;
    }
  }
  loadSlowly<T, Checked>(w, i, m, e);
  return Flow::next;
}

template <class T, bool Checked>
Flow storeTo(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<AccessExtra>(i);
  const uint64_t* a = w.in<uint64_t>(i.a);
  const uint32_t bytes = static_cast<uint32_t>(sizeof(T) * e.parts.size());
  const uint64_t offset = static_cast<uint64_t>(i.immediate);
  if (e.info.polls) w.machine.changed();
  {
    Region region = regionOf(w, i, e.info.space, a[std::countr_zero(m)] + offset, true);
    Offsets o;
    if (region.bytes) offsetsIn(o, region, a, offset, bytes, m);
    if (o.inside) {
      if constexpr (Checked)
        if (w.machine.checks) tell(w, i, {AccessKind::write, e.info.order, e.info.scope}, region, o, bytes, m, e.parts);
      if (e.parts.size() == 1) {
        if constexpr (!std::is_same_v<T, Quad>) {
          if (o.dense) {
            const Cell<T>* s = w.in<Cell<T>>(e.parts[0]);
            uint8_t* to = region.bytes + o.at[0];
            if constexpr (sizeof(T) == sizeof(Cell<T>)) {
              std::memcpy(to, s, sizeof(T) * kLanes);
            } else {
              T v[kLanes];
              DSVC_LANES v[l] = get<T>(s[l]);
              std::memcpy(to, v, sizeof v);
            }
            return Flow::next;
          }
        }
        for (int l : lanesOf(m)) fromCell<T>(w, e.parts[0], l, region.bytes + o.at[l]);
        return Flow::next;
      }
      // Lane by lane, so that among lanes that write one address the highest wins, whatever the vector.
      for (int l : lanesOf(m))
        for (size_t k = 0; k < e.parts.size(); ++k) fromCell<T>(w, e.parts[k], l, region.bytes + o.at[l] + k * sizeof(T));
      return Flow::next;
    }
  }
  for (int l : lanesOf(m)) {
    Place p = w.locate(i, l, e.info.space, a[l] + offset, bytes, bytes, AccessKind::write);
    if (!p.bytes) continue;
    if constexpr (Checked)
      if (w.machine.checks)
        tell(w, i, {AccessKind::write, e.info.order, e.info.scope}, l, p, bytes, e.parts.data(), e.parts.size());
    for (size_t k = 0; k < e.parts.size(); ++k) fromCell<T>(w, e.parts[k], l, p.bytes + k * sizeof(T));
  }
  return Flow::next;
}

// --- parameters ----------------------------------------------------------------------------------------------------
// Of a kernel: the same for all threads. Their place and size were checked when the instruction was resolved.
Flow loadKernelParameter(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<AccessExtra>(i);
  const uint8_t* from = w.cta.grid->request.parameters.data() + i.immediate;
  for (size_t k = 0; k < e.parts.size(); ++k, from += e.bytes) {
    uint64_t v = 0;
    if (e.bytes == 16) {
      for (int l : lanesOf(m)) std::memcpy(w.out<uint8_t>(e.parts[k]) + 16 * l, from, 16);
      continue;
    }
    std::memcpy(&v, from, e.bytes);
    if (e.isSigned) {
      uint32_t shift = 64 - 8 * e.bytes;
      v = static_cast<uint64_t>(static_cast<int64_t>(v << shift) >> shift);
    }
    if (e.bytes == 8) store<uint64_t>(w, e.parts[k], m, [&](int) { return v; });
    else store<uint32_t>(w, e.parts[k], m, [&](int) { return static_cast<uint32_t>(v); });
  }
  return Flow::next;
}

// Of a function, or of a call in the making (kCallScope): per thread, in the frame.
uint8_t* frameParameter(Warp& w, const Insn& i, int lane) {
  Frame& f = w.frame();
  return (i.flags & kCallScope) ? f.callParams.data() + size_t{f.callParamStride} * lane + i.immediate
                                : f.params.data() + size_t{f.paramStride} * lane + i.immediate;
}
template <class T>
Flow loadFrameParameter(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<AccessExtra>(i);
  tellParameter(w, i, m, AccessKind::read, e.bytes, e.parts);
  for (int l : lanesOf(m)) {
    const uint8_t* from = frameParameter(w, i, l);
    for (size_t k = 0; k < e.parts.size(); ++k) intoCell<T>(w, e.parts[k], l, from + k * sizeof(T));
  }
  return Flow::next;
}
template <class T>
Flow storeFrameParameter(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<AccessExtra>(i);
  tellParameter(w, i, m, AccessKind::write, e.bytes, e.parts);
  for (int l : lanesOf(m)) {
    uint8_t* to = frameParameter(w, i, l);
    for (size_t k = 0; k < e.parts.size(); ++k) fromCell<T>(w, e.parts[k], l, to + k * sizeof(T));
  }
  return Flow::next;
}

// --- resolving -----------------------------------------------------------------------------------------------------
template <class F>
Handler bySize(Type t, F f) {
  bool s = isSigned(t);
  switch (sizeOf(t)) {
    case 1: return s ? f(Tag<int8_t>{}) : f(Tag<uint8_t>{});
    case 2: return s ? f(Tag<int16_t>{}) : f(Tag<uint16_t>{});
    case 4: return f(Tag<uint32_t>{});
    case 8: return f(Tag<uint64_t>{});
    case 16: return f(Tag<Quad>{});
    default: return nullptr;
  }
}

// A narrow value into a wider register keeps its sign or zeros; e.parts gets one slot per element.
void partsOf(Resolve& r, AccessExtra& e, const Operand& o, Type t, bool writes) {
  auto one = [&](const Operand& q) { e.parts.push_back(writes ? r.destinationOf(q, t) : r.sourceOf(q, t)); };
  if (o.kind == OperandKind::vector)
    for (const Operand& q : o.parts) one(q);
  else one(o);
  e.bytes = sizeOf(t);
  e.isSigned = isSigned(t);
}

bool parameterAccess(Resolve& r, AccessExtra& e, const Resolve::Address& a, Type t, bool loads) {
  bool callScope = a.variable && a.variable->space == VariableSpace::param;
  if (!callScope && !a.isParameter) return false;
  uint64_t total = uint64_t{e.bytes} * e.parts.size();
  uint64_t size;
  if (callScope) size = r.function.callParamBytes;
  else if (r.function.isEntry) {
    size = 0;
    for (const Parameter& q : r.function.params) size = std::max(size, q.offset + q.size);
  } else size = r.function.paramBytes;
  if (a.offset < 0 || static_cast<uint64_t>(a.offset) + total > size) r.unsupported("an access outside of the parameter");
  r.out.immediate = a.offset;
  if (!callScope && r.function.isEntry) {
    if (!loads) r.unsupported("a kernel's parameters are read-only");
    r.out.run = loadKernelParameter;
    return true;
  }
  r.out.flags = callScope ? kCallScope : 0;
  r.out.run = bySize(t, [&](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return loads ? loadFrameParameter<T> : storeFrameParameter<T>;
  });
  return true;
}

void resolveLoad(Resolve& r) {
  Type t = r.type(0);
  if (sizeOf(t) == 0) r.unsupported("a load of this type");
  auto& e = r.extra<AccessExtra>();
  e.info = accessOf(r);
  Resolve::Address a = r.address(1);
  partsOf(r, e, r.operand(0), t, true);
  if (parameterAccess(r, e, a, t, true)) return;
  r.out.a = a.base;
  r.out.immediate = a.offset;
  bool checked = r.checked;
  r.out.run = bySize(t, [&](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return checked ? load<T, true> : load<T, false>;
  });
}

void resolveStore(Resolve& r) {
  if (r.has(Modifier::async_)) {
    if (!resolveStoreAsync) r.unsupported("the emulator does not execute this instruction");
    return resolveStoreAsync(r);
  }
  Type t = r.type(0);
  if (sizeOf(t) == 0) r.unsupported("a store of this type");
  auto& e = r.extra<AccessExtra>();
  e.info = accessOf(r);
  Resolve::Address a = r.address(0);
  partsOf(r, e, r.operand(1), t, false);
  if (parameterAccess(r, e, a, t, false)) return;
  r.out.a = a.base;
  r.out.immediate = a.offset;
  bool checked = r.checked;
  r.out.run = bySize(t, [&](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return checked ? storeTo<T, true> : storeTo<T, false>;
  });
}

Flow hint(Warp&, const Insn&, Mask) { return Flow::next; }
void resolveHint(Resolve& r) { r.out.run = hint; }

}  // namespace

void registerMemory(Resolver& r) {
  r.add(Mnemonic::ld_, resolveLoad);
  r.add(Mnemonic::ldu_, resolveLoad);
  r.add(Mnemonic::st_, resolveStore);
  r.add(Mnemonic::prefetch_, resolveHint);
  r.add(Mnemonic::prefetchu_, resolveHint);
  r.add(Mnemonic::applypriority_, resolveHint);
  r.add(Mnemonic::discard_, resolveHint);
}

}  // namespace dsvc::emulator::DSVC_ARCH
