// Comparisons and selections: setp, set, selp, slct.
#include "floats.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

enum class Compare : uint8_t { eq, ne, lt, le, gt, ge, equ, neu, ltu, leu, gtu, geu, num, nan };
enum class Combine : uint8_t { none, land, lor, lxor };

struct CompareExtra : Extra {
  // The comparison itself, for all lanes; of pairs, the half at the shift.
  using Lanes = Mask (*)(Warp&, const Insn&, int shift);
  Lanes lanes = nullptr;
  Slot c = slot::kNone;           // predicate that BoolOp takes
  Slot second = slot::kNone;      // q of p|q
  Combine combine = Combine::none;
  uint8_t result = 0;  // set: 0 integer, 1 f32, 2 f16, 3 bf16, 4 pair of f16, 5 pair of bf16, 6 pair of masks
};

template <Compare c, class T>
inline bool holds(T a, T b) {
  [[maybe_unused]] bool unordered = a != a || b != b;
  switch (c) {
    case Compare::eq: return a == b;
    case Compare::ne: return a != b && !unordered;
    case Compare::lt: return a < b;
    case Compare::le: return a <= b;
    case Compare::gt: return a > b;
    case Compare::ge: return a >= b;
    case Compare::equ: return a == b || unordered;
    case Compare::neu: return a != b;
    case Compare::ltu: return !(a >= b);
    case Compare::leu: return !(a > b);
    case Compare::gtu: return !(a <= b);
    case Compare::geu: return !(a < b);
    case Compare::num: return !unordered;
    case Compare::nan: return unordered;
  }
  return false;
}

template <class T, Compare c, bool ftz>
Mask compareLanes(Warp& w, const Insn& i, int) {
  const Cell<T>* a = w.in<Cell<T>>(i.a);
  const Cell<T>* b = w.in<Cell<T>>(i.b);
  return maskWhere([&](int l) {
    T x = get<T>(a[l]), y = get<T>(b[l]);
    if constexpr (ftz) return holds<c>(flush(x), flush(y));
    else return holds<c>(x, y);
  });
}
// Halves are compared as singles, which hold them exactly. shift: which half of the word.
template <bool bf16, Compare c>
Mask compareHalves(Warp& w, const Insn& i, int shift) {
  const bool ftz = i.flags & kFtz;
  const uint32_t* a = w.in<uint32_t>(i.a);
  const uint32_t* b = w.in<uint32_t>(i.b);
  auto value = [&](uint32_t v) {
    uint16_t h = static_cast<uint16_t>(v >> shift);
    if (ftz && !(h & (bf16 ? 0x7f80 : 0x7c00))) h &= 0x8000;
    return bf16 ? bf16ToFloat(h) : f16ToFloat(h);
  };
  Mask m = 0;
  for (int l = 0; l < kLanes; ++l) m |= static_cast<Mask>(holds<c>(value(a[l]), value(b[l]))) << l;
  return m;
}

inline Mask combineWith(Combine how, Mask v, Mask c) {
  switch (how) {
    case Combine::land: return v & c;
    case Combine::lor: return v | c;
    case Combine::lxor: return v ^ c;
    default: return v;
  }
}

constexpr uint32_t kPair = 4;
Flow setp(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<CompareExtra>(i);
  Mask v = e.lanes(w, i, 0), c = e.c == slot::kNone ? 0 : w.predicate(e.c);
  // The second result is the comparison's opposite, combined the same way; of pairs, the upper half's.
  Mask second = (i.flags & kPair) ? e.lanes(w, i, 16) : ~v;
  w.setPredicate(i.d, combineWith(e.combine, v, c), m);
  if (e.second != slot::kNone) w.setPredicate(e.second, combineWith(e.combine, second, c), m);
  return Flow::next;
}
// Without p|q and BoolOp.
Flow setpPlain(Warp& w, const Insn& i, Mask m) {
  w.setPredicate(i.d, extraOf<CompareExtra>(i).lanes(w, i, 0), m);
  return Flow::next;
}

void writeSet(Warp& w, const Insn& i, Mask m, Mask low, Mask up) {
  const auto& e = extraOf<CompareExtra>(i);
  Mask c = e.c == slot::kNone ? 0 : w.predicate(e.c);
  low = combineWith(e.combine, low, c);
  up = combineWith(e.combine, up, c);
  static constexpr uint32_t yes[] = {0xffffffffu, 0x3f800000u, 0x3c00u, 0x3f80u, 0x3c00u, 0x3f80u, 0xffffu};
  const uint32_t v = yes[e.result];
  const bool pair = e.result >= 4;
  store<uint32_t>(w, i.d, m, [&](int l) { return (low >> l & 1 ? v : 0) | (pair && (up >> l & 1) ? v << 16 : 0); });
}
Flow set(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<CompareExtra>(i);
  writeSet(w, i, m, e.lanes(w, i, 0), (i.flags & kPair) ? e.lanes(w, i, 16) : 0);
  return Flow::next;
}

template <class F>
CompareExtra::Lanes byCompare(Compare c, F f) {
#define CASE(name) case Compare::name: return f(std::integral_constant<Compare, Compare::name>{});
  switch (c) {
    CASE(eq) CASE(ne) CASE(lt) CASE(le) CASE(gt) CASE(ge) CASE(equ) CASE(neu) CASE(ltu) CASE(leu) CASE(gtu) CASE(geu) CASE(num) CASE(nan)
  }
#undef CASE
  return nullptr;
}
// Integers have six comparisons; lo, ls, hi, hs are the unsigned spellings of lt, le, gt, ge.
template <class F>
CompareExtra::Lanes byIntegerCompare(Compare c, F f) {
#define CASE(name) case Compare::name: return f(std::integral_constant<Compare, Compare::name>{});
  switch (c) {
    CASE(eq) CASE(ne) CASE(lt) CASE(le) CASE(gt) CASE(ge)
    default: return nullptr;
  }
#undef CASE
}

Compare compareOf(Resolve& r) {
  for (Modifier m : r.in.modifiers) switch (m) {
      case Modifier::eq_: return Compare::eq;
      case Modifier::ne_: return Compare::ne;
      case Modifier::lt_: case Modifier::lo_: return Compare::lt;
      case Modifier::le_: case Modifier::ls_: return Compare::le;
      case Modifier::gt_: case Modifier::hi_: return Compare::gt;
      case Modifier::ge_: case Modifier::hs_: return Compare::ge;
      case Modifier::equ_: return Compare::equ;
      case Modifier::neu_: return Compare::neu;
      case Modifier::ltu_: return Compare::ltu;
      case Modifier::leu_: return Compare::leu;
      case Modifier::gtu_: return Compare::gtu;
      case Modifier::geu_: return Compare::geu;
      case Modifier::num_: return Compare::num;
      case Modifier::nan_: return Compare::nan;
      default: break;
    }
  r.unsupported("no comparison is named");
}
Combine combineOf(Resolve& r) {
  if (r.has(Modifier::and_)) return Combine::land;
  if (r.has(Modifier::or_)) return Combine::lor;
  if (r.has(Modifier::xor_)) return Combine::lxor;
  return Combine::none;
}

template <class T, bool ftz>
CompareExtra::Lanes lanesAs(Compare c) {
  if constexpr (std::is_floating_point_v<T>) return byCompare(c, [](auto k) -> CompareExtra::Lanes { return compareLanes<T, k.value, ftz>; });
  else return byIntegerCompare(c, [](auto k) -> CompareExtra::Lanes { return compareLanes<T, k.value, ftz>; });
}
// Null when the type has no such comparison.
CompareExtra::Lanes comparisonOf(Type t, Compare c, bool ftz) {
  switch (t) {
    case Type::f32: return ftz ? lanesAs<float, true>(c) : lanesAs<float, false>(c);
    case Type::f64: return lanesAs<double, false>(c);
    case Type::f16: case Type::f16x2: return byCompare(c, [](auto k) -> CompareExtra::Lanes { return compareHalves<false, k.value>; });
    case Type::bf16: case Type::bf16x2: return byCompare(c, [](auto k) -> CompareExtra::Lanes { return compareHalves<true, k.value>; });
    case Type::s16: return lanesAs<int16_t, false>(c);
    case Type::s32: return lanesAs<int32_t, false>(c);
    case Type::s64: return lanesAs<int64_t, false>(c);
    case Type::u16: case Type::b16: return lanesAs<uint16_t, false>(c);
    case Type::u32: case Type::b32: return lanesAs<uint32_t, false>(c);
    case Type::u64: case Type::b64: return lanesAs<uint64_t, false>(c);
    default: return nullptr;
  }
}

void resolveSetp(Resolve& r) {
  Type t = r.type(0);
  auto& e = r.extra<CompareExtra>();
  e.combine = combineOf(r);
  Compare c = compareOf(r);
  r.out.a = r.source(1, t);
  r.out.b = r.source(2, t);
  if (e.combine != Combine::none) e.c = r.predicate(3);
  const Operand& d = r.operand(0);
  if (d.kind == OperandKind::pair) {
    r.out.d = r.destinationOf(d.parts[0], Type::pred);
    e.second = r.destinationOf(d.parts[1], Type::pred);
  } else {
    r.out.d = r.destinationOf(d, Type::pred);
  }
  r.out.flags = (r.has(Modifier::ftz_) ? kFtz : 0) | (t == Type::f16x2 || t == Type::bf16x2 ? kPair : 0);
  e.lanes = comparisonOf(t, c, r.has(Modifier::ftz_));
  bool plain = e.combine == Combine::none && e.second == slot::kNone;
  if (e.lanes) r.out.run = plain ? setpPlain : setp;
}

void resolveSet(Resolve& r) {
  Type to = r.type(0), t = r.type(1);
  auto& e = r.extra<CompareExtra>();
  e.combine = combineOf(r);
  Compare c = compareOf(r);
  r.out.a = r.source(1, t);
  r.out.b = r.source(2, t);
  if (e.combine != Combine::none) e.c = r.predicate(3);
  r.out.d = r.destination(0, to);
  bool pair = t == Type::f16x2 || t == Type::bf16x2;
  e.result = to == Type::f32      ? 1
             : to == Type::f16    ? 2
             : to == Type::bf16   ? 3
             : to == Type::f16x2  ? 4
             : to == Type::bf16x2 ? 5
             : pair               ? 6
                                  : 0;
  r.out.flags = (r.has(Modifier::ftz_) ? kFtz : 0) | (pair ? kPair : 0);
  e.lanes = comparisonOf(t, c, r.has(Modifier::ftz_));
  if (e.lanes) r.out.run = set;
}

template <class T>
Flow selp(Warp& w, const Insn& i, Mask m) {
  const Cell<T>* a = w.in<Cell<T>>(i.a);
  const Cell<T>* b = w.in<Cell<T>>(i.b);
  Mask c = w.predicate(i.c);
  store<T>(w, i.d, m, [&](int l) { return get<T>((c >> l & 1) ? a[l] : b[l]); });
  return Flow::next;
}
void resolveSelp(Resolve& r) {
  Type t = r.type(0);
  r.out.a = r.source(1, t);
  r.out.b = r.source(2, t);
  r.out.c = r.predicate(3);
  r.out.d = r.destination(0, t);
  bool s = t == Type::s16;
  r.out.run = s ? Handler{selp<int16_t>} : byBits(t, [](auto tag) -> Handler { return selp<typename decltype(tag)::type>; });
}

struct SlctInteger {
  template <class T>
  static T of(T a, T b, int32_t c) { return c >= 0 ? a : b; }
};
template <bool ftz>
struct SlctFloat {
  template <class T>
  static T of(T a, T b, float c) { return (ftz ? flush(c) : c) >= 0 ? a : b; }
};
void resolveSlct(Resolve& r) {
  Type t = r.type(0), c = r.type(1);
  operandsOf(r, t, t, t, c);
  bool ftz = r.has(Modifier::ftz_);
  r.out.run = byBits(t, [&](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    if (c == Type::s32) return ternary<T, T, T, int32_t, SlctInteger>;
    return ftz ? ternary<T, T, T, float, SlctFloat<true>> : ternary<T, T, T, float, SlctFloat<false>>;
  });
}

}  // namespace

void registerCompare(Resolver& r) {
  r.add(Mnemonic::setp_, resolveSetp);
  r.add(Mnemonic::set_, resolveSet);
  r.add(Mnemonic::selp_, resolveSelp);
  r.add(Mnemonic::slct_, resolveSlct);
}

}  // namespace dsvc::emulator::DSVC_ARCH
