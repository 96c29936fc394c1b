// The listeners there are. Each lives in its own file.
#pragma once
#include "../checks.h"

namespace dsvc::emulator {

// Counts instructions into Machine::statistics.
std::unique_ptr<Checks> makeCounters(Machine& machine);
// Registers that wgmma uses: accessed while a product is in flight, or without a wgmma.fence since.
std::unique_ptr<Checks> makeRegisterCheck(Machine& machine);
// Races, missing proxy fences, scopes too narrow.
std::unique_ptr<Checks> makeRaceCheck(Machine& machine);

}  // namespace dsvc::emulator
