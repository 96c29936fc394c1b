// Shadow memory: for every 4 bytes of an allocation or of a block's shared memory, who wrote them last and who has read
// them since. Made by pages, where something is accessed.
//
// A word names accesses: none (0); one of them (a record, and which lane); or an interned set of several. Lanes are
// relative to the word's base lane, so that 32 neighbouring cells that neighbouring lanes accessed share a set. A cell
// whose bytes differ is split into four.
#pragma once
#include <array>
#include <deque>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "clocks.h"

namespace dsvc::emulator {

struct Cell {
  uint64_t write = 0, read = 0;
};

// How a warp's lanes share a cell: `quarter` lane + byte, `half` lane + byte / 2, `full` one lane has all, `any` lanes
// that wrote equal values count as one.
enum class Spread : uint32_t { quarter = 0, half = 1, full = 2, any = 3 };

namespace word {
constexpr uint64_t kTag = 3ull << 62, kOne = 1ull << 62, kSet = 2ull << 62, kSplit = 3ull << 62;
constexpr uint64_t one(uint32_t record, uint32_t lane, Spread s) {
  return kOne | static_cast<uint64_t>(s) << 37 | uint64_t{lane} << 32 | record;
}
constexpr uint64_t set(uint32_t id, uint32_t lane) { return kSet | uint64_t{lane} << 32 | id; }
constexpr uint64_t split(uint32_t id) { return kSplit | id; }
constexpr uint32_t id(uint64_t w) { return static_cast<uint32_t>(w); }
constexpr uint32_t lane(uint64_t w) { return static_cast<uint32_t>(w >> 32) & 31; }
constexpr Spread spread(uint64_t w) { return static_cast<Spread>(w >> 37 & 3); }
}  // namespace word

// One member of a set. Lane of byte b: those of `lanes`, turned by the word's base lane, plus the spread.
struct Reader {
  uint32_t record = 0, lanes = 0;
  Spread spread = Spread::full;
  bool operator==(const Reader& o) const { return record == o.record && lanes == o.lanes && spread == o.spread; }
};
struct ReaderSet {
  std::vector<Reader> readers;
  bool atomics = false;  // some are atomic updates, which count as writes too
};

// Where release and acquire meet: what was released at a location, by scope and by whom it reaches.
struct Released {
  uint32_t scope = 0;
  uint64_t domain = 0;  // the block, cluster or device that the scope spans
  uint64_t block = 0, cluster = 0;  // of the releasing threads; 0 when several
  uint32_t device = 0;
  ClockPointer clock;
};

class Shadow {
 public:
  static constexpr uint64_t kPageBytes = 4096, kCells = kPageBytes / 4;
  using Page = std::array<Cell, kCells>;

  explicit Shadow(uint64_t bytes) : pages_((bytes + kPageBytes - 1) / kPageBytes) {}
  // The cell of a byte, and how many follow in the same page.
  Cell* cells(uint64_t offset, uint64_t& count) {
    auto& page = pages_[offset / kPageBytes];
    if (!page) page = std::make_unique<Page>();
    uint64_t at = offset % kPageBytes / 4;
    count = kCells - at;
    return page->data() + at;
  }
  template <class F>
  void eachCell(F f) {
    for (auto& page : pages_)
      if (page)
        for (Cell& c : *page) f(c);
  }
  std::unordered_map<uint64_t, std::vector<Released>> locations;  // by offset of the cell

 private:
  std::vector<std::unique_ptr<Page>> pages_;
};

// The interned sets and the split cells of a launch.
class ShadowStore {
 public:
  uint32_t intern(ReaderSet&& set);
  const ReaderSet& set(uint32_t id) const { return sets_[id]; }
  std::array<Cell, 4>& split(uint32_t id) { return splits_[id]; }
  // Splits the cell, unless it is; its bytes keep what the cell had.
  std::array<Cell, 4>& splitOf(Cell& cell);
  // Makes a split cell whole again, empty.
  void unsplit(Cell& cell);
  size_t sets() const { return sets_.size(); }
  // Keeps the sets that cells of these shadows name, under new numbers.
  void collect(const std::vector<Shadow*>& shadows);
  // Calls f(record) for each access that the cell names.
  template <class F>
  void eachRecord(const Cell& c, F f) const {
    if ((c.write & word::kTag) == word::kSplit) {
      for (const Cell& b : splits_[word::id(c.write)]) eachRecord(b, f);
      return;
    }
    if (c.write) f(word::id(c.write));
    if ((c.read & word::kTag) == word::kOne) f(word::id(c.read));
    else if (c.read)
      for (const Reader& r : sets_[word::id(c.read)].readers) f(r.record);
  }

 private:
  static uint64_t hashOf(const ReaderSet& set);
  std::deque<ReaderSet> sets_;  // references stay good while it grows
  std::unordered_multimap<uint64_t, uint32_t> byHash_;
  std::vector<std::array<Cell, 4>> splits_;
  std::vector<uint32_t> freeSplits_;
};

}  // namespace dsvc::emulator
