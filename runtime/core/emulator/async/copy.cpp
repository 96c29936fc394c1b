#include "copy.h"

#include <cinttypes>
#include <cstring>

namespace dsvc::emulator {

void Origin::report(Severity severity, const char* code, std::string message, std::string fix) const {
  Report r;
  r.code = code;
  r.severity = severity;
  r.message = std::move(message);
  r.site = site;
  r.fix = std::move(fix);
  machine->report(std::move(r));
}

bool Region::tracked() const {
  return cta ? !cta->sharedInitialised.empty() : allocation && allocation->tracked;
}

void Region::load(int64_t at, uint8_t* to, uint8_t* known, size_t n) const {
  if (n == 0) return;
  std::memcpy(to, bytes + at, n);
  if (!known) return;
  std::memset(known, 1, n);
  if (!tracked()) return;
  const ByteSet& set = cta ? cta->sharedInitialised : allocation->initialised;
  const uint64_t from = offset + static_cast<uint64_t>(at);
  if (set.empty() || holdsAll(set, from, n)) return;
  for (size_t k = 0; k < n; ++k) known[k] = set[(from + k) >> 6] >> ((from + k) & 63) & 1;
}

void Region::save(int64_t at, const uint8_t* from, const uint8_t* known, size_t n) const {
  if (n == 0) return;
  std::memcpy(bytes + at, from, n);
  if (!tracked()) return;
  const uint64_t to = offset + static_cast<uint64_t>(at);
  const bool all = !known || std::memchr(known, 0, n) == nullptr;
  if (cta) setAll(cta->sharedInitialised, to, n, true);
  else allocation->markInitialised(to, n, true);
  if (all) return;
  if (allocation) allocation->wasPoisoned = true;
  for (size_t k = 0; k < n; ++k) {
    if (known[k]) continue;
    if (cta) setAll(cta->sharedInitialised, to + k, 1, false);
    else allocation->markInitialised(to + k, 1, false);
  }
}

void Origin::saved(const Region& to, int64_t at, const uint8_t* known, size_t n) const {
  if (!to.allocation || !to.allocation->output) return;
  for (size_t k = 0; k < n; ++k)
    if (!known[k]) to.allocation->output->add(site, "", to.offset + static_cast<uint64_t>(at) + k, 1);
}

std::shared_ptr<Cta> pointerTo(Cta& cta) { return cta.cluster->ctas[cta.rank]; }

Region regionOf(const Place& place) {
  Region r;
  r.bytes = place.bytes;
  r.allocation = place.allocation;
  r.offset = place.offset;
  if (place.bytes && place.cta) r.cta = pointerTo(*place.cta);
  return r;
}

void postLater(Machine& machine, std::function<void()> work) {
  constexpr uint64_t kSoon = 60, kLate = 1500;
  machine.engine.post(1, machine.engine.random() % 8 == 0 ? kLate : kSoon, std::move(work));
}

uint64_t nextOperation() {
  // Only tells operations apart; no result depends on it. The lowest five bits are free for a lane.
  static std::atomic<uint64_t> last{0};
  return last += kLanes;
}

bool hasExited(const Cta& cta) { return cta.finished || (cta.started && cta.liveThreads == 0); }

bool hasExited(const Origin& origin, const Region& to, uint64_t bytes) {
  if (!to.cta || !hasExited(*to.cta)) return false;
  origin.report(Severity::error, "emu/exit-before-copy",
                format("block (%u,%u,%u) exited while a copy of %" PRIu64 " bytes into its shared memory was under way",
                       to.cta->id[0], to.cta->id[1], to.cta->id[2], bytes),
                "wait for every copy before the block ends, and in a cluster meet at barrier.cluster before exit");
  return true;
}

void warnAboutExit(const Origin& origin, const Region& from, uint64_t bytes) {
  if (!from.cta || !hasExited(*from.cta)) return;
  origin.report(Severity::warning, "emu/exit-before-store",
                format("block (%u,%u,%u) exited before a copy had read %" PRIu64 " bytes of its shared memory",
                       from.cta->id[0], from.cta->id[1], from.cta->id[2], bytes),
                "let the issuing thread execute cp.async.bulk.wait_group.read 0 before it exits");
}

Space spaceOf(Modifier m) {
  switch (m) {
    case Modifier::shared_: case Modifier::shared__cta_: return Space::shared;
    case Modifier::shared__cluster_: return Space::sharedCluster;
    case Modifier::global_: return Space::global;
    default: return Space::generic;
  }
}

Space spaceAt(const Resolve& r, int n) {
  for (Modifier m : r.in.modifiers)
    if (Space s = spaceOf(m); s != Space::generic && n-- == 0) return s;
  return Space::generic;
}

AddressOperand addressFrom(Resolve& r, const Operand& o) {
  if (o.kind != OperandKind::address) {
    // The tensor map's address stands in its brackets without a pair of its own.
    Operand wrapped;
    wrapped.kind = OperandKind::address;
    wrapped.parts.push_back(o);
    return addressFrom(r, wrapped);
  }
  auto a = r.addressOf(o);
  if (a.isParameter) r.unsupported("the address of a parameter must come through mov and cvta.param");
  return {a.base, a.offset};
}
AddressOperand addressAt(Resolve& r, size_t n) { return addressFrom(r, r.operand(n)); }

}  // namespace dsvc::emulator
