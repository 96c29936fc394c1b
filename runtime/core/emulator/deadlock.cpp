// Reports about launches that do not end: who waits for what.
#include <cinttypes>

#include "async/mbarrier.h"
#include "machine.h"

namespace dsvc::emulator {

namespace {
constexpr size_t kMostSites = 32;

std::string describe(const Path& p, const Cta& cta) {
  switch (p.wait.kind) {
    case WaitKind::convergence: return format("waits for lanes 0x%08x of its warp to reach the same instruction", p.wait.lanes);
    case WaitKind::warpSync: return format("waits for lanes 0x%08x of its member mask", p.wait.lanes);
    case WaitKind::barrier: {
      const NamedBarrier& b = cta.barriers[p.wait.id & 15];
      return format("waits at barrier %u: %u of %u threads have arrived", static_cast<uint32_t>(p.wait.id), b.arrived,
                    b.whole ? cta.liveThreads : b.expected);
    }
    case WaitKind::clusterBarrier:
      return format("waits at the cluster barrier: %u of %u threads have arrived", cta.cluster->arrived, cta.cluster->liveThreads);
    case WaitKind::mbarrier: return describeMbarrierWait(cta, p.wait.id);
    case WaitKind::asyncGroup: return "waits for its asynchronous copies";
    case WaitKind::wgmma: return "waits for its wgmma group";
    case WaitKind::registers: return format("waits for registers: %u are free", cta.registersFree);
    case WaitKind::sleep: return "sleeps";
    case WaitKind::grid: return "waits for an earlier grid";
    case WaitKind::none: return "can run";
  }
  return "";
}
}  // namespace

void Machine::reportDeadlock() {
  Report r;
  r.code = "emu/deadlock";
  r.severity = Severity::error;
  size_t waiting = 0;
  bool first = true, divergent = false;
  for (auto& g : grids_)
    for (auto& cta : g->resident)
      for (auto& w : cta->warps)
        for (size_t k = 0; k < w->paths.size(); ++k) {
          const Path& p = w->paths[k];
          ++waiting;
          divergent |= p.wait.kind == WaitKind::convergence;
          if (r.others.size() >= kMostSites) continue;
          w->current = k;
          Site s = w->site(*p.pc, -1);
          s.what += format(" (lanes 0x%08x) ", p.lanes) + describe(p, *cta);
          if (first) r.site = s;
          first = false;
          r.others.push_back(std::move(s));
        }
  uint64_t unadmitted = 0;
  for (auto& g : grids_) unadmitted += g->total - g->done - g->resident.size();
  if (divergent) r.code = "emu/divergent-barrier";
  r.message = r.others.empty()
                  ? format("nothing can run: %" PRIu64 " blocks wait for room on the chip", unadmitted)
                  : format("nothing can run and no asynchronous work is under way: %zu paths of warps wait%s. The first: %s",
                           waiting, unadmitted ? format(", %" PRIu64 " blocks are not on the chip yet", unadmitted).c_str() : "",
                           r.site.what.c_str());
  r.fix = unadmitted ? "blocks may only wait for blocks that are resident: launch no more than fit at once"
                     : "every wait needs an arrive (or a copy's bytes) that does not itself wait for it";
  report(std::move(r));
}

void Machine::reportTooLong() {
  Report r;
  r.code = "emu/too-long";
  for (auto& g : grids_)
    for (auto& cta : g->resident)
      for (auto& w : cta->warps)
        for (size_t k = 0; k < w->paths.size() && r.site.kernel.empty(); ++k) {
          w->current = k;
          r.site = w->site(*w->paths[k].pc, -1);
        }
  r.message = format("the launch was stopped after %" PRIu64 " warp instructions (maxInstructions)", statistics.warpInstructions);
  r.fix = "look for a loop that never ends, or raise the limit";
  report(std::move(r));
  throw StopLaunch{};
}

}  // namespace dsvc::emulator
