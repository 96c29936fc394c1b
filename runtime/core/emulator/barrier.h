// Named barriers of a thread block and the cluster barrier: state changes that handlers and exits share.
#pragma once
#include "machine.h"

namespace dsvc::emulator {

// Ends the generation when all have arrived; true when it did.
bool completeBarrier(Machine& machine, Cta& cta, uint32_t id);
bool completeClusterBarrier(Machine& machine, Cluster& cluster);

}  // namespace dsvc::emulator
