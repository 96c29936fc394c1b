#include "mbarrier.h"

#include <cinttypes>
#include <cstring>


namespace dsvc::emulator {

bool CommitGroups::settled(size_t newest, bool readOnly) {
  auto over = [](const std::vector<AsyncOperationPointer>& group, bool enoughRead) {
    for (const auto& o : group)
      if (!(enoughRead ? o->read : o->done)) return false;
    return true;
  };
  size_t gone = 0;
  while (gone < committed_.size() && over(committed_[gone], false)) ++gone;
  committed_.erase(committed_.begin(), committed_.begin() + static_cast<ptrdiff_t>(gone));
  for (size_t k = 0; k + newest < committed_.size(); ++k)
    if (!over(committed_[k], readOnly)) return false;
  return true;
}

std::vector<AsyncOperationPointer> CommitGroups::unfinished() const {
  std::vector<AsyncOperationPointer> found;
  auto take = [&](const std::vector<AsyncOperationPointer>& group) {
    for (const auto& o : group)
      if (!o->done) found.push_back(o);
  };
  for (const auto& group : committed_) take(group);
  take(open_);
  return found;
}

// Valid mark (bits 62..61 = 1), parity (63), tx-count (60..40), expected (39..20), pending (19..0): never all zeros or
// all ones. The hardware's layout is not published.
uint64_t Mbarrier::image() const {
  return (phase & 1) << 63 | 1ull << 61 | (static_cast<uint64_t>(tx) & 0x1fffff) << 40 | uint64_t{expected} << 20 | pending;
}

std::string describe(const Mbarrier& b) {
  return format("the mbarrier at shared offset 0x%x (phase %" PRIu64 ": %u of %u arrivals pending, tx-count %" PRId64 ")", b.offset,
                b.phase, b.pending, b.expected, b.tx);
}

std::string describeMbarrierWait(const Cta& cta, uint64_t address) {
  uint32_t offset = static_cast<uint32_t>(address) & shared::kOffsetMask;
  if (cta.async)
    if (auto it = cta.async->barriers.find(offset); it != cta.async->barriers.end()) {
      const Mbarrier& b = it->second;
      std::string text = "waits for " + describe(b);
      if (b.pending == 0 && b.tx < 0)
        text += format(": %" PRId64 " bytes more were copied than expect_tx named", -b.tx);
      else if (b.pending == 0 && b.tx > 0)
        text += format(": %" PRId64 " bytes that expect_tx named were never copied", b.tx);
      else if (b.pending > 0 && b.phase > 0 && b.pending == b.expected && b.tx == 0)
        text += ": nothing has arrived in this phase; is the parity that of an earlier one?";
      return text;
    }
  return format("waits for an mbarrier at shared offset 0x%x, which is none any more", offset);
}

namespace {

Region bytesOf(Cta& cta, uint32_t offset) {
  Region r;
  r.bytes = cta.shared.get() + offset;
  r.cta = pointerTo(cta);
  r.offset = offset;
  return r;
}
void write(Cta& cta, uint32_t offset, uint64_t image) {
  bytesOf(cta, offset).save(0, reinterpret_cast<const uint8_t*>(&image), nullptr, 8);
}

// Completes the phase when nothing pends. The phase before it must have been seen: else nobody can wait for it now.
void settle(Machine& machine, Cta& cta, Mbarrier& b, Misuse& misuse) {
  if (b.pending == 0 && b.tx == 0) {
    if (b.phase > 0 && b.observed < b.phase)
      misuse = {"emu/mbarrier-phase-overrun",
                format("%s completes phase %" PRIu64 " while no thread has seen phase %" PRIu64 " complete: a wait for that one now mistakes the parity",
                       describe(b).c_str(), b.phase, b.phase - 1),
                "wait for each phase (test_wait or try_wait returning true) before anything arrives for the next one"};
    ++b.phase;
    b.pending = b.expected;
    cta.async->quietTimeouts = 0;
    machine.changed();
  }
  write(cta, b.offset, b.image());
}

bool countOutOfRange(uint32_t count, Misuse& misuse) {
  if (count >= 1 && count <= Mbarrier::kMaxCount) return false;
  misuse = {"emu/mbarrier-count", format("the count is %u", count), "counts go from 1 to 2^20 - 1"};
  return true;
}

bool underflows(const Mbarrier& b, uint32_t count, Misuse& misuse) {
  if (count <= b.pending) return false;
  misuse = {"emu/mbarrier-underflow", format("%u arrive on %s", count, describe(b).c_str()),
            b.pending == 0 ? "the phase only waits for bytes: init with a count that includes every arrival, or arrive once less"
                           : "init with a count that includes every arrival of a phase"};
  return true;
}

}  // namespace

Mbarrier* findMbarrier(Cta& cta, uint32_t offset, Misuse& misuse) {
  CtaAsync& a = asyncOf(cta);
  auto it = a.barriers.find(offset);
  if (it == a.barriers.end()) {
    misuse = {"emu/mbarrier-not-initialised", format("there is no mbarrier at shared offset 0x%x of block rank %u", offset, cta.rank),
              "execute mbarrier.init first, then a barrier (in a cluster: fence.mbarrier_init and barrier.cluster) before other threads use it"};
    return nullptr;
  }
  Mbarrier& b = it->second;
  uint64_t found;
  std::memcpy(&found, cta.shared.get() + offset, 8);
  if (found != b.image()) {
    misuse = {"emu/mbarrier-overwritten",
              format("%s was overwritten: its bytes are 0x%016" PRIx64, describe(b).c_str(), found),
              "keep other data out of a live mbarrier's 8 bytes; mbarrier.inval before they are used for anything else"};
    return nullptr;
  }
  return &b;
}

void initMbarrier(Cta& cta, uint32_t offset, uint32_t count, const Site& site, Misuse& misuse) {
  CtaAsync& a = asyncOf(cta);
  if (countOutOfRange(count, misuse)) return;
  if (auto it = a.barriers.find(offset); it != a.barriers.end()) {
    misuse = {"emu/mbarrier-live",
              format("mbarrier.init on %s, which line %u made", describe(it->second).c_str(), it->second.init.ptxLine),
              "let one thread init it once; mbarrier.inval before a new init"};
    return;
  }
  Mbarrier b;
  b.serial = ++a.serials;
  b.offset = offset;
  b.expected = b.pending = count;
  b.init = site;
  write(cta, offset, b.image());
  a.barriers[offset] = std::move(b);
}

void invalMbarrier(Cta& cta, Mbarrier& b, Misuse& misuse) {
  if (b.inFlight > 0) {
    misuse = {"emu/mbarrier-in-use", format("mbarrier.inval on %s while %u operations under way will signal it", describe(b).c_str(), b.inFlight),
              "wait for every copy that signals the mbarrier before invalidating it"};
    return;
  }
  // Any bytes but the image of a live object.
  write(cta, b.offset, 0);
  cta.async->barriers.erase(b.offset);
}

void arriveOn(Machine& machine, Cta& cta, Mbarrier& b, uint32_t count, Misuse& misuse) {
  if (countOutOfRange(count, misuse) || underflows(b, count, misuse)) return;
  b.pending -= count;
  settle(machine, cta, b, misuse);
}

void arriveAndDrop(Machine& machine, Cta& cta, Mbarrier& b, uint32_t count, Misuse& misuse) {
  if (countOutOfRange(count, misuse) || underflows(b, count, misuse)) return;
  if (count > b.expected) {
    misuse = {"emu/mbarrier-underflow", format("%u threads drop out of %s", count, describe(b).c_str()),
              "drop each participant once"};
    return;
  }
  b.expected -= count;
  b.pending -= count;
  settle(machine, cta, b, misuse);
}

void addPending(Cta& cta, Mbarrier& b, Misuse& misuse) {
  if (b.pending == Mbarrier::kMaxCount) {
    misuse = {"emu/mbarrier-count", format("one more pending arrival than %s can count", describe(b).c_str()), "use fewer arrivals in a phase"};
    return;
  }
  ++b.pending;
  write(cta, b.offset, b.image());
}

void expectTx(Machine& machine, Cta& cta, Mbarrier& b, uint32_t bytes, Misuse& misuse) {
  if (bytes > Mbarrier::kMaxCount || b.tx + static_cast<int64_t>(bytes) > static_cast<int64_t>(Mbarrier::kMaxCount)) {
    misuse = {"emu/mbarrier-tx-overflow", format("expect_tx of %u bytes on %s: the tx-count ends at 2^20 - 1", bytes, describe(b).c_str()),
              "expect fewer bytes in a phase, or split them over several mbarriers"};
    return;
  }
  b.tx += bytes;
  settle(machine, cta, b, misuse);
}

void completeTx(Machine& machine, Cta& cta, Mbarrier& b, uint64_t bytes, Misuse& misuse) {
  if (bytes > Mbarrier::kMaxCount || b.tx - static_cast<int64_t>(bytes) < -static_cast<int64_t>(Mbarrier::kMaxCount)) {
    misuse = {"emu/mbarrier-tx-overflow",
              format("complete_tx of %" PRIu64 " bytes on %s: the tx-count ends at -(2^20 - 1)", bytes, describe(b).c_str()),
              "expect the bytes (mbarrier.arrive.expect_tx) before or soon after the copies are issued"};
    return;
  }
  b.tx -= static_cast<int64_t>(bytes);
  settle(machine, cta, b, misuse);
}

uint64_t stateOf(const Mbarrier& b) {
  uint32_t mark = ((b.offset >> 3) * 0x9e3779b1u + b.serial * 0x85ebca6bu) >> 20;
  return static_cast<uint64_t>(static_cast<uint32_t>(b.phase)) << 32 | uint64_t{mark} << 20 | b.pending;
}

MbarrierPlace locateMbarrierBytes(Warp& w, const Insn& i, int lane, Space space, uint64_t address, uint32_t& offset) {
  bool isShared = space != Space::generic || address >> 32 == window::kShared >> 32;
  if (!isShared) {
    w.report(i, lane, Severity::error, "emu/mbarrier-not-shared",
             format("the mbarrier's address 0x%" PRIx64 " is not in shared memory", address),
             "an mbarrier is 8 bytes of .shared memory; give its shared address, or cvta.shared of it for the generic form");
    return {};
  }
  if (address & 7) {
    w.report(i, lane, Severity::error, "emu/mbarrier-misaligned",
             format("the mbarrier's address 0x%" PRIx64 " is not a multiple of 8", address), "declare it .align 8");
    return {};
  }
  Place p = w.locate(i, lane, space, address, 8, 8, AccessKind::atomic);
  if (!p.bytes) return {};
  offset = static_cast<uint32_t>(p.offset);
  return {p.cta, nullptr};
}

MbarrierPlace locateMbarrier(Warp& w, const Insn& i, int lane, Space space, uint64_t address) {
  uint32_t offset = 0;
  MbarrierPlace p = locateMbarrierBytes(w, i, lane, space, address, offset);
  if (!p.cta) return {};
  Misuse misuse;
  p.barrier = findMbarrier(*p.cta, offset, misuse);
  if (misuse) {
    w.report(i, lane, Severity::error, misuse.code, misuse.message, misuse.fix);
    return {};
  }
  return p;
}

Signal promise(Cta& cta, Mbarrier& b) {
  ++b.inFlight;
  return {pointerTo(cta), b.offset, b.serial};
}

namespace {
template <class F>
void signal(const Origin& origin, uint64_t id, const Signal& s, F apply) {
  Misuse misuse;
  if (hasExited(*s.cta)) {
    origin.report(Severity::error, "emu/exit-before-copy",
                  format("block (%u,%u,%u) exited while work that signals its mbarrier at shared offset 0x%x was under way", s.cta->id[0],
                         s.cta->id[1], s.cta->id[2], s.offset),
                  "wait on the mbarrier before the block ends");
    return;
  }
  Mbarrier* b = findMbarrier(*s.cta, s.offset, misuse);
  if (b && b->serial == s.serial) {
    if (b->inFlight > 0) --b->inFlight;
    if (Checks* o = origin.machine->checks.get()) o->onSignal(id, *s.cta, s.offset, b->phase);
    apply(*b, misuse);
  }
  if (misuse) origin.report(misuse);
}
}  // namespace

void signalBytes(const Origin& origin, uint64_t id, const Signal& s, uint64_t bytes) {
  signal(origin, id, s, [&](Mbarrier& b, Misuse& m) { completeTx(*origin.machine, *s.cta, b, bytes, m); });
}
void signalArrival(const Origin& origin, uint64_t id, const Signal& s) {
  signal(origin, id, s, [&](Mbarrier& b, Misuse& m) { arriveOn(*origin.machine, *s.cta, b, 1, m); });
}

}  // namespace dsvc::emulator
