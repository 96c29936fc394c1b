// The listeners there are. Each lives in its own file.
#pragma once
#include "../checks.h"

namespace dsvc::emulator {

struct Options;

// Lets plain writes become visible late: no check, but it needs the same hooks.
std::unique_ptr<Checks> makeLateWrites(Machine& machine);
// Counts instructions into Machine::statistics.
std::unique_ptr<Checks> makeCounters(Machine& machine);
// Bank conflicts, sectors, waits and the like, into Statistics::performance and as notes.
std::unique_ptr<Checks> makeNotes(Machine& machine);
// Registers that wgmma uses: accessed while a product is in flight, or without a wgmma.fence since.
std::unique_ptr<Checks> makeRegisterCheck(Machine& machine);
// Uninitialised data that reaches an address, a predicate, an operand or an output; whether the options ask for any.
std::unique_ptr<Checks> makePoison(Machine& machine);
bool wantsPoison(const Options& options);
// Races, missing proxy fences, scopes too narrow.
std::unique_ptr<Checks> makeRaceCheck(Machine& machine);

}  // namespace dsvc::emulator
