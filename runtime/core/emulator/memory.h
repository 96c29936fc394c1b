// Memory as a program sees it. One 64-bit generic space: windows for shared, local and param below 2^40, then one
// terabyte of global addresses per device, so that a pointer says whose it is. Every access is checked for bounds and
// alignment. The first 4 GiB hold nothing, so small and null pointers always fail.
#pragma once
#include <cstdint>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "insn.h"
#include "report.h"

namespace dsvc::emulator {

struct Cta;

namespace window {
constexpr uint64_t kSize = 1ull << 32;
constexpr uint64_t kShared = 1ull << 32;  // + (cluster CTA rank << 24) + offset in the CTA
constexpr uint64_t kLocal = 2ull << 32;   // + offset in the thread's local memory
constexpr uint64_t kParam = 3ull << 32;   // + offset in the kernel's parameter block
constexpr uint64_t kGlobalPerDevice = 1ull << 40;
constexpr uint64_t globalBase(uint32_t device) { return kGlobalPerDevice * (device + 1); }
}  // namespace window

// Shared addresses inside their window.
namespace shared {
constexpr uint32_t kReserved = 0x400;  // the system's first KiB; variables follow
constexpr uint32_t kRankShift = 24;
constexpr uint32_t kOffsetMask = (1u << kRankShift) - 1;
constexpr uint32_t kMaximum = 227 * 1024;        // per CTA, without the reserved KiB
constexpr uint32_t kWithoutOptIn = 48 * 1024;
constexpr uint32_t kPerSm = 228 * 1024;
}  // namespace shared

enum class Space : uint8_t { generic, global, constant, shared, sharedCluster, local, param };
enum class AccessKind : uint8_t { read, write, atomic };

// Sets of bytes, one bit each.
using ByteSet = std::vector<uint64_t>;
// True when all `count` bytes from `at` on are in the set.
inline bool holdsAll(const ByteSet& set, uint64_t at, uint64_t count) {
  while (count > 0) {
    const uint64_t shift = at & 63, n = count < 64 - shift ? count : 64 - shift;
    const uint64_t mask = (n == 64 ? ~0ull : (1ull << n) - 1) << shift;
    if (~set[at >> 6] & mask) return false;
    at += n;
    count -= n;
  }
  return true;
}
inline void setAll(ByteSet& set, uint64_t at, uint64_t count, bool value) {
  while (count > 0) {
    const uint64_t shift = at & 63, n = count < 64 - shift ? count : 64 - shift;
    const uint64_t mask = (n == 64 ? ~0ull : (1ull << n) - 1) << shift;
    set[at >> 6] = value ? set[at >> 6] | mask : set[at >> 6] & ~mask;
    at += n;
    count -= n;
  }
}

// Which instructions stored uninitialised data to an output. What a later store mends is no finding: the allocation's
// own map has the last word.
struct PoisonedStores {
  struct Source {
    Site site;
    std::string origin;  // where the data came from: "%f3, which was never written"
  };
  struct Sector {
    uint32_t bytes = 0;   // of 32, one bit each
    uint32_t source = 0;  // index below: who stored last
  };
  std::vector<Source> sources;
  std::map<uint64_t, Sector> sectors;  // by offset / 32

  void add(const Site& site, const std::string& origin, uint64_t offset, uint64_t count);
};

struct Allocation {
  uint64_t base = 0, size = 0;
  std::string name;
  uint8_t* bytes = nullptr;  // null after free: the address range is never given out again
  bool isConstant = false;   // .const: kernels must not write
  bool isAdopted = false;    // the host's own memory: whoever adopted it frees it
  bool tracked = false;      // it is known which bytes are initialised (checks on)
  bool wasPoisoned = false;  // some uninitialised data was stored here: that it was never written is not known any more
  uint32_t elementBytes = 1;  // for messages
  ByteSet initialised;        // empty: all initialised, or not tracked
  std::unique_ptr<PoisonedStores> output;  // of an output

  bool holds(uint64_t address, uint64_t count) const {
    return address - base < size && count <= size - (address - base);
  }
  void markInitialised(uint64_t offset, uint64_t count, bool value);
  bool isInitialised(uint64_t offset, uint64_t count) const {
    return initialised.empty() || holdsAll(initialised, offset, count);
  }
};

// What an output lacks at the end: data that instructions stored uninitialised, and bytes that nobody wrote.
std::vector<Report> outputReports(const Allocation& a);

class GlobalMemory {
 public:
  explicit GlobalMemory(uint32_t device) : device(device), next_(window::globalBase(device)) {}
  ~GlobalMemory();
  GlobalMemory(const GlobalMemory&) = delete;
  GlobalMemory& operator=(const GlobalMemory&) = delete;

  // Zero-filled, but uninitialised to the checks if `track`. Aligned to 256 bytes with a gap behind, so that an
  // overrun never reaches a neighbour.
  Allocation& allocate(uint64_t bytes, std::string name, bool track);
  void free(uint64_t base);  // refuses an address that is no allocation's base
  // The allocation that holds the address, freed ones too; null when none does.
  Allocation* find(uint64_t address);
  // The last allocation that starts at or before the address, for messages.
  Allocation* nearest(uint64_t address);
  // Memory of the host at its own address, which stays the caller's: it must outlive the entry. Takes the place of
  // entries that were freed there.
  Allocation& adopt(uint8_t* bytes, uint64_t size, std::string name);
  // Whose memory the address is, for a report of an access that found none: "the nearest allocation is ...".
  std::string whereabouts(uint64_t address);
  // A launch that followed nothing ran: what is initialised is not known any more, so everything counts as such.
  void assumeInitialised();
  // Copies bytes with what is known of them. Refuses what is out of bounds.
  void copy(uint64_t to, uint64_t from, uint64_t bytes);
  // Offset of the first byte that is not initialised; `bytes` when all are.
  uint64_t firstUninitialised(uint64_t address, uint64_t bytes);
  // Host access; refuses what is out of bounds.
  uint8_t* host(uint64_t address, uint64_t bytes, const char* what);
  const uint32_t device;
  std::vector<GlobalMemory*> peers;   // other memory that kernels of this device may reach
  std::vector<GlobalMemory*> others;  // of the other devices of the process, reachable or not: for messages

 private:
  std::map<uint64_t, std::unique_ptr<Allocation>> allocations_;
  uint64_t next_;
};

// Where an access goes. `bytes` is null when it was refused and reported (and the launch goes on after errors):
// a load then gives zeros, a store does nothing.
struct Place {
  uint8_t* bytes = nullptr;
  Space space = Space::generic;      // global, shared, local, param or constant
  Allocation* allocation = nullptr;  // global and constant
  Cta* cta = nullptr;                // shared: whose
  uint64_t offset = 0;               // in the allocation, the CTA's shared memory or the thread's local memory
};

}  // namespace dsvc::emulator
