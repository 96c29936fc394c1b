#include "memory.h"

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
  for (auto& [base, a] : allocations_) std::free(a->bytes);
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
  std::free(it->second->bytes);
  it->second->bytes = nullptr;
  it->second->initialised.clear();
  it->second->initialised.shrink_to_fit();
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
