// What is said of two accesses.
#include <cinttypes>

#include "races.h"

namespace dsvc::emulator {

bool RaceCheck::silent(const char* code, const DecodedInsn* at) {
  if (!chosen_.empty() && !chosen_.contains(code)) return true;
  auto it = said_.find({code, at});
  if (it == said_.end()) return false;
  ++machine_.reports[it->second].count;
  return true;
}

Site RaceCheck::siteOf(const Record& r, int lane) const {
  Site s;
  s.kernel = r.actor->kernel->name;
  for (int k = 0; k < 3; ++k) s.block[k] = r.actor->block[k];
  s.warp = r.actor->warp;
  s.lane = lane;
  s.ptxLine = r.insn->ptxLine;
  s.ptxColumn = r.insn->ptxColumn;
  s.what = spell(*r.insn);
  if (r.insn->locFile) {
    s.locFile = r.actor->program->fileName(r.insn->locFile);
    s.locLine = r.insn->locLine;
    s.locColumn = r.insn->locColumn;
  }
  return s;
}

void RaceCheck::say(const char* code, Severity severity, const Record& at, int lane, const Record& other, int otherLane, const std::string& message,
                    const std::string& fix) {
  if (silent(code, at.insn)) return;
  Report r;
  r.code = code;
  r.severity = severity;
  r.site = siteOf(at, at.proxy == Proxy::tensorCore ? -1 : lane);
  r.others.push_back(siteOf(other, other.proxy == Proxy::tensorCore ? -1 : otherLane));
  r.message = message;
  r.fix = fix;
  const size_t before = machine_.reports.size();
  machine_.report(std::move(r));
  // Where the list is full it was not taken; where another place of the line said the same, it was counted there.
  if (machine_.reports.size() > before) said_[{code, at.insn}] = before;
}

std::string RaceCheck::place(const Touch& t, uint64_t offset) const {
  if (t.cta) return format("shared offset 0x%" PRIx64 "%s", offset, t.cta->rank || t.cta->cluster->ctas.size() > 1 ? format(" of block rank %u", t.cta->rank).c_str() : "");
  return format("byte %" PRIu64 " of %s", offset, t.allocation->name.c_str());
}

namespace {

const char* verb(AccessKind k) { return k == AccessKind::read ? "reads" : k == AccessKind::write ? "writes" : "updates"; }
const char* past(AccessKind k) { return k == AccessKind::read ? "read" : k == AccessKind::write ? "written" : "updated"; }

Scope leastScope(const Actor& a, const Actor& b) {
  return a.blockNumber == b.blockNumber ? Scope::cta : a.cluster == b.cluster ? Scope::cluster : a.device == b.device ? Scope::gpu : Scope::sys;
}
const char* scopeName(Scope s) {
  constexpr const char* kNames[] = {"", ".cta", ".cluster", ".gpu", ".sys"};
  return kNames[static_cast<size_t>(s)];
}

std::string whose(const Record& r, int lane) {
  std::string text = spell(*r.insn) + format(" (line %u, block (%u, %u, %u), warp %d", r.insn->ptxLine, r.actor->block[0], r.actor->block[1],
                                             r.actor->block[2], r.actor->warp);
  return text + (r.proxy == Proxy::tensorCore ? ")" : format(", lane %d)", lane));
}

// What is missing between the two, the earlier one first.
std::string fixOf(const Record& first, const Record& then, bool isShared) {
  if (first.proxy == Proxy::tensorCore) return "execute wgmma.wait_group for the product before its operands in shared memory are overwritten, and pass that on by a barrier or mbarrier";
  const bool group = first.insn->mnemonic == Mnemonic::cp_;
  const bool small = group && first.proxy == Proxy::generic;
  if (first.asynchronous && first.kind == AccessKind::read)
    return small ? "wait for the copy (cp.async.wait_group) before its source is written"
                 : "let the issuing thread execute cp.async.bulk.wait_group.read (or wait for the copy's mbarrier) before its source is written, then pass a barrier";
  if (first.asynchronous)
    return small ? "execute cp.async.commit_group and a cp.async.wait_group that covers the copy, then a barrier for the threads that did not issue it"
                 : "wait until the copy is complete: mbarrier.try_wait for its phase, or cp.async.bulk.wait_group for a copy to global memory";
  if (then.asynchronous)
    return "let the thread that issues the operation wait for the earlier accesses: a barrier, or an mbarrier on which their threads arrive after them";
  const Actor &a = *first.actor, &b = *then.actor;
  switch (leastScope(a, b)) {
    case Scope::cta:
      return a.warp == b.warp ? "put bar.warp.sync between the two accesses, or one lane only"
                              : "put bar.sync (or another barrier that both warps pass) between the two accesses";
    case Scope::cluster: return isShared ? "put barrier.cluster.arrive and barrier.cluster.wait between the two accesses" : "meet at barrier.cluster, or release and acquire at .cluster scope, between the two accesses";
    case Scope::gpu: return "release after the one and acquire before the other at .gpu scope (fence.acq_rel.gpu and an atomic), use atomics for both, or two launches";
    default: return "release after the one and acquire before the other at .sys scope, or launch one after the other";
  }
}

}  // namespace

void RaceCheck::conflict(Touch& t, uint32_t lane, uint32_t record, uint32_t otherLane, uint64_t offset, Problem p) {
  const Record other = records_[record], mine = t.mine;
  // The later of the two has the blame; a transfer counts from its issue.
  const bool mineLater = !mine.asynchronous || mine.proxy == Proxy::tensorCore || mine.used >= other.used;
  const Record &then = mineLater ? mine : other, &first = mineLater ? other : mine;
  const int thenLane = static_cast<int>(mineLater ? lane : otherLane), firstLane = static_cast<int>(mineLater ? otherLane : lane);
  const bool isShared = t.cta != nullptr;
  const bool isAsync = first.asynchronous || then.asynchronous, tensor = first.proxy == Proxy::tensorCore || then.proxy == Proxy::tensorCore;
  const char* race = tensor ? "emu/race-tensor-core" : isShared ? (isAsync ? "emu/race-async-shared" : "emu/race-shared") : isAsync ? "emu/race-async-global" : "emu/race-global";
  if (p == Problem::race && silent(race, then.insn)) return;
  if (p == Problem::proxyFenceAfterRead && silent("emu/read-before-async-write", then.insn)) return;
  const std::string where = place(t, offset);
  const std::string both = format("%s %s %s, which %s %s", spell(*then.insn).c_str(), verb(then.kind), where.c_str(), whose(first, firstLane).c_str(), verb(first.kind));
  auto tell = [&](const char* code, Severity severity, const std::string& message, const std::string& fix) {
    say(code, severity, then, thenLane, first, firstLane, message, fix);
  };
  switch (p) {
    case Problem::race: return tell(race, Severity::error, both + ": nothing orders the two", fixOf(first, then, isShared));
    case Problem::equalValues:
      return tell("emu/race-same-value", Severity::warning, both + ": nothing orders the two, though both write the same value", fixOf(first, then, isShared));
    case Problem::scope: {
      const char* need = scopeName(leastScope(*first.actor, *then.actor));
      return tell("emu/race-scope", Severity::error, both + format(": they synchronise, but not at %s scope, which spans the two threads", need),
                  format("use %s scope on both sides: on the atomics, the release, the acquire and the fences", need));
    }
    case Problem::proxyFence:
      return tell("emu/missing-proxy-fence", Severity::error,
                  format("%s %s %s through the async proxy; it was %s by %s through the generic proxy, and that thread executed no fence.proxy.async since",
                         spell(*then.insn).c_str(), verb(then.kind), where.c_str(), past(first.kind), whose(first, firstLane).c_str()),
                  "let the writing threads execute fence.proxy.async after the write, before the barrier or mbarrier that leads to the operation");
    case Problem::proxyFenceAfterRead:
      return tell("emu/read-before-async-write", Severity::warning,
                  format("%s %s %s through the async proxy; it was read by %s through the generic proxy, with synchronisation but without fence.proxy.async since",
                         spell(*then.insn).c_str(), verb(then.kind), where.c_str(), whose(first, firstLane).c_str()),
                  "whether this needs a fence is disputed; fence.proxy.async by the reading threads before they synchronise is safe");
    case Problem::nonCoherent:
      return tell("emu/non-coherent-read", Severity::error, both + ": ld.global.nc is for data that nothing changes during the launch",
                  "use ld.global without .nc for data that this launch writes");
    case Problem::mbarrier:
      return tell("emu/mbarrier-plain-access", Severity::error,
                  format("%s %s %s, part of the mbarrier that %s made", spell(*then.insn).c_str(), verb(mine.kind), where.c_str(), whose(first, firstLane).c_str()),
                  "keep other data out of a live mbarrier's 8 bytes; mbarrier.inval before they are used for anything else");
  }
}

}  // namespace dsvc::emulator
