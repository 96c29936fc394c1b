#include <algorithm>
#include <cstring>

#include "poison.h"

namespace dsvc::emulator {

namespace {
bool isSignedLoad(const DecodedInsn& d) {
  for (Modifier m : d.modifiers)
    if (Type t = typeOf(m); t != Type::none) return isSigned(t);
  return false;
}
// A lane's bytes of an access, which never crosses a word: it is aligned to its size, 16 at most.
uint64_t bitsAt(const ByteSet& set, uint64_t at) { return set[at >> 6] >> (at & 63); }
uint64_t keyOf(const void* owner, uint64_t offset) { return (reinterpret_cast<uintptr_t>(owner) + (offset >> 2)) * 0x9e3779b97f4a7c15ull; }
}  // namespace

// The map of a block's shared memory or of an allocation; null where everything is initialised.
ByteSet* Poison::setOf(const Accesses& a) const {
  if (a.cta) return &a.cta->sharedInitialised;
  if (a.allocation && a.allocation->tracked && !a.allocation->initialised.empty()) return &a.allocation->initialised;
  return nullptr;
}

// A lane's bytes of local memory or of a function's parameters, 1 for each that is known; null: a kernel's parameters.
uint8_t* Poison::knownOf(Warp& w, const Insn& i, const Accesses& a, int lane) {
  Frame& f = w.frame();
  if (a.space == Space::local) {
    if (!w.localShadow) w.localShadow = std::make_shared<LocalShadow>();
    return w.localShadow->of(lane, std::max(f.localBase + f.function->localBytes, a.offsets[lane] + a.bytes)) + a.offsets[lane];
  }
  if (i.a != slot::kNone) return nullptr;  // an address: of the kernel's
  Shadow& s = shadowOf(w);
  const bool own = i.flags == 0;
  return (own ? s.params : s.callParams).data() + size_t{own ? f.paramStride : f.callParamStride} * lane + a.offsets[lane];
}

void Poison::onAccess(Warp& w, const Insn& i, const Accesses& a) {
  switch (a.how.kind) {
    case AccessKind::read: return load(w, i, a);
    case AccessKind::write: return store(w, i, a);
    case AccessKind::atomic: return atomic(w, i, a);
  }
}

void Poison::load(Warp& w, const Insn& i, const Accesses& a) {
  if (a.partCount == 0) return;
  const ByteSet* set = nullptr;
  const bool inSet = a.space != Space::local && a.space != Space::param;
  if (inSet) {
    set = setOf(a);
    if (!set) return;
    if (a.dense) {
      if (holdsAll(*set, a.offsets[0], uint64_t{a.bytes} * kLanes)) return;
    } else {
      uint64_t all = ~0ull;
      for (int l : lanesOf(a.lanes)) all &= bitsAt(*set, a.offsets[l]);
      const uint64_t needed = (1ull << a.bytes) - 1;
      if ((all & needed) == needed) return;
    }
  }
  Shadow& s = shadowOf(w);
  const uint32_t element = a.bytes / a.partCount;
  const bool extends = element < 4 && isSignedLoad(w.decoded(i));
  Mask named = 0;  // parts whose origin is set: that of the first lane
  for (int l : lanesOf(a.lanes)) {
    const uint8_t* known = inSet ? nullptr : knownOf(w, i, a, l);
    if (!inSet && !known) continue;
    for (uint32_t k = 0; k < a.bytes; ++k) {
      if (inSet ? bitsAt(*set, a.offsets[l] + k) & 1 : known[k]) continue;
      const uint32_t granule = s.rules->granuleOf(a.parts[k / element]), b = k % element;
      setByte(s, granule + b / 4, b % 4, 1u << l, kFull);
      if (extends && b == element - 1)
        for (uint32_t up = element; up < 4; ++up) setByte(s, granule, up, 1u << l, kFull);
      if (const Mask part = 1u << k / element; !(named & part)) {
        s.origin[granule] = s.origin[granule + (element - 1) / 4] = originOf(w, a, a.offsets[l] + k);
        named |= part;
      }
    }
  }
}

void Poison::store(Warp& w, const Insn& i, const Accesses& a) {
  const Shadow& s = shadowOf(w);
  const bool inSet = a.space != Space::local && a.space != Space::param;
  const uint32_t element = a.partCount ? a.bytes / a.partCount : a.bytes;
  Mask p = 0;
  for (uint32_t k = 0; k < a.partCount; ++k) {
    if (a.parts[k] >> 30 != 0) continue;
    const uint32_t g = s.rules->granuleOf(a.parts[k]);
    for (uint32_t n = 0; n * 4 < element; ++n) p |= s.any[g + n];
  }
  if (!(p & a.lanes) && inSet) {
    ByteSet* set = setOf(a);
    if (!set) return;
    if (a.dense) return setAll(*set, a.offsets[0], uint64_t{a.bytes} * kLanes, true);
    const uint64_t bits = (1ull << a.bytes) - 1;
    for (int l : lanesOf(a.lanes)) (*set)[a.offsets[l] >> 6] |= bits << (a.offsets[l] & 63);
    return;
  }
  for (int l : lanesOf(a.lanes)) {
    uint32_t poisoned = 0, origin = 0;
    for (uint32_t k = 0; k < a.bytes && p >> l & 1; ++k) {
      const Slot part = a.parts[k / element];
      if (part >> 30 != 0) continue;
      const uint32_t b = k % element, g = s.rules->granuleOf(part) + b / 4;
      if (!(s.byteOf(g, b % 4) >> l & 1)) continue;
      poisoned |= 1u << k;
      if (!origin) origin = originOf(s, g);
    }
    mark(w, i, a, l, a.offsets[l], a.bytes, poisoned, origin);
  }
}

namespace {
bool setsBits(const DecodedInsn& d) {
  return std::any_of(d.modifiers.begin(), d.modifiers.end(), [](Modifier m) { return m == Modifier::and_ || m == Modifier::or_; });
}
// Bytes of memory that an and or an or with this operand sets bits of. Kernels build packed fields so, bit by bit; memory
// knows bytes, so a byte of which some bits were set counts as known.
uint32_t bytesSetBy(const DecodedInsn& d, uint64_t operand, uint32_t bytes) {
  const bool clears = std::find(d.modifiers.begin(), d.modifiers.end(), Modifier::and_) != d.modifiers.end();
  uint32_t found = 0;
  for (uint32_t k = 0; k < bytes && k < 8; ++k)
    if ((operand >> 8 * k & 0xff) != (clears ? 0xffu : 0u)) found |= 1u << k;
  return found;
}
}  // namespace

// The old value goes to the result, and into the new one but for an exchange.
void Poison::atomic(Warp& w, const Insn& i, const Accesses& a) {
  const DecodedInsn& d = w.decoded(i);
  if (d.mnemonic != Mnemonic::atom_ && d.mnemonic != Mnemonic::red_) return;
  bool exchanges = false;
  for (Modifier m : d.modifiers) exchanges |= m == Modifier::exch_;
  ByteSet* set = a.space == Space::local || a.space == Space::param ? nullptr : setOf(a);
  Shadow& s = shadowOf(w);
  const PoisonRule& r = ruleOf(s, i);
  for (int l : lanesOf(a.lanes)) {
    const bool old = set && !holdsAll(*set, a.offsets[l], a.bytes), given = operands_ >> l & 1;
    if (!old && !given) continue;
    uint32_t origin = old ? originOf(w, a, a.offsets[l]) : operandOrigin_;
    const uint32_t* g = s.rules->granules.data() + r.first + r.reads;
    for (uint32_t k = 0; old && k < r.writes; ++k) {
      // The instruction's first lane gives the origin.
      const bool isFirst = !(s.any[g[k]] & w.path().lanes & ((1u << l) - 1));
      poison(s, g[k], 1u << l, isFirst ? origin : s.origin[g[k]]);
    }
    uint32_t poisoned = exchanges && !given ? 0 : (1u << a.bytes) - 1;
    if (!exchanges && !given) {
      if (setsBits(d)) {
        const Code& code = *w.frame().code;
        const auto& reads = code.operands[static_cast<size_t>(&i - code.insns.data())].reads;
        const Slot value = reads.empty() ? slot::kNone : reads.back();
        if (value != slot::kNone)
          poisoned &= ~bytesSetBy(d, a.bytes == 8 ? w.in<uint64_t>(value)[l] : w.in<uint32_t>(value)[l], a.bytes);
      }
      for (uint32_t k = 0; set && k < a.bytes; ++k)
        if (holdsAll(*set, a.offsets[l] + k, 1)) poisoned &= ~(1u << k);
    }
    mark(w, i, a, l, a.offsets[l], a.bytes, poisoned, origin);
  }
}

// A lane stored `bytes` bytes, those in the mask poisoned.
void Poison::mark(Warp& w, const Insn& i, const Accesses& a, int lane, uint64_t offset, uint32_t bytes, uint32_t poisoned, uint32_t origin) {
  if (a.space == Space::local || a.space == Space::param) {
    if (uint8_t* known = knownOf(w, i, a, lane))
      for (uint32_t k = 0; k < bytes; ++k) known[k] = !(poisoned >> k & 1);
    return;
  }
  const void* owner = a.cta ? static_cast<const void*>(a.cta) : a.allocation;
  if (a.cta) setAll(a.cta->sharedInitialised, offset, bytes, true);
  else if (!a.allocation->initialised.empty()) setAll(a.allocation->initialised, offset, bytes, true);
  if (!poisoned) return;
  if (a.allocation) a.allocation->wasPoisoned = true;
  for (uint32_t k = 0; k < bytes; ++k) {
    if (!(poisoned >> k & 1)) continue;
    if (a.cta) setAll(a.cta->sharedInitialised, offset + k, 1, false);
    else a.allocation->markInitialised(offset + k, 1, false);
    if (a.allocation && a.allocation->output && wanted_[static_cast<size_t>(Use::output)])
      a.allocation->output->add(w.site(i, lane), origins_[origin], offset + k, 1);
  }
  constexpr size_t kMost = 1 << 16;
  if (origin && stored_.size() < kMost) stored_[keyOf(owner, offset)] = origin;
}

uint32_t Poison::originOf(Warp& w, const Accesses& a, uint64_t offset) {
  const void* owner = a.cta ? static_cast<const void*>(a.cta) : a.allocation;
  if (owner)
    if (auto it = stored_.find(keyOf(owner, offset)); it != stored_.end()) return it->second;
  std::string text;
  if (a.cta) {
    text = format("byte 0x%llx of shared memory", static_cast<unsigned long long>(offset));
    if (a.cta != &w.cta) text += format(" of block rank %u", a.cta->rank);
  } else if (a.allocation) {
    const uint32_t unit = a.allocation->elementBytes;
    text = unit > 1 ? format("%s[%llu]", a.allocation->name.c_str(), static_cast<unsigned long long>(offset / unit))
                    : format("byte %llu of %s", static_cast<unsigned long long>(offset), a.allocation->name.c_str());
    if (a.allocation->wasPoisoned) return originOf(text + ", which holds uninitialised data");
  } else {
    text = a.space == Space::local ? format("byte %llu of local memory", static_cast<unsigned long long>(offset)) : "a parameter of the call";
  }
  return originOf(text + ", which was never written");
}

// --- for handlers ----------------------------------------------------------------------------------------------------
bool Poison::memory(Warp& w, const Place& p, uint32_t bytes, uint8_t* poison) {
  std::memset(poison, 0, bytes);
  Accesses a;
  a.allocation = p.allocation;
  a.cta = p.cta;
  bool found = false;
  if (p.space == Space::local) {
    const uint8_t* known = w.localShadow ? w.localShadow->of(0, p.offset + bytes) : nullptr;
    for (uint32_t k = 0; known && k < bytes; ++k) poison[k] = known[p.offset + k] ? 0 : 0xff, found |= !known[p.offset + k];
    return found;
  }
  const ByteSet* set = setOf(a);
  if (!set || holdsAll(*set, p.offset, bytes)) return false;
  for (uint32_t k = 0; k < bytes; ++k)
    if (!(bitsAt(*set, p.offset + k) & 1)) poison[k] = 0xff, found = true;
  return found;
}

void Poison::setMemory(Warp& w, const Insn& i, const Place& p, uint32_t bytes, const uint8_t* poison) {
  uint32_t poisoned = 0;
  for (uint32_t k = 0; k < bytes; ++k) poisoned |= static_cast<uint32_t>(poison[k] != 0) << k;
  Accesses a;
  a.space = p.space;
  a.allocation = p.allocation;
  a.cta = p.cta;
  if (a.allocation || a.cta) mark(w, i, a, 0, p.offset, bytes, poisoned, 0);
}

}  // namespace dsvc::emulator
