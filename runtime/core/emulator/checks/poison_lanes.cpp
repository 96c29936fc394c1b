// Poison that handlers hand on: they move it as they move the values.
#include <bit>
#include <cstring>

#include "../tensor/descriptor.h"
#include "../tensor/fragments.h"
#include "../tensor/warpgroup.h"
#include "poison.h"

namespace dsvc::emulator {

void Poison::lanesOfRegister(Warp& w, Slot slot, uint32_t* lanes, uint8_t cls) {
  std::memset(lanes, 0, sizeof(uint32_t) * kLanes);
  if (slot >> 30 != 0) return;
  const Shadow& s = shadowOf(w);
  const uint32_t g = s.rules->granuleOf(slot);
  for (int l : lanesOf(s.any[g])) lanes[l] = s.bitsOf(g, l);
  if (cls == 2)
    for (int l : lanesOf(s.any[g] | s.any[g + 1])) lanes[l] = ~0u;
}

void Poison::setRegister(Warp& w, Slot slot, const uint32_t* lanes, uint8_t cls) {
  if (slot >> 30 != 0) return;
  Shadow& s = shadowOf(w);
  const uint32_t g = s.rules->granuleOf(slot);
  detail(s);
  for (uint32_t n = 0; n < granulesOf(cls); ++n)
    for (int l = 0; l < kLanes; ++l) setBits(s, g + n, l, lanes[l]);
  static const std::string kFrom = "uninitialised matrix elements";
  for (uint32_t n = 0; n < granulesOf(cls); ++n) s.origin[g + n] = originOf(kFrom);
}

void Poison::gather(Warp& w, const Insn& i, Mask m, Rendezvous& r) {
  if (!pending_) return;  // the rendezvous' masks begin at zero
  const Shadow& s = shadowOf(w);
  const PoisonRule& rule = ruleOf(s, i);
  for (uint32_t k = 0; k < rule.data; ++k) {
    const PoisonRegister& q = s.rules->registers[rule.from + rule.addresses + k];
    const Mask p = poisonOf(s, q) & m;
    if (!p) continue;
    if (!r.poisonOrigin) r.poisonOrigin = originOf(s, q.granule);
    // A value goes to the lanes that read it, byte by byte; anything else spoils the lane that gives it.
    if (q.slot == i.a && q.cls == 1)
      for (uint32_t b = 0; b < 4; ++b) r.poison[b] |= s.byteOf(q.granule, b) & m;
    else if (q.slot == i.a || q.cls == 0)
      for (Mask& b : r.poison) b |= p;
    else r.poisonedControl |= p;
  }
}

void Poison::scatter(Warp& w, const Insn& i, Mask m, const Rendezvous& r) {
  const Mask any = r.poison[0] | r.poison[1] | r.poison[2] | r.poison[3];
  Shadow& s = shadowOf(w);
  const PoisonRule& rule = ruleOf(s, i);
  if (pending_) clear(s, rule, m);
  if (!(any | r.poisonedControl)) return;
  const PoisonRegister* results = s.rules->registers.data() + rule.from + rule.addresses + rule.data;
  const DecodedInsn& d = w.decoded(i);
  if (d.mnemonic == Mnemonic::shfl_) {
    for (uint32_t k = 0; k < rule.results; ++k) {
      const PoisonRegister& q = results[k];
      if (q.cls == 0) {
        poison(s, q.granule, r.poisonedControl & m, r.poisonOrigin);
        continue;
      }
      for (uint32_t b = 0; b < 4; ++b) {
        Mask p = r.poisonedControl;
        for (int l : lanesOf(m)) p |= (r.poison[b] >> (r.c[l] & 31) & 1) << l;  // computeShuffle leaves the lane read in c
        setByte(s, q.granule, b, m, p);
      }
      s.origin[q.granule] = r.poisonOrigin;
    }
    return;
  }
  if (d.mnemonic == Mnemonic::vote_) {
    // One clean vote may decide.
    const Mask clean = r.arrived & ~(any | r.poisonedControl);
    for (Modifier q : d.modifiers) {
      if (q == Modifier::any_ && (r.inputMask & clean)) return;
      if (q == Modifier::all_ && (~r.inputMask & clean)) return;
    }
  }
  for (uint32_t k = 0; k < rule.results; ++k)
    for (uint32_t g = 0; g < granulesOf(results[k].cls); ++g) poison(s, results[k].granule + g, m, r.poisonOrigin);
}

// Row r of A and column n of B poison D[r][n] and nothing else.
void Poison::runProduct(Cta& cta, const WgmmaExtra& x, const Wgmma& p) {
  const tensor::Operation& o = x.operation;
  bool rows[tensor::kMaxRows] = {}, columns[tensor::kMaxColumns] = {}, found = false;
  const ByteSet& set = cta.sharedInitialised;
  auto look = [&](uint64_t descriptor, bool transposed, uint32_t count, bool* to) {
    tensor::forEachChunk(tensor::Descriptor(descriptor), transposed, count, o.k, [&](uint32_t row, uint32_t chunk, uint32_t at) {
      if (at + 16 > cta.sharedBytes || (set[at >> 6] >> (at & 63) & 0xffff) == 0xffff) return;
      found = true;
      if (!transposed) to[row] = true;
      for (uint32_t k = 0; transposed && k < 8; ++k) to[8 * chunk + k] |= !holdsAll(set, at + 2 * k, 2);
    });
  };
  if (x.a.empty()) look(p.a, x.transposeA, o.m, rows);
  look(p.b, x.transposeB, o.n, columns);
  for (uint32_t v = 0; v < 4; ++v) {
    if (!p.frames[v] || !p.frames[v]->shadow) continue;
    const Shadow& s = *p.frames[v]->shadow;
    for (uint32_t r = 0; r < x.a.size(); ++r)
      for (int l : lanesOf(s.any[s.rules->granuleOf(x.a[r])])) rows[16 * v + tensor::rowOfA(r, static_cast<uint32_t>(l))] = found = true;
  }
  const bool isHalf = o.d == tensor::Result::f16;
  for (uint32_t v = 0; v < 4; ++v) {
    if (!p.frames[v] || !p.frames[v]->shadow) continue;
    Shadow& s = *p.frames[v]->shadow;
    if (!found) {
      if (!p.keep)
        for (Slot d : x.d) s.any[s.rules->granuleOf(d)] = 0;
      continue;
    }
    const uint32_t origin = originOf("matrix elements in shared memory, or registers, that were never written");
    for (uint32_t r = 0; r < x.d.size(); ++r) {
      const uint32_t g = s.rules->granuleOf(x.d[r]);
      Mask halves[2] = {};
      for (uint32_t e = 0; e < 2; ++e)
        for (uint32_t l = 0; l < kLanes; ++l) {
          const uint32_t at = isHalf ? 2 * r + e : r;
          halves[e] |= static_cast<Mask>(rows[16 * v + tensor::rowOfC(at, l)] || columns[tensor::columnOfC(at, l)]) << l;
        }
      for (uint32_t b = 0; b < 4; ++b) setByte(s, g, b, kFull, halves[b / 2] | (p.keep ? s.byteOf(g, b) : 0));
      if (halves[0] | halves[1]) s.origin[g] = origin;
    }
  }
}

}  // namespace dsvc::emulator
