// What linear and tensor bulk copies share.
#pragma once
#include <functional>
#include <memory>
#include <vector>

#include "copy.h"
#include "mbarrier.h"
#include "state.h"

namespace dsvc::emulator {

// Where a copy to shared memory goes and what it signals there.
struct Destination {
  Region to;
  Signal signal;
};

// The one destination, or with multicast one for each block in the mask. Reports what is wrong with the mask and the
// mbarriers, which must be live when the copy is issued.
std::vector<Destination> destinationsOf(Warp& w, const Insn& i, int lane, const Place& to, uint64_t bytes, uint64_t barrierAddress,
                                        bool multicast, uint32_t mask);

// Tells the checks of a destination.
void tellTarget(Machine& machine, uint64_t id, const Destination& d);

// A copy out of shared memory: `read` takes the source's bytes, `write` brings them to memory later.
void storeLater(Machine& machine, std::shared_ptr<AsyncOperation> operation, std::function<void()> read, std::function<void()> write);

}  // namespace dsvc::emulator
