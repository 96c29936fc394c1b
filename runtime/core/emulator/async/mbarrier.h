// mbarrier objects: what the instructions and completing copies do to them. The rules are those of the PTX ISA's
// section on mbarrier; each function says in a Misuse which one was broken, and then leaves the object as it was.
#pragma once
#include <cstdint>
#include <string>

#include "../machine.h"
#include "copy.h"
#include "state.h"

namespace dsvc::emulator {

// The live mbarrier at the offset of the block's shared memory; null with a Misuse when none is there or its bytes
// were overwritten.
Mbarrier* findMbarrier(Cta& cta, uint32_t offset, Misuse& misuse);

void initMbarrier(Cta& cta, uint32_t offset, uint32_t count, const Site& site, Misuse& misuse);
void invalMbarrier(Cta& cta, Mbarrier& b, Misuse& misuse);

// pending -= count. May complete the phase, which wakes waiting paths.
void arriveOn(Machine& machine, Cta& cta, Mbarrier& b, uint32_t count, Misuse& misuse);
// The same, and the expected count of all later phases drops too.
void arriveAndDrop(Machine& machine, Cta& cta, Mbarrier& b, uint32_t count, Misuse& misuse);
// pending += 1, for cp.async.mbarrier.arrive without .noinc.
void addPending(Cta& cta, Mbarrier& b, Misuse& misuse);
void expectTx(Machine& machine, Cta& cta, Mbarrier& b, uint32_t bytes, Misuse& misuse);
void completeTx(Machine& machine, Cta& cta, Mbarrier& b, uint64_t bytes, Misuse& misuse);

// The opaque state that arrive returns: the phase and pending count before the arrival, and a mark of the object.
uint64_t stateOf(const Mbarrier& b);
inline uint32_t pendingOfState(uint64_t state) { return state & 0xfffff; }
inline uint32_t phaseOfState(uint64_t state) { return static_cast<uint32_t>(state >> 32); }
inline bool isStateOf(uint64_t state, const Mbarrier& b) { return (state >> 20 & 0xfff) == (stateOf(b) >> 20 & 0xfff); }

// "the mbarrier at shared offset 0x400 (phase 3: 1 of 2 arrivals pending, tx-count 0)"
std::string describe(const Mbarrier& b);
// For deadlocks: what a wait on the mbarrier at this shared address lacks.
std::string describeMbarrierWait(const Cta& cta, uint64_t address);

// Finds the mbarrier that a lane's operand names. Reports what is wrong and returns null.
struct MbarrierPlace {
  Cta* cta = nullptr;
  Mbarrier* barrier = nullptr;
  explicit operator bool() const { return barrier != nullptr; }
};
MbarrierPlace locateMbarrier(Warp& w, const Insn& i, int lane, Space space, uint64_t address);
// Only where: for init, which needs no live object. cta is null when refused.
MbarrierPlace locateMbarrierBytes(Warp& w, const Insn& i, int lane, Space space, uint64_t address, uint32_t& offset);

// An mbarrier that work under way will signal.
struct Signal {
  std::shared_ptr<Cta> cta;
  uint32_t offset = 0, serial = 0;
};
Signal promise(Cta& cta, Mbarrier& b);
// The work is done: complete_tx of the bytes. Wakes waiting paths when it completes the phase.
void signalBytes(const Origin& origin, uint64_t id, const Signal& s, uint64_t bytes);
// The work is done: one arrival.
void signalArrival(const Origin& origin, uint64_t id, const Signal& s);

}  // namespace dsvc::emulator
