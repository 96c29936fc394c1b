#include "poison.h"

#include <bit>
#include <cstring>

#include "listeners.h"

namespace dsvc::emulator {

Poison::Poison(Machine& machine) : machine_(machine) {
  static constexpr const char* kNames[] = {"uninitialised-address", "uninitialised-predicate", "uninitialised-operand", "uninitialised-output"};
  for (size_t k = 0; k < 4; ++k) wanted_[k] = machine.options.checks_(kNames[k]);
  machine.poison = this;
}
Poison::~Poison() { machine_.poison = nullptr; }

bool wantsPoison(const Options& o) {
  for (const char* name : {"uninitialised-address", "uninitialised-predicate", "uninitialised-operand", "uninitialised-output", "output-not-written"})
    if (o.checks_(name)) return true;
  return false;
}

std::unique_ptr<Checks> makePoison(Machine& machine) { return std::make_unique<Poison>(machine); }

void Poison::detail(Shadow& s) {
  if (!s.bits.empty()) return;
  s.bits.resize(s.any.size());
  for (auto& lanes : s.bits) lanes.fill(~0u);
  s.origin.assign(s.any.size(), 0);
}
void Poison::poison(Shadow& s, uint32_t granule, Mask lanes, uint32_t origin) {
  if (!lanes) return;
  detail(s);
  s.any[granule] |= lanes;
  for (int l : lanesOf(lanes)) s.bits[granule][static_cast<size_t>(l)] = ~0u;
  s.origin[granule] = origin;
}
void Poison::setBits(Shadow& s, uint32_t granule, int lane, uint32_t poisoned) {
  const Mask bit = 1u << lane;
  s.any[granule] = poisoned ? s.any[granule] | bit : s.any[granule] & ~bit;
  s.bits[granule][static_cast<size_t>(lane)] = poisoned;
}
void Poison::setByte(Shadow& s, uint32_t granule, uint32_t k, Mask lanes, Mask poisoned) {
  detail(s);
  for (int l : lanesOf(lanes)) {
    const uint32_t mask = 0xffu << 8 * k, before = s.bitsOf(granule, l);
    setBits(s, granule, l, poisoned >> l & 1 ? before | mask : before & ~mask);
  }
}

// Lanes in which the register has a poisoned byte among those that matter.
Mask Poison::poisonOf(const Shadow& s, const PoisonRegister& q, uint32_t narrow) const {
  if (narrow && narrow < 4 && q.cls == 1) {
    Mask p = 0;
    for (uint32_t k = 0; k < narrow; ++k) p |= s.byteOf(q.granule, k);
    return p;
  }
  Mask p = 0;
  for (uint32_t k = 0; k < granulesOf(q.cls); ++k) p |= s.any[q.granule + k];
  return p;
}

void Poison::onGuard(Warp& w, const Insn& i, Mask lanes) {
  Shadow& s = shadowOf(w);
  const PoisonRule& r = ruleOf(s, i);
  const Mask p = s.any[r.guard] & lanes;
  if (!p) return;
  if (r.isPure) {
    const uint32_t* g = s.rules->granules.data() + r.first + r.reads;
    for (uint32_t k = 0; k < r.writes; ++k) poison(s, g[k], p, originOf(s, r.guard));
  } else if (w.path().wait.kind == WaitKind::none) {
    const PoisonRegister q{i.guard, 0, r.guard};
    const int lane = std::countr_zero(p);
    report(w, i, lane, Use::predicate, "its guard " + nameOf(s, q), textOf(s, q, lane));
  }
}

void Poison::onInsn(Warp& w, const Insn& i, Mask m) {
  Shadow& s = shadowOf(w);
  const PoisonRule& r = ruleOf(s, i);
  const uint32_t* g = s.rules->granules.data() + r.first;
  Mask p = 0;
  for (uint32_t k = 0; k < r.reads; ++k) p |= s.any[g[k]];
  pending_ = p & m;
  if (pending_) return slow(w, i, m, s, r);
  operands_ = 0;
  g += r.reads;
  for (uint32_t k = 0; k < r.writes; ++k) s.any[g[k]] &= ~m;
  if (r.kind == PoisonKind::leave) leave(w, m);
}

void Poison::checkUse(Warp& w, const Insn& i, Mask m, const Shadow& s, const PoisonRule& r, uint32_t from, uint32_t count, Use use) {
  if (w.path().wait.kind != WaitKind::none) return;  // tried again: told already
  static constexpr const char* kUses[] = {"the address", "the predicate", "the operand", ""};
  for (uint32_t k = 0; k < count; ++k) {
    const PoisonRegister& q = s.rules->registers[r.from + from + k];
    const Mask p = poisonOf(s, q) & m;
    if (!p) continue;
    const int lane = std::countr_zero(p);
    const std::string name = nameOf(s, q);
    report(w, i, lane, q.cls == 0 && use == Use::operand ? Use::predicate : use,
           (q.cls == 0 ? "the predicate" : kUses[static_cast<size_t>(use)]) + (name.empty() ? "" : " in " + name), textOf(s, q, lane));
    return;
  }
}

void Poison::slow(Warp& w, const Insn& i, Mask m, Shadow& s, const PoisonRule& r) {
  const PoisonRegister* data = s.rules->registers.data() + r.from + r.addresses;
  checkUse(w, i, m, s, r, 0, r.addresses, Use::address);
  // A poisoned guard makes all of the result unknown.
  const Mask lost = i.guard != slot::kNone ? s.any[r.guard] & m : 0;
  Mask p = lost;
  uint32_t origin = lost ? originOf(s, r.guard) : 0;
  for (uint32_t k = 0; k < r.data; ++k) {
    const Mask q = poisonOf(s, data[k], r.narrow) & m;
    if (q && !origin)
      for (uint32_t g = 0; g < granulesOf(data[k].cls) && !origin; ++g)
        if (s.any[data[k].granule + g] & m) origin = originOf(s, data[k].granule + g);
    p |= q;
  }
  auto set = [&](Mask lanes) {
    clear(s, r, m);
    const uint32_t* g = s.rules->granules.data() + r.first + r.reads;
    for (uint32_t k = 0; k < r.writes; ++k) poison(s, g[k], lanes, origin);
  };
  switch (r.kind) {
    case PoisonKind::bits: return tryBits(w, i, m, s, r, lost, origin);
    case PoisonKind::halves: return halves(m, s, r, lost, origin);
    case PoisonKind::compare: return set(lost | (comparison(w, i, s, r) & m));
    case PoisonKind::whole: {
      // A register less itself is zero whatever it holds.
      const bool same = w.decoded(i).mnemonic == Mnemonic::sub_ && i.a == i.b && r.data == 1 && data[0].cls < 3;
      return set(same ? lost : p);
    }
    case PoisonKind::load: return set(lost);
    case PoisonKind::atomic:
      operands_ = p & ~lost;
      operandOrigin_ = origin;
      return set(0);
    case PoisonKind::product:
    case PoisonKind::operands:
      checkUse(w, i, m, s, r, r.addresses, r.data, Use::operand);
      return set(0);
    case PoisonKind::branch: return checkUse(w, i, m, s, r, r.addresses, r.data, Use::predicate);
    case PoisonKind::leave: return leave(w, m);
    case PoisonKind::gather: case PoisonKind::handler: case PoisonKind::store: case PoisonKind::none: return;
  }
}

// setp with a third operand: and with false, or with true, is known whatever the comparison gives.
Mask Poison::comparison(Warp& w, const Insn& i, const Shadow& s, const PoisonRule& r) const {
  const PoisonRegister* data = s.rules->registers.data() + r.from + r.addresses;
  const DecodedInsn& d = w.decoded(i);
  Mask compared = 0, combined = 0, value = 0;
  for (uint32_t k = 0; k < r.data; ++k) {
    if (data[k].cls != 0) compared |= poisonOf(s, data[k], r.narrow);
    else combined |= s.any[data[k].granule], value = w.predicate(data[k].slot);
  }
  for (Modifier m : d.modifiers) {
    if (m == Modifier::and_) return (compared & (value | combined)) | combined;
    if (m == Modifier::or_) return (compared & (~value | combined)) | combined;
  }
  return compared | combined;
}

void Poison::halves(Mask m, Shadow& s, const PoisonRule& r, Mask lost, uint32_t origin) {
  const PoisonRegister* data = s.rules->registers.data() + r.from + r.addresses;
  detail(s);
  Mask half[2] = {lost, lost};
  for (uint32_t k = 0; k < r.data; ++k)
    for (uint32_t b = 0; b < 4; ++b) half[b / 2] |= data[k].cls == 1 ? s.byteOf(data[k].granule, b) : poisonOf(s, data[k]);
  for (uint32_t k = 0; k < r.results; ++k) {
    const PoisonRegister& q = data[r.data + k];
    for (uint32_t b = 0; b < 4 && q.cls == 1; ++b) setByte(s, q.granule, b, m, half[b / 2]);
    if (q.cls != 1) poison(s, q.granule, (half[0] | half[1]) & m, origin);
    s.origin[q.granule] = origin;
  }
}

// Runs the instruction with every combination of all poisoned bits of an operand clear and set: bits of the result that
// vary are poisoned. Exact, since each bit of these results depends on single bits of the operands.
void Poison::tryBits(Warp& w, const Insn& i, Mask m, Shadow& s, const PoisonRule& r, Mask lost, uint32_t origin) {
  const PoisonRegister* data = s.rules->registers.data() + r.from + r.addresses;
  const PoisonRegister* results = data + r.data;
  const uint32_t all = r.data + r.results;
  auto bytesAt = [&](const PoisonRegister& q) { return w.out<uint8_t>(q.slot); };
  auto sizeOfRegister = [](const PoisonRegister& q) { return q.cls == 0 ? size_t{4} : size_t{bytesOfClass(q.cls)} * kLanes; };
  std::vector<uint32_t> poisoned;
  Mask controlled = 0;  // lanes where an operand is poisoned that says what moves where
  size_t saved = 0, written = 0;
  for (uint32_t k = 0; k < all; ++k) (k < r.data ? saved : written) += sizeOfRegister(data[k]);
  saved_.resize(saved + written);
  first_.assign(written, 0);
  varied_.assign(written, 0);
  uint8_t* to = saved_.data();
  for (uint32_t k = 0; k < all; ++k, to += sizeOfRegister(data[k - 1])) std::memcpy(to, bytesAt(data[k]), sizeOfRegister(data[k]));
  for (uint32_t k = 0; k < r.data; ++k) {
    const Mask p = poisonOf(s, data[k]) & m;
    if (!p) continue;
    poisoned.push_back(k);
    const Slot slot = data[k].slot;
    if (((r.controls & 1) && slot == i.b) || ((r.controls & 2) && slot == i.c) || ((r.controls & 4) && slot == static_cast<Slot>(i.immediate)))
      controlled |= p;
  }
  auto restore = [&] {
    const uint8_t* from = saved_.data();
    for (uint32_t k = 0; k < all; ++k, from += sizeOfRegister(data[k - 1])) std::memcpy(bytesAt(data[k]), from, sizeOfRegister(data[k]));
  };
  constexpr uint32_t kMost = 4;  // operands by themselves; packs have more, whose bits never meet
  const uint32_t count = std::min<uint32_t>(kMost, static_cast<uint32_t>(poisoned.size()));
  for (uint32_t choice = 0; choice < 1u << count; ++choice) {
    restore();
    for (uint32_t k = 0; k < poisoned.size(); ++k) {
      const PoisonRegister& q = data[poisoned[k]];
      const bool ones = choice >> std::min(k, kMost - 1) & 1;
      const Mask p = poisonOf(s, q);
      if (q.cls == 0) {
        Mask& v = *w.out<Mask>(q.slot);
        v = ones ? v | p : v & ~p;
        continue;
      }
      const uint32_t n = granulesOf(q.cls);
      auto* words = w.out<uint32_t>(q.slot);
      for (int l : lanesOf(p & m))
        for (uint32_t g = 0; g < n; ++g) {
          uint32_t& v = words[n * static_cast<uint32_t>(l) + g];
          const uint32_t bits = s.bitsOf(q.granule + g, l);
          v = ones ? v | bits : v & ~bits;
        }
    }
    i.run(w, i, m);
    uint8_t* first = first_.data();
    uint8_t* varied = varied_.data();
    for (uint32_t k = 0; k < r.results; ++k) {
      const uint8_t* now = bytesAt(results[k]);
      const size_t n = sizeOfRegister(results[k]);
      if (choice == 0) std::memcpy(first, now, n);
      else
        for (size_t b = 0; b < n; ++b) varied[b] |= first[b] ^ now[b];
      first += n;
      varied += n;
    }
  }
  restore();
  const uint8_t* varied = varied_.data();
  const Mask whole = lost | controlled;
  for (uint32_t k = 0; k < r.results; ++k) {
    const PoisonRegister& q = results[k];
    detail(s);
    if (q.cls == 0) {
      Mask v;
      std::memcpy(&v, varied, 4);
      s.any[q.granule] = (s.any[q.granule] & ~m) | ((v | whole) & m);
      s.origin[q.granule] = origin;
    } else {
      const uint32_t n = granulesOf(q.cls);
      for (uint32_t g = 0; g < n; ++g) {
        s.origin[q.granule + g] = origin;
        for (int l : lanesOf(m)) {
          uint32_t bits;
          std::memcpy(&bits, varied + 4 * (n * static_cast<uint32_t>(l) + g), 4);
          setBits(s, q.granule + g, l, whole >> l & 1 ? ~0u : bits);
        }
      }
    }
    varied += sizeOfRegister(q);
  }
}

}  // namespace dsvc::emulator
