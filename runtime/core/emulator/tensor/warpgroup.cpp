#include "warpgroup.h"

#include <algorithm>
#include <cstring>

#include "../checks/poison.h"
#include "../machine.h"
#include "fragments.h"

namespace dsvc::emulator {

namespace {
// Turns of warps until a product is done, at most: longer than a pass over a full SM's warps now and then.
constexpr uint64_t kLongestProduct = 48;

// Operands and result of the product that runs, row-major.
struct Tiles {
  alignas(64) uint32_t a[tensor::kMaxRows * tensor::kRowWords];
  alignas(64) uint32_t b[tensor::kMaxColumns * tensor::kRowWords];
  alignas(64) uint32_t d[tensor::kMaxRows * tensor::kMaxColumns];
};

// As Warp::release, for frames that outlive their warp.
void releaseFrame(Machine& machine, Frame* f) {
  while (f && --f->references == 0) {
    Frame* caller = f->caller;
    machine.blocks.give(f->registers, std::max<uint32_t>(64, f->code->registerBytes));
    delete f;
    f = caller;
  }
}
void releaseFrames(Machine& machine, Wgmma& p) {
  for (Frame*& f : p.frames) {
    releaseFrame(machine, f);
    f = nullptr;
  }
}
const uint32_t* lanesAt(const Frame& f, Slot s) {
  return reinterpret_cast<const uint32_t*>(f.registers + (s & slot::kOffsetMask));
}
uint32_t* lanesAt(Frame& f, Slot s) { return reinterpret_cast<uint32_t*>(f.registers + (s & slot::kOffsetMask)); }

// Gathers the accumulators into a row-major tile, or scatters them back.
template <bool Load>
void moveAccumulators(const WgmmaExtra& x, const Wgmma& p, uint32_t* tile) {
  const uint32_t n = x.operation.n;
  const bool halves = x.operation.d == tensor::Result::f16;
  for (uint32_t w = 0; w < 4; ++w)
    for (uint32_t r = 0; r < x.d.size(); ++r) {
      uint32_t* lanes = lanesAt(*p.frames[w], x.d[r]);
      for (uint32_t e = 0; e < (halves ? 2u : 1u); ++e) {
        const uint32_t i = halves ? 2 * r + e : r;
        uint32_t* corner = tile + (16 * w + 8 * (i / 2 % 2)) * n + 8 * (i / 4) + i % 2;
        for (uint32_t l = 0; l < kLanes; ++l) {
          uint32_t& element = corner[l / 4 * n + 2 * (l % 4)];
          if constexpr (Load) {
            element = halves ? lanes[l] >> (16 * e) & 0xffff : lanes[l];
          } else {
            if (!halves) lanes[l] = element;
            else lanes[l] = e ? (lanes[l] & 0xffff) | element << 16 : element;
          }
        }
      }
    }
}
}  // namespace

TensorAsync::TensorAsync(Machine& machine, Cta& cta) : machine(machine), cta(cta), groups((cta.warps.size() + 3) / 4) {}
TensorAsync::~TensorAsync() {
  for (Warpgroup& g : groups)
    for (Wgmma& p : g.products) releaseFrames(machine, p);
}

TensorAsync& TensorAsync::of(Warp& w) {
  if (!w.cta.tensor) w.cta.tensor = std::make_shared<TensorAsync>(w.machine, w.cta);
  return *w.cta.tensor;
}

// Products stay listed until all four warps have waited for them: the checks ask for them.
void Warpgroup::dropFinished(Machine& machine) {
  uint64_t waited = UINT64_MAX;
  for (const WarpgroupWarp& w : warps) waited = std::min(waited, w.waited);
  while (!products.empty() && first < completed && (first < waited || !machine.checks)) {
    products.pop_front();
    ++first;
  }
}

void TensorAsync::post(size_t group) {
  machine.engine.post(1, kLongestProduct, [held = std::weak_ptr<TensorAsync>(cta.tensor), group] {
    auto tensor = held.lock();
    if (!tensor) return;
    tensor->runNext(group);
    tensor->machine.changed();
  });
}

void TensorAsync::runNext(size_t group) {
  Warpgroup& g = groups[group];
  Wgmma& p = g.product(g.completed);
  const auto& x = extraOf<WgmmaExtra>(*p.insn);
  tensor::Operation o = x.operation;
  if (!machine.options.tensorCoreExact) o.model = tensor::Model::plain;
  // Behind a pointer: finding a thread-local variable is a call, which compilers repeat at every use of one.
  static thread_local const std::unique_ptr<Tiles> tiles = std::make_unique<Tiles>();
  uint32_t *a = tiles->a, *b = tiles->b, *d = tiles->d;
  auto finish = [&] {
    releaseFrames(machine, p);
    ++g.completed;
    g.dropFinished(machine);
  };
  if (p.failed) return finish();
  if (machine.poison) machine.poison->runProduct(cta, x, p);
  if (x.a.empty()) {
    tensor::readMatrix(tensor::Descriptor(p.a), x.transposeA, o.m, o.k, cta.shared.get(), a);
  } else {
    for (uint32_t w = 0; w < 4; ++w)
      for (uint32_t r = 0; r < x.a.size(); ++r) {
        const uint32_t* lanes = lanesAt(static_cast<const Frame&>(*p.frames[w]), x.a[r]);
        for (uint32_t l = 0; l < kLanes; ++l)
          a[(16 * w + tensor::rowOfA(r, l)) * tensor::kRowWords + tensor::wordOfA(r, l)] = lanes[l];
      }
  }
  tensor::readMatrix(tensor::Descriptor(p.b), x.transposeB, o.n, o.k, cta.shared.get(), b);
  if (p.keep) moveAccumulators<true>(x, p, d);
  x.multiply(o, a, b, p.keep ? d : nullptr, d);
  moveAccumulators<false>(x, p, d);
  finish();
}

namespace tensor {

namespace {
// The ISA forbids reading A's registers as well as writing them.
bool usesRegister(const WgmmaExtra& x, Slot s) {
  return std::find(x.d.begin(), x.d.end(), s) != x.d.end() || std::find(x.a.begin(), x.a.end(), s) != x.a.end();
}
}  // namespace

void checkRegisters(Warp& w, const Insn& i) {
  if (!w.cta.tensor) return;
  const size_t group = w.index / 4;
  if (group >= w.cta.tensor->groups.size()) return;
  Warpgroup& g = w.cta.tensor->groups[group];
  WarpgroupWarp& state = g.warps[w.index % 4];
  if (w.decoded(i).mnemonic == Mnemonic::wgmma_) return;
  Frame& frame = w.frame();
  const Code& code = *frame.code;
  const Code::Operands& operands = code.operands[static_cast<size_t>(&i - code.insns.data())];
  if (state.frame != &frame) {
    state.frame = &frame;
    state.touched.assign(code.registerBytes / 128 + 1, 0);
  }
  ++state.clock;
  auto touch = [&](Slot s, bool write) {
    if (s == slot::kNone || s >> 30 != 0) return;
    state.touched[s / 128] = state.clock;
    for (uint64_t n = std::max(state.waited, g.first); n < state.issued; ++n) {
      const Wgmma& p = g.product(n);
      if (p.insn < code.insns.data() || p.insn >= code.insns.data() + code.insns.size()) continue;  // another function's
      if (!usesRegister(extraOf<WgmmaExtra>(*p.insn), s)) continue;
      const DecodedInsn& product = w.decoded(*p.insn);
      Report r;
      r.code = "emu/wgmma-register-in-flight";
      r.site = w.site(i, -1);
      r.others.push_back(w.site(*p.insn, -1));
      r.message = format("%s %s a register of %s (line %u), which the warp has not waited for", spell(w.decoded(i)).c_str(),
                         write ? "writes" : "reads", spell(product).c_str(), product.ptxLine);
      r.fix = "put wgmma.commit_group and a wgmma.wait_group that covers the product in front";
      w.machine.report(std::move(r));
      return;
    }
  };
  for (Slot s : operands.reads) touch(s, false);
  for (Slot s : operands.writes) touch(s, true);
}

const Insn* wgmmaReading(Cta& cta, uint32_t offset, uint32_t bytes) {
  if (!cta.tensor) return nullptr;
  for (Warpgroup& g : cta.tensor->groups) {
    uint64_t waited = UINT64_MAX;
    for (const WarpgroupWarp& w : g.warps) waited = std::min(waited, w.waited);
    for (uint64_t n = std::max(waited, g.first); n < g.first + g.products.size(); ++n) {
      const Wgmma& p = g.product(n);
      const auto& x = extraOf<WgmmaExtra>(*p.insn);
      bool found = false;
      auto look = [&](uint32_t, uint32_t, uint32_t at) { found |= at < offset + bytes && offset < at + 16; };
      if (x.a.empty()) forEachChunk(Descriptor(p.a), x.transposeA, x.operation.m, x.operation.k, look);
      forEachChunk(Descriptor(p.b), x.transposeB, x.operation.n, x.operation.k, look);
      if (found) return p.insn;
    }
  }
  return nullptr;
}

}  // namespace tensor
}  // namespace dsvc::emulator
