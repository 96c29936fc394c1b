#include <bit>

#include "../machine.h"
#include "listeners.h"

namespace dsvc::emulator {

namespace {

class Counters : public Checks {
 public:
  explicit Counters(Machine& machine) : statistics_(machine.statistics) {
    statistics_.byMnemonic.assign(static_cast<size_t>(Mnemonic::count_), 0);
    statistics_.lanesByMnemonic.assign(static_cast<size_t>(Mnemonic::count_), 0);
  }
  void afterInsn(Warp& w, const Insn& i, Mask m) override { count(w.decoded(i), m); }
  void onJump(Warp&, const DecodedInsn& d, Mask m) override { count(d, m); }

 private:
  void count(const DecodedInsn& d, Mask m) {
    ++statistics_.byMnemonic[static_cast<size_t>(d.mnemonic)];
    statistics_.lanesByMnemonic[static_cast<size_t>(d.mnemonic)] += static_cast<uint64_t>(std::popcount(m));
  }
  Statistics& statistics_;
};

}  // namespace

std::unique_ptr<Checks> makeCounters(Machine& machine) { return std::make_unique<Counters>(machine); }

}  // namespace dsvc::emulator
