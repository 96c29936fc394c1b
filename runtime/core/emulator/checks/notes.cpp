#include "notes.h"

#include <algorithm>
#include <bit>

#include "../async/copy.h"
#include "../async/state.h"
#include "listeners.h"

namespace dsvc::emulator {

namespace {
bool has(const DecodedInsn& d, Modifier m) { return std::find(d.modifiers.begin(), d.modifiers.end(), m) != d.modifiers.end(); }

uint64_t keyOf(const Warp& w, const Insn& i) {
  return (reinterpret_cast<uintptr_t>(&i) * 0x9e3779b97f4a7c15ull) ^ reinterpret_cast<uintptr_t>(&w) ^ (uint64_t{w.paths[w.current].lanes} << 24);
}

WaitPoint waitPointOf(const DecodedInsn& d) {
  switch (d.mnemonic) {
    case Mnemonic::bar_: case Mnemonic::barrier_:
      if (has(d, Modifier::cluster_)) return has(d, Modifier::wait_) ? WaitPoint::cluster : WaitPoint::count_;
      return has(d, Modifier::warp_) || has(d, Modifier::arrive_) ? WaitPoint::count_ : WaitPoint::barrier;
    case Mnemonic::mbarrier_:
      return has(d, Modifier::try_wait_) || has(d, Modifier::test_wait_) ? WaitPoint::mbarrier : WaitPoint::count_;
    case Mnemonic::cp_: return has(d, Modifier::wait_group_) || has(d, Modifier::wait_all_) ? WaitPoint::copies : WaitPoint::count_;
    case Mnemonic::wgmma_: return has(d, Modifier::wait_group_) ? WaitPoint::wgmma : WaitPoint::count_;
    default: return WaitPoint::count_;
  }
}
}  // namespace

std::unique_ptr<Checks> makeNotes(Machine& machine) { return std::make_unique<Notes>(machine); }

Notes::PerCode& Notes::of(const Code& code) {
  if (&code == lastCode_) return *last_;
  PerCode& p = codes_[&code];
  p.known.resize(code.insns.size());
  p.counts.resize(code.function->body.size() + 1);
  lastCode_ = &code;
  last_ = &p;
  return p;
}

Notes::Known& Notes::knownOf(Warp& w, const Insn& i) {
  const Code& code = *w.frame().code;
  const auto index = static_cast<size_t>(&i - code.insns.data());
  Known& k = of(code).known[index];
  if (k.known) return k;
  k.known = true;
  if (!code.operands[index].isStep) classify(w.decoded(i), k);
  return k;
}

void Notes::classify(const DecodedInsn& d, Known& k) {
  k.wait = waitPointOf(d);
  const bool product = (d.mnemonic == Mnemonic::mma_ || (d.mnemonic == Mnemonic::wmma_ && has(d, Modifier::mma_)) ||
                        (d.mnemonic == Mnemonic::wgmma_ && has(d, Modifier::mma_async_)));
  k.counts = d.mnemonic != Mnemonic::wmma_;  // its accesses are told element by element
  if (!product) return;
  uint32_t m = 0, n = 0, depth = 0;
  std::string types;
  for (Modifier q : d.modifiers) {
    if (std::sscanf(nameOf(q), "m%un%uk%u", &m, &n, &depth) == 3) continue;
    if (typeOf(q) == Type::none) continue;
    if (!types.empty()) types += '.';
    types += nameOf(q);
  }
  k.products = &out_->products[types];
  k.flop = uint64_t{2} * m * n * depth;
  if (d.mnemonic == Mnemonic::wgmma_) k.flop /= 4;  // each of four warps issues it
}

InsnPerformance& Notes::countsOf(Warp& w, const Insn& i) {
  const Function& f = *w.frame().function;
  InsnPerformance& p = of(*w.frame().code).counts[std::min<size_t>(i.decoded, f.body.size())];
  if (p.text.empty()) {
    const DecodedInsn& d = w.decoded(i);
    p.function = f.name;
    p.text = spell(d);
    p.line = d.ptxLine;
    p.column = d.ptxColumn;
  }
  return p;
}

void Notes::onInsn(Warp& w, const Insn& i, Mask) {
  shared_.lanes = global_.lanes = 0;
  const Known& k = knownOf(w, i);
  if (k.wait != WaitPoint::count_ && w.path().wait.kind == WaitKind::none) started_[keyOf(w, i)] = machine_.engine.now();
}

void Notes::afterInsn(Warp& w, const Insn& i, Mask m) {
  ++out_->executed;
  out_->lanes += static_cast<uint64_t>(std::popcount(m));
  Known& k = knownOf(w, i);
  if (k.products) {
    ++k.products->instructions;
    k.products->flop += k.flop;
  }
  if (shared_.lanes && k.counts) countShared(countsOf(w, i));
  if (global_.lanes && k.counts) countGlobal(countsOf(w, i));
  if (k.wait == WaitPoint::count_) return;
  auto& waits = out_->waits[static_cast<size_t>(k.wait)];
  ++waits.count;
  if (auto it = started_.find(keyOf(w, i)); it != started_.end()) {
    const uint64_t turns = machine_.engine.now() - it->second;
    waits.blocked += turns != 0;
    waits.turns += turns;
    started_.erase(it);
  }
}

void Notes::onJump(Warp&, const DecodedInsn&, Mask m) {
  ++out_->executed;
  out_->lanes += static_cast<uint64_t>(std::popcount(m));
}

void Notes::Gathered::take(const Accesses& a, uint64_t base) {
  for (int l : lanesOf(a.lanes)) at[l] = base + a.offsets[l];
  lanes |= a.lanes;
  bytes = a.bytes;
}

void Notes::onAccess(Warp& w, const Insn&, const Accesses& a) {
  const uint64_t bytes = uint64_t{a.bytes} * static_cast<uint64_t>(std::popcount(a.lanes));
  const Space space = a.cta && a.cta != &w.cta ? Space::sharedCluster : a.space;
  auto& total = out_->bytes[static_cast<size_t>(space)];
  if (a.how.kind != AccessKind::write) total.read += bytes;
  if (a.how.kind != AccessKind::read) total.written += bytes;
  if (a.cta == &w.cta && a.how.kind != AccessKind::atomic) shared_.take(a, 0);
  if (space == Space::global && a.allocation) global_.take(a, a.allocation->base);
}

void Notes::countShared(InsnPerformance& p) {
  const uint32_t words = std::max(1u, shared_.bytes / 4), lanes = std::max(8u, kLanes / words);
  for (uint32_t first = 0; first < kLanes; first += lanes) {
    const Mask part = shared_.lanes & (lanes == kLanes ? kFull : ((1u << lanes) - 1) << first);
    if (!part) continue;
    // A word counts once, whoever reads it; what one bank has to give takes turns.
    uint64_t wanted[kLanes * 4];
    size_t n = 0;
    for (int l : lanesOf(part))
      for (uint32_t k = 0; k < words; ++k) {
        const uint64_t word = shared_.at[l] / 4 + k;
        wanted[n++] = (word & 31) << 32 | word >> 5;
      }
    std::sort(wanted, wanted + n);
    n = static_cast<size_t>(std::unique(wanted, wanted + n) - wanted);
    uint32_t most = 1, run = 1;
    for (size_t k = 1; k < n; ++k) {
      run = wanted[k] >> 32 == wanted[k - 1] >> 32 ? run + 1 : 1;
      most = std::max(most, run);
    }
    ++p.phases;
    p.passes += most;
    p.worst = std::max(p.worst, most);
  }
}

void Notes::countGlobal(InsnPerformance& p) {
  uint64_t starts[kLanes], sectors[kLanes * 2];
  size_t n = 0, s = 0;
  for (int l : lanesOf(global_.lanes)) {
    starts[n++] = global_.at[l];
    sectors[s++] = global_.at[l] / 32;
    sectors[s++] = (global_.at[l] + global_.bytes - 1) / 32;
  }
  std::sort(starts, starts + n);
  std::sort(sectors, sectors + s);
  const auto distinct = static_cast<uint64_t>(std::unique(starts, starts + n) - starts);
  ++p.requests;
  p.sectors += static_cast<uint64_t>(std::unique(sectors, sectors + s) - sectors);
  p.idealSectors += (distinct * global_.bytes + 31) / 32;
}

void Notes::onTransfer(uint64_t, const Region& region, uint64_t, uint64_t bytes, AccessKind kind) {
  auto& total = out_->copied[static_cast<size_t>(region.cta ? Space::shared : Space::global)];
  if (kind != AccessKind::write) total.read += bytes;
  if (kind != AccessKind::read) total.written += bytes;
}

void Notes::onSignal(uint64_t, Cta& cta, uint32_t offset, uint64_t) { rings_[&cta].try_emplace(offset, 0); }

void Notes::onMbarrierWait(Warp& w, const Insn& i, int, Cta& cta, uint32_t offset, uint64_t phase, Order, Scope) {
  auto ring = rings_.find(&cta);
  if (ring == rings_.end()) return;
  auto mine = ring->second.find(offset);
  if (mine == ring->second.end() || mine->second > phase) return;  // no copy's, or another warp saw this phase first
  auto it = started_.find(keyOf(w, i));
  const bool waited = it != started_.end() && it->second != machine_.engine.now();
  uint64_t lead = 0;
  if (!waited)
    for (const auto& [at, seen] : ring->second)
      if (auto b = asyncOf(cta).barriers.find(at); b != asyncOf(cta).barriers.end() && b->second.phase > seen) lead += b->second.phase - seen;
  auto& r = out_->ring;
  ++r.waits;
  r.waited += waited;
  r.lead += lead;
  r.least = std::min(r.least, lead);
  mine->second = phase + 1;
}

}  // namespace dsvc::emulator
