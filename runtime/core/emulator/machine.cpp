#include "machine.h"

#include <algorithm>
#include <bit>
#include <cinttypes>
#include <cstring>
#include <numeric>

#include "barrier.h"

namespace dsvc::emulator {

namespace {
// Instructions of a warp's turn without a seed: long, so that most warps finish in cache.
constexpr uint64_t kTurn = 4096;
constexpr size_t kMaxReports = 1000;
}  // namespace

BlockPool::~BlockPool() {
  for (auto& [size, list] : free_)
    for (uint8_t* b : list) std::free(b);
}
uint8_t* BlockPool::take(size_t bytes) {
  bytes = (bytes + 63) / 64 * 64;
  auto& list = free_[bytes];
  if (!list.empty()) {
    uint8_t* b = list.back();
    list.pop_back();
    return b;
  }
  void* b = std::aligned_alloc(64, bytes);
  if (!b) refuse("emu/out-of-memory", "no host memory for registers");
  return static_cast<uint8_t*>(b);
}
void BlockPool::give(uint8_t* block, size_t bytes) { free_[(bytes + 63) / 64 * 64].push_back(block); }

bool Options::checks_(const std::string& name) const {
  for (const std::string& c : checks)
    if (c == "all" || c == name) return true;
  return false;
}

Machine::Machine(Options o) : options(std::move(o)), engine(options.seed) { checks = makeChecks(*this); }
// What is still under way when a launch ends early keeps its thread blocks. They go first: their warps and products look
// at the grids and give registers back to the pool.
Machine::~Machine() { engine = AsyncEngine(options.seed); }

uint64_t Machine::clock() const { return statistics.warpInstructions + ++clockReads_; }
uint64_t Machine::nanoseconds() const { return 1'000'000'000 + clock(); }

void Machine::report(Report r) {
  std::string key = format("%s %u %s %u %u", r.code.c_str(), r.site.device, r.site.kernel.c_str(), r.site.ptxLine, r.site.ptxColumn);
  bool stop = r.severity == Severity::error && options.stopAtError;
  auto [it, made] = seen_.try_emplace(key, reports.size());
  if (!made) {
    ++reports[it->second].count;
  } else if (reports.size() < kMaxReports) {
    reports.push_back(std::move(r));
  } else {
    seen_.erase(it);
  }
  if (stop) throw StopLaunch{};
}

Cta* Machine::ctaOfRank(Cta& from, uint32_t rank) const {
  if (rank == from.rank) return &from;
  return from.cluster && rank < from.cluster->ctas.size() ? from.cluster->ctas[rank].get() : nullptr;
}

bool Machine::moveRegisters(Cta& cta, int64_t registers) {
  if (registers < 0) {
    cta.registersFree += static_cast<uint32_t>(-registers);
    changed();
    return true;
  }
  if (cta.registersFree < registers) return false;
  cta.registersFree -= static_cast<uint32_t>(registers);
  return true;
}

void Machine::threadsExited(Cta& cta, uint32_t count) {
  cta.liveThreads -= count;
  cta.cluster->liveThreads -= count;
  changed();
  for (uint32_t b = 0; b < cta.barriers.size(); ++b)
    if (cta.barriers[b].whole && cta.liveThreads > 0) completeBarrier(*this, cta, b);
  completeClusterBarrier(*this, *cta.cluster);
}

void Machine::fillSpecials(Warp& w) {
  const Cta& cta = w.cta;
  const Grid& g = *cta.grid;
  const uint32_t* block = g.request.block;
  const uint32_t* grid = g.request.grid;
  uint32_t clusters[3];
  for (int k = 0; k < 3; ++k) clusters[k] = grid[k] / g.cluster[k];
  uint32_t clusterSize = g.cluster[0] * g.cluster[1] * g.cluster[2];
  for (const Program::SpecialUse& u : g.program->specials) {
    uint8_t* at = w.specials + (u.slot & slot::kOffsetMask);
    uint64_t v[kLanes];
    auto all = [&](uint64_t x) { std::fill_n(v, kLanes, x); };
    auto each = [&](auto f) {
      for (uint32_t l = 0; l < kLanes; ++l) v[l] = f(l);
    };
    auto tid = [&](int axis) {
      each([&](uint32_t l) {
        uint32_t t = w.index * kLanes + l;
        return axis == 0 ? t % block[0] : axis == 1 ? t / block[0] % block[1] : t / block[0] / block[1];
      });
    };
    if (u.isSymbol) {
      const Variable& var = g.program->variables[u.index];
      all(var.space == VariableSpace::shared ? (uint64_t{cta.rank} << shared::kRankShift | g.layout.offsets[u.index])
                                             : (*g.addresses)[u.index]);
    } else {
      uint32_t dynamic = static_cast<uint32_t>(g.request.dynamicSharedBytes);
      switch (static_cast<Special>(u.index)) {
        case Special::tid_x_: tid(0); break;
        case Special::tid_y_: tid(1); break;
        case Special::tid_z_: tid(2); break;
#define AXES(name, value)                                              \
  case Special::name##_x_: { constexpr int k = 0; all(value); break; } \
  case Special::name##_y_: { constexpr int k = 1; all(value); break; } \
  case Special::name##_z_: { constexpr int k = 2; all(value); break; }
        AXES(ntid, block[k])
        AXES(ctaid, cta.id[k])
        AXES(nctaid, grid[k])
        AXES(clusterid, cta.cluster->id[k])
        AXES(nclusterid, clusters[k])
        AXES(cluster_ctaid, cta.rankInCluster[k])
        AXES(cluster_nctaid, g.cluster[k])
#undef AXES
        case Special::laneid_: each([](uint32_t l) { return l; }); break;
        case Special::warpid_: all(w.index); break;
        case Special::nwarpid_: all(g.device->limits.warps); break;
        case Special::smid_: all(cta.sm->index); break;
        case Special::nsmid_: all(g.device->sms.size()); break;
        case Special::gridid_: all(g.id); break;
        case Special::cluster_ctarank_: all(cta.rank); break;
        case Special::cluster_nctarank_: all(clusterSize); break;
        case Special::is_explicit_cluster_: all(g.explicitCluster); break;
        case Special::lanemask_eq_: each([](uint32_t l) { return 1u << l; }); break;
        case Special::lanemask_lt_: each([](uint32_t l) { return (1u << l) - 1; }); break;
        case Special::lanemask_le_: each([](uint32_t l) { return (2u << l) - 1; }); break;
        case Special::lanemask_gt_: each([](uint32_t l) { return ~((2u << l) - 1); }); break;
        case Special::lanemask_ge_: each([](uint32_t l) { return ~((1u << l) - 1); }); break;
        case Special::dynamic_smem_size_: all(dynamic); break;
        case Special::total_smem_size_: all(g.sharedBytes - shared::kReserved); break;
        case Special::aggr_smem_size_: all(g.sharedBytes); break;
        case Special::reserved_smem_offset_begin_: all(0); break;
        case Special::reserved_smem_offset_end_: all(shared::kReserved); break;
        case Special::reserved_smem_offset_cap_: all(shared::kReserved); break;
        default: all(0); break;  // %pm, %envreg and the like: unspecified, zero here
      }
    }
    if (u.cls == 2) std::memcpy(at, v, sizeof v);
    else
      for (int l = 0; l < kLanes; ++l) reinterpret_cast<uint32_t*>(at)[l] = static_cast<uint32_t>(v[l]);
  }
}

// A block's memory and warps are made at its first turn; shared memory of the whole cluster then too, since a peer
// may reach it at once.
void Machine::start(Cta& cta) {
  const Grid& g = *cta.grid;
  for (auto& peer : cta.cluster->ctas) {
    if (peer->shared) continue;
    peer->shared = std::make_unique<uint8_t[]>(g.sharedBytes);
    peer->sharedBytes = g.sharedBytes;
    if (options.checked()) peer->sharedInitialised.assign((g.sharedBytes + 63) / 64, 0);
  }
  cta.started = true;
  for (uint32_t k = 0; k < g.warpsPerCta; ++k) {
    uint32_t lanes = std::min<uint32_t>(kLanes, g.threads - k * kLanes);
    cta.warps.push_back(std::make_unique<Warp>(*this, cta, k, lanes == kLanes ? kFull : (1u << lanes) - 1));
    fillSpecials(*cta.warps.back());
    cta.warps.back()->rebase();
  }
  if (checks) checks->onCtaStart(cta);
}

bool Machine::turn(Cta& cta) {
  bool progress = false;
  if (!cta.started) start(cta);
  size_t n = cta.warps.size(), first = options.seed && n > 1 ? random() % n : 0;
  for (size_t k = 0; k < n; ++k) {
    Warp& w = *cta.warps[(first + k) % n];
    if (w.finished()) continue;
    uint64_t before = version;
    uint64_t quantum = options.seed ? 16ull << random() % 8 : kTurn;
    uint64_t done = w.run(quantum);
    statistics.warpInstructions += done;
    progress |= done > 0 || version != before;
    ++statistics.turns;
    engine.tick();
    if (engine.pending() && engine.runDue()) {
      changed();
      progress = true;
    }
    if (statistics.warpInstructions > options.maxInstructions) reportTooLong();
  }
  if (cta.liveThreads == 0) {
    cta.finished = true;
    progress = true;
  }
  return progress;
}

void Machine::retire(Grid& grid) {
  auto& list = grid.resident;
  size_t kept = 0;
  for (size_t k = 0; k < list.size(); ++k) {
    auto& cta = list[k];
    if (!cta->finished) {
      if (kept != k) list[kept] = std::move(cta);
      ++kept;
      continue;
    }
    if (checks) checks->onCtaEnd(*cta);
    cta->warps.clear();
    Sm& sm = *cta->sm;
    sm.threads -= grid.warpsPerCta * kLanes;
    sm.warps -= grid.warpsPerCta;
    sm.ctas -= 1;
    sm.registers -= grid.registersPerCta;
    sm.sharedBytes -= grid.sharedBytes;
    ++grid.done;
    ++statistics.ctas;
    changed();
    // The cluster holds its blocks and each block its cluster: the last one to end cuts the knot.
    if (--cta->cluster->alive == 0) {
      auto cluster = cta->cluster;
      cluster->ctas.clear();
    }
  }
  list.resize(kept);
}

// With a feed, what follows a grid in its stream may run as soon as the grid has ended: its copies must have too.
void Machine::settle(Grid& grid) {
  while (engine.runNext()) {
  }
  if (checks) checks->onGridEnd(grid);
  grid.ended = true;
  changed();
}

void Machine::run() {
  paused_ = false;
  try {
    for (;;) {
      if (feed && feed() == Feed::pause) {
        paused_ = true;
        return;
      }
      bool progress = false, open = false;
      for (auto& g : grids_) {
        if (g->done == g->total) continue;
        admit(*g);
      }
      uint64_t before = version;
      for (auto& g : grids_) {
        size_t n = g->resident.size(), first = options.seed && n > 1 ? random() % n : 0;
        for (size_t k = 0; k < n; ++k) {
          Cta& cta = *g->resident[(first + k) % n];
          if (!cta.finished) progress |= turn(cta);
        }
        retire(*g);
        open |= g->done != g->total;
        if (feed && g->done == g->total && !g->ended) settle(*g);
      }
      if (!open && feed) continue;
      if (!open) break;
      if (progress || version != before) continue;
      if (engine.runNext()) {
        changed();
        continue;
      }
      reportDeadlock();
      break;
    }
    // Copies still under way write their memory: a launch ends when they have.
    while (engine.runNext()) {
    }
    if (checks && !feed)
      for (auto& g : grids_) checks->onGridEnd(*g);
  } catch (StopLaunch&) {
  } catch (...) {
    end();
    throw;
  }
  statistics.asyncEvents = engine.completed;
  end();
}

// Gives back what an ended or stopped launch still holds.
void Machine::end() {
  for (auto& g : grids_) {
    // Nobody followed what this launch left uninitialised.
    if (!poison) g->device->memory.assumeInitialised();
    for (auto& cta : g->resident) {
      cta->finished = true;
      cta->liveThreads = 0;
    }
    for (auto& cta : g->resident) cta->warps.clear();
    for (Sm& sm : g->device->sms) {
      uint32_t index = sm.index, gpc = sm.gpc;
      sm = Sm{};
      sm.index = index;
      sm.gpc = gpc;
    }
    for (auto& cta : g->resident) {
      auto cluster = cta->cluster;
      if (cluster) cluster->ctas.clear();
    }
    g->resident.clear();
  }
  grids_.clear();
}

}  // namespace dsvc::emulator
