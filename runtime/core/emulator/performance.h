// What --stats tells of a launch beyond counts of instructions (checks/notes.cpp fills it). Nothing in it depends on the
// host: a seed replays it exactly.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace dsvc::emulator {

// One PTX instruction, where it did anything that is counted.
struct InsnPerformance {
  std::string function, text;
  uint32_t line = 0, column = 0;
  // Shared memory: 32 banks of 4 bytes. A phase is what the banks could serve at once: a warp's 4-byte accesses, half a
  // warp's 8-byte ones, a quarter's 16-byte ones, one matrix of ldmatrix. A pass serves one word of every bank.
  uint64_t phases = 0, passes = 0;
  uint32_t worst = 0;  // passes of a phase
  // Global memory, in sectors of 32 bytes. Ideal: as many as the distinct bytes fill.
  uint64_t requests = 0, sectors = 0, idealSectors = 0;

  double conflicts() const { return phases ? static_cast<double>(passes) / static_cast<double>(phases) : 0; }
};

enum class WaitPoint : uint8_t { barrier, cluster, mbarrier, copies, wgmma, count_ };

struct Performance {
  struct Bytes {
    uint64_t read = 0, written = 0;
  };
  struct Waits {
    uint64_t count = 0, blocked = 0, turns = 0;  // turns: of warps of the whole device, while it was blocked
  };
  // Waits on mbarriers that copies complete. Lead: phases of the block's such mbarriers that were complete and not yet
  // waited for when a wait began, its own included; 0: it had to wait.
  struct Ring {
    uint64_t waits = 0, waited = 0, lead = 0, least = UINT64_MAX;
  };
  struct Products {
    uint64_t instructions = 0, flop = 0;
  };
  uint64_t executed = 0, lanes = 0;  // warp instructions with an active lane; their lanes
  Bytes bytes[7], copied[7];         // by Space: instructions; asynchronous copies
  Waits waits[static_cast<size_t>(WaitPoint::count_)];
  Ring ring;
  std::map<std::string, Products> products;  // by types, D first: "f32.e4m3.e4m3"
  std::vector<InsnPerformance> instructions;  // in the order of the program
};

}  // namespace dsvc::emulator
