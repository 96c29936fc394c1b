// Devices, grids and the machine that runs them. Thread blocks are admitted to SMs as the chip does: threads, warps,
// blocks, registers and shared memory bound what is resident, clusters are admitted whole inside one GPC. Warps of
// resident blocks take turns; the seed chooses the order and the length of turns, and nothing else does, so a launch
// replays exactly.
#pragma once
#include <array>
#include <atomic>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "async.h"
#include "checks.h"
#include "memory.h"
#include "program.h"
#include "report.h"
#include "warp.h"

namespace dsvc::emulator {

// What bounds residency on an SM of the H800.
struct SmLimits {
  uint32_t threads = 2048, warps = 64, ctas = 32, registers = 65536;
  uint32_t sharedBytes = shared::kPerSm;  // each CTA also costs its reserved KiB
};

struct Options {
  uint32_t sms = 132;
  uint64_t seed = 0;
  uint64_t maxInstructions = 20'000'000'000;  // warp instructions of a launch; then emu/too-long
  std::vector<std::string> checks;            // empty: none; "all"
  bool tensorCoreExact = true;
  bool stopAtError = true;
  bool statistics = false;  // count by opcode (slower)
  bool checked() const { return !checks.empty(); }
  bool checks_(const std::string& name) const;
};

struct Sm {
  uint32_t index = 0, gpc = 0;
  uint32_t threads = 0, warps = 0, ctas = 0, registers = 0, sharedBytes = 0;  // in use
};

class Device {
 public:
  Device(uint32_t ordinal, Options options);
  const uint32_t ordinal;
  Options options;
  GlobalMemory memory;
  SmLimits limits;
  std::vector<Sm> sms;
  // Where a program's module-scope variables lie on this device. Made at the first launch.
  struct Module {
    std::vector<uint64_t> addresses;  // by variable; 0: not global or const
  };
  Module& module(Program& program);
  void forget(const Program& program);
  void resize(uint32_t sms);  // between launches

 private:
  std::unordered_map<const Program*, Module> modules_;
};

struct Statistics {
  uint64_t warpInstructions = 0, laneInstructions = 0, ctas = 0, turns = 0, asyncEvents = 0;
  std::vector<uint64_t> byMnemonic, lanesByMnemonic;  // with statistics on
  std::shared_ptr<struct Performance> performance;    // with statistics on, of a launch that ran to its end
  double seconds = 0;
};

struct LaunchRequest {
  std::string kernel;
  uint32_t grid[3] = {1, 1, 1}, block[3] = {1, 1, 1}, cluster[3] = {0, 0, 0};  // cluster 0: as the kernel says
  uint64_t dynamicSharedBytes = 0;
  std::vector<uint8_t> parameters;
  uint32_t registers = 0;  // per thread; 0: as the kernel says, else 32
  std::vector<uint64_t> blocks;  // linear ids of the blocks that run, whole clusters; empty: all
};

// Named barrier state of a CTA. Counted per warp, as the ISA says.
struct NamedBarrier {
  uint64_t generation = 0;
  uint32_t expected = 0, arrived = 0;  // threads
  bool whole = false;                  // expects all threads that have not exited
  bool isReduction = false;
  uint32_t population = 0;  // .red: predicates that held
  bool all = true, any = false;
  uint32_t lastPopulation = 0;  // result of the generation before
  bool lastAll = true, lastAny = false;
  const Insn* first = nullptr;  // the generation's first arrival; null: idle
};

struct Cluster {
  std::vector<std::shared_ptr<Cta>> ctas;  // by rank; cleared when the last one has ended
  uint64_t generation = 0;
  uint32_t arrived = 0;  // threads at barrier.cluster
  uint32_t alive = 0;    // CTAs not finished
  uint32_t liveThreads = 0;
  uint32_t id[3] = {0, 0, 0};
};

struct Cta {
  Grid* grid = nullptr;
  uint32_t id[3] = {0, 0, 0};
  uint64_t linear = 0;
  uint32_t rank = 0, rankInCluster[3] = {0, 0, 0};
  std::shared_ptr<Cluster> cluster;
  Sm* sm = nullptr;
  std::vector<std::unique_ptr<Warp>> warps;  // empty until its first turn
  bool started = false, finished = false;
  uint32_t threads = 0, liveThreads = 0;
  // Shared memory: byte 0 is the window's offset 0, so user variables start at 0x400. Allocated at the first turn,
  // together with those of its cluster; kept until the whole cluster has ended.
  std::unique_ptr<uint8_t[]> shared;
  uint32_t sharedBytes = 0;  // with the reserved KiB
  std::vector<uint64_t> sharedInitialised;  // one bit per byte, with checks on
  std::array<NamedBarrier, 16> barriers;
  uint32_t registersFree = 0;  // setmaxnreg's pool, in registers
  std::shared_ptr<CtaAsync> async;
  std::shared_ptr<struct TensorAsync> tensor;  // wgmma in flight (tensor/warpgroup.h)
  void* races = nullptr;                       // the race check's own
};

// A kernel launch in progress.
struct Grid {
  Device* device = nullptr;
  Program* program = nullptr;
  const Function* kernel = nullptr;
  const Code* code = nullptr;
  LaunchRequest request;
  uint64_t id = 0;
  uint32_t cluster[3] = {1, 1, 1};
  uint32_t threads = 0, warpsPerCta = 0, registersPerThread = 0, registersPerCta = 0;
  bool explicitCluster = false;
  uint32_t sharedBytes = 0;  // of a CTA, reserved KiB included
  uint64_t next = 0, total = 0, done = 0;  // clusters admitted; CTAs that are to run; CTAs finished
  std::vector<uint64_t> clusters;          // those that run, by linear id; empty: all
  uint64_t stride = 1, start = 0;          // order of admission: cluster (start + k * stride) mod all
  SharedLayout layout;
  std::vector<std::shared_ptr<Cta>> resident;
  const std::vector<uint64_t>* addresses = nullptr;  // of module variables
  bool dependentsReleased = false;
  bool ended = false;  // every block has, and its copies: with Machine::feed
};

// Blocks of host memory that frames and warps come from, reused by size: they stay in the cache.
class BlockPool {
 public:
  ~BlockPool();
  uint8_t* take(size_t bytes);
  void give(uint8_t* block, size_t bytes);

 private:
  std::unordered_map<size_t, std::vector<uint8_t*>> free_;
};

class Machine {
 public:
  explicit Machine(Options options);
  ~Machine();

  Options options;
  AsyncEngine engine;
  BlockPool blocks;  // before the grids, which give back to it
  std::unique_ptr<Checks> checks;  // null: none
  class Poison* poison = nullptr;  // the one of `checks` that follows uninitialised data (checks/poison.h); null: off
  std::vector<Report> reports;
  Statistics statistics;

  // Checks the request against the kernel and the chip (throws EmulatorError) and queues it. Grids that are queued
  // together run together, as far as the SMs have room.
  Grid& submit(Device& device, Program& program, LaunchRequest request);
  // Runs until every grid has ended, an error stopped it or a limit was reached. Reports say what happened.
  void run();
  // Asked before each round of run(): it may submit grids that waited for others to end (Grid::ended), and may pause the
  // run, which goes on at the next call. It pauses when no grid is left. Null: the grids that were submitted are all.
  enum class Feed : uint8_t { goOn, pause };
  std::function<Feed()> feed;
  // True between a pause and the end of the run: grids are on the chip.
  bool paused() const { return paused_; }

  // Counts changes that a blocked path may wait for: barriers, mbarriers, completions, exits. Handlers that change
  // something others may wait for call changed().
  void changed() { ++version; }
  uint64_t version = 1;
  void report(Report r);
  // Register releases and acquisitions of setmaxnreg. False: not enough free now.
  bool moveRegisters(Cta& cta, int64_t registers);
  // Ends a CTA's warp bookkeeping when its last thread exits.
  void threadsExited(Cta& cta, uint32_t count);
  Cta* ctaOfRank(Cta& from, uint32_t rank) const;
  // Nanoseconds of %globaltimer: a virtual clock that advances with instructions.
  uint64_t nanoseconds() const;
  uint64_t clock() const;
  uint64_t random() { return engine.random(); }

 private:
  std::vector<std::unique_ptr<Grid>> grids_;
  bool place(Grid& grid, const std::shared_ptr<Cluster>& cluster);
  void admit(Grid& grid);
  void start(Cta& cta);
  void fillSpecials(Warp& w);
  bool turn(Cta& cta);
  void retire(Grid& grid);
  void reportDeadlock();
  void reportTooLong();
  void end();
  void settle(Grid& grid);
  bool paused_ = false;
  uint64_t nextGrid_ = 1;
  std::unordered_map<std::string, size_t> seen_;
  mutable uint64_t clockReads_ = 0;
};

}  // namespace dsvc::emulator
