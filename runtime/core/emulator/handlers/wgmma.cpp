// wgmma.mma_async, .fence, .commit_group, .wait_group. What is in flight and how it completes: tensor/warpgroup.h.
#include "../tensor/warpgroup.h"

#include <algorithm>

#include "../tensor/descriptor.h"
#include "matrix.h"

namespace dsvc::emulator::DSVC_ARCH {

using tensor::Element;
using tensor::Result;

namespace {

constexpr const char* kFullWarpgroup =
    "launch blocks of whole warpgroups (128 threads), and let all four warps run the same wgmma instructions";

// The state of the warp's warpgroup; null (reported) when its four warps are not all there.
Warpgroup* warpgroupOf(Warp& w, const Insn& i) {
  const size_t first = w.index / 4 * 4;
  bool whole = w.cta.warps.size() >= first + 4;
  for (size_t k = first; whole && k < first + 4; ++k) whole = w.cta.warps[k]->exists == kFull;
  if (!whole) {
    w.report(i, -1, Severity::error, "emu/wgmma-partial-warpgroup",
             format("%s needs a warpgroup of four whole warps, but the block has %u threads", spell(w.decoded(i)).c_str(),
                    w.cta.threads),
             kFullWarpgroup);
    return nullptr;
  }
  return &TensorAsync::of(w).groups[w.index / 4];
}

// Reports a warp of the warpgroup that has exited without issuing product `number`.
bool peerLeft(Warp& w, const Insn& i, const Warpgroup& g, uint64_t number) {
  for (size_t k = 0; k < 4; ++k) {
    const Warp& peer = *w.cta.warps[w.index / 4 * 4 + k];
    if (peer.live == kFull || g.warps[k].issued > number) continue;
    w.report(i, -1, Severity::error, "emu/wgmma-partial-warpgroup",
             format("warp %u of the warpgroup has exited (lanes 0x%08x run) without the wgmma.mma_async that the others issued",
                    peer.index, peer.live),
             kFullWarpgroup);
    return true;
  }
  return false;
}

// A value that all lanes of the warp must agree on.
bool uniform(Warp& w, const Insn& i, Slot s, const char* what, uint64_t& value) {
  const uint64_t* lanes = w.in<uint64_t>(s);
  value = lanes[0];
  for (int l = 1; l < kLanes; ++l)
    if (lanes[l] != value) {
      w.report(i, l, Severity::error, "emu/wgmma-descriptor-differs",
               format("%s is 0x%llx in lane %d and 0x%llx in lane 0", what, static_cast<unsigned long long>(lanes[l]), l,
                      static_cast<unsigned long long>(value)),
               "compute descriptors from values that are equal in the whole warpgroup");
      return false;
    }
  return true;
}

void fenceMissing(Warp& w, const Insn& i, const std::string& why) {
  w.report(i, -1, Severity::error, "emu/wgmma-missing-fence", why,
           "put wgmma.fence.sync.aligned between the last access to the registers and the wgmma.mma_async");
}

// With checks on: fences, and registers that products in flight hold.
void checkOperands(Warp& w, const Insn& i, const WgmmaExtra& x, Warpgroup& g, WarpgroupWarp& state) {
  if (!state.fenced) return fenceMissing(w, i, "the warp's first wgmma.mma_async comes without a wgmma.fence in front");
  auto contains = [](const std::vector<Slot>& list, Slot s) { return std::find(list.begin(), list.end(), s) != list.end(); };
  if (state.frame == &w.frame())
    for (const std::vector<Slot>* list : {&x.d, &x.a})
      for (Slot s : *list)
        if (s >> 30 == 0 && s / 128 < state.touched.size() && state.touched[s / 128] > state.fence)
          return fenceMissing(w, i, format("a register of %s was accessed by another instruction after the last wgmma.fence",
                                           list == &x.d ? "the accumulators" : "A"));
  for (uint64_t n = std::max(state.waited, g.first); n < state.issued; ++n) {
    const Insn& other = *g.product(n).insn;
    const auto& y = extraOf<WgmmaExtra>(other);
    const char* what = nullptr;
    for (Slot s : x.a)
      if (contains(y.d, s)) what = "A is in accumulators that the product is still writing";
    for (Slot s : x.d)
      if (contains(y.a, s)) what = "the accumulators are registers of A that the product is still reading";
    const bool sameShape = x.operation.n == y.operation.n && x.operation.k == y.operation.k && x.d == y.d;
    if (!sameShape)
      for (Slot s : x.d)
        if (contains(y.d, s)) what = "the products share accumulators but differ in shape";
    if (!what) continue;
    Report r;
    r.code = "emu/wgmma-register-in-flight";
    r.site = w.site(i, -1);
    r.others.push_back(w.site(other, -1));
    r.message = format("an earlier product has not been waited for: %s", what);
    r.fix = "put wgmma.commit_group and a wgmma.wait_group that covers the product in front, then wgmma.fence";
    w.machine.report(std::move(r));
    return;
  }
}

// Tells the checks of the shared-memory bytes that this warp's part reads: its own 16 rows of A, all of B.
void tellReads(Warp& w, const Insn& i, const WgmmaExtra& x, const Wgmma& p, uint64_t number) {
  static thread_local std::vector<uint32_t> chunks;
  chunks.clear();
  auto note = [&](uint64_t descriptor, bool transposed, uint32_t rows, uint32_t from, uint32_t to) {
    tensor::forEachChunk(tensor::Descriptor(descriptor), transposed, rows, x.operation.k,
                         [&](uint32_t row, uint32_t chunk, uint32_t at) {
                           const uint32_t r = transposed ? 8 * chunk : row;
                           if (r >= from && r < to && at + 16 <= w.cta.sharedBytes) chunks.push_back(at);
                         });
  };
  const uint32_t part = w.index % 4;
  if (x.a.empty()) note(p.a, x.transposeA, 64, 16 * part, 16 * part + 16);
  note(p.b, x.transposeB, x.operation.n, 0, x.operation.n);
  w.machine.checks->onProduct(w, i, number, chunks);
}

void reportProblem(Warp& w, const Insn& i, Wgmma& p, const char* which, const tensor::DescriptorProblem& problem) {
  if (!problem.code) return;
  p.failed = true;
  w.report(i, -1, Severity::error, problem.code, format("the descriptor of %s: %s", which, problem.message.c_str()), problem.fix);
}

Flow mmaAsync(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  const auto& x = extraOf<WgmmaExtra>(i);
  Warpgroup* g = warpgroupOf(w, i);
  if (!g) return Flow::next;
  WarpgroupWarp& state = g->warps[w.index % 4];
  if (w.machine.options.checked()) checkOperands(w, i, x, *g, state);

  uint64_t a = 0, b = 0;
  if (x.a.empty() && !uniform(w, i, x.aDescriptor, "the descriptor of A", a)) return Flow::next;
  if (!uniform(w, i, x.bDescriptor, "the descriptor of B", b)) return Flow::next;
  const Mask keep = w.predicate(x.keep);
  if (keep != 0 && keep != kFull)
    w.report(i, std::countr_zero(keep & 1 ? ~keep : keep), Severity::error, "emu/wgmma-descriptor-differs",
             format("scale-d holds in lanes 0x%08x only", keep), "compute scale-d from values that are equal in the whole warpgroup");

  const uint64_t number = state.issued;
  if (number == g->first + g->products.size()) g->products.emplace_back();
  Wgmma& p = g->product(number);
  if (!p.arrived) {
    p.insn = &i;
    p.a = a;
    p.b = b;
    p.keep = keep & 1;
  } else if (p.insn != &i) {
    Report r;
    r.code = "emu/wgmma-divergent";
    r.site = w.site(i, -1);
    r.others.push_back(w.site(*p.insn, -1));
    r.others.back().warp = static_cast<int32_t>(w.index / 4 * 4) + std::countr_zero(p.arrived);
    r.message = format("the warps of the warpgroup issue different wgmma.mma_async instructions: warp %d's is in line %u",
                       r.others.back().warp, r.others.back().ptxLine);
    r.fix = kFullWarpgroup;
    w.machine.report(std::move(r));
    p.failed = true;
  } else if (p.a != a || p.b != b || p.keep != static_cast<bool>(keep & 1)) {
    const char* what = p.a != a ? "the descriptor of A" : p.b != b ? "the descriptor of B" : "scale-d";
    w.report(i, -1, Severity::error, "emu/wgmma-descriptor-differs", format("%s differs between the warps of the warpgroup", what),
             "compute descriptors and scale-d from values that are equal in the whole warpgroup");
    p.failed = true;
  }
  p.frames[w.index % 4] = &w.frame();
  ++w.frame().references;
  p.arrived |= 1u << w.index % 4;
  ++state.issued;
  if (peerLeft(w, i, *g, number)) return Flow::next;
  if (w.machine.checks) tellReads(w, i, x, p, number);
  if (p.arrived != 15) return Flow::next;

  const tensor::Operation& o = x.operation;
  if (!p.failed && x.a.empty())
    reportProblem(w, i, p, "A", tensor::problemOf(tensor::Descriptor(a), x.transposeA, o.m, o.k, w.cta.sharedBytes));
  if (!p.failed) reportProblem(w, i, p, "B", tensor::problemOf(tensor::Descriptor(b), x.transposeB, o.n, o.k, w.cta.sharedBytes));
  w.cta.tensor->post(w.index / 4);
  return Flow::next;
}

Flow fence(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  Warpgroup* g = warpgroupOf(w, i);
  if (!g) return Flow::next;
  WarpgroupWarp& state = g->warps[w.index % 4];
  state.fenced = true;
  state.fence = ++state.clock;
  return Flow::next;
}

Flow commitGroup(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  Warpgroup* g = warpgroupOf(w, i);
  if (!g) return Flow::next;
  WarpgroupWarp& state = g->warps[w.index % 4];
  state.groups.push_back(state.issued);
  return Flow::next;
}

Flow waitGroup(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!wholeWarp(w, i, m, otherwise)) return otherwise;
  Warpgroup* g = warpgroupOf(w, i);
  if (!g) return Flow::next;
  WarpgroupWarp& state = g->warps[w.index % 4];
  const auto pending = static_cast<size_t>(i.immediate);
  if (state.groups.size() <= pending) return Flow::next;
  const uint64_t needed = state.groups[state.groups.size() - pending - 1];
  if (g->completed < needed) {
    if (peerLeft(w, i, *g, g->completed)) return Flow::next;
    return w.block(WaitKind::wgmma, needed - g->completed);
  }
  while (state.groups.size() > pending) state.groups.pop_front();
  state.waited = needed;
  g->dropFinished(w.machine);
  // Its completion also orders the products' reads before the warp's later accesses to shared memory.
  if (w.machine.checks) w.machine.checks->onProductWait(w, i, needed);
  return Flow::next;
}

void resolveProduct(Resolve& r) {
  const tensor::Form form = tensor::formOf(r);
  if (form.types.size() != 3) r.unsupported("the types of D, A and B must stand here");
  if (r.hasAny(Modifier::sp_)) r.unsupported("sparse products are not known");
  auto& x = r.extra<WgmmaExtra>();
  tensor::Operation& o = x.operation;
  o.m = form.m;
  o.n = form.n;
  o.k = form.k;
  o.d = o.c = tensor::resultOf(r, form.types[0]);
  o.a = tensor::elementOf(r, form.types[1]);
  o.b = tensor::elementOf(r, form.types[2]);
  o.model = tensor::Model::wgmma;
  o.saturate = r.has(Modifier::satfinite_);
  x.multiply = multiply;
  const bool isInteger = tensor::isInteger(o.a), half = tensor::bitsOf(o.a) == 16;
  if (o.m != 64 || o.n % 8 || o.n == 0 || o.n > 256 || o.k * tensor::bitsOf(o.a) != 256) r.unsupported("no shape of this type");
  if (tensor::bitsOf(o.a) != tensor::bitsOf(o.b) || isInteger != tensor::isInteger(o.b) || isInteger != (o.d == Result::s32) ||
      (!isInteger && !tensor::isFp8(o.a) && o.a != o.b) || (o.d == Result::f16 && (o.a == Element::bf16 || o.a == Element::tf32)))
    r.unsupported("no combination of types that wgmma has");
  if (o.a == Element::s4 || o.a == Element::u4) r.unsupported("wgmma has no 4-bit integers");

  const size_t registers = o.d == Result::f16 ? o.n / 4 : o.n / 2;
  x.d = tensor::destinationsOf(r, 0, registers, Type::b32);
  for (Slot s : x.d)
    if (s >> 30 != 0) r.unsupported("an accumulator is no register");
  tensor::sourcesOf(r, 0, registers, Type::b32);  // also read
  const bool inRegisters = r.operand(1).kind == OperandKind::vector;
  if (inRegisters) {
    x.a = tensor::sourcesOf(r, 1, 4, Type::b32);
    for (Slot s : x.a)
      if (s >> 30 != 0) r.unsupported("A in registers must be registers");
  } else {
    x.aDescriptor = r.source(1, Type::b64);
  }
  x.bDescriptor = r.source(2, Type::b64);
  x.keep = r.operands() > 3 ? r.predicate(3) : r.program.constants.predicate(true);
  if (!isInteger && r.operands() > 4) {
    int64_t sign = 1;
    for (size_t k = 4; k < 6; ++k) {
      const int64_t scale = r.constant(k);
      if (scale != 1 && scale != -1) r.unsupported("imm-scale must be 1 or -1");
      sign *= scale;
    }
    o.negate = sign < 0;
    if (r.operands() > 6) {
      if (!half) r.unsupported("only 16-bit operands have imm-trans");
      size_t k = 6;
      if (!inRegisters) x.transposeA = r.constant(k++) != 0;
      x.transposeB = r.constant(k) != 0;
    }
  }
  r.out.run = mmaAsync;
}

}  // namespace

void resolveWgmma(Resolve& r) {
  if (r.has(Modifier::mma_async_)) return resolveProduct(r);
  if (r.has(Modifier::fence_)) r.out.run = fence;
  if (r.has(Modifier::commit_group_)) r.out.run = commitGroup;
  if (r.has(Modifier::wait_group_)) {
    r.out.run = waitGroup;
    r.out.immediate = r.constant(0);
    if (r.out.immediate < 0) r.unsupported("the number of groups must not be negative");
  }
}

}  // namespace dsvc::emulator::DSVC_ARCH
