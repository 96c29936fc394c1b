// Vector clocks, sparse and shared. An entity is something that counts: a warp (its 32 lanes share the counter, but what
// is known of them may differ), a warp's commit groups, an mbarrier (its phases), a warpgroup's products. An epoch is
// (entity, lane, count). A Clock says which epochs happened before something, and which of them a proxy fence of their
// own thread has followed.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

namespace dsvc::emulator {

struct Clock;
using ClockPointer = std::shared_ptr<Clock>;

// What is known of each lane of an entity, where lanes differ.
struct LaneClocks {
  std::array<uint32_t, 32> known{}, fenced{};
};

struct ClockEntry {
  uint32_t entity = 0;
  uint32_t known = 0, fenced = 0;           // of every lane
  std::shared_ptr<const LaneClocks> lanes;  // null: as above for all

  bool knows(uint32_t lane, uint32_t count) const { return count <= known || (lanes && count <= lanes->known[lane]); }
  bool fences(uint32_t lane, uint32_t count) const { return count <= fenced || (lanes && count <= lanes->fenced[lane]); }
};

struct Clock {
  std::vector<ClockEntry> entries;  // by entity
  // What would be known too if scopes had been wide enough.
  ClockPointer narrow;

  const ClockEntry* find(uint32_t entity) const;
  ClockEntry& at(uint32_t entity);  // made when missing

  bool knows(uint32_t entity, uint32_t lane, uint32_t count) const {
    const ClockEntry* e = find(entity);
    return e && e->knows(lane, count);
  }
  bool fences(uint32_t entity, uint32_t lane, uint32_t count) const {
    const ClockEntry* e = find(entity);
    return e && e->fences(lane, count);
  }
  void raise(uint32_t entity, uint32_t count);
  // Lane l of the mask is known up to known[l] and fenced up to fenced[l]. `whole`: no other lane runs.
  void raiseLanes(uint32_t entity, uint32_t mask, bool whole, const LaneClocks& lanes);
  void join(const Clock& other);
  // True when `other` has nothing that this lacks. Looks no further than entries without lanes: may say false.
  bool covers(const Clock& other) const;
};

// A clock of its own for changes: copies one that others hold too.
Clock& own(ClockPointer& p);
// p = p joined with other, sharing where possible.
void joinInto(ClockPointer& p, const ClockPointer& other);

}  // namespace dsvc::emulator
