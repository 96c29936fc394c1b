// Weak memory. With a seed, a plain write is seen at once by its own writer (its block, for global memory; its warp, for
// shared memory) and by others late: at a time that the seed chooses, or when the writer orders it for them. Code that
// forgets a fence, or takes too narrow a scope, then computes with old values here as it may on the chip.
//
// Memory itself always holds the newest value; what is kept here are the old bytes of writes that others do not see yet,
// and loads of others are given those. Atomics, asynchronous copies, ldmatrix and tensor cores see the newest bytes.
#include <cstring>
#include <unordered_map>
#include <vector>

#include "../machine.h"
#include "listeners.h"

namespace dsvc::emulator {

namespace {

// Turns of warps after which a write is seen at the latest.
constexpr uint64_t kLatest = 4000;
// Writes of a warp once its block has met at a barrier: a fence of any warp of the block orders them.
constexpr uint32_t kBlock = ~0u;

// Four bytes, aligned, some of which others still see as they were.
struct Late {
  const Cta* cta = nullptr;
  uint32_t warp = 0;
  uint32_t mask = 0;  // one bit per byte
  uint8_t old[4] = {};
};
using Log = std::unordered_map<uint64_t, Late>;  // by address / 4

struct Block {
  std::vector<std::vector<uint64_t>> global;  // by warp, then the block's: what each wrote
  std::vector<std::vector<uint64_t>> shared;  // by warp
  Log late;                                   // of its shared memory
};

bool releases(Order o) { return o == Order::release || o == Order::acquireRelease; }

class LateWrites : public Checks {
 public:
  explicit LateWrites(Machine& machine) : machine_(machine) {}

  void onAccess(Warp& w, const Insn&, const Accesses& a) override {
    if (a.space != Space::global && a.space != Space::shared) return;
    if (a.how.kind == AccessKind::atomic) return atomic(w, a);
    if (a.how.kind == AccessKind::read) return read(w, a);
    if (releases(a.how.order)) publish(w, a.how.scope);
    if (a.how.order == Order::weak && machine_.random() % 4 != 0) write(w, a);
    else settle(a);
  }
  void afterInsn(Warp& w, const Insn&, Mask) override {
    for (const Patch& p : patches_) apply(w, p);
    patches_.clear();
  }
  void onFence(Warp& w, const Insn&, Mask, Order order, Scope scope) override {
    if (releases(order)) publish(w, scope);
  }
  void onProxyFence(Warp& w, const Insn&, Mask, ProxyFence, Order, Scope) override { publish(w, Scope::sys); }
  void onBarrier(Cta&, uint32_t id, uint64_t, Warp& w, const Insn&, Mask, bool arrive, bool) override {
    if (arrive) publish(w, id == 16 ? Scope::cluster : Scope::cta);
  }
  void onMbarrierArrive(Warp& w, const Insn&, int, Cta&, uint32_t, uint64_t, Order order, Scope scope) override {
    if (releases(order)) publish(w, scope);
  }
  void onCtaEnd(Cta& cta) override {
    auto it = blocks_.find(&cta);
    if (it == blocks_.end()) return;
    for (auto& list : it->second.global) publishGlobal(list);
    blocks_.erase(it);
  }
  void onGridEnd(Grid&) override {
    blocks_.clear();
    global_.clear();
  }

 private:
  // A lane's load that sees old bytes: its registers are put right after the load.
  struct Patch {
    int lane;
    uint32_t bytes, partCount;
    bool isSigned;
    const Slot* parts;
    uint8_t data[32];
  };

  Block& blockOf(const Cta& cta) {
    Block& b = blocks_[&cta];
    if (b.global.empty()) {
      // Not cta.warps: a block of the cluster that has not had a turn has none yet.
      b.global.resize(cta.grid->warpsPerCta + 1);
      b.shared.resize(cta.grid->warpsPerCta);
    }
    return b;
  }
  // Whose shared memory, or all of global memory.
  Log* logOf(const Accesses& a) {
    if (a.space == Space::global) return global_.empty() ? nullptr : &global_;
    auto it = blocks_.find(a.cta);
    return it == blocks_.end() || it->second.late.empty() ? nullptr : &it->second.late;
  }
  static uint64_t addressOf(const Accesses& a, int lane) {
    return a.offsets[lane] + (a.space == Space::global ? a.allocation->base : 0);
  }
  static const uint8_t* bytesOf(const Accesses& a, int lane) {
    return (a.space == Space::global ? a.allocation->bytes : a.cta->shared.get()) + a.offsets[lane];
  }
  // Each aligned group of four bytes of a lane's access: (group, its bytes' mask, offset of its first byte in the access).
  template <class F>
  static void eachGroup(uint64_t address, uint32_t bytes, F f) {
    for (uint64_t group = address / 4; group <= (address + bytes - 1) / 4; ++group) {
      uint32_t mask = 15;
      if (group * 4 < address) mask &= 15u << (address - group * 4);
      if (group * 4 + 4 > address + bytes) mask &= 15u >> (group * 4 + 4 - address - bytes);
      f(group, mask, static_cast<int64_t>(group * 4) - static_cast<int64_t>(address));
    }
  }

  void write(Warp& w, const Accesses& a) {
    const bool global = a.space == Space::global;
    // What goes to another block's shared memory is seen at once.
    if (!global && a.cta != &w.cta) return settle(a);
    Block& block = blockOf(w.cta);
    Log& log = global ? global_ : block.late;
    auto& list = global ? block.global[w.index] : block.shared[w.index];
    for (int l : lanesOf(a.lanes)) {
      const uint8_t* now = bytesOf(a, l);
      eachGroup(addressOf(a, l), a.bytes, [&](uint64_t group, uint32_t mask, int64_t at) {
        Late& late = log[group];
        if (late.cta != &w.cta || late.warp != w.index) {
          late = Late{&w.cta, w.index, 0, {}};
          list.push_back(group);
        }
        for (int b = 0; b < 4; ++b)
          if ((mask & ~late.mask) >> b & 1) late.old[b] = now[at + b];
        late.mask |= mask;
      });
    }
    schedule();
  }

  void read(Warp& w, const Accesses& a) {
    Log* log = logOf(a);
    if (!log || a.partCount == 0 || a.bytes > sizeof(Patch::data)) return;
    for (int l : lanesOf(a.lanes)) {
      Patch patch{l, a.bytes, a.partCount, a.how.isSigned, a.parts, {}};
      bool stale = false;
      eachGroup(addressOf(a, l), a.bytes, [&](uint64_t group, uint32_t mask, int64_t at) {
        auto it = log->find(group);
        if (it == log->end()) return;
        const Late& late = it->second;
        const bool own = late.cta == &w.cta && (a.space == Space::global || late.warp == w.index);
        if (own || !(late.mask & mask)) return;
        if (!stale) std::memcpy(patch.data, bytesOf(a, l), a.bytes);
        stale = true;
        for (int b = 0; b < 4; ++b)
          if ((late.mask & mask) >> b & 1) patch.data[at + b] = late.old[b];
      });
      if (stale) patches_.push_back(patch);
    }
  }

  // What an ordered write or an atomic touched has its newest value for all.
  void settle(const Accesses& a) {
    Log* log = logOf(a);
    if (!log) return;
    for (int l : lanesOf(a.lanes))
      eachGroup(addressOf(a, l), a.bytes, [&](uint64_t group, uint32_t mask, int64_t) {
        if (auto it = log->find(group); it != log->end()) it->second.mask &= ~mask;
      });
  }
  void atomic(Warp& w, const Accesses& a) {
    if (releases(a.how.order)) publish(w, a.how.scope);
    settle(a);
  }

  static void apply(Warp& w, const Patch& p) {
    const uint32_t size = p.bytes / p.partCount;
    for (uint32_t k = 0; k < p.partCount; ++k) {
      const uint8_t* from = p.data + size * k;
      if (size == 16) {
        std::memcpy(w.out<uint8_t>(p.parts[k]) + 16 * p.lane, from, 16);
        continue;
      }
      uint64_t v = 0;
      std::memcpy(&v, from, size);
      if (size == 8) {
        w.out<uint64_t>(p.parts[k])[p.lane] = v;
        continue;
      }
      if (p.isSigned && size < 4) v = static_cast<uint64_t>(static_cast<int64_t>(v << (64 - 8 * size)) >> (64 - 8 * size));
      w.out<uint32_t>(p.parts[k])[p.lane] = static_cast<uint32_t>(v);
    }
  }

  void publishGlobal(std::vector<uint64_t>& list) {
    for (uint64_t group : list) global_.erase(group);
    list.clear();
  }
  // The warp orders what it wrote, and what its block had met for, at this scope.
  void publish(Warp& w, Scope scope) {
    auto it = blocks_.find(&w.cta);
    if (it == blocks_.end()) return;
    Block& b = it->second;
    for (uint64_t group : b.shared[w.index]) b.late.erase(group);
    b.shared[w.index].clear();
    auto& own = b.global[w.index];
    auto& block = b.global.back();
    if (scope >= Scope::cluster) {
      publishGlobal(own);
      publishGlobal(block);
    } else {
      block.insert(block.end(), own.begin(), own.end());
      own.clear();
    }
  }

  void schedule() {
    if (scheduled_) return;
    scheduled_ = true;
    machine_.engine.post(1, kLatest, [this] {
      scheduled_ = false;
      for (auto& [cta, block] : blocks_) {
        block.late.clear();
        for (auto& list : block.global) list.clear();
        for (auto& list : block.shared) list.clear();
      }
      global_.clear();
      machine_.changed();
    });
  }

  Machine& machine_;
  std::unordered_map<const Cta*, Block> blocks_;
  Log global_;
  std::vector<Patch> patches_;
  bool scheduled_ = false;
};

}  // namespace

std::unique_ptr<Checks> makeLateWrites(Machine& machine) { return std::make_unique<LateWrites>(machine); }

}  // namespace dsvc::emulator
