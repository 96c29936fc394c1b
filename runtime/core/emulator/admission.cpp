// Launch requests against the kernel and the chip, and the placing of thread blocks on SMs.
#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <numeric>

#include "machine.h"

namespace dsvc::emulator {

Device::Device(uint32_t ordinal, Options o) : ordinal(ordinal), options(std::move(o)), memory(ordinal) { resize(options.sms); }

void Device::resize(uint32_t count) {
  if (count == 0 || count > 1024) refuse("emu/bad-option", format("%u SMs: 1 to 1024 are possible", count));
  if (sms.size() == count) return;
  sms.clear();
  // GPCs of 16 SMs; the last two of the full chip have 18. A cluster never spans two of them.
  for (uint32_t k = 0; k < count; ++k) {
    Sm sm;
    sm.index = k;
    sm.gpc = count == 132 && k >= 96 ? 6 + (k - 96) / 18 : k / 16;
    sms.push_back(sm);
  }
}

Device::Module& Device::module(Program& program) {
  auto [it, made] = modules_.try_emplace(&program);
  Module& m = it->second;
  if (!made) return m;
  m.addresses.assign(program.variables.size(), 0);
  std::vector<Allocation*> allocations(program.variables.size(), nullptr);
  for (size_t k = 0; k < program.variables.size(); ++k) {
    const Variable& v = program.variables[k];
    if (v.space != VariableSpace::global && v.space != VariableSpace::constant) continue;
    Allocation& a = memory.allocate(std::max<uint64_t>(v.size, 1), v.name, false);
    a.size = v.size;
    if (!v.init.empty()) std::memcpy(a.bytes, v.init.data(), v.init.size());
    m.addresses[k] = a.base;
    allocations[k] = &a;
  }
  for (size_t k = 0; k < program.variables.size(); ++k) {
    const Variable& v = program.variables[k];
    if (!allocations[k]) continue;
    for (const Relocation& r : v.relocations) {
      uint64_t value = r.kind == 1 ? functionAddress(r.index) : m.addresses[r.index];
      value += static_cast<uint64_t>(r.addend);
      std::memcpy(allocations[k]->bytes + r.at, &value, std::min<uint64_t>(8, v.size - r.at));
    }
    if (v.space == VariableSpace::constant) allocations[k]->isConstant = true;
  }
  return m;
}

void Device::forget(const Program& program) {
  auto it = modules_.find(&program);
  if (it == modules_.end()) return;
  for (uint64_t a : it->second.addresses)
    if (a) memory.free(a);
  modules_.erase(it);
}

namespace {
[[noreturn]] void contract(std::string message) { refuse("emu/launch-contract", std::move(message)); }
std::string dims(const uint32_t* v) { return format("%u x %u x %u", v[0], v[1], v[2]); }

// Leaves the clusters of the blocks that the request names. The others are as if they had ended before the launch: the
// kernel sees the whole grid's dimensions, and waits for them in vain.
void chooseBlocks(Grid& grid, const LaunchRequest& request) {
  const uint32_t* c = grid.cluster;
  const uint32_t* across = request.grid;
  std::unordered_map<uint64_t, uint32_t> named;  // blocks of each cluster
  std::vector<uint64_t> blocks = request.blocks;
  std::sort(blocks.begin(), blocks.end());
  for (size_t k = 0; k < blocks.size(); ++k) {
    const uint64_t b = blocks[k];
    if (b >= grid.total)
      contract(format("block %" PRIu64 " is to run, but the grid has %" PRIu64 " blocks", b, grid.total));
    if (k > 0 && b == blocks[k - 1]) contract(format("block %" PRIu64 " is named twice", b));
    const uint64_t x = b % across[0] / c[0], y = b / across[0] % across[1] / c[1], z = b / across[0] / across[1] / c[2];
    const uint64_t cluster = x + across[0] / c[0] * (y + across[1] / c[1] * z);
    if (++named[cluster] == 1) grid.clusters.push_back(cluster);
  }
  for (uint64_t k : grid.clusters)
    if (named[k] != c[0] * c[1] * c[2])
      contract(format("of cluster %" PRIu64 " only %u of %u blocks are to run: name all of them", k, named[k], c[0] * c[1] * c[2]));
  grid.total = blocks.size();
}
}  // namespace

Grid& Machine::submit(Device& device, Program& program, LaunchRequest request) {
  const Function* kernel = program.kernel(request.kernel);
  if (!kernel) {
    std::string names;
    for (const Function& f : program.functions)
      if (f.isEntry) names += (names.empty() ? "" : ", ") + f.name;
    refuse("emu/no-such-kernel", format("the program has no kernel %s; it has %s", request.kernel.c_str(), names.empty() ? "none" : names.c_str()));
  }
  const char* name = kernel->name.c_str();
  for (int k = 0; k < 3; ++k)
    if (request.grid[k] == 0 || request.block[k] == 0) contract(format("%s: grid %s, block %s: every dimension is at least 1", name, dims(request.grid).c_str(), dims(request.block).c_str()));
  uint64_t threads = uint64_t{request.block[0]} * request.block[1] * request.block[2];
  if (request.block[0] > 1024 || request.block[1] > 1024 || request.block[2] > 64 || threads > 1024)
    contract(format("%s: a block of %s threads; at most 1024 in all, 1024 x 1024 x 64 per dimension", name, dims(request.block).c_str()));
  if (request.grid[0] > 0x7fffffffu || request.grid[1] > 65535 || request.grid[2] > 65535)
    contract(format("%s: a grid of %s blocks; at most 2147483647 x 65535 x 65535", name, dims(request.grid).c_str()));
  if (kernel->reqntid[0]) {
    uint32_t want[3];
    for (int k = 0; k < 3; ++k) want[k] = std::max(1u, kernel->reqntid[k]);
    if (!std::equal(want, want + 3, request.block))
      contract(format("%s: .reqntid asks for a block of %s threads, not %s", name, dims(want).c_str(), dims(request.block).c_str()));
  }
  if (kernel->maxntid[0]) {
    uint64_t most = uint64_t{kernel->maxntid[0]} * std::max(1u, kernel->maxntid[1]) * std::max(1u, kernel->maxntid[2]);
    if (threads > most) contract(format("%s: .maxntid allows %" PRIu64 " threads in a block, not %" PRIu64, name, most, threads));
  }
  uint64_t parameterBytes = 0;
  for (const Parameter& p : kernel->params) parameterBytes = std::max(parameterBytes, p.offset + p.size);
  // CUDA 12.1 raised the limit together with PTX 8.1.
  const bool isLate = program.ptxMajor > 8 || (program.ptxMajor == 8 && program.ptxMinor >= 1);
  const uint64_t mostParameters = isLate ? 32764 : 4096;
  if (parameterBytes > mostParameters)
    contract(format("%s: %" PRIu64 " bytes of parameters; PTX %u.%u allows %" PRIu64, name, parameterBytes, program.ptxMajor, program.ptxMinor,
                    mostParameters));
  if (request.parameters.size() != parameterBytes)
    contract(format("%s: %zu bytes of parameters; the kernel has %" PRIu64, name, request.parameters.size(), parameterBytes));

  auto grid = std::make_unique<Grid>();
  grid->layout = program.sharedOf(*kernel);
  if (grid->layout.staticBytes > shared::kWithoutOptIn)
    contract(format("%s: %" PRIu64 " bytes of static shared memory; only dynamic shared memory (.extern .shared) goes beyond %u", name,
                    grid->layout.staticBytes, shared::kWithoutOptIn));
  uint64_t sharedBytes = grid->layout.dynamicOffset + request.dynamicSharedBytes;
  if (request.dynamicSharedBytes == 0) sharedBytes = shared::kReserved + grid->layout.staticBytes;
  if (sharedBytes - shared::kReserved > shared::kMaximum)
    contract(format("%s: %" PRIu64 " bytes of shared memory (%" PRIu64 " static, %" PRIu64 " dynamic); a block has at most %u", name,
                    sharedBytes - shared::kReserved, grid->layout.staticBytes, request.dynamicSharedBytes, shared::kMaximum));
  bool asked = request.cluster[0] != 0;
  for (int k = 0; k < 3; ++k) {
    uint32_t own = kernel->reqnctapercluster[0] ? std::max(1u, kernel->reqnctapercluster[k]) : 0;
    grid->cluster[k] = asked ? std::max(1u, request.cluster[k]) : own ? own : 1;
    if (asked && own && own != grid->cluster[k])
      contract(format("%s: .reqnctapercluster asks for clusters of another shape than %s", name, dims(request.cluster).c_str()));
  }
  grid->explicitCluster = asked || kernel->reqnctapercluster[0] || kernel->explicitCluster;
  // Dimension by dimension first: a product of three could wrap round to a small number, or to none.
  bool tooLarge = std::any_of(grid->cluster, grid->cluster + 3, [](uint32_t n) { return n > 16; });
  uint32_t clusterSize = tooLarge ? 17 : grid->cluster[0] * grid->cluster[1] * grid->cluster[2];
  if (clusterSize > 16) contract(format("%s: clusters of %s blocks; at most 16 in all", name, dims(grid->cluster).c_str()));
  if (kernel->maxclusterrank && clusterSize > kernel->maxclusterrank)
    contract(format("%s: .maxclusterrank allows %u blocks in a cluster, not %u", name, kernel->maxclusterrank, clusterSize));
  for (int k = 0; k < 3; ++k)
    if (request.grid[k] % grid->cluster[k])
      contract(format("%s: a grid of %s blocks does not divide into clusters of %s", name, dims(request.grid).c_str(), dims(grid->cluster).c_str()));

  constexpr uint64_t mostLocal = 512 * 1024;
  if (kernel->localBytes > mostLocal)
    contract(format("%s: %" PRIu64 " bytes of local memory per thread; at most %" PRIu64, name, kernel->localBytes, mostLocal));

  program.prepare(*kernel, checks != nullptr);
  grid->device = &device;
  grid->program = &program;
  grid->kernel = kernel;
  grid->code = kernel->code[checks != nullptr].get();
  if (!grid->code) refuse("emu/no-such-kernel", format("%s has no body", name));
  grid->id = nextGrid_++;
  grid->threads = static_cast<uint32_t>(threads);
  grid->warpsPerCta = (grid->threads + kLanes - 1) / kLanes;
  uint32_t registers = request.registers ? request.registers : kernel->registersPerThread();
  grid->registersPerThread = registers ? registers : 32;
  if (grid->registersPerThread > 255 && grid->registersPerThread != 256)
    contract(format("%s: %u registers per thread; at most 255", name, grid->registersPerThread));
  // A warp's registers come in pieces of 256.
  grid->registersPerCta = grid->warpsPerCta * ((grid->registersPerThread * kLanes + 255) / 256 * 256);
  grid->sharedBytes = static_cast<uint32_t>(sharedBytes);
  if (grid->registersPerCta > device.limits.registers)
    contract(format("%s: a block needs %u registers; an SM has %u", name, grid->registersPerCta, device.limits.registers));
  grid->total = uint64_t{request.grid[0]} * request.grid[1] * request.grid[2];
  if (!request.blocks.empty()) chooseBlocks(*grid, request);
  uint64_t clusters = grid->total / clusterSize;
  if (options.seed && clusters > 1) {
    // Another order of admission per seed: every stride that is prime to the count visits all.
    grid->start = random() % clusters;
    grid->stride = 1 + random() % (clusters - 1);
    while (std::gcd(grid->stride, clusters) != 1) ++grid->stride;
  }
  grid->addresses = &device.module(program).addresses;
  grid->request = std::move(request);
  grids_.push_back(std::move(grid));
  if (checks) checks->onGridStart(*grids_.back());
  return *grids_.back();
}

// Places the blocks of one cluster on SMs of one GPC, the emptiest first; false when there is no room now.
bool Machine::place(Grid& grid, const std::shared_ptr<Cluster>& cluster) {
  Device& device = *grid.device;
  const SmLimits& limits = device.limits;
  const uint32_t threads = grid.warpsPerCta * kLanes;
  auto fits = [&](const Sm& s) {
    return s.ctas < limits.ctas && s.warps + grid.warpsPerCta <= limits.warps && s.threads + threads <= limits.threads &&
           s.registers + grid.registersPerCta <= limits.registers && s.sharedBytes + grid.sharedBytes <= limits.sharedBytes;
  };
  auto use = [&](Sm& s, int sign) {
    s.ctas += static_cast<uint32_t>(sign);
    s.warps += static_cast<uint32_t>(sign) * grid.warpsPerCta;
    s.threads += static_cast<uint32_t>(sign) * threads;
    s.registers += static_cast<uint32_t>(sign) * grid.registersPerCta;
    s.sharedBytes += static_cast<uint32_t>(sign) * grid.sharedBytes;
  };
  uint32_t gpcs = device.sms.back().gpc + 1;
  bool single = cluster->ctas.size() == 1;
  for (uint32_t gpc = 0; gpc < (single ? 1 : gpcs); ++gpc) {
    std::vector<Sm*> chosen;
    for (size_t k = 0; k < cluster->ctas.size(); ++k) {
      Sm* best = nullptr;
      for (Sm& s : device.sms)
        if ((single || s.gpc == gpc) && fits(s) && (!best || s.ctas < best->ctas)) best = &s;
      if (!best) break;
      use(*best, 1);
      chosen.push_back(best);
    }
    if (chosen.size() == cluster->ctas.size()) {
      for (size_t k = 0; k < chosen.size(); ++k) cluster->ctas[k]->sm = chosen[k];
      return true;
    }
    for (Sm* s : chosen) use(*s, -1);
  }
  return false;
}

void Machine::admit(Grid& grid) {
  const uint32_t* c = grid.cluster;
  uint32_t size = c[0] * c[1] * c[2];
  uint64_t clusters = grid.total / size;
  uint32_t across[3];
  for (int k = 0; k < 3; ++k) across[k] = grid.request.grid[k] / c[k];
  while (grid.next < clusters) {
    uint64_t at = (grid.start + static_cast<uint64_t>(static_cast<unsigned __int128>(grid.next) * grid.stride % clusters)) % clusters;
    if (!grid.clusters.empty()) at = grid.clusters[at];
    auto cluster = std::make_shared<Cluster>();
    cluster->id[0] = static_cast<uint32_t>(at % across[0]);
    cluster->id[1] = static_cast<uint32_t>(at / across[0] % across[1]);
    cluster->id[2] = static_cast<uint32_t>(at / across[0] / across[1]);
    for (uint32_t rank = 0; rank < size; ++rank) {
      auto cta = std::make_shared<Cta>();
      cta->grid = &grid;
      cta->rank = rank;
      uint32_t in[3] = {rank % c[0], rank / c[0] % c[1], rank / c[0] / c[1]};
      for (int k = 0; k < 3; ++k) {
        cta->rankInCluster[k] = in[k];
        cta->id[k] = cluster->id[k] * c[k] + in[k];
      }
      cta->linear = cta->id[0] + uint64_t{grid.request.grid[0]} * (cta->id[1] + uint64_t{grid.request.grid[1]} * cta->id[2]);
      cta->threads = cta->liveThreads = grid.threads;
      cta->cluster = cluster;
      cluster->ctas.push_back(std::move(cta));
    }
    if (!place(grid, cluster)) {
      bool empty = true;  // no other grid's block will ever make room
      for (const Sm& s : grid.device->sms) empty &= s.ctas == 0;
      if (empty)
        contract(format("%s: a cluster of %u blocks with %u threads and %u bytes of shared memory each does not fit the chip's %zu SMs",
                        grid.kernel->name.c_str(), size, grid.threads, grid.sharedBytes, grid.device->sms.size()));
      for (auto& cta : cluster->ctas) cta->cluster = nullptr;
      cluster->ctas.clear();
      return;
    }
    cluster->alive = size;
    cluster->liveThreads = size * grid.threads;
    for (auto& cta : cluster->ctas) grid.resident.push_back(cta);
    ++grid.next;
  }
}

}  // namespace dsvc::emulator
