#include <algorithm>

#include "notes.h"

namespace dsvc::emulator {

namespace {
constexpr size_t kMostNotes = 5;  // of one kind
}

void Notes::note(const Grid& grid, const InsnPerformance* at, const char* code, std::string message, std::string fix) {
  Report r;
  r.code = code;
  r.severity = Severity::note;
  r.message = std::move(message);
  r.fix = std::move(fix);
  r.site.kernel = grid.kernel->name;
  if (at) {
    r.site.ptxLine = at->line;
    r.site.ptxColumn = at->column;
  }
  machine_.report(std::move(r));
}

void Notes::onGridEnd(Grid& grid) {
  if (machine_.statistics.performance) return;  // one picture of all grids that ran together
  machine_.statistics.performance = out_;
  const Program& program = *grid.program;
  for (const Function& f : program.functions)
    for (const auto& code : f.code) {
      auto it = codes_.find(code.get());
      if (!code || it == codes_.end()) continue;
      for (InsnPerformance& p : it->second.counts)
        if (p.phases || p.requests) out_->instructions.push_back(std::move(p));
    }
  tell(grid);
}

// What stands out: a good part of all such accesses, and far from the ideal.
void Notes::tell(const Grid& grid) {
  const Performance& p = *out_;
  uint64_t passes = 0, sectors = 0;
  for (const auto& i : p.instructions) passes += i.passes, sectors += i.sectors;

  auto worst = [&](auto cost, auto stands) {
    std::vector<const InsnPerformance*> list;
    for (const auto& i : p.instructions)
      if (stands(i)) list.push_back(&i);
    std::stable_sort(list.begin(), list.end(), [&](auto a, auto b) { return cost(*a) > cost(*b); });
    if (list.size() > kMostNotes) list.resize(kMostNotes);
    return list;
  };
  auto lostPasses = [](const InsnPerformance& i) { return i.passes - i.phases; };
  for (const auto* i : worst(lostPasses, [&](const auto& q) { return q.phases && q.conflicts() >= 2 && 20 * lostPasses(q) >= passes; }))
    note(grid, i, "emu/bank-conflicts",
         format("%s: %.1f-way bank conflicts on average, %u-way at worst, over %llu phases", i->text.c_str(), i->conflicts(), i->worst,
                static_cast<unsigned long long>(i->phases)),
         "pad or swizzle the tile, so that the lanes of a phase touch different banks");
  auto lostSectors = [](const InsnPerformance& i) { return i.sectors > i.idealSectors ? i.sectors - i.idealSectors : 0; };
  for (const auto* i : worst(lostSectors, [&](const auto& q) { return q.requests && q.sectors >= 2 * q.idealSectors && 10 * lostSectors(q) >= sectors; }))
    note(grid, i, "emu/uncoalesced",
         format("%s: %.1f sectors of 32 bytes a request, %.1f would hold its bytes, over %llu requests", i->text.c_str(),
                static_cast<double>(i->sectors) / static_cast<double>(i->requests),
                static_cast<double>(i->idealSectors) / static_cast<double>(i->requests), static_cast<unsigned long long>(i->requests)),
         "let neighbouring lanes access neighbouring addresses");
  if (p.executed && p.lanes < 16 * p.executed)
    note(grid, nullptr, "emu/idle-lanes",
         format("%.1f of 32 lanes are active in an instruction on average", static_cast<double>(p.lanes) / static_cast<double>(p.executed)),
         "choose blocks of whole warps, and branches that whole warps take");
  constexpr uint64_t kFew = 8;
  if (p.ring.waits >= kFew && 2 * p.ring.waited > p.ring.waits)
    note(grid, nullptr, "emu/short-pipeline",
         format("%llu of %llu waits for copied data found it not there yet; the copies were %.1f phases ahead on average",
                static_cast<unsigned long long>(p.ring.waited), static_cast<unsigned long long>(p.ring.waits),
                static_cast<double>(p.ring.lead) / static_cast<double>(p.ring.waits)),
         "issue copies earlier, or use more stages; other seeds let copies take other times");
}

}  // namespace dsvc::emulator
