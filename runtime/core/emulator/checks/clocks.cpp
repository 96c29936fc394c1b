#include "clocks.h"

#include <algorithm>
#include <bit>

namespace dsvc::emulator {

namespace {

void joinEntry(ClockEntry& to, const ClockEntry& from) {
  if (!from.lanes && from.known <= to.known && from.fenced <= to.fenced) return;
  if (!from.lanes && !to.lanes) {
    to.known = std::max(to.known, from.known);
    to.fenced = std::max(to.fenced, from.fenced);
    return;
  }
  if (from.lanes && from.lanes == to.lanes && from.known == to.known && from.fenced == to.fenced) return;
  auto lanes = std::make_shared<LaneClocks>();
  uint32_t leastKnown = UINT32_MAX, leastFenced = UINT32_MAX, mostKnown = 0, mostFenced = 0;
  for (size_t l = 0; l < 32; ++l) {
    auto known = [&](const ClockEntry& e) { return e.lanes ? std::max(e.known, e.lanes->known[l]) : e.known; };
    auto fenced = [&](const ClockEntry& e) { return e.lanes ? std::max(e.fenced, e.lanes->fenced[l]) : e.fenced; };
    uint32_t k = lanes->known[l] = std::max(known(to), known(from));
    uint32_t f = lanes->fenced[l] = std::max(fenced(to), fenced(from));
    leastKnown = std::min(leastKnown, k);
    mostKnown = std::max(mostKnown, k);
    leastFenced = std::min(leastFenced, f);
    mostFenced = std::max(mostFenced, f);
  }
  to.known = leastKnown;
  to.fenced = leastFenced;
  if (leastKnown == mostKnown && leastFenced == mostFenced) to.lanes = nullptr;
  else to.lanes = std::move(lanes);
}

}  // namespace

const ClockEntry* Clock::find(uint32_t entity) const {
  size_t low = 0, high = entries.size();
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (entries[middle].entity < entity) low = middle + 1;
    else high = middle;
  }
  return low < entries.size() && entries[low].entity == entity ? &entries[low] : nullptr;
}

ClockEntry& Clock::at(uint32_t entity) {
  auto it = std::lower_bound(entries.begin(), entries.end(), entity, [](const ClockEntry& e, uint32_t x) { return e.entity < x; });
  if (it == entries.end() || it->entity != entity) {
    it = entries.insert(it, ClockEntry{});
    it->entity = entity;
  }
  return *it;
}

void Clock::raise(uint32_t entity, uint32_t count) {
  ClockEntry& e = at(entity);
  e.known = std::max(e.known, count);
}

void Clock::raiseLanes(uint32_t entity, uint32_t mask, bool whole, const LaneClocks& values) {
  ClockEntry& e = at(entity);
  if (whole) {
    const size_t first = static_cast<size_t>(std::countr_zero(mask));
    bool equal = true;
    for (size_t l = 0; l < 32 && equal; ++l)
      equal = !(mask >> l & 1) || (values.known[l] == values.known[first] && values.fenced[l] == values.fenced[first]);
    if (equal) {
      if (!e.lanes) {
        e.known = std::max(e.known, values.known[first]);
        e.fenced = std::max(e.fenced, values.fenced[first]);
      } else {
        joinEntry(e, ClockEntry{entity, values.known[first], values.fenced[first], nullptr});
      }
      return;
    }
  }
  auto lanes = std::make_shared<LaneClocks>();
  for (size_t l = 0; l < 32; ++l) {
    if (!(mask >> l & 1)) continue;
    lanes->known[l] = values.known[l];
    lanes->fenced[l] = values.fenced[l];
  }
  // Lanes that have ended or never were hold nobody back.
  if (whole)
    for (size_t l = 0; l < 32; ++l)
      if (!(mask >> l & 1)) {
        lanes->known[l] = *std::max_element(values.known.begin(), values.known.end());
        lanes->fenced[l] = *std::max_element(values.fenced.begin(), values.fenced.end());
      }
  joinEntry(e, ClockEntry{entity, 0, 0, std::move(lanes)});
}

void Clock::join(const Clock& other) {
  if (&other == this) return;
  if (other.narrow) joinInto(narrow, other.narrow);
  // Mostly nothing is missing here.
  size_t a = 0;
  bool missing = false;
  for (const ClockEntry& from : other.entries) {
    while (a < entries.size() && entries[a].entity < from.entity) ++a;
    if (a < entries.size() && entries[a].entity == from.entity) joinEntry(entries[a], from);
    else missing = true;
  }
  if (!missing) return;
  std::vector<ClockEntry> merged;
  merged.reserve(entries.size() + other.entries.size());
  a = 0;
  for (const ClockEntry& from : other.entries) {
    while (a < entries.size() && entries[a].entity < from.entity) merged.push_back(std::move(entries[a++]));
    if (a < entries.size() && entries[a].entity == from.entity) merged.push_back(std::move(entries[a++]));
    else merged.push_back(from);
  }
  while (a < entries.size()) merged.push_back(std::move(entries[a++]));
  entries = std::move(merged);
}

bool Clock::covers(const Clock& other) const {
  if (&other == this) return true;
  if (other.narrow && other.narrow != narrow) return false;
  size_t a = 0;
  for (const ClockEntry& from : other.entries) {
    while (a < entries.size() && entries[a].entity < from.entity) ++a;
    if (a == entries.size() || entries[a].entity != from.entity) return false;
    const ClockEntry& to = entries[a];
    if (to.known < from.known || to.fenced < from.fenced) return false;
    if (from.lanes && from.lanes != to.lanes)
      for (size_t l = 0; l < 32; ++l)
        if (!to.knows(static_cast<uint32_t>(l), from.lanes->known[l]) || !to.fences(static_cast<uint32_t>(l), from.lanes->fenced[l]))
          return false;
  }
  return true;
}

Clock& own(ClockPointer& p) {
  if (!p) p = std::make_shared<Clock>();
  else if (p.use_count() > 1) p = std::make_shared<Clock>(*p);
  return *p;
}

void joinInto(ClockPointer& p, const ClockPointer& other) {
  if (!other || p == other) return;
  if (!p) {
    p = other;
    return;
  }
  if (p->covers(*other)) return;
  own(p).join(*other);
}

}  // namespace dsvc::emulator
