#include "memory.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "report.h"

namespace dsvc::emulator {

void Allocation::markInitialised(uint64_t offset, uint64_t count, bool value) {
  if (!tracked || count == 0) return;
  if (initialised.empty()) {
    if (value) return;
    initialised.assign((size + 63) / 64, ~0ull);
  }
  setAll(initialised, offset, count, value);
  // A buffer that is filled from its start to its end needs no map any more.
  if (value && offset + count == size && holdsAll(initialised, 0, size)) initialised = {};
}

void PoisonedStores::add(const Site& site, const std::string& origin, uint64_t offset, uint64_t count) {
  constexpr size_t kMostSources = 1000;
  uint32_t index = 0;
  while (index < sources.size() && (sources[index].site.ptxLine != site.ptxLine || sources[index].site.kernel != site.kernel)) ++index;
  if (index == sources.size()) {
    if (index == kMostSources) --index;
    else sources.push_back({site, origin});
  }
  for (uint64_t end = offset + count; offset < end; ++offset) {
    Sector& s = sectors[offset / 32];
    s.bytes |= 1u << offset % 32;
    s.source = index;
  }
}

std::vector<Report> outputReports(const Allocation& a) {
  std::vector<Report> found;
  if (a.initialised.empty()) return found;
  auto missing = [&](uint64_t at) { return !(a.initialised[at >> 6] >> (at & 63) & 1); };
  auto element = [&](uint64_t at) {
    return a.elementBytes > 1 ? format("%s[%" PRIu64 "]", a.name.c_str(), at / a.elementBytes) : format("byte %" PRIu64 " of %s", at, a.name.c_str());
  };
  struct Count {
    uint64_t first = ~0ull, bytes = 0;
  };
  Count unwritten;
  std::vector<Count> poisoned(a.output ? a.output->sources.size() : 0);
  for (uint64_t word = 0; word * 64 < a.size; ++word) {
    if (a.initialised[word] == ~0ull) continue;
    for (uint64_t at = word * 64; at < a.size && at < word * 64 + 64; ++at) {
      if (!missing(at)) continue;
      Count* c = &unwritten;
      if (a.output)
        if (auto it = a.output->sectors.find(at / 32); it != a.output->sectors.end() && it->second.bytes >> at % 32 & 1)
          c = &poisoned[it->second.source];
      c->first = std::min(c->first, at);
      ++c->bytes;
    }
  }
  for (size_t k = 0; k < poisoned.size(); ++k) {
    if (poisoned[k].bytes == 0) continue;
    const auto& source = a.output->sources[k];
    Report r;
    r.code = "emu/uninitialised-output";
    r.site = source.site;
    r.message = format("%s stored uninitialised data to %s, an output (%" PRIu64 " bytes of it in all)%s%s", source.site.what.c_str(),
                       element(poisoned[k].first).c_str(), poisoned[k].bytes, source.origin.empty() ? "" : ": it comes from ", source.origin.c_str());
    r.fix = "initialise what the value is computed from, or do not store it";
    found.push_back(std::move(r));
  }
  if (unwritten.bytes) {
    Report r;
    r.code = "emu/output-not-written";
    r.severity = Severity::warning;
    const uint64_t unit = a.elementBytes;
    r.message = unit > 1 && unwritten.bytes % unit == 0
                    ? format("%" PRIu64 " of the %" PRIu64 " elements of %s, an output, were never written: the first is %s", unwritten.bytes / unit,
                             a.size / unit, a.name.c_str(), element(unwritten.first).c_str())
                    : format("%" PRIu64 " of the %" PRIu64 " bytes of %s, an output, were never written: the first is byte %" PRIu64, unwritten.bytes,
                             a.size, a.name.c_str(), unwritten.first);
    r.fix = "launch enough threads to write all of it, or give the buffer a fill";
    found.push_back(std::move(r));
  }
  return found;
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
  a->tracked = track;
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
  it->second->output = nullptr;
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

void GlobalMemory::assumeInitialised() {
  for (auto& [base, a] : allocations_) a->initialised = {};
}

void GlobalMemory::copy(uint64_t to, uint64_t from, uint64_t bytes) {
  const uint8_t* source = host(from, bytes, "a copy");
  uint8_t* target = host(to, bytes, "a copy");
  if (bytes == 0) return;
  std::memmove(target, source, bytes);
  Allocation& a = *nearest(from);
  Allocation& b = *nearest(to);
  if (a.isInitialised(from - a.base, bytes)) return b.markInitialised(to - b.base, bytes, true);
  ByteSet known((bytes + 63) / 64, ~0ull);  // a copy of it: the two may overlap
  for (uint64_t k = 0; k < bytes; ++k)
    if (!a.isInitialised(from - a.base + k, 1)) setAll(known, k, 1, false);
  b.markInitialised(to - b.base, bytes, true);
  for (uint64_t k = 0; k < bytes; ++k)
    if (!holdsAll(known, k, 1)) b.markInitialised(to - b.base + k, 1, false);
}

uint64_t GlobalMemory::firstUninitialised(uint64_t address, uint64_t bytes) {
  host(address, bytes, "firstUninitialised");
  const Allocation& a = *nearest(address);
  if (a.isInitialised(address - a.base, bytes)) return bytes;
  uint64_t k = 0;
  while (a.isInitialised(address - a.base + k, 1)) ++k;
  return k;
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
