// mbarrier.test_wait and try_wait.
//
// try_wait parks its path until the phase completes. The ISA lets it give up after a time limit and return false, and a
// loop around it may do other things then, so a park ends after kTimeLimit ticks (which pass at once when nothing else
// can run). When several time limits in a row passed without anything else happening on the whole chip, parks have no
// limit any more: then a launch in which nothing moves is a deadlock and is reported as one. With a seed, try_wait
// sometimes returns false at once. test_wait never blocks, but a loop that only polls is parked after kPolls turns.
#include <algorithm>
#include <cinttypes>

#include "family.h"
#include "mbarrier.h"

namespace dsvc::emulator {

namespace {

constexpr uint64_t kTimeLimit = 1 << 20;
constexpr uint32_t kHopeless = 4;      // quiet time limits in a row
constexpr uint64_t kQuietPerWarp = 64;  // instructions of a warp between two time limits that are no progress
constexpr uint32_t kPolls = 256;

struct WaitForm : Extra {
  AddressOperand address;
  Space space = Space::generic;
  bool isTry = false, isParity = false;
  Slot phase = slot::kNone;  // state or parity
  Order order = Order::acquire;
  Scope scope = Scope::cta;
};

void startTimer(Warp& w) {
  CtaAsync& a = asyncOf(w.cta);
  if (a.timerRuns || a.quietTimeouts >= kHopeless) return;
  a.timerRuns = true;
  std::weak_ptr<CtaAsync> weak = w.cta.async;
  Machine& machine = w.machine;
  uint64_t quiet = 0;
  for (const auto& cta : w.cta.grid->resident) quiet += cta ? kQuietPerWarp * cta->warps.size() : 0;
  machine.engine.post(kTimeLimit, kTimeLimit, [weak, &machine, quiet] {
    auto a = weak.lock();
    if (!a) return;
    uint64_t executed = machine.statistics.warpInstructions;
    a->quietTimeouts = executed - a->instructionsAtTimeout < quiet ? a->quietTimeouts + 1 : 0;
    a->instructionsAtTimeout = executed;
    a->timerRuns = false;
    ++a->timerGeneration;
    machine.changed();
  });
}

void reportOverrun(Warp& w, const Insn& i, int l, const Mbarrier& b, uint64_t waitedFor) {
  w.report(i, l, Severity::error, "emu/mbarrier-phase-overrun",
           format("the thread waits for phase %" PRIu64 " of %s, which has moved on by %" PRIu64 " phases", waitedFor, describe(b).c_str(),
                  b.phase - waitedFor),
           "no thread may arrive for the next phase before every thread that waits for this one has seen it complete");
}

// True when the wait succeeds for the lane.
bool test(Warp& w, const Insn& i, int l, const WaitForm& x, const Mbarrier& b, MissedWait& missed) {
  if (!x.isParity) {
    uint64_t state = w.in<uint64_t>(x.phase)[l];
    if (!isStateOf(state, b)) {
      w.report(i, l, Severity::error, "emu/mbarrier-bad-state",
               format("0x%" PRIx64 " is no state of %s", state, describe(b).c_str()),
               "pass what mbarrier.arrive on this very object returned in this or the preceding phase");
      return true;
    }
    uint32_t lag = static_cast<uint32_t>(b.phase) - phaseOfState(state);
    if (lag > 1) reportOverrun(w, i, l, b, b.phase - lag);
    return lag != 0;
  }
  uint32_t parity = w.in<uint32_t>(x.phase)[l];
  if (parity > 1) {
    w.report(i, l, Severity::error, "emu/mbarrier-parity", format("the parity is %u", parity), "a parity is 0 or 1: mask the phase counter with 1");
    parity &= 1;
  }
  if (missed.barrier == b.serial && (missed.phase & 1) == parity && b.phase > missed.phase) {
    if (b.phase - missed.phase > 1) reportOverrun(w, i, l, b, missed.phase);
    return true;
  }
  return parity != (b.phase & 1);
}

Flow wait(Warp& w, const Insn& i, Mask m) {
  const auto& x = extraOf<WaitForm>(i);
  CtaAsync& a = asyncOf(w.cta);
  WarpAsync& mine = asyncOf(w);
  Checks* o = w.machine.checks.get();
  Mask complete = 0;
  uint64_t waitsFor = 0;
  uint32_t polls = ~0u;
  // Lanes mostly wait for one object: it is looked up once.
  uint64_t known = ~0ull;
  MbarrierPlace p;
  for (int l : lanesOf(m)) {
    uint64_t address = x.address.of(w, l);
    if (x.space == Space::generic && address >> 32 == window::kShared >> 32 &&
        (address >> shared::kRankShift & 0xff) != w.cta.rank) {
      w.report(i, l, Severity::error, "emu/mbarrier-remote",
               format("a wait on the mbarrier of block rank %u", static_cast<uint32_t>(address >> shared::kRankShift & 0xff)),
               "wait on an own mbarrier, on which the other block arrives");
      complete |= 1u << l;
      continue;
    }
    if (address != known || !p) p = locateMbarrier(w, i, l, x.space, address);
    known = address;
    if (!p) {
      complete |= 1u << l;
      continue;
    }
    Mbarrier& b = *p.barrier;
    MissedWait& missed = mine.missed[l];
    if (test(w, i, l, x, b, missed)) {
      complete |= 1u << l;
      missed = {};
      b.observed = std::max(b.observed, b.phase);
      a.quietTimeouts = 0;
      if (o && b.phase > 0) o->onMbarrierWait(w, i, l, *p.cta, b.offset, b.phase - 1, x.order, x.scope);
    } else {
      if (missed.barrier != b.serial || missed.phase != b.phase) missed = {b.serial, b.phase, 0};
      ++missed.spins;
      polls = std::min(polls, missed.spins);
      waitsFor = address;
    }
  }
  if (complete == 0) {
    Path& path = w.path();
    bool parked = path.stage != 0;
    // Gives up with false: by chance, because it only polls, or because the time limit passed.
    bool gives = parked ? a.timerGeneration != path.token && a.quietTimeouts < kHopeless
                 : x.isTry ? w.machine.options.seed != 0 && w.machine.random() % 8 == 0 && a.quietTimeouts == 0
                           : polls < kPolls;
    if (!gives) {
      if (!parked || a.timerGeneration != path.token) {
        startTimer(w);
        path.stage = 1;
        path.token = a.timerGeneration;
      }
      return w.block(WaitKind::mbarrier, waitsFor);
    }
    if (!x.isTry) w.charge += 64;
  }
  w.setPredicate(i.d, complete, m);
  return Flow::next;
}

}  // namespace

void resolveMbarrierWait(Resolve& r) {
  auto& x = r.extra<WaitForm>();
  x.isTry = r.has(Modifier::try_wait_);
  x.isParity = r.has(Modifier::parity_);
  x.space = spaceAt(r, 0);
  if (x.space == Space::sharedCluster) r.unsupported("an mbarrier can only be waited on in the own block's shared memory");
  x.order = orderOf(r, Order::acquire);
  x.scope = scopeOf(r, Scope::cta);
  r.out.d = r.destination(0, Type::pred);
  x.address = addressAt(r, 1);
  x.phase = x.isParity ? r.source(2, Type::u32) : r.source(2, Type::b64);
  // The time limit in nanoseconds is a hint: ours has its own.
  if (r.operands() > 3) r.source(3, Type::u32);
  r.out.run = wait;
}

}  // namespace dsvc::emulator
