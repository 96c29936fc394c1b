#include "memory.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "report.h"

namespace dsvc::emulator {

void Allocation::markInitialised(uint64_t offset, uint64_t count, bool value) {
  if (initialised.empty()) return;
  while (count > 0) {
    if ((offset & 63) == 0 && count >= 64) {
      initialised[offset >> 6] = value ? ~0ull : 0;
      offset += 64;
      count -= 64;
      continue;
    }
    uint64_t bit = 1ull << (offset & 63);
    if (value) initialised[offset >> 6] |= bit;
    else initialised[offset >> 6] &= ~bit;
    ++offset;
    --count;
  }
}

GlobalMemory::~GlobalMemory() {
  for (auto& [base, a] : allocations_)
    if (!a->isAdopted) std::free(a->bytes);
}

Allocation& GlobalMemory::allocate(uint64_t bytes, std::string name, bool track) {
  // calloc gives untouched pages, so large buffers cost what is used of them.
  constexpr uint64_t kGap = 256, kMost = 1ull << 38;
  if (bytes > kMost) refuse("emu/out-of-memory", format("%s: %" PRIu64 " bytes are more than a device has", name.c_str(), bytes));
  auto a = std::make_unique<Allocation>();
  uint64_t rounded = (bytes + kGap - 1) / kGap * kGap;
  a->bytes = static_cast<uint8_t*>(std::calloc(rounded + kGap, 1));
  if (!a->bytes) refuse("emu/out-of-memory", format("%s: no host memory for %" PRIu64 " bytes", name.c_str(), bytes));
  a->base = next_;
  a->size = bytes;
  a->name = std::move(name);
  if (track) a->initialised.assign((bytes + 63) / 64, 0);
  next_ += rounded + kGap;
  return *(allocations_[a->base] = std::move(a));
}

void GlobalMemory::free(uint64_t base) {
  auto it = allocations_.find(base);
  if (it == allocations_.end() || !it->second->bytes)
    refuse("emu/bad-free", format("0x%" PRIx64 " is not the start of a live allocation", base));
  if (!it->second->isAdopted) std::free(it->second->bytes);
  it->second->bytes = nullptr;
  it->second->initialised.clear();
  it->second->initialised.shrink_to_fit();
}

Allocation& GlobalMemory::adopt(uint8_t* bytes, uint64_t size, std::string name) {
  uint64_t base = reinterpret_cast<uint64_t>(bytes);
  // The host gives its addresses out again: what was freed there is forgotten.
  auto it = allocations_.lower_bound(base);
  if (it != allocations_.begin() && std::prev(it)->second->base + std::prev(it)->second->size > base) --it;
  while (it != allocations_.end() && it->second->base < base + size) {
    if (it->second->bytes) refuse("emu/bad-argument", format("%s: the memory at 0x%" PRIx64 " overlaps %s", name.c_str(), base, it->second->name.c_str()));
    static_cast<void>(it->second.release());  // a warp that is still on the chip may remember it (Warp::recent)
    it = allocations_.erase(it);
  }
  auto a = std::make_unique<Allocation>();
  a->base = base;
  a->size = size;
  a->name = std::move(name);
  a->bytes = bytes;
  a->isAdopted = true;
  return *(allocations_[base] = std::move(a));
}

std::string GlobalMemory::whereabouts(uint64_t address) {
  for (GlobalMemory* other : others) {
    if (address < window::globalBase(other->device) || address - window::globalBase(other->device) >= window::kGlobalPerDevice) continue;
    Allocation* a = other->nearest(address);
    std::string what = a && a->holds(address, 1) ? format("byte %" PRIu64 " of %s", address - a->base, a->name.c_str()) : "an address";
    bool enabled = std::find(peers.begin(), peers.end(), other) != peers.end();
    if (!enabled) return format("%s in the memory of device %u: peer access from device %u is not enabled", what.c_str(), other->device, device);
    if (a) return format("the nearest allocation of the peer device %u is %s, %" PRIu64 " bytes at 0x%" PRIx64 ": the access is at its byte %" PRIu64,
                         other->device, a->name.c_str(), a->size, a->base, address - a->base);
    return format("the peer device %u has no allocation there", other->device);
  }
  if (Allocation* n = nearest(address))
    return format("the nearest allocation is %s, %" PRIu64 " bytes at 0x%" PRIx64 ": the access is at its byte %" PRIu64, n->name.c_str(),
                  n->size, n->base, address - n->base);
  return address < window::kSize ? "no allocation lies there: a null or 32-bit pointer?" : "no allocation lies there";
}

Allocation* GlobalMemory::nearest(uint64_t address) {
  auto it = allocations_.upper_bound(address);
  if (it == allocations_.begin()) return nullptr;
  return std::prev(it)->second.get();
}

Allocation* GlobalMemory::find(uint64_t address) {
  Allocation* a = nearest(address);
  if (a && address - a->base < a->size) return a;
  for (GlobalMemory* peer : peers) {
    Allocation* p = peer->nearest(address);
    if (p && address - p->base < p->size) return p;
  }
  return nullptr;
}

uint8_t* GlobalMemory::host(uint64_t address, uint64_t bytes, const char* what) {
  Allocation* a = nearest(address);
  if (bytes == 0 && a) return a->bytes;
  if (!a || !a->holds(address, bytes))
    refuse("emu/out-of-bounds", format("%s of %" PRIu64 " bytes at 0x%" PRIx64 " is outside every allocation", what, bytes, address));
  if (!a->bytes) refuse("emu/use-after-free", format("%s at 0x%" PRIx64 ": %s was freed", what, address, a->name.c_str()));
  return a->bytes + (address - a->base);
}

}  // namespace dsvc::emulator
