// Operations across the lanes of a warp: shfl, vote, match, redux, elect, bar.warp.sync, activemask.
//
// A .sync operation happens once, when all lanes of its member mask that have not exited have reached one like it, be
// it the same instruction or, in divergent code, another one of the same kind. Lanes that come early wait.
#include "../checks/poison.h"
#include "lanes.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

struct SyncExtra : Extra {
  using Gather = void (*)(Warp&, const Insn&, Mask, Rendezvous&);
  using Compute = void (*)(const SyncExtra&, Rendezvous&);
  using Scatter = void (*)(Warp&, const Insn&, Mask, const Rendezvous&);
  Gather gather = nullptr;
  Compute compute = nullptr;
  Scatter scatter = nullptr;
  uint32_t signature = 0;  // tells kinds of operations apart
  Slot members = slot::kNone;  // none: the lanes that are here (forms without .sync)
  Slot predicate = slot::kNone, resultPredicate = slot::kNone;
  uint32_t mode = 0;
  uint8_t bytes = 4;
};

void finish(Warp& w, const Insn& i, Mask m, size_t k) {
  Rendezvous& r = *w.rendezvous[k];
  const auto& e = extraOf<SyncExtra>(i);
  e.scatter(w, i, m, r);
  if (w.machine.poison) w.machine.poison->scatter(w, i, m, r);
  r.collected |= m;
  if (r.collected == r.arrived) w.rendezvous.erase(w.rendezvous.begin() + static_cast<ptrdiff_t>(k));
}

// The part of lanes that share a member mask.
Flow meet(Warp& w, const Insn& i, Mask m, Mask members) {
  const auto& e = extraOf<SyncExtra>(i);
  if (Mask need = members & w.live; need == m) {
    Rendezvous r;
    r.arrived = m;
    r.members = members;
    e.gather(w, i, m, r);
    if (w.machine.poison) w.machine.poison->gather(w, i, m, r);
    e.compute(e, r);
    e.scatter(w, i, m, r);
    if (w.machine.poison) w.machine.poison->scatter(w, i, m, r);
    if (w.machine.checks) w.machine.checks->onWarpSync(w, i, m);
    return Flow::next;
  }
  size_t k = 0;
  for (; k < w.rendezvous.size(); ++k) {
    Rendezvous& r = *w.rendezvous[k];
    if (!r.complete && r.signature == e.signature && r.members == members && !(r.arrived & m)) break;
  }
  if (k == w.rendezvous.size()) {
    w.rendezvous.push_back(std::make_unique<Rendezvous>());
    Rendezvous& r = *w.rendezvous.back();
    r.signature = e.signature;
    r.members = members;
    r.ticket = ++w.tickets;
  }
  Rendezvous& r = *w.rendezvous[k];
  r.arrived |= m;
  e.gather(w, i, m, r);
  if (w.machine.poison) w.machine.poison->gather(w, i, m, r);
  Mask missing = members & w.live & ~r.arrived;
  Path& p = w.path();
  p.stage = 1;
  p.token = r.ticket;
  w.machine.changed();
  if (missing) return w.block(WaitKind::warpSync, 0, missing);
  e.compute(e, r);
  r.complete = true;
  if (w.machine.checks) w.machine.checks->onWarpSync(w, i, r.arrived);
  finish(w, i, m, k);
  p.stage = 0;
  p.token = 0;
  return Flow::next;
}

Flow synchronise(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<SyncExtra>(i);
  Path& p = w.path();
  if (p.stage == 1) {
    for (size_t k = 0; k < w.rendezvous.size(); ++k) {
      Rendezvous& r = *w.rendezvous[k];
      if (r.ticket != p.token) continue;
      Mask missing = r.members & w.live & ~r.arrived;
      if (!r.complete && missing) return w.block(WaitKind::warpSync, 0, missing);
      if (!r.complete) {
        e.compute(e, r);
        r.complete = true;
        w.machine.changed();
      }
      finish(w, i, m, k);
      return Flow::next;
    }
    return Flow::next;
  }
  if (e.members == slot::kNone) return meet(w, i, m, m);
  const uint32_t* given = w.in<uint32_t>(e.members);
  Mask members = given[std::countr_zero(m)], same = 0;
  for (int l : lanesOf(m)) same |= static_cast<Mask>(given[l] == members) << l;
  if (Mask outside = same & ~members; outside) {
    w.report(i, std::countr_zero(outside), Severity::error, "emu/member-mask",
             format("%s: lanes 0x%08x execute it, but their member mask is 0x%08x", spell(w.decoded(i)).c_str(), same, members),
             "a lane that executes a .sync instruction must be in its member mask");
    members |= same;
  }
  if (same == m) return meet(w, i, m, members);
  // Lanes with another mask take part in another operation: they execute the instruction as a path of their own.
  Path again = p;
  again.lanes = m & ~same;
  again.pc = &i;
  Path on = p;
  on.lanes = p.lanes & ~m;
  on.pc = &i + 1;
  Frame* frame = p.frame;
  p.lanes = same;
  p.pc = &i;
  ++frame->references;
  w.paths.push_back(again);
  if (on.lanes) {
    ++frame->references;
    w.paths.push_back(on);
  }
  Flow f = meet(w, i, same, members);
  if (f == Flow::blocked) return f;
  w.path().pc = &i + 1;
  return Flow::jumped;
}

// --- inputs and outputs --------------------------------------------------------------------------------------------
template <class T>
void gatherA(Warp& w, const Insn& i, Mask m, Rendezvous& r) {
  const Cell<T>* a = w.in<Cell<T>>(i.a);
  for (int l : lanesOf(m)) r.a[l] = a[l];
}
void gatherShuffle(Warp& w, const Insn& i, Mask m, Rendezvous& r) {
  const uint32_t* a = w.in<uint32_t>(i.a);
  const uint32_t* b = w.in<uint32_t>(i.b);
  const uint32_t* c = w.in<uint32_t>(i.c);
  for (int l : lanesOf(m)) {
    r.a[l] = a[l];
    r.b[l] = b[l];
    r.c[l] = c[l];
  }
}
void gatherPredicate(Warp& w, const Insn& i, Mask m, Rendezvous& r) {
  r.inputMask = (r.inputMask & ~m) | (w.predicate(extraOf<SyncExtra>(i).predicate) & m);
}
void gatherNothing(Warp&, const Insn&, Mask, Rendezvous&) {}
void scatterNothing(Warp&, const Insn&, Mask, const Rendezvous&) {}
void scatterWord(Warp& w, const Insn& i, Mask m, const Rendezvous& r) {
  const auto& e = extraOf<SyncExtra>(i);
  if (i.d != slot::kNone) {
    uint32_t* d = w.out<uint32_t>(i.d);
    for (int l : lanesOf(m)) d[l] = static_cast<uint32_t>(r.d[l]);
  }
  if (e.resultPredicate != slot::kNone) w.setPredicate(e.resultPredicate, r.outputMask, m);
}

// --- the operations ------------------------------------------------------------------------------------------------
enum ShuffleMode : uint32_t { shuffleUp, shuffleDown, shuffleButterfly, shuffleIndex };
void computeShuffle(const SyncExtra& e, Rendezvous& r) {
  r.outputMask = 0;
  for (int l : lanesOf(r.arrived)) {
    int lane = l, b = static_cast<int>(r.b[l] & 31), clampTo = static_cast<int>(r.c[l] & 31), segment = static_cast<int>(r.c[l] >> 8 & 31);
    int most = (lane & segment) | (clampTo & ~segment), least = lane & segment;
    int j = lane;
    bool inside = false;
    switch (e.mode) {
      case shuffleUp: j = lane - b; inside = j >= most; break;
      case shuffleDown: j = lane + b; inside = j <= most; break;
      case shuffleButterfly: j = lane ^ b; inside = j <= most; break;
      default: j = least | (b & ~segment); inside = j <= most; break;
    }
    if (!inside) j = lane;
    // A lane that takes no part has no value to give; its reader keeps its own.
    if (!(r.arrived >> j & 1)) j = l;
    r.d[l] = r.a[j];
    r.c[l] = static_cast<uint64_t>(j);  // for the checks: the lane read
    r.outputMask |= static_cast<Mask>(inside) << l;
  }
}

enum VoteMode : uint32_t { voteAll, voteAny, voteUniform, voteBallot };
void computeVote(const SyncExtra& e, Rendezvous& r) {
  Mask yes = r.inputMask & r.arrived;
  bool result = e.mode == voteAll ? yes == r.arrived : e.mode == voteAny ? yes != 0 : yes == 0 || yes == r.arrived;
  r.outputMask = result ? kFull : 0;
  for (int l : lanesOf(r.arrived)) r.d[l] = yes;
}

void computeMatchAny(const SyncExtra&, Rendezvous& r) {
  for (int l : lanesOf(r.arrived)) {
    Mask same = 0;
    for (int j : lanesOf(r.arrived)) same |= static_cast<Mask>(r.a[j] == r.a[l]) << j;
    r.d[l] = same;
  }
}
void computeMatchAll(const SyncExtra&, Rendezvous& r) {
  uint64_t first = r.a[std::countr_zero(r.arrived)];
  bool all = true;
  for (int l : lanesOf(r.arrived)) all &= r.a[l] == first;
  for (int l : lanesOf(r.arrived)) r.d[l] = all ? r.arrived : 0;
  r.outputMask = all ? kFull : 0;
}

enum ReduceMode : uint32_t { reduceAdd, reduceMinU, reduceMaxU, reduceMinS, reduceMaxS, reduceAnd, reduceOr, reduceXor };
void computeReduce(const SyncExtra& e, Rendezvous& r) {
  uint32_t v = static_cast<uint32_t>(r.a[std::countr_zero(r.arrived)]);
  for (int l : lanesOf(r.arrived & (r.arrived - 1))) {
    uint32_t x = static_cast<uint32_t>(r.a[l]);
    int32_t sv = static_cast<int32_t>(v), sx = static_cast<int32_t>(x);
    switch (e.mode) {
      case reduceAdd: v += x; break;
      case reduceMinU: v = x < v ? x : v; break;
      case reduceMaxU: v = x > v ? x : v; break;
      case reduceMinS: v = sx < sv ? x : v; break;
      case reduceMaxS: v = sx > sv ? x : v; break;
      case reduceAnd: v &= x; break;
      case reduceOr: v |= x; break;
      default: v ^= x; break;
    }
  }
  for (int l : lanesOf(r.arrived)) r.d[l] = v;
}
// The lowest lane: which one is open, as long as equal masks give equal leaders.
void computeElect(const SyncExtra&, Rendezvous& r) {
  int leader = std::countr_zero(r.arrived);
  for (int l : lanesOf(r.arrived)) r.d[l] = static_cast<uint64_t>(leader);
  r.outputMask = 1u << leader;
}
void computeNothing(const SyncExtra&, Rendezvous&) {}

Flow activeMask(Warp& w, const Insn& i, Mask m) {
  store<uint32_t>(w, i.d, m, [&](int) { return m; });
  return Flow::next;
}

// --- resolving -----------------------------------------------------------------------------------------------------
SyncExtra& prepare(Resolve& r, SyncExtra::Gather g, SyncExtra::Compute c, SyncExtra::Scatter s, uint32_t mode) {
  auto& e = r.extra<SyncExtra>();
  e.gather = g;
  e.compute = c;
  e.scatter = s;
  e.mode = mode;
  e.signature = static_cast<uint32_t>(r.in.mnemonic) << 16 | mode << 8 | static_cast<uint32_t>(r.type(0));
  r.out.run = synchronise;
  return e;
}
// d, or d|p, or p alone.
void destinations(Resolve& r, SyncExtra& e, Type t) {
  const Operand& o = r.operand(0);
  if (o.kind == OperandKind::pair) {
    r.out.d = r.destinationOf(o.parts[0], t);
    e.resultPredicate = r.destinationOf(o.parts[1], Type::pred);
  } else {
    r.out.d = r.destinationOf(o, t);
  }
}

void resolveShuffle(Resolve& r) {
  uint32_t mode = r.has(Modifier::up_) ? shuffleUp : r.has(Modifier::down_) ? shuffleDown : r.has(Modifier::bfly_) ? shuffleButterfly : shuffleIndex;
  auto& e = prepare(r, gatherShuffle, computeShuffle, scatterWord, mode);
  r.out.a = r.source(1, Type::b32);
  r.out.b = r.source(2, Type::b32);
  r.out.c = r.source(3, Type::b32);
  if (r.has(Modifier::sync_)) e.members = r.source(4, Type::b32);
  destinations(r, e, Type::b32);
}
void resolveVote(Resolve& r) {
  bool ballot = r.has(Modifier::ballot_);
  uint32_t mode = r.has(Modifier::all_) ? voteAll : r.has(Modifier::any_) ? voteAny : ballot ? voteBallot : voteUniform;
  auto& e = prepare(r, gatherPredicate, computeVote, scatterWord, mode);
  e.predicate = r.predicate(1);
  if (r.has(Modifier::sync_)) e.members = r.source(2, Type::b32);
  if (ballot) r.out.d = r.destination(0, Type::b32);
  else e.resultPredicate = r.destination(0, Type::pred);
}
void resolveMatch(Resolve& r) {
  Type t = r.type(0);
  bool any = r.has(Modifier::any_);
  auto& e = prepare(r, sizeOf(t) == 8 ? gatherA<uint64_t> : gatherA<uint32_t>, any ? computeMatchAny : computeMatchAll, scatterWord, any);
  r.out.a = r.source(1, t);
  e.members = r.source(2, Type::b32);
  destinations(r, e, Type::b32);
}
void resolveRedux(Resolve& r) {
  Type t = r.type(0);
  if (isFloat(t)) r.unsupported("redux of floating-point values needs sm_100a");
  bool s = t == Type::s32;
  uint32_t mode = r.has(Modifier::add_)   ? reduceAdd
                  : r.has(Modifier::min_) ? (s ? reduceMinS : reduceMinU)
                  : r.has(Modifier::max_) ? (s ? reduceMaxS : reduceMaxU)
                  : r.has(Modifier::and_) ? reduceAnd
                  : r.has(Modifier::or_)  ? reduceOr
                                          : reduceXor;
  auto& e = prepare(r, gatherA<uint32_t>, computeReduce, scatterWord, mode);
  r.out.a = r.source(1, t);
  e.members = r.source(2, Type::b32);
  r.out.d = r.destination(0, t);
}
void resolveElect(Resolve& r) {
  auto& e = prepare(r, gatherNothing, computeElect, scatterWord, 0);
  e.members = r.source(1, Type::b32);
  destinations(r, e, Type::b32);
}
void resolveActiveMask(Resolve& r) {
  r.out.d = r.destination(0, Type::b32);
  r.out.run = activeMask;
}

}  // namespace

void resolveWarpBarrier(Resolve& r) {
  auto& e = prepare(r, gatherNothing, computeNothing, scatterNothing, 0);
  e.members = r.source(0, Type::b32);
}

void registerWarpWide(Resolver& r) {
  r.add(Mnemonic::shfl_, resolveShuffle);
  r.add(Mnemonic::vote_, resolveVote);
  r.add(Mnemonic::match_, resolveMatch);
  r.add(Mnemonic::redux_, resolveRedux);
  r.add(Mnemonic::elect_, resolveElect);
  r.add(Mnemonic::activemask_, resolveActiveMask);
}

}  // namespace dsvc::emulator::DSVC_ARCH
