// Bits: logic, shifts, bit fields, counts, byte permutes. Shift amounts clamp as the ISA says.
#include "lanes.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

struct And {
  template <class T>
  static T of(T a, T b) { return a & b; }
};
struct Or {
  template <class T>
  static T of(T a, T b) { return a | b; }
};
struct Xor {
  template <class T>
  static T of(T a, T b) { return a ^ b; }
};
struct Not {
  template <class T>
  static T of(T a) { return static_cast<T>(~a); }
};
struct Cnot {
  template <class T>
  static T of(T a) { return a == 0 ? 1 : 0; }
};
struct Shl {
  template <class T>
  static T of(T a, uint32_t n) { return n >= sizeof(T) * 8 ? T{0} : static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) << n); }
};
struct Shr {
  template <class T>
  static T of(T a, uint32_t n) {
    constexpr uint32_t width = sizeof(T) * 8;
    if constexpr (std::is_signed_v<T>) return static_cast<T>(a >> (n >= width ? width - 1 : n));
    else return n >= width ? T{0} : static_cast<T>(a >> n);
  }
};
struct ShfLeftWrap {
  static uint32_t of(uint32_t a, uint32_t b, uint32_t c) { return static_cast<uint32_t>(((uint64_t{b} << 32 | a) << (c & 31)) >> 32); }
};
struct ShfLeftClamp {
  static uint32_t of(uint32_t a, uint32_t b, uint32_t c) {
    return static_cast<uint32_t>(((uint64_t{b} << 32 | a) << (c > 32 ? 32 : c)) >> 32);
  }
};
struct ShfRightWrap {
  static uint32_t of(uint32_t a, uint32_t b, uint32_t c) { return static_cast<uint32_t>((uint64_t{b} << 32 | a) >> (c & 31)); }
};
struct ShfRightClamp {
  static uint32_t of(uint32_t a, uint32_t b, uint32_t c) { return static_cast<uint32_t>((uint64_t{b} << 32 | a) >> (c > 32 ? 32 : c)); }
};

struct Popc {
  template <class T>
  static uint32_t of(T a) { return static_cast<uint32_t>(std::popcount(a)); }
};
struct Clz {
  template <class T>
  static uint32_t of(T a) { return static_cast<uint32_t>(std::countl_zero(a)); }
};
struct Brev {
  static uint32_t of(uint32_t v) {
    v = (v >> 1 & 0x55555555u) | (v & 0x55555555u) << 1;
    v = (v >> 2 & 0x33333333u) | (v & 0x33333333u) << 2;
    v = (v >> 4 & 0x0f0f0f0fu) | (v & 0x0f0f0f0fu) << 4;
    return v << 24 | (v & 0xff00u) << 8 | (v >> 8 & 0xff00u) | v >> 24;
  }
  static uint64_t of(uint64_t v) { return uint64_t{of(static_cast<uint32_t>(v))} << 32 | of(static_cast<uint32_t>(v >> 32)); }
};
// Position of the highest bit that is not the sign; -1 when there is none.
template <bool shiftAmount>
struct Bfind {
  template <class T>
  static uint32_t of(T a) {
    using U = std::make_unsigned_t<T>;
    U v = static_cast<U>(a);
    if constexpr (std::is_signed_v<T>)
      if (a < 0) v = static_cast<U>(~v);
    if (v == 0) return 0xffffffffu;
    uint32_t n = static_cast<uint32_t>(std::countl_zero(v));
    return shiftAmount ? n : static_cast<uint32_t>(sizeof(T) * 8 - 1) - n;
  }
};
struct Bfe {
  template <class T>
  static T of(T a, uint32_t position, uint32_t length) {
    constexpr uint32_t width = sizeof(T) * 8;
    using U = std::make_unsigned_t<T>;
    position &= 0xff;
    length &= 0xff;
    if (length == 0) return 0;
    // Bits beyond the register are zero, or copies of the sign; the sign is the field's top bit inside the register.
    U field = position < width ? static_cast<U>(static_cast<U>(a) >> position) : U{0};
    U mask = length >= width ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << length) - 1);
    field &= mask;
    if constexpr (std::is_signed_v<T>) {
      uint32_t top = position + length - 1 < width - 1 ? position + length - 1 : width - 1;
      if (static_cast<U>(a) >> top & 1) {
        uint32_t have = position < width ? width - position : 0;
        uint32_t filled = length < have ? length : have;
        U low = filled >= width ? static_cast<U>(~U{0}) : static_cast<U>((U{1} << filled) - 1);
        field |= static_cast<U>(~low);
      }
    }
    return static_cast<T>(field);
  }
};
template <class T>
Flow bitInsert(Warp& w, const Insn& i, Mask m) {
  // d = f's field set to the low bits of a; a: value, b: base, c: position, extra operand: length.
  const Cell<T>* a = w.in<Cell<T>>(i.a);
  const Cell<T>* b = w.in<Cell<T>>(i.b);
  const uint32_t* position = w.in<uint32_t>(i.c);
  const uint32_t* length = w.in<uint32_t>(static_cast<Slot>(i.immediate));
  constexpr uint32_t width = sizeof(T) * 8;
  store<T>(w, i.d, m, [&](int l) {
    uint32_t p = position[l] & 0xff, n = length[l] & 0xff;
    T low = n >= width ? static_cast<T>(~T{0}) : static_cast<T>((T{1} << (n & (width - 1))) - 1);
    T mask = p >= width ? T{0} : static_cast<T>(low << (p & (width - 1)));
    T v = p >= width ? T{0} : static_cast<T>(get<T>(a[l]) << (p & (width - 1)));
    return static_cast<T>((get<T>(b[l]) & ~mask) | (v & mask));
  });
  return Flow::next;
}
// Position of the n-th set bit, counted from base upwards (offset > 0) or downwards; all ones when there is none.
struct Fns {
  static uint32_t of(uint32_t mask, uint32_t base, uint32_t n) {
    int32_t offset = static_cast<int32_t>(n);
    if (base > 31) return 0xffffffffu;
    if (offset == 0) return mask >> base & 1 ? base : 0xffffffffu;
    int step = offset > 0 ? 1 : -1;
    int64_t left = offset > 0 ? offset : -int64_t{offset};
    for (int at = static_cast<int>(base); at >= 0 && at < 32; at += step)
      if ((mask >> at & 1) && --left == 0) return static_cast<uint32_t>(at);
    return 0xffffffffu;
  }
};
template <class T, bool clampMode>
struct Szext {
  static T of(T a, uint32_t n) {
    if (!clampMode) n &= 31;
    if (n >= 32) return a;
    if (n == 0) return 0;
    return static_cast<T>(static_cast<T>(static_cast<uint32_t>(a) << (32 - n)) >> (32 - n));
  }
};
template <bool clampMode>
struct Bmsk {
  static uint32_t of(uint32_t position, uint32_t width) {
    if (!clampMode) {
      position &= 31;
      width &= 31;
    }
    if (position >= 32) return 0;
    uint32_t low = width >= 32 ? ~0u : (1u << width) - 1;
    return low << position;
  }
};

struct LutExtra : Extra {
  uint8_t lut = 0;
  Slot q = slot::kNone;
  Slot p = slot::kNone;
};
inline uint32_t lut3(uint32_t a, uint32_t b, uint32_t c, uint32_t lut) {
  uint32_t r = 0;
  if (lut & 0x01) r |= ~a & ~b & ~c;
  if (lut & 0x02) r |= ~a & ~b & c;
  if (lut & 0x04) r |= ~a & b & ~c;
  if (lut & 0x08) r |= ~a & b & c;
  if (lut & 0x10) r |= a & ~b & ~c;
  if (lut & 0x20) r |= a & ~b & c;
  if (lut & 0x40) r |= a & b & ~c;
  if (lut & 0x80) r |= a & b & c;
  return r;
}
Flow lop3(Warp& w, const Insn& i, Mask m) {
  const uint32_t* a = w.in<uint32_t>(i.a);
  const uint32_t* b = w.in<uint32_t>(i.b);
  const uint32_t* c = w.in<uint32_t>(i.c);
  uint32_t lut = static_cast<uint32_t>(i.immediate);
  store<uint32_t>(w, i.d, m, [&](int l) { return lut3(a[l], b[l], c[l], lut); });
  return Flow::next;
}
// lop3.BoolOp: d|p = lut(a, b, c), (d != 0) BoolOp q. flags: 1 for .and, 0 for .or.
Flow lop3Predicate(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<LutExtra>(i);
  const uint32_t* a = w.in<uint32_t>(i.a);
  const uint32_t* b = w.in<uint32_t>(i.b);
  const uint32_t* c = w.in<uint32_t>(i.c);
  Mask q = w.predicate(e.q), nonzero = maskWhere([&](int l) { return lut3(a[l], b[l], c[l], e.lut) != 0; });
  store<uint32_t>(w, i.d, m, [&](int l) { return lut3(a[l], b[l], c[l], e.lut); });
  w.setPredicate(e.p, i.flags ? nonzero & q : nonzero | q, m);
  return Flow::next;
}

enum class Permute : uint8_t { index, f4e, b4e, rc8, ecl, ecr, rc16 };
template <Permute mode>
struct Prmt {
  static uint32_t byteAt(uint32_t a, uint32_t b, uint32_t k) { return (k < 4 ? a >> 8 * k : b >> 8 * (k - 4)) & 0xff; }
  static uint32_t of(uint32_t a, uint32_t b, uint32_t c) {
    uint32_t r = 0;
    for (uint32_t k = 0; k < 4; ++k) {
      uint32_t s = c & 3, v;
      if constexpr (mode == Permute::index) {
        uint32_t select = c >> 4 * k;
        v = byteAt(a, b, select & 7);
        if (select & 8) v = v & 0x80 ? 0xff : 0;
      } else {
        uint32_t at = mode == Permute::f4e    ? s + k
                      : mode == Permute::b4e  ? (s - k) & 7
                      : mode == Permute::rc8  ? s
                      : mode == Permute::ecl  ? (k > s ? k : s)
                      : mode == Permute::ecr  ? (k < s ? k : s)
                                              : (s & 1) * 2 + (k & 1);
        v = byteAt(a, b, at);
      }
      r |= v << 8 * k;
    }
    return r;
  }
};

template <class Op>
Flow predicateLogic(Warp& w, const Insn& i, Mask m) {
  w.setPredicate(i.d, Op::of(w.predicate(i.a), w.predicate(i.b)), m);
  return Flow::next;
}
Flow predicateNot(Warp& w, const Insn& i, Mask m) {
  w.setPredicate(i.d, ~w.predicate(i.a), m);
  return Flow::next;
}

template <class Op>
void resolveLogic(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t, t);
  if (t == Type::pred) r.out.run = predicateLogic<Op>;
  else
    r.out.run = byBits(t, [](auto tag) -> Handler {
      using T = typename decltype(tag)::type;
      return binary<T, T, T, Op>;
    });
}
void resolveNot(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t);
  if (t == Type::pred) r.out.run = predicateNot;
  else
    r.out.run = byBits(t, [](auto tag) -> Handler {
      using T = typename decltype(tag)::type;
      return unary<T, T, Not>;
    });
}
void resolveCnot(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t);
  r.out.run = byBits(t, [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return unary<T, T, Cnot>;
  });
}
void resolveShl(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t, Type::u32);
  r.out.run = byBits(t, [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return binary<T, T, uint32_t, Shl>;
  });
}
void resolveShr(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t, Type::u32);
  auto one = [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return binary<T, T, uint32_t, Shr>;
  };
  r.out.run = isSigned(t) ? by16To64(t, one) : byBits(t, one);
}
void resolveShf(Resolve& r) {
  operandsOf(r, Type::b32, Type::b32, Type::b32, Type::u32);
  using U = uint32_t;
  bool clampMode = r.has(Modifier::clamp_);
  if (r.has(Modifier::l_)) r.out.run = clampMode ? ternary<U, U, U, U, ShfLeftClamp> : ternary<U, U, U, U, ShfLeftWrap>;
  else r.out.run = clampMode ? ternary<U, U, U, U, ShfRightClamp> : ternary<U, U, U, U, ShfRightWrap>;
}
template <class Op>
void resolveCount(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, Type::u32, t);
  r.out.run = sizeOf(t) == 8 ? unary<uint32_t, uint64_t, Op> : unary<uint32_t, uint32_t, Op>;
}
void resolveBrev(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t);
  r.out.run = sizeOf(t) == 8 ? unary<uint64_t, uint64_t, Brev> : unary<uint32_t, uint32_t, Brev>;
}
void resolveBfind(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, Type::u32, t);
  bool amount = r.has(Modifier::shiftamt_);
  r.out.run = by16To64(t, [&](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return amount ? unary<uint32_t, T, Bfind<true>> : unary<uint32_t, T, Bfind<false>>;
  });
}
void resolveBfe(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t, Type::u32, Type::u32);
  r.out.run = by16To64(t, [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return ternary<T, T, uint32_t, uint32_t, Bfe>;
  });
}
void resolveBfi(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t, t, Type::u32);
  r.out.immediate = r.source(4, Type::u32);
  r.out.run = sizeOf(t) == 8 ? bitInsert<uint64_t> : bitInsert<uint32_t>;
}
void resolveFns(Resolve& r) {
  operandsOf(r, Type::b32, Type::b32, Type::b32, Type::b32);
  r.out.run = ternaryEach<uint32_t, uint32_t, uint32_t, uint32_t, Fns>;
}
void resolveSzext(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t, Type::u32);
  bool c = r.has(Modifier::clamp_);
  using S = int32_t;
  using U = uint32_t;
  r.out.run = t == Type::s32 ? (c ? binary<S, S, U, Szext<S, true>> : binary<S, S, U, Szext<S, false>>)
                             : (c ? binary<U, U, U, Szext<U, true>> : binary<U, U, U, Szext<U, false>>);
}
void resolveBmsk(Resolve& r) {
  operandsOf(r, Type::b32, Type::u32, Type::u32);
  using U = uint32_t;
  r.out.run = r.has(Modifier::clamp_) ? binary<U, U, U, Bmsk<true>> : binary<U, U, U, Bmsk<false>>;
}
void resolveLop3(Resolve& r) {
  bool isAnd = r.has(Modifier::and_), isOr = r.has(Modifier::or_);
  if (!isAnd && !isOr) {
    operandsOf(r, Type::b32, Type::b32, Type::b32, Type::b32);
    r.out.immediate = r.constant(4) & 0xff;
    r.out.run = lop3;
    return;
  }
  const Operand& pair = r.operand(0);
  if (pair.kind != OperandKind::pair) r.unsupported("the destination is d|p");
  auto& e = r.extra<LutExtra>();
  r.out.a = r.source(1, Type::b32);
  r.out.b = r.source(2, Type::b32);
  r.out.c = r.source(3, Type::b32);
  e.lut = static_cast<uint8_t>(r.constant(4));
  e.q = r.predicate(5);
  r.out.d = r.destinationOf(pair.parts[0], Type::b32);
  e.p = r.destinationOf(pair.parts[1], Type::pred);
  r.out.flags = isAnd;
  r.out.run = lop3Predicate;
}
void resolvePrmt(Resolve& r) {
  operandsOf(r, Type::b32, Type::b32, Type::b32, Type::b32);
  using U = uint32_t;
  r.out.run = r.has(Modifier::f4e_)    ? ternary<U, U, U, U, Prmt<Permute::f4e>>
              : r.has(Modifier::b4e_)  ? ternary<U, U, U, U, Prmt<Permute::b4e>>
              : r.has(Modifier::rc8_)  ? ternary<U, U, U, U, Prmt<Permute::rc8>>
              : r.has(Modifier::ecl_)  ? ternary<U, U, U, U, Prmt<Permute::ecl>>
              : r.has(Modifier::ecr_)  ? ternary<U, U, U, U, Prmt<Permute::ecr>>
              : r.has(Modifier::rc16_) ? ternary<U, U, U, U, Prmt<Permute::rc16>>
                                       : ternary<U, U, U, U, Prmt<Permute::index>>;
}

}  // namespace

void registerBits(Resolver& r) {
  r.add(Mnemonic::and_, resolveLogic<And>);
  r.add(Mnemonic::or_, resolveLogic<Or>);
  r.add(Mnemonic::xor_, resolveLogic<Xor>);
  r.add(Mnemonic::not_, resolveNot);
  r.add(Mnemonic::cnot_, resolveCnot);
  r.add(Mnemonic::shl_, resolveShl);
  r.add(Mnemonic::shr_, resolveShr);
  r.add(Mnemonic::shf_, resolveShf);
  r.add(Mnemonic::popc_, resolveCount<Popc>);
  r.add(Mnemonic::clz_, resolveCount<Clz>);
  r.add(Mnemonic::brev_, resolveBrev);
  r.add(Mnemonic::bfind_, resolveBfind);
  r.add(Mnemonic::bfe_, resolveBfe);
  r.add(Mnemonic::bfi_, resolveBfi);
  r.add(Mnemonic::fns_, resolveFns);
  r.add(Mnemonic::szext_, resolveSzext);
  r.add(Mnemonic::bmsk_, resolveBmsk);
  r.add(Mnemonic::lop3_, resolveLop3);
  r.add(Mnemonic::prmt_, resolvePrmt);
}

}  // namespace dsvc::emulator::DSVC_ARCH
