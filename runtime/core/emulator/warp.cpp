#include "warp.h"

#include <algorithm>
#include <bit>
#include <cinttypes>
#include <cstring>

#include "machine.h"

namespace dsvc::emulator {

namespace {
// A path of a divergent warp gives way after this many instructions, so that one that spins for another lane's store
// lets that lane run.
constexpr uint32_t kPathTurn = 512;

std::string lanesText(Mask m) { return format("0x%08x", m); }
}  // namespace

Warp::Warp(Machine& machine, Cta& cta, uint32_t index, Mask lanes)
    : machine(machine), cta(cta), index(index), exists(lanes), live(lanes) {
  const Grid& g = *cta.grid;
  registerCount = g.registersPerThread;
  specials = machine.blocks.take(std::max<size_t>(64, g.program->specialBytes));
  bases[1] = g.program->constants.data();
  bases[2] = specials;
  Frame* f = newFrame(*g.kernel, *g.code, nullptr, nullptr);
  f->references = 1;
  Path p;
  p.lanes = lanes;
  p.pc = g.code->insns.data();
  p.frame = f;
  paths.push_back(p);
}

Warp::~Warp() {
  for (Path& p : paths) release(p.frame);
  machine.blocks.give(specials, std::max<size_t>(64, cta.grid->program->specialBytes));
}

Frame* Warp::newFrame(const Function& f, const Code& code, Frame* caller, const Insn* call) {
  auto* made = new Frame;
  made->function = &f;
  made->code = &code;
  made->caller = caller;
  made->call = call;
  if (caller) {
    ++caller->references;
    made->depth = caller->depth + 1;
    made->localBase = (caller->localBase + caller->function->localBytes + 15) / 16 * 16;
  }
  made->registers = machine.blocks.take(std::max<uint32_t>(64, code.registerBytes));
  std::memset(made->registers, 0, code.registerBytes);
  made->paramStride = static_cast<uint32_t>(f.paramBytes);
  made->callParamStride = static_cast<uint32_t>(f.callParamBytes);
  made->params.assign(size_t{made->paramStride} * kLanes, 0);
  made->callParams.assign(size_t{made->callParamStride} * kLanes, 0);
  return made;
}

void Warp::release(Frame* f) {
  while (f && --f->references == 0) {
    Frame* caller = f->caller;
    machine.blocks.give(f->registers, std::max<uint32_t>(64, f->code->registerBytes));
    delete f;
    f = caller;
  }
}

void Warp::rebase() { bases[0] = path().frame->registers; }

uint8_t* Warp::localOf(int lane, uint64_t needed) {
  if (needed > localStride) {
    uint64_t stride = std::max<uint64_t>(localStride * 2, (needed + 63) / 64 * 64);
    std::vector<uint8_t> grown(stride * kLanes, 0);
    for (int l = 0; l < kLanes; ++l)
      if (localStride) std::memcpy(grown.data() + stride * l, local.data() + localStride * l, localStride);
    local = std::move(grown);
    localStride = stride;
  }
  return local.data() + localStride * lane;
}

Flow Warp::jump(const Insn& i, Mask m, const Insn* target) {
  Path& p = path();
  p.wait = {};
  if (m == p.lanes) {
    p.pc = target;
    return Flow::jumped;
  }
  Path other;
  other.lanes = m;
  other.pc = target;
  other.frame = p.frame;
  ++p.frame->references;
  p.lanes &= ~m;
  p.pc = &i + 1;
  paths.push_back(other);  // p is gone
  return Flow::jumped;
}

void Warp::removePath() {
  release(path().frame);
  paths.erase(paths.begin() + static_cast<ptrdiff_t>(current));
  current = 0;
  removed_ = true;
}

Flow Warp::exitLanes(const Insn& i, Mask m) {
  Path& p = path();
  live &= ~m;
  p.wait = {};
  if (p.lanes == m) {
    removePath();
  } else {
    p.lanes &= ~m;
    p.pc = &i + 1;
  }
  machine.threadsExited(cta, static_cast<uint32_t>(std::popcount(m)));
  return Flow::jumped;
}

Flow Warp::block(WaitKind kind, uint64_t id, Mask lanes) {
  path().wait = {kind, id, lanes};
  return Flow::blocked;
}

bool Warp::converged(const Insn& i, Mask m, Flow& otherwise) {
  if (m == live) return true;
  const Path& p = path();
  if (p.lanes != m)
    report(i, -1, Severity::error, "emu/divergent-barrier",
           format("%s needs all lanes of the warp, but its guard holds only for lanes %s of %s", spell(decoded(i)).c_str(),
                  lanesText(m).c_str(), lanesText(live).c_str()),
           "let every lane of the warp execute the instruction, or branch for whole warps");
  otherwise = block(WaitKind::convergence, 0, live & ~m);
  if (!machine.options.stopAtError && p.lanes != m) return true;
  return false;
}

void Warp::mergePaths() {
  auto mergeable = [](const Path& p) { return p.stage == 0 && (p.wait.kind == WaitKind::none || p.wait.kind == WaitKind::convergence); };
  for (size_t a = 0; a < paths.size(); ++a) {
    if (!mergeable(paths[a])) continue;
    for (size_t b = a + 1; b < paths.size();) {
      if (paths[b].pc == paths[a].pc && paths[b].frame == paths[a].frame && mergeable(paths[b])) {
        paths[a].lanes |= paths[b].lanes;
        paths[a].wait = {};
        paths[a].used = std::min(paths[a].used, paths[b].used);
        release(paths[b].frame);
        paths.erase(paths.begin() + static_cast<ptrdiff_t>(b));
      } else {
        ++b;
      }
    }
  }
}

bool Warp::choosePath() {
  if (paths.size() > 1) mergePaths();
  auto can = [&](const Path& p) { return p.wait.kind == WaitKind::none || p.seen != machine.version; };
  for (int round = 0; round < 2; ++round) {
    bool found = false;
    for (size_t k = 0; k < paths.size(); ++k) {
      const Path& p = paths[k];
      if (!can(p) || p.used >= kPathTurn) continue;
      const Path& best = paths[found ? current : k];
      if (!found || p.frame->depth > best.frame->depth || (p.frame->depth == best.frame->depth && p.pc < best.pc)) current = k;
      found = true;
    }
    if (found) {
      rebase();
      return true;
    }
    for (Path& p : paths) p.used = 0;
  }
  // Lanes that wait for each other at different aligned instructions never meet.
  size_t waiting = 0;
  for (const Path& p : paths) waiting += p.wait.kind == WaitKind::convergence;
  if (paths.size() > 1 && waiting == paths.size()) {
    const Path& a = paths[0];
    const Path& b = paths[1];
    current = 0;
    report(*a.pc, -1, Severity::error, "emu/divergent-barrier",
           format("lanes %s wait at %s (line %u) while lanes %s wait at %s (line %u): each needs all lanes of the warp",
                  lanesText(a.lanes).c_str(), spell(decoded(*a.pc)).c_str(), decoded(*a.pc).ptxLine, lanesText(b.lanes).c_str(),
                  spell(b.frame->function->body[b.pc->decoded]).c_str(), b.frame->function->body[b.pc->decoded].ptxLine),
           "let the warp reconverge before the instruction (bar.warp.sync), or use it outside of divergent code");
  }
  return false;
}

template <bool Checked>
uint64_t Warp::runPath(uint64_t budget) {
  uint64_t done = 0, spent = 0, laneCount = 0;
  const Insn* limit = nullptr;
  Path* p = &paths[current];
  const Insn* ip = p->pc;
  bool woken = p->wait.kind != WaitKind::none;
  const bool divergent = paths.size() > 1;
  if (divergent) {
    budget = std::min<uint64_t>(budget, kPathTurn);
    // Stops where another path of the same call waits, to go on together.
    for (const Path& q : paths)
      if (&q != p && q.frame == p->frame && q.pc > ip && (!limit || q.pc < limit)) limit = q.pc;
  }
  Statistics& statistics = machine.statistics;
  while (spent < budget) {
    Mask m = p->lanes;
    if (ip->guard != slot::kNone) {
      if constexpr (Checked) machine.checks->onGuard(*this, *ip, m);
      m &= predicate(ip->guard) ^ ip->guardFlip;
      if (m == 0) {
        ++done;
        ++spent;
        if (++ip == limit) break;
        continue;
      }
    }
    if constexpr (Checked) {
      machine.checks->onInsn(*this, *ip, m);
    }
    [[maybe_unused]] const DecodedInsn* jumping = nullptr;  // the call frame may be gone then
    if constexpr (Checked) jumping = &decoded(*ip);
    Flow f = ip->run(*this, *ip, m);
    if (f == Flow::next) {
      ++done;
      ++spent;
      laneCount += static_cast<uint64_t>(std::popcount(m));
      if constexpr (Checked) machine.checks->afterInsn(*this, *ip, m);
      if (woken) {
        p->wait = {};
        p->stage = 0;
        p->token = 0;
        woken = false;
      }
      if (++ip == limit) break;
      continue;
    }
    if (f == Flow::blocked) {
      p = &paths[current];  // the handler may have split it
      p->pc = ip;
      p->seen = machine.version;
      statistics.laneInstructions += laneCount;
      return done;
    }
    if constexpr (Checked) machine.checks->onJump(*this, *jumping, m);
    ++done;
    spent += 1 + charge;
    charge = 0;
    laneCount += static_cast<uint64_t>(std::popcount(m));
    if (paths.size() != 1 || divergent) {
      // Split, merged or ended: choose anew.
      statistics.laneInstructions += laneCount;
      if (removed_) {
        removed_ = false;  // `current` is another path now
      } else {
        paths[current].stage = 0;
        paths[current].token = 0;
        paths[current].used += static_cast<uint32_t>(spent);
      }
      return done;
    }
    p = &paths[0];
    p->stage = 0;
    p->token = 0;
    woken = false;
    ip = p->pc;
    bases[0] = p->frame->registers;
  }
  p->pc = ip;
  p->used += static_cast<uint32_t>(spent);
  statistics.laneInstructions += laneCount;
  return done;
}

uint64_t Warp::run(uint64_t budget) {
  uint64_t done = 0, rounds = 0;
  const bool checked = machine.checks != nullptr;
  // A blocked path costs a round without an instruction: bounded, since each is tried once per version.
  while (done < budget && !paths.empty() && rounds < budget && choosePath()) {
    uint64_t n = checked ? runPath<true>(budget - done) : runPath<false>(budget - done);
    done += n;
    rounds += n ? n : 1;
  }
  if (charge) charge = 0;
  return done;
}

const DecodedInsn& Warp::decoded(const Insn& i) const {
  const Function* f = paths[current].frame->function;
  static const DecodedInsn end{};
  return i.decoded < f->body.size() ? f->body[i.decoded] : end;
}

Site Warp::site(const Insn& i, int lane) const {
  Site s;
  const Grid& g = *cta.grid;
  s.kernel = g.kernel->name;
  s.grid = g.id;
  s.device = g.device->ordinal;
  for (int k = 0; k < 3; ++k) s.block[k] = cta.id[k];
  s.warp = static_cast<int32_t>(index);
  s.lane = lane;
  const DecodedInsn& d = decoded(i);
  s.ptxLine = d.ptxLine;
  s.ptxColumn = d.ptxColumn;
  s.what = spell(d);
  if (d.locFile) {
    s.locFile = g.program->fileName(d.locFile);
    s.locLine = d.locLine;
    s.locColumn = d.locColumn;
  }
  return s;
}

void Warp::report(const Insn& i, int lane, Severity severity, const char* code, std::string message, std::string fix) {
  Report r;
  r.code = code;
  r.severity = severity;
  r.message = std::move(message);
  r.site = site(i, lane);
  r.fix = std::move(fix);
  machine.report(std::move(r));
}

Place Warp::locate(const Insn& i, int lane, Space space, uint64_t address, uint32_t bytes, uint32_t align, AccessKind kind) {
  Place place;
  uint64_t at = address;
  if (space == Space::generic) {
    if (address >= window::kGlobalPerDevice) space = Space::global;
    else if (address >> 32 == window::kShared >> 32) space = Space::sharedCluster;
    else if (address >> 32 == window::kLocal >> 32) space = Space::local;
    else if (address >> 32 == window::kParam >> 32) space = Space::param;
    else space = Space::global;
    if (space != Space::global) at = address & (window::kSize - 1);
  }
  place.space = space;
  const char* did = kind == AccessKind::read ? "read" : kind == AccessKind::write ? "write" : "atomic update";
  const char* where = "memory";
  std::string detail;
  const char* code = "emu/out-of-bounds";
  std::string fix = "check the address computation and the bounds of the access";
  switch (space) {
    case Space::global:
    case Space::constant: {
      where = space == Space::global ? "global memory" : "constant memory";
      GlobalMemory& memory = cta.grid->device->memory;
      Allocation* a = memory.find(at);
      if (a && a->holds(at, bytes) && a->bytes) {
        if (a->isConstant && kind != AccessKind::read) {
          code = "emu/write-to-constant";
          detail = format("%s is constant", a->name.c_str());
          break;
        }
        place.allocation = a;
        place.offset = at - a->base;
        place.bytes = a->bytes + place.offset;
        break;
      }
      if (a && !a->bytes) {
        code = "emu/use-after-free";
        detail = format("%s (%" PRIu64 " bytes) was freed", a->name.c_str(), a->size);
        fix = "free the buffer after the last launch that uses it";
      } else {
        detail = memory.whereabouts(at);
        if (detail.find("is not enabled") != std::string::npos)
          fix = "enable peer access from the kernel's device (cuCtxEnablePeerAccess), or copy the data over";
      }
      break;
    }
    case Space::shared:
    case Space::sharedCluster: {
      where = "shared memory";
      uint32_t rank = static_cast<uint32_t>(at >> shared::kRankShift);
      Cta* owner = at < window::kSize ? machine.ctaOfRank(cta, rank) : nullptr;
      uint64_t offset = at & shared::kOffsetMask;
      if (owner && space == Space::shared && owner != &cta) {
        detail = format("the address lies in the shared memory of the cluster's block %u, not in the own one", rank);
        fix = "use a shared::cluster form for another block's shared memory";
      } else if (owner && owner->finished && owner != &cta) {
        code = "emu/remote-shared-after-exit";
        detail = format("block %u of the cluster has ended", rank);
        fix = "keep every block of the cluster alive until all accesses are done (barrier.cluster before exit)";
      } else if (owner && offset >= shared::kReserved && offset + bytes <= owner->sharedBytes) {
        place.cta = owner;
        place.offset = offset;
        place.bytes = owner->shared.get() + offset;
      } else if (!owner) {
        detail = at < window::kSize ? format("the cluster has no block %u", rank) : "the address is no shared address";
      } else {
        detail = offset < shared::kReserved
                     ? format("offset 0x%" PRIx64 " lies in the first KiB, which the system reserves", offset)
                     : format("offset 0x%" PRIx64 " with the block's shared memory ending at 0x%x", offset, owner->sharedBytes);
      }
      break;
    }
    case Space::local: {
      where = "local memory";
      const Frame& f = *paths[current].frame;
      uint64_t end = f.localBase + f.function->localBytes;
      if (at < end && bytes <= end - at) {
        place.offset = at;
        place.bytes = localOf(lane, end) + at;
      } else {
        detail = format("the thread has %" PRIu64 " bytes of local memory here", end);
      }
      break;
    }
    case Space::param: {
      where = "parameters";
      std::vector<uint8_t>& block = cta.grid->request.parameters;
      if (at < block.size() && bytes <= block.size() - at && kind == AccessKind::read) {
        place.offset = at;
        place.bytes = block.data() + at;
      } else if (kind != AccessKind::read) {
        code = "emu/write-to-constant";
        detail = "a kernel's parameters are read-only";
      } else {
        detail = format("the kernel has %zu bytes of parameters", block.size());
      }
      break;
    }
    case Space::generic: break;
  }
  if (!place.bytes) {
    report(i, lane, Severity::error, code,
           format("%s: %s of %u bytes at 0x%" PRIx64 " in %s: %s", spell(decoded(i)).c_str(), did, bytes, address, where, detail.c_str()),
           fix);
    return Place{};
  }
  if (address & (align - 1)) {
    report(i, lane, Severity::error, "emu/misaligned",
           format("%s: %s of %u bytes at 0x%" PRIx64 " in %s, which is not a multiple of %u", spell(decoded(i)).c_str(), did, bytes,
                  address, where, align),
           "align the address to the size of the whole access");
    return Place{};
  }
  return place;
}

}  // namespace dsvc::emulator
