#include "shadow.h"

#include <bit>

namespace dsvc::emulator {

uint64_t ShadowStore::hashOf(const ReaderSet& set) {
  uint64_t hash = set.readers.size();
  for (const Reader& r : set.readers)
    hash = (std::rotl(hash, 23) ^ (uint64_t{r.record} << 32 | r.lanes) ^ static_cast<uint64_t>(r.spread) << 62) * 0x9e3779b97f4a7c15ull;
  return hash;
}

uint32_t ShadowStore::intern(ReaderSet&& made) {
  const uint64_t hash = hashOf(made);
  auto [first, last] = byHash_.equal_range(hash);
  for (auto it = first; it != last; ++it)
    if (sets_[it->second].readers == made.readers) return it->second;
  auto id = static_cast<uint32_t>(sets_.size());
  sets_.push_back(std::move(made));
  byHash_.emplace(hash, id);
  return id;
}

void ShadowStore::collect(const std::vector<Shadow*>& shadows) {
  constexpr uint32_t kUnused = UINT32_MAX;
  std::vector<uint32_t> numbers(sets_.size(), kUnused);
  std::deque<ReaderSet> kept;
  auto move = [&](Cell& c) {
    if ((c.read & word::kTag) != word::kSet) return;
    uint32_t& number = numbers[word::id(c.read)];
    if (number == kUnused) {
      number = static_cast<uint32_t>(kept.size());
      kept.push_back(std::move(sets_[word::id(c.read)]));
    }
    c.read = word::set(number, word::lane(c.read));
  };
  for (Shadow* s : shadows)
    s->eachCell([&](Cell& c) {
      if ((c.write & word::kTag) != word::kSplit) return move(c);
      for (Cell& b : splits_[word::id(c.write)]) move(b);
    });
  sets_ = std::move(kept);
  byHash_.clear();
  for (uint32_t id = 0; id < sets_.size(); ++id) byHash_.emplace(hashOf(sets_[id]), id);
}

std::array<Cell, 4>& ShadowStore::splitOf(Cell& cell) {
  if ((cell.write & word::kTag) == word::kSplit) return splits_[word::id(cell.write)];
  uint32_t id;
  if (freeSplits_.empty()) {
    id = static_cast<uint32_t>(splits_.size());
    splits_.emplace_back();
  } else {
    id = freeSplits_.back();
    freeSplits_.pop_back();
  }
  std::array<Cell, 4>& bytes = splits_[id];
  // The lanes of one byte.
  auto part = [](uint64_t w, uint32_t byte) {
    if ((w & word::kTag) != word::kOne) return w;
    Spread s = word::spread(w);
    if (s == Spread::full || s == Spread::any) return w;
    return word::one(word::id(w), (word::lane(w) + (byte >> static_cast<uint32_t>(s))) & 31, Spread::full);
  };
  for (uint32_t b = 0; b < 4; ++b) {
    bytes[b].write = part(cell.write, b);
    bytes[b].read = part(cell.read, b);
    if ((cell.read & word::kTag) != word::kSet) continue;
    ReaderSet set = sets_[word::id(cell.read)];
    bool changed = false;
    for (Reader& r : set.readers) {
      if (r.spread == Spread::full || r.spread == Spread::any) continue;
      r.lanes = std::rotl(r.lanes, static_cast<int>(b >> static_cast<uint32_t>(r.spread)));
      r.spread = Spread::full;
      changed = true;
    }
    if (changed) bytes[b].read = word::set(intern(std::move(set)), word::lane(cell.read));
  }
  cell.write = word::split(id);
  cell.read = 0;
  return bytes;
}

void ShadowStore::unsplit(Cell& cell) {
  if ((cell.write & word::kTag) != word::kSplit) return;
  freeSplits_.push_back(word::id(cell.write));
  cell = {};
}

}  // namespace dsvc::emulator
