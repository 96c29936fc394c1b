// cp.async.bulk.tensor: boxes of 1- to 5-dimensional tensors, loaded, stored, reduced, prefetched (tiled mode).
#include <algorithm>
#include <bit>
#include <cinttypes>
#include <cmath>
#include <cstring>

#include "bulk.h"
#include "family.h"
#include "reduction.h"
#include "tensor_map.h"

namespace dsvc::emulator {

namespace {

struct TensorCopy : Extra {
  AddressOperand map, memory, barrier;
  uint32_t rank = 0;
  Slot at[5] = {};
  Slot mask = slot::kNone;
  Space toSpace = Space::generic;
  bool multicast = false;
  Reduction reduction = Reduction::none;
};

// A box under way. Its rows are what lies along dimension 0.
struct Box {
  Origin origin;
  uint64_t id;
  TensorMap map;
  int64_t at[5];
  Region tensor;  // byte 0 is at the map's address; empty when the box lies wholly outside
  Region memory;  // byte 0 is the box's first
  Signal signal;
  Reduce reduce = nullptr;
};

// Calls f(row's index in the box, its coordinates' byte offset in the tensor, whether they lie inside) for each row.
template <class F>
void eachRow(const TensorMap& m, const int64_t* at, F f) {
  uint32_t k[5] = {};
  uint64_t rows = m.boxBytes / m.rowBytes;
  for (uint64_t row = 0; row < rows; ++row) {
    int64_t offset = 0;
    bool inside = true;
    for (uint32_t d = 1; d < m.rank; ++d) {
      int64_t c = at[d] + int64_t{k[d]} * m.step[d];
      inside = inside && c >= 0 && static_cast<uint64_t>(c) < m.dim[d];
      offset += c * static_cast<int64_t>(m.stride[d]);
    }
    f(row, offset, inside);
    for (uint32_t d = 1; d < m.rank && ++k[d] == m.count[d]; ++d) k[d] = 0;
  }
}

// The part of a row inside the tensor, in elements of the row.
struct Inside {
  int64_t first, count;
};
Inside insideOf(const TensorMap& m, const int64_t* at) {
  int64_t first = std::clamp<int64_t>(-at[0], 0, m.count[0]);
  int64_t end = std::clamp<int64_t>(static_cast<int64_t>(m.dim[0]) - at[0], first, m.count[0]);
  return {first, end - first};
}

// A row of a box in shared memory, 16 bytes at a time: the swizzle moves those.
template <class F>
void eachPiece(const Box& b, uint64_t row, F f) {
  for (uint32_t p = 0; p < b.map.rowBytes; p += 16) {
    uint64_t linear = b.memory.offset + row * b.map.rowBytes + p;
    f(p, static_cast<int64_t>(swizzled(linear, b.map.swizzle)) - static_cast<int64_t>(b.memory.offset));
  }
}

// Elements outside of the tensor. The bits of the NaN that the hardware fills with are not published.
void fill(const TensorMap& m, uint8_t* to, int64_t elements) {
  uint64_t bits = !m.fillNan ? 0 : m.size == 2 ? 0x7fff : m.size == 4 ? 0x7fffffff : 0x7fffffffffffffff;
  for (int64_t k = 0; k < elements; ++k) std::memcpy(to + k * m.size, &bits, m.size);
}
void flushSubnormals(uint8_t* bytes, size_t n) {
  for (size_t k = 0; k + 4 <= n; k += 4) {
    uint32_t v;
    std::memcpy(&v, bytes + k, 4);
    if ((v & 0x7f800000) == 0) v &= 0x80000000;
    std::memcpy(bytes + k, &v, 4);
  }
}

void runLoad(const Box& b) {
  if (hasExited(b.origin, b.memory, b.map.boxBytes)) return;
  Checks* o = b.origin.machine->checks.get();
  const TensorMap& m = b.map;
  Inside in = insideOf(m, b.at);
  Cargo row(m.rowBytes);
  eachRow(m, b.at, [&](uint64_t r, int64_t offset, bool inside) {
    std::fill(row.known.begin(), row.known.end(), 1);
    if (!inside || in.count == 0) {
      fill(m, row.data.data(), m.count[0]);
    } else {
      int64_t from = offset + (b.at[0] + in.first) * m.size;
      size_t start = static_cast<size_t>(in.first * m.size), bytes = static_cast<size_t>(in.count * m.size);
      fill(m, row.data.data(), in.first);
      if (o) o->onTransfer(b.id, b.tensor, static_cast<uint64_t>(from), bytes, AccessKind::read);
      b.tensor.load(from, row.data.data() + start, row.known.data() + start, bytes);
      if (m.flushes()) flushSubnormals(row.data.data() + start, bytes);
      fill(m, row.data.data() + start + bytes, m.count[0] - in.first - in.count);
    }
    eachPiece(b, r, [&](uint32_t p, int64_t at) {
      if (o) o->onTransfer(b.id, b.memory, static_cast<uint64_t>(at), 16, AccessKind::write);
      b.memory.save(at, row.data.data() + p, row.known.data() + p, 16);
    });
  });
  signalBytes(b.origin, b.id, b.signal, m.boxBytes);
}

void takeBox(const Box& b, Cargo& cargo) {
  Checks* o = b.origin.machine->checks.get();
  warnAboutExit(b.origin, b.memory, b.map.boxBytes);
  for (uint64_t r = 0; r < b.map.boxBytes / b.map.rowBytes; ++r)
    eachPiece(b, r, [&](uint32_t p, int64_t at) {
      uint64_t to = r * b.map.rowBytes + p;
      if (o) o->onTransfer(b.id, b.memory, static_cast<uint64_t>(at), 16, AccessKind::read);
      b.memory.load(at, cargo.data.data() + to, cargo.known.data() + to, 16);
    });
}

void putBox(const Box& b, Cargo& cargo) {
  Checks* o = b.origin.machine->checks.get();
  const TensorMap& m = b.map;
  Inside in = insideOf(m, b.at);
  if (in.count == 0) return;
  size_t start = static_cast<size_t>(in.first * m.size), bytes = static_cast<size_t>(in.count * m.size);
  eachRow(m, b.at, [&](uint64_t r, int64_t offset, bool inside) {
    if (!inside) return;
    int64_t to = offset + (b.at[0] + in.first) * m.size;
    uint8_t* data = cargo.data.data() + r * m.rowBytes + start;
    uint8_t* known = cargo.known.data() + r * m.rowBytes + start;
    if (o) o->onTransfer(b.id, b.tensor, static_cast<uint64_t>(to), bytes, b.reduce ? AccessKind::atomic : AccessKind::write);
    if (b.reduce) {
      Cargo old(bytes);
      b.tensor.load(to, old.data.data(), old.known.data(), bytes);
      b.reduce(old.data.data(), data, bytes);
      for (size_t k = 0; k < bytes; ++k) known[k] &= old.known[k];
      std::memcpy(data, old.data.data(), bytes);
    } else if (m.flushes()) {
      flushSubnormals(data, bytes);
    }
    b.tensor.save(to, data, known, bytes);
    b.origin.saved(b.tensor, to, known, bytes);
  });
}

bool refuseMap(Warp& w, const Insn& i, int l, const char* code, std::string message, const char* fix) {
  w.report(i, l, Severity::error, code, std::move(message), fix);
  return false;
}

// Reads and checks the map and the coordinates, and finds the tensor's memory. False: refused.
bool prepare(Warp& w, const Insn& i, int l, const TensorCopy& x, AccessKind kind, Box& b) {
  uint64_t address = x.map.of(w, l);
  if (address % kTensorMapAlign)
    return refuseMap(w, i, l, "emu/tensor-map-misaligned", format("the tensor map's address 0x%" PRIx64 " is not a multiple of 64", address),
                     "align the map to 64 bytes (.param .align 64 .b8 map[128])");
  Place p = w.locate(i, l, Space::generic, address, kTensorMapBytes, kTensorMapAlign, AccessKind::read);
  if (!p.bytes) return false;
  if (p.space == Space::shared || p.space == Space::sharedCluster || p.space == Space::local)
    return refuseMap(w, i, l, "emu/not-a-tensor-map", format("the tensor map at 0x%" PRIx64 " is not in .param, .const or .global memory", address),
                     "copy it to global memory (tensormap.cp_fenceproxy) first");
  Misuse misuse;
  decodeTensorMap(p.bytes, b.map, misuse);
  if (misuse) return refuseMap(w, i, l, misuse.code, misuse.message, misuse.fix.c_str());
  const TensorMap& m = b.map;
  if (m.rank != x.rank)
    return refuseMap(w, i, l, "emu/tensor-map-rank", format("a %u-d copy with the map of a %s", x.rank, m.text().c_str()),
                     "give as many coordinates as the map has dimensions");
  if (m.interleave)
    return refuseMap(w, i, l, "emu/unsupported-tensor-map", "the emulator does not move interleaved tensors", "encode the map without interleaving");
  for (uint32_t d = 0; d < m.rank; ++d) b.at[d] = static_cast<int32_t>(w.in<uint32_t>(x.at[d])[l]);
  // Every byte that is moved must lie in one allocation.
  Inside in = insideOf(m, b.at);
  int64_t least = INT64_MAX, most = INT64_MIN;
  if (in.count)
    eachRow(m, b.at, [&](uint64_t, int64_t offset, bool inside) {
      if (!inside) return;
      least = std::min(least, offset + (b.at[0] + in.first) * m.size);
      most = std::max(most, offset + (b.at[0] + in.first + in.count) * m.size);
    });
  if (least > most) return true;  // wholly outside of the tensor
  GlobalMemory& memory = w.cta.grid->device->memory;
  uint64_t first = m.address + static_cast<uint64_t>(least), bytes = static_cast<uint64_t>(most - least);
  Allocation* a = memory.find(first);
  if (a && a->bytes && a->holds(first, bytes) && !(a->isConstant && kind != AccessKind::read)) {
    b.tensor.allocation = a;
    // Of the map's address, which may lie before the allocation: only offsets inside are used.
    b.tensor.offset = m.address - a->base;
    b.tensor.bytes = a->bytes + static_cast<int64_t>(m.address - a->base);
    return true;
  }
  const char* code = a && !a->bytes ? "emu/use-after-free" : a && a->isConstant ? "emu/write-to-constant" : "emu/out-of-bounds";
  return refuseMap(w, i, l, code,
                   format("the box touches global addresses 0x%" PRIx64 " to 0x%" PRIx64 " of a %s, %s", first, first + bytes, m.text().c_str(),
                          a ? format("but the allocation there is %s, %" PRIu64 " bytes at 0x%" PRIx64, a->name.c_str(), a->size, a->base).c_str()
                            : memory.whereabouts(first).c_str()),
                   "encode the map with the address, dims and strides of the buffer");
}

// The box's place in shared memory.
bool findMemory(Warp& w, const Insn& i, int l, const TensorCopy& x, Space space, AccessKind kind, const TensorMap& m, Place& p) {
  uint64_t address = x.memory.of(w, l);
  uint64_t size = w.cta.sharedBytes - shared::kReserved;
  if (m.boxBytes > size)
    return refuseMap(w, i, l, "emu/box-too-large",
                     format("a box of %" PRIu64 " bytes (%s) with %" PRIu64 " bytes of shared memory", m.boxBytes, m.text().c_str(), size),
                     "use a smaller box or more dynamic shared memory");
  if (address % 128)
    return refuseMap(w, i, l, "emu/tma-misaligned", format("the box's shared address 0x%" PRIx64 " is not a multiple of 128", address),
                     "align tensor tiles in shared memory to 128 bytes");
  p = w.locate(i, l, space, address, static_cast<uint32_t>(m.boxBytes), 128, kind);
  if (!p.bytes) return false;
  constexpr uint32_t kPattern[4] = {128, 256, 512, 1024}, kSpan[4] = {0, 32, 64, 128};
  if (p.offset % kPattern[m.swizzle])
    w.report(i, l, Severity::warning, "emu/tma-swizzle-base",
             format("the box's shared offset 0x%" PRIx64 " is not where the %u-byte swizzle begins its pattern", p.offset, kSpan[m.swizzle]),
             "align tiles to 1024, 512 or 256 bytes for a 128-, 64- or 32-byte swizzle, as wgmma descriptors expect");
  if (m.swizzle && m.rowBytes < kSpan[m.swizzle])
    w.report(i, l, Severity::warning, "emu/tma-swizzle-row",
             format("a box row of %u bytes under a %u-byte swizzle: its pitch in shared memory is not documented", m.rowBytes, kSpan[m.swizzle]),
             "choose the swizzle as long as the box's rows");
  return true;
}

Flow loadTensor(Warp& w, const Insn& i, Mask active) {
  const auto& x = extraOf<TensorCopy>(i);
  for (int l : lanesOf(active)) {
    Box b{Origin(w, i, l), nextOperation(), {}, {}, {}, {}, {}};
    Place to;
    if (!prepare(w, i, l, x, AccessKind::read, b) || !findMemory(w, i, l, x, x.toSpace, AccessKind::write, b.map, to)) continue;
    if (Checks* o = w.machine.checks.get()) o->onIssue(b.id, w, i, 1u << l, Proxy::async);
    uint32_t mask = x.multicast ? w.in<uint32_t>(x.mask)[l] : 0;
    for (Destination& d : destinationsOf(w, i, l, to, b.map.boxBytes, x.barrier.of(w, l), x.multicast, mask)) {
      tellTarget(w.machine, b.id, d);
      auto one = std::make_shared<Box>(b);
      one->memory = d.to;
      one->signal = d.signal;
      postLater(w.machine, [one] { runLoad(*one); });
    }
  }
  return Flow::next;
}

Flow storeTensor(Warp& w, const Insn& i, Mask active) {
  const auto& x = extraOf<TensorCopy>(i);
  for (int l : lanesOf(active)) {
    auto b = std::make_shared<Box>(Box{Origin(w, i, l), nextOperation(), {}, {}, {}, {}, {}});
    Place from;
    if (!prepare(w, i, l, x, x.reduction == Reduction::none ? AccessKind::write : AccessKind::atomic, *b)) continue;
    if (!findMemory(w, i, l, x, Space::shared, AccessKind::read, b->map, from)) continue;
    b->memory = regionOf(from);
    if (x.reduction != Reduction::none) {
      b->reduce = reduceOf(x.reduction, b->map.type());
      if (!b->reduce) {
        w.report(i, l, Severity::error, "emu/tensor-map-type", "no tensor reduction has this operation on the elements of a " + b->map.text(),
                 "encode the map with a type that the reduction takes");
        continue;
      }
    }
    auto operation = std::make_shared<AsyncOperation>();
    asyncOf(w).bulk[l].add(operation);
    if (Checks* o = w.machine.checks.get()) o->onIssue(b->id, w, i, 1u << l, Proxy::async);
    auto cargo = std::make_shared<Cargo>(b->map.boxBytes);
    storeLater(w.machine, operation, [b, cargo] { takeBox(*b, *cargo); }, [b, cargo] { putBox(*b, *cargo); });
  }
  return Flow::next;
}

Flow prefetchTensor(Warp& w, const Insn& i, Mask active) {
  const auto& x = extraOf<TensorCopy>(i);
  for (int l : lanesOf(active)) {
    Box b{Origin(w, i, l), 0, {}, {}, {}, {}, {}};
    prepare(w, i, l, x, AccessKind::read, b);
  }
  return Flow::next;
}

uint32_t rankOf(const Resolve& r) {
  constexpr Modifier kRanks[] = {Modifier::n1d_, Modifier::n2d_, Modifier::n3d_, Modifier::n4d_, Modifier::n5d_};
  for (uint32_t k = 0; k < 5; ++k)
    if (r.has(kRanks[k])) return k + 1;
  return 0;
}

}  // namespace

void resolveTensorCopy(Resolve& r) {
  if (r.hasAny(Modifier::im2col_, Modifier::im2col__w_, Modifier::im2col__w__128_, Modifier::im2col_no_offs_))
    r.unsupported("the emulator does not execute the im2col modes");
  auto& x = r.extra<TensorCopy>();
  x.rank = rankOf(r);
  bool prefetch = r.has(Modifier::prefetch_);
  x.toSpace = spaceAt(r, 0);
  bool store = !prefetch && x.toSpace == Space::global;
  size_t mapAt = prefetch || store ? 0 : 1;
  const Operand& t = r.operand(mapAt);
  if (t.kind != OperandKind::tensorCoordinates || t.parts.size() != x.rank + 1) r.unsupported("a tensor map with as many coordinates as dimensions must stand here");
  x.map = addressFrom(r, t.parts[0]);
  for (uint32_t k = 0; k < x.rank; ++k) x.at[k] = r.sourceOf(t.parts[k + 1], Type::s32);
  if (prefetch) {
    r.out.run = prefetchTensor;
    return;
  }
  x.memory = addressAt(r, store ? 1 : 0);
  if (store) {
    if (r.has(Modifier::reduce_)) {
      x.reduction = reductionOf(r);
      if (x.reduction == Reduction::none) r.unsupported("the reduction is missing");
    }
    r.out.run = storeTensor;
    return;
  }
  x.barrier = addressAt(r, 2);
  x.multicast = r.has(Modifier::multicast__cluster_);
  if (x.multicast) {
    if (x.toSpace != Space::sharedCluster) r.unsupported("only copies to shared::cluster are multicast");
    x.mask = r.source(3, Type::u16);
  }
  r.out.run = loadTensor;
}

}  // namespace dsvc::emulator
