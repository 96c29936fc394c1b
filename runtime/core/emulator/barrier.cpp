#include "barrier.h"

namespace dsvc::emulator {

bool completeBarrier(Machine& machine, Cta& cta, uint32_t id) {
  NamedBarrier& b = cta.barriers[id];
  if (!b.first) return false;
  uint32_t expected = b.whole ? cta.liveThreads : b.expected;
  if (b.arrived < expected) return false;
  b.lastPopulation = b.population;
  b.lastAll = b.all;
  b.lastAny = b.any;
  ++b.generation;
  b.expected = b.arrived = b.population = 0;
  b.isReduction = b.whole = false;
  b.all = true;
  b.any = false;
  b.first = nullptr;
  machine.changed();
  return true;
}

bool completeClusterBarrier(Machine& machine, Cluster& cluster) {
  if (cluster.arrived == 0 || cluster.arrived < cluster.liveThreads) return false;
  cluster.arrived = 0;
  ++cluster.generation;
  machine.changed();
  return true;
}

}  // namespace dsvc::emulator
