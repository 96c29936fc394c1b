#include "tensor_map.h"

#include <cinttypes>
#include <cstring>

#include "family.h"

namespace dsvc::emulator {

namespace {

struct ElementType {
  const char* name;
  uint32_t size;
  bool isFloat;
  Type type;
};
constexpr ElementType kElements[] = {
    {"u8", 1, false, Type::u8},    {"u16", 2, false, Type::u16},   {"u32", 4, false, Type::u32},  {"s32", 4, false, Type::s32},
    {"u64", 8, false, Type::u64},  {"s64", 8, false, Type::s64},   {"f16", 2, true, Type::f16},   {"f32", 4, true, Type::f32},
    {"f32.ftz", 4, true, Type::f32}, {"f64", 8, true, Type::f64},  {"bf16", 2, true, Type::bf16}, {"tf32", 4, true, Type::none},
    {"tf32.ftz", 4, true, Type::none}};
constexpr uint32_t kF32Ftz = 8, kTf32Ftz = 12, kElementCount = 13;

// Byte offsets of the fields.
constexpr uint32_t kAddress = 0x00, kFlags = 0x08, kStrides = 0x0c, kStrideHigh = 0x1c, kDims = 0x20, kSteps = 0x34, kBox0 = 0x37,
                   kBox1 = 0x38, kMark = 0x40;
constexpr char kMarkText[] = "dsvcTMAP";

uint32_t word(const uint8_t* b, uint32_t at) {
  uint32_t v;
  std::memcpy(&v, b + at, 4);
  return v;
}
void setWord(uint8_t* b, uint32_t at, uint32_t v) { std::memcpy(b + at, &v, 4); }
void setBits(uint8_t* b, uint32_t at, uint32_t low, uint32_t count, uint32_t v) {
  uint32_t mask = ((1u << count) - 1) << low;
  setWord(b, at, (word(b, at) & ~mask) | (v << low & mask));
}

}  // namespace

bool isTensorMap(const uint8_t* bytes) { return std::memcmp(bytes + kMark, kMarkText, 8) == 0; }

Type TensorMap::type() const { return kElements[element].type; }
bool TensorMap::flushes() const { return element == kF32Ftz || element == kTf32Ftz; }

std::string TensorMap::text() const {
  auto list = [&](auto* v) {
    std::string s;
    for (uint32_t k = 0; k < rank; ++k) s += format("%s%" PRIu64, k ? "x" : "", static_cast<uint64_t>(v[k]));
    return s;
  };
  return format("%u-d %s tensor %s at 0x%" PRIx64 ", box %s (innermost first)", rank, kElements[element].name, list(dim).c_str(), address,
                list(box).c_str());
}

void decodeTensorMap(const uint8_t* b, TensorMap& m, Misuse& misuse) {
  if (!isTensorMap(b)) {
    misuse = {"emu/not-a-tensor-map", "the 128 bytes are no tensor map",
              "pass what cuTensorMapEncodeTiled made, as a 64-byte aligned .param, .const or .global object"};
    return;
  }
  auto wrong = [&](std::string message, const char* fix) { misuse = {"emu/tensor-map-invalid", "the tensor map " + std::move(message), fix}; };
  uint32_t flags = word(b, kFlags);
  m.rank = (flags >> 4 & 7) + 1;
  m.element = flags >> 7 & 15;
  m.interleave = flags >> 11 & 3;
  m.swizzle = flags >> 13 & 3;
  m.fillNan = flags >> 15 & 1;
  std::memcpy(&m.address, b + kAddress, 8);
  if (m.rank > 5) return wrong(format("has rank %u", m.rank), "a tensor map has 1 to 5 dimensions");
  if (m.element >= kElementCount) return wrong(format("has element type %u", m.element), "see tensormap.replace for the numbers of types");
  m.size = kElements[m.element].size;
  for (uint32_t k = 0; k < m.rank; ++k) {
    m.dim[k] = uint64_t{word(b, kDims + 4 * k)} + 1;
    m.box[k] = (k == 0 ? b[kBox0] : b[kBox1 + k - 1]) + 1u;
    m.step[k] = (word(b, kSteps) >> 3 * k & 7) + 1;
    m.stride[k] = k == 0 ? m.size
                         : (uint64_t{word(b, kStrides + 4 * (k - 1))} | uint64_t{word(b, kStrideHigh) >> 4 * (k - 1) & 15} << 32) << 4;
  }
  // Without interleaving the innermost dimension is dense.
  if (m.interleave == 0) m.step[0] = 1;
  m.boxBytes = m.size;
  for (uint32_t k = 0; k < m.rank; ++k) {
    m.count[k] = (m.box[k] + m.step[k] - 1) / m.step[k];
    m.boxBytes *= m.count[k];
  }
  m.rowBytes = m.count[0] * m.size;
  constexpr uint32_t kSpan[4] = {0, 32, 64, 128};
  if (m.interleave == 3) return wrong("has an interleave of 3", "interleaves are none (0), 16B (1) and 32B (2)");
  if (m.address % 16) return wrong(format("has the address 0x%" PRIx64, m.address), "a tensor's address is a multiple of 16");
  if (m.interleave == 0 && m.rowBytes % 16)
    return wrong(format("has a box with rows of %u bytes", m.rowBytes), "a row of a box is a multiple of 16 bytes");
  if (m.interleave == 0 && m.swizzle && m.rowBytes > kSpan[m.swizzle])
    return wrong(format("has a box with rows of %u bytes under a %u-byte swizzle", m.rowBytes, kSpan[m.swizzle]),
                 "a row of a box is at most as long as the swizzle");
  if (m.fillNan && !kElements[m.element].isFloat)
    return wrong(format("fills with NaN, but its elements are %s", kElements[m.element].name), "fill with zeros");
}

namespace {

enum class Field : uint8_t { address, rank, box, dim, stride, step, element, interleave, swizzle, fill };

struct Replace : Extra {
  AddressOperand map;
  Space space = Space::generic;
  Field field = Field::address;
  uint32_t ordinal = 0;
  Slot value = slot::kNone;
};

// Writes the field, or says why not.
std::string change(uint8_t* b, Field f, uint32_t k, uint64_t v) {
  auto between = [&](uint64_t least, uint64_t most) {
    return v >= least && v <= most ? std::string() : format("%" PRIu64 " is not in [%" PRIu64 ", %" PRIu64 "]", v, least, most);
  };
  std::string why;
  switch (f) {
    case Field::address:
      if (v % 16) return format("0x%" PRIx64 " is not a multiple of 16", v);
      std::memcpy(b + kAddress, &v, 8);
      return {};
    case Field::rank:
      if (why = between(0, 4); why.empty()) setBits(b, kFlags, 4, 3, static_cast<uint32_t>(v));
      return why;
    case Field::box:
      if (why = between(1, 256); why.empty()) b[k == 0 ? kBox0 : kBox1 + k - 1] = static_cast<uint8_t>(v - 1);
      return why;
    case Field::dim: setWord(b, kDims + 4 * k, static_cast<uint32_t>(v - 1)); return {};  // 0 stands for 2^32
    case Field::stride:
      if (v % 16 || v >> 40) return format("%" PRIu64 " is no multiple of 16 below 2^40", v);
      setWord(b, kStrides + 4 * k, static_cast<uint32_t>(v >> 4));
      setBits(b, kStrideHigh, 4 * k, 4, static_cast<uint32_t>(v >> 36));
      return {};
    case Field::step:
      if (why = between(1, 8); why.empty()) setBits(b, kSteps, 3 * k, 3, static_cast<uint32_t>(v - 1));
      return why;
    case Field::element:
      if (why = between(0, kElementCount - 1); why.empty()) setBits(b, kFlags, 7, 4, static_cast<uint32_t>(v));
      return why;
    case Field::interleave:
      if (why = between(0, 2); why.empty()) setBits(b, kFlags, 11, 2, static_cast<uint32_t>(v));
      return why;
    case Field::swizzle:
      if (why = between(0, 3); why.empty()) setBits(b, kFlags, 13, 2, static_cast<uint32_t>(v));
      return why;
    case Field::fill:
      if (why = between(0, 1); why.empty()) setBits(b, kFlags, 15, 1, static_cast<uint32_t>(v));
      return why;
  }
  return {};
}

Flow replace(Warp& w, const Insn& i, Mask m) {
  const auto& x = extraOf<Replace>(i);
  for (int l : lanesOf(m)) {
    Place p = w.locate(i, l, x.space, x.map.of(w, l), kTensorMapBytes, kTensorMapAlign, AccessKind::write);
    if (!p.bytes) continue;
    Region r = regionOf(p);
    uint8_t bytes[kTensorMapBytes], known[kTensorMapBytes];
    r.load(0, bytes, known, sizeof bytes);
    if (!isTensorMap(bytes)) {
      w.report(i, l, Severity::error, "emu/not-a-tensor-map", "the 128 bytes are no tensor map",
               "start from a whole map, copied from one that the host encoded");
      continue;
    }
    bool wide = x.field == Field::address || x.field == Field::stride;
    std::string why = change(bytes, x.field, x.ordinal, wide ? w.in<uint64_t>(x.value)[l] : w.in<uint32_t>(x.value)[l]);
    if (!why.empty()) {
      w.report(i, l, Severity::error, "emu/tensor-map-invalid", "the new value of the field: " + why, "the rules are those of cuTensorMapEncodeTiled");
      continue;
    }
    r.save(0, bytes, known, sizeof bytes);
  }
  return Flow::next;
}

struct CopyFence : Extra {
  AddressOperand to, from;
  Scope scope = Scope::cta;
};

// The whole warp copies one map.
Flow copyFence(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!w.converged(i, m, otherwise)) return otherwise;
  const auto& x = extraOf<CopyFence>(i);
  int lane = std::countr_zero(m);
  for (int l : lanesOf(m))
    if (x.to.of(w, l) != x.to.of(w, lane) || x.from.of(w, l) != x.from.of(w, lane)) {
      w.report(i, l, Severity::error, "emu/not-uniform", "lanes of the warp name different addresses", "let all lanes pass the same tensor map");
      return Flow::next;
    }
  Place from = w.locate(i, lane, Space::shared, x.from.of(w, lane), kTensorMapBytes, kTensorMapAlign, AccessKind::read);
  Place to = w.locate(i, lane, Space::global, x.to.of(w, lane), kTensorMapBytes, kTensorMapAlign, AccessKind::write);
  if (!from.bytes || !to.bytes) return Flow::next;
  Cargo cargo(kTensorMapBytes);
  regionOf(from).load(0, cargo.data.data(), cargo.known.data(), kTensorMapBytes);
  regionOf(to).save(0, cargo.data.data(), cargo.known.data(), kTensorMapBytes);
  if (Checks* o = w.machine.checks.get()) o->onProxyFence(w, i, m, ProxyFence::tensormap, Order::release, x.scope);
  return Flow::next;
}

}  // namespace

void resolveTensormap(Resolve& r) {
  if (r.has(Modifier::cp_fenceproxy_)) {
    auto& x = r.extra<CopyFence>();
    x.to = addressAt(r, 0);
    x.from = addressAt(r, 1);
    x.scope = scopeOf(r, Scope::cta);
    if (r.constant(2) != kTensorMapBytes) r.unsupported("the size is 128");
    r.out.run = copyFence;
    return;
  }
  if (!r.has(Modifier::replace_)) return;
  static constexpr std::pair<Modifier, Field> kFields[] = {
      {Modifier::global_address_, Field::address},      {Modifier::rank_, Field::rank},
      {Modifier::box_dim_, Field::box},                 {Modifier::global_dim_, Field::dim},
      {Modifier::global_stride_, Field::stride},        {Modifier::element_stride_, Field::step},
      {Modifier::elemtype_, Field::element},            {Modifier::interleave_layout_, Field::interleave},
      {Modifier::swizzle_mode_, Field::swizzle},        {Modifier::fill_mode_, Field::fill}};
  auto& x = r.extra<Replace>();
  bool known = false;
  for (auto [m, f] : kFields)
    if (r.has(m)) {
      x.field = f;
      known = true;
    }
  if (!known) r.unsupported("sm_90a has no such field");
  x.space = spaceAt(r, 0);
  x.map = addressAt(r, 0);
  bool ordered = x.field == Field::box || x.field == Field::dim || x.field == Field::stride || x.field == Field::step;
  size_t value = 1;
  if (ordered) {
    int64_t k = r.constant(value++);
    if (k < 0 || k > (x.field == Field::stride ? 3 : 4)) r.unsupported("the ordinal is past the last dimension");
    x.ordinal = static_cast<uint32_t>(k);
  }
  x.value = r.source(value, x.field == Field::address || x.field == Field::stride ? Type::b64 : Type::b32);
  r.out.run = replace;
}

}  // namespace dsvc::emulator
