// What loads, stores and atomics share: modifiers to space, order and scope; addresses of all lanes; the fast way to a
// region of memory that holds every lane's access.
#pragma once
#include "lanes.h"

namespace dsvc::emulator::DSVC_ARCH {

struct AccessInfo {
  Space space = Space::generic;
  Order order = Order::weak;
  Scope scope = Scope::thread;
  bool nonCoherent = false;
  bool polls = false;  // may be part of a spin loop: charged to the turn
};

inline AccessInfo accessOf(Resolve& r) {
  AccessInfo a;
  if (r.has(Modifier::global_)) a.space = Space::global;
  else if (r.has(Modifier::shared__cluster_)) a.space = Space::sharedCluster;
  else if (r.hasAny(Modifier::shared_, Modifier::shared__cta_)) a.space = Space::shared;
  else if (r.has(Modifier::local_)) a.space = Space::local;
  else if (r.has(Modifier::const_)) a.space = Space::constant;
  else if (r.hasAny(Modifier::param_, Modifier::param__entry_, Modifier::param__func_)) a.space = Space::param;
  if (r.has(Modifier::volatile_)) a.order = Order::volatileAccess;
  if (r.has(Modifier::relaxed_)) a.order = Order::relaxed;
  if (r.has(Modifier::acquire_)) a.order = Order::acquire;
  if (r.has(Modifier::release_)) a.order = Order::release;
  if (r.has(Modifier::acq_rel_)) a.order = Order::acquireRelease;
  if (r.hasAny(Modifier::sys_, Modifier::mmio_)) a.scope = Scope::sys;
  else if (r.has(Modifier::gpu_)) a.scope = Scope::gpu;
  else if (r.has(Modifier::cluster_)) a.scope = Scope::cluster;
  else if (r.has(Modifier::cta_)) a.scope = Scope::cta;
  else if (a.order == Order::volatileAccess) a.scope = Scope::sys;
  a.nonCoherent = r.has(Modifier::nc_);
  a.polls = a.order != Order::weak;
  return a;
}

// A stretch of memory with one host address.
struct Region {
  uint64_t base = 0, size = 0;
  uint8_t* bytes = nullptr;
  // For the checks: whose it is, and the offset there of byte 0.
  Space space = Space::global;
  const Allocation* allocation = nullptr;
  Cta* cta = nullptr;
  uint64_t start = 0;
};

// The region that holds `address`, in the numbering of the instruction's space; none for local memory and whatever
// needs a closer look. Writing to constants needs one.
inline Region regionOf(Warp& w, const Insn& i, Space space, uint64_t address, bool writes) {
  Region r;
  uint64_t base = 0;
  if (space == Space::generic) {
    if (address >> 32 == window::kShared >> 32) {
      space = Space::shared;
      base = window::kShared;
    } else if (address >= window::kGlobalPerDevice) {
      space = Space::global;
    } else {
      return r;
    }
  }
  if (space == Space::shared || space == Space::sharedCluster) {
    Cta& cta = w.cta;
    r.base = base + (uint64_t{cta.rank} << shared::kRankShift) + shared::kReserved;
    r.size = cta.sharedBytes - shared::kReserved;
    r.bytes = cta.shared.get() + shared::kReserved;
    r.space = Space::shared;
    r.cta = &cta;
    r.start = shared::kReserved;
    if (address - r.base >= r.size) r.bytes = nullptr;
    return r;
  }
  if (space != Space::global && space != Space::constant) return r;
  const void*& recent = w.recent[i.decoded & 7];
  auto* a = static_cast<const Allocation*>(recent);
  if (!a || address - a->base >= a->size || !a->bytes) {
    a = w.cta.grid->device->memory.find(address);
    if (!a || !a->bytes || (writes && a->isConstant)) return r;
    recent = a;
  } else if (writes && a->isConstant) {
    return r;
  }
  r.base = a->base;
  r.size = a->size;
  r.bytes = a->bytes;
  r.space = space;
  r.allocation = a;
  return r;
}

// Byte offsets of the active lanes in the region, when all lie inside and are aligned. `dense`: lane l's is lane 0's
// plus l * bytes, for all lanes.
struct Offsets {
  uint64_t at[kLanes];
  bool inside = false, dense = false;
};
inline void offsetsIn(Offsets& o, const Region& region, const uint64_t* a, uint64_t offset, uint32_t bytes, Mask m) {
  const uint64_t shift = offset - region.base;
  const uint64_t last = region.size - bytes;
  if (region.size < bytes) return;
  uint64_t bad = 0, ragged = 0, first = a[0] + shift;
  const uint64_t alignment = bytes - 1;
  if (m == kFull) {
    DSVC_LANES {
      uint64_t at = a[l] + shift;
      o.at[l] = at;
      bad |= static_cast<uint64_t>(at > last) | ((at + region.base) & alignment);
      ragged |= at ^ (first + static_cast<uint64_t>(l) * bytes);
    }
    o.dense = ragged == 0;
  } else {
    for (int l : lanesOf(m)) {
      uint64_t at = a[l] + shift;
      o.at[l] = at;
      bad |= static_cast<uint64_t>(at > last) | ((at + region.base) & alignment);
    }
  }
  o.inside = bad == 0;
}

// Tells the checks of an instruction's accesses: of all lanes in one region, or of one lane.
inline void tell(Warp& w, const Insn& i, const Access& how, const Region& region, const Offsets& o, uint32_t bytes, Mask m,
                 const std::vector<Slot>& parts) {
  Accesses a{how, region.space, const_cast<Allocation*>(region.allocation), region.cta, bytes, m, o.dense, o.at, parts.data(),
             static_cast<uint32_t>(parts.size())};
  uint64_t moved[kLanes];
  if (region.start) {
    for (int l : lanesOf(m)) moved[l] = o.at[l] + region.start;
    a.offsets = moved;
  }
  w.machine.checks->onAccess(w, i, a);
}
inline void tell(Warp& w, const Insn& i, const Access& how, int lane, const Place& p, uint32_t bytes, const Slot* parts = nullptr,
                 size_t partCount = 0) {
  uint64_t offsets[kLanes];
  offsets[lane] = p.offset;
  const Space space = p.space == Space::sharedCluster ? Space::shared : p.space;
  w.machine.checks->onAccess(w, i, {how, space, p.allocation, p.cta, bytes, 1u << lane, false, offsets, parts, static_cast<uint32_t>(partCount)});
}

// Of a function's or call's parameters: every lane at Insn::immediate.
inline void tellParameter(Warp& w, const Insn& i, Mask m, AccessKind kind, uint32_t element, const std::vector<Slot>& parts) {
  if (!w.machine.checks) return;
  uint64_t offsets[kLanes];
  for (uint64_t& o : offsets) o = static_cast<uint64_t>(i.immediate);
  const auto count = static_cast<uint32_t>(parts.size());
  w.machine.checks->onAccess(w, i, {{kind}, Space::param, nullptr, nullptr, element * count, m, false, offsets, parts.data(), count});
}

}  // namespace dsvc::emulator::DSVC_ARCH
