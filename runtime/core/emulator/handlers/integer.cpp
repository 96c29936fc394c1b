// Integer arithmetic: add, sub, mul, mad, div, rem, min, max, sad, dot products, and the carry chain.
#include "lanes.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

template <class T>
using Unsigned = std::make_unsigned_t<T>;

struct Add {
  template <class T>
  static T of(T a, T b) { return static_cast<T>(static_cast<Unsigned<T>>(a) + static_cast<Unsigned<T>>(b)); }
};
struct Sub {
  template <class T>
  static T of(T a, T b) { return static_cast<T>(static_cast<Unsigned<T>>(a) - static_cast<Unsigned<T>>(b)); }
};
int32_t clamp32(int64_t v) { return v > INT32_MAX ? INT32_MAX : v < INT32_MIN ? INT32_MIN : static_cast<int32_t>(v); }
struct AddSat {
  static int32_t of(int32_t a, int32_t b) { return clamp32(int64_t{a} + b); }
};
struct SubSat {
  static int32_t of(int32_t a, int32_t b) { return clamp32(int64_t{a} - b); }
};

// The type of twice the width.
template <class T>
using Wide = std::conditional_t<
    sizeof(T) == 2, std::conditional_t<std::is_signed_v<T>, int32_t, uint32_t>,
    std::conditional_t<sizeof(T) == 4, std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t>,
                       std::conditional_t<std::is_signed_v<T>, __int128, unsigned __int128>>>;

// Where a product's low part is computed: 32 bits as far as they do, for the sake of SIMD.
template <class T>
using Factor = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
struct MulLow {
  template <class T>
  static T of(T a, T b) { return static_cast<T>(static_cast<Factor<T>>(a) * static_cast<Factor<T>>(b)); }
};
template <class T>
T high(T a, T b) { return static_cast<T>((static_cast<Wide<T>>(a) * static_cast<Wide<T>>(b)) >> (sizeof(T) * 8)); }
struct MulHigh {
  template <class T>
  static T of(T a, T b) { return high(a, b); }
};
struct MulWide {
  template <class T>
  static Wide<T> of(T a, T b) { return static_cast<Wide<T>>(static_cast<Wide<T>>(a) * b); }
};
struct MadLow {
  template <class T>
  static T of(T a, T b, T c) { return static_cast<T>(static_cast<Factor<T>>(a) * static_cast<Factor<T>>(b) + static_cast<Factor<T>>(c)); }
};
struct MadHigh {
  template <class T>
  static T of(T a, T b, T c) { return Add::of(high(a, b), c); }
};
struct MadHighSat {
  static int32_t of(int32_t a, int32_t b, int32_t c) { return clamp32(int64_t{high(a, b)} + c); }
};
struct MadWide {
  template <class T>
  static Wide<T> of(T a, T b, Wide<T> c) { return Add::of(static_cast<Wide<T>>(static_cast<Wide<T>>(a) * b), c); }
};

// The low 24 bits of each operand; hi takes bits 47..16 of the 48-bit product.
template <class T>
int64_t product24(T a, T b) {
  if constexpr (std::is_signed_v<T>)
    return (int64_t{a} << 40 >> 40) * (int64_t{b} << 40 >> 40);
  else
    return static_cast<int64_t>(uint64_t{a & 0xffffffu} * uint64_t{b & 0xffffffu});
}
struct Mul24Low {
  template <class T>
  static T of(T a, T b) { return static_cast<T>(product24(a, b)); }
};
struct Mul24High {
  template <class T>
  static T of(T a, T b) { return static_cast<T>(product24(a, b) >> 16); }
};
struct Mad24Low {
  template <class T>
  static T of(T a, T b, T c) { return Add::of(Mul24Low::of(a, b), c); }
};
struct Mad24High {
  template <class T>
  static T of(T a, T b, T c) { return Add::of(Mul24High::of(a, b), c); }
};
struct Mad24HighSat {
  static int32_t of(int32_t a, int32_t b, int32_t c) { return clamp32((product24(a, b) >> 16) + c); }
};

struct Min {
  template <class T>
  static T of(T a, T b) { return b < a ? b : a; }
};
struct Max {
  template <class T>
  static T of(T a, T b) { return a < b ? b : a; }
};
struct MinRelu {
  template <class T>
  static T of(T a, T b) { T v = Min::of(a, b); return v < 0 ? T{0} : v; }
};
struct MaxRelu {
  template <class T>
  static T of(T a, T b) { T v = Max::of(a, b); return v < 0 ? T{0} : v; }
};
template <class Op, class T>
struct Halves {  // the operation on both 16-bit halves of a word
  static uint32_t of(uint32_t a, uint32_t b) {
    uint16_t low = static_cast<uint16_t>(Op::of(static_cast<T>(a), static_cast<T>(b)));
    uint16_t up = static_cast<uint16_t>(Op::of(static_cast<T>(a >> 16), static_cast<T>(b >> 16)));
    return uint32_t{low} | uint32_t{up} << 16;
  }
};
// What the ISA leaves open, division by zero, gives all ones and the dividend, as the chip is seen to do.
struct Div {
  template <class T>
  static T of(T a, T b) {
    if (b == 0) return static_cast<T>(-1);
    if constexpr (std::is_signed_v<T>)
      if (b == -1) return Sub::of(T{0}, a);
    return static_cast<T>(a / b);
  }
};
struct Rem {
  template <class T>
  static T of(T a, T b) {
    if (b == 0) return a;
    if constexpr (std::is_signed_v<T>)
      if (b == -1) return 0;
    return static_cast<T>(a % b);
  }
};
struct Abs {
  template <class T>
  static T of(T a) { return a < 0 ? Sub::of(T{0}, a) : a; }
};
struct Neg {
  template <class T>
  static T of(T a) { return Sub::of(T{0}, a); }
};
struct Sad {
  template <class T>
  static T of(T a, T b, T c) { return Add::of(c, a < b ? Sub::of(b, a) : Sub::of(a, b)); }
};

template <class A, class B>
struct Dot4 {
  static uint32_t of(uint32_t a, uint32_t b, uint32_t c) {
    for (int k = 0; k < 4; ++k)
      c += static_cast<uint32_t>(static_cast<int32_t>(static_cast<A>(a >> 8 * k)) * static_cast<int32_t>(static_cast<B>(b >> 8 * k)));
    return c;
  }
};
template <class A, class B, int shift>
struct Dot2 {
  using A16 = std::conditional_t<std::is_signed_v<A>, int16_t, uint16_t>;
  static uint32_t of(uint32_t a, uint32_t b, uint32_t c) {
    for (int k = 0; k < 2; ++k)
      c += static_cast<uint32_t>(static_cast<int32_t>(static_cast<A16>(a >> 16 * k)) *
                                 static_cast<int32_t>(static_cast<B>(b >> (8 * k + shift))));
    return c;
  }
};

// --- the carry chain: add.cc, addc, sub.cc, subc, mad.cc, madc ----------------------------------------------------
enum class Chain : uint8_t { add, sub, madLow, madHigh };
constexpr uint32_t kCarryIn = 1, kCarryOut = 2;

template <class T, Chain kind>
Flow carryChain(Warp& w, const Insn& i, Mask m) {
  const Cell<T>* a = w.in<Cell<T>>(i.a);
  const Cell<T>* b = w.in<Cell<T>>(i.b);
  Cell<T>* d = w.out<Cell<T>>(i.d);
  using U = Unsigned<T>;
  for (int l : lanesOf(m)) {
    unsigned __int128 x = static_cast<U>(a[l]), y = static_cast<U>(b[l]);
    if constexpr (kind == Chain::madLow || kind == Chain::madHigh) {
      x = static_cast<U>(kind == Chain::madLow ? MulLow::of(get<T>(a[l]), get<T>(b[l])) : high(get<T>(a[l]), get<T>(b[l])));
      y = static_cast<U>(w.in<Cell<T>>(i.c)[l]);
    }
    unsigned carry = (i.flags & kCarryIn) ? w.carry >> l & 1 : 0;
    unsigned __int128 sum = kind == Chain::sub ? x - y - carry : x + y + carry;
    d[l] = put<T>(static_cast<T>(static_cast<U>(sum)));
    // A subtraction borrows when it goes below zero.
    if (i.flags & kCarryOut) w.carry = (w.carry & ~(1u << l)) | static_cast<Mask>(sum >> (sizeof(T) * 8) & 1) << l;
  }
  return Flow::next;
}

template <Chain kind>
Handler chainOf(Type t) {
  return by16To64(t, [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    if constexpr (sizeof(T) < 4) return nullptr;
    else return carryChain<T, kind>;
  });
}

template <class Op>
Handler binaryOf(Type t) {
  return by16To64(t, [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return binary<T, T, T, Op>;
  });
}
template <class Op>
Handler binaryEachOf(Type t) {
  return by16To64(t, [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return binaryEach<T, T, T, Op>;
  });
}
template <class Op>
Handler ternaryOf(Type t) {
  return by16To64(t, [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    return ternary<T, T, T, T, Op>;
  });
}
template <class Op>
Handler halvesOf(Type t) {
  if (t == Type::u16x2) return binary<uint32_t, uint32_t, uint32_t, Halves<Op, uint16_t>>;
  if (t == Type::s16x2) return binary<uint32_t, uint32_t, uint32_t, Halves<Op, int16_t>>;
  return nullptr;
}

bool chained(Resolve& r) { return r.has(Modifier::cc_); }

void resolveAddSub(Resolve& r) {
  Type t = r.type(0);
  bool sub = r.in.mnemonic == Mnemonic::sub_ || r.in.mnemonic == Mnemonic::subc_;
  bool in = r.in.mnemonic == Mnemonic::addc_ || r.in.mnemonic == Mnemonic::subc_;
  operandsOf(r, t, t, t);
  if (in || chained(r)) {
    r.out.run = sub ? chainOf<Chain::sub>(t) : chainOf<Chain::add>(t);
    r.out.flags = (in ? kCarryIn : 0) | (chained(r) ? kCarryOut : 0);
  } else if (r.has(Modifier::sat_)) {
    if (t == Type::s32) r.out.run = sub ? binary<int32_t, int32_t, int32_t, SubSat> : binary<int32_t, int32_t, int32_t, AddSat>;
  } else {
    r.out.run = sub ? binaryOf<Sub>(t) : binaryOf<Add>(t);
    if (!r.out.run) r.out.run = sub ? halvesOf<Sub>(t) : halvesOf<Add>(t);
  }
}

Type wideOf(Type t) {
  switch (t) {
    case Type::u16: return Type::u32;
    case Type::s16: return Type::s32;
    case Type::u32: return Type::u64;
    case Type::s32: return Type::s64;
    default: return Type::none;
  }
}
template <class Op2, class Op3>
Handler wideHandler(Type t, bool mad) {
  return by16To64(t, [&](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    if constexpr (sizeof(T) == 8) return nullptr;
    else return mad ? Handler{ternary<Wide<T>, T, T, Wide<T>, Op3>} : Handler{binary<Wide<T>, T, T, Op2>};
  });
}

void resolveMul(Resolve& r) {
  Type t = r.type(0);
  bool mad = r.in.mnemonic != Mnemonic::mul_;
  bool in = r.in.mnemonic == Mnemonic::madc_;
  if (r.has(Modifier::wide_)) {
    Type w = wideOf(t);
    if (w == Type::none) r.unsupported(".wide takes 16- and 32-bit types");
    operandsOf(r, w, t, t, mad ? w : Type::none);
    r.out.run = wideHandler<MulWide, MadWide>(t, mad);
    return;
  }
  operandsOf(r, t, t, t, mad ? t : Type::none);
  bool hi = r.has(Modifier::hi_);
  if (in || chained(r)) {
    r.out.run = hi ? chainOf<Chain::madHigh>(t) : chainOf<Chain::madLow>(t);
    r.out.flags = (in ? kCarryIn : 0) | (chained(r) ? kCarryOut : 0);
  } else if (mad && r.has(Modifier::sat_)) {
    if (t == Type::s32 && hi) r.out.run = ternary<int32_t, int32_t, int32_t, int32_t, MadHighSat>;
  } else if (mad) {
    r.out.run = hi ? ternaryOf<MadHigh>(t) : ternaryOf<MadLow>(t);
  } else {
    r.out.run = hi ? binaryOf<MulHigh>(t) : binaryOf<MulLow>(t);
  }
}

void resolveMul24(Resolve& r) {
  Type t = r.type(0);
  bool mad = r.in.mnemonic == Mnemonic::mad24_, hi = r.has(Modifier::hi_), s = t == Type::s32;
  if (t != Type::u32 && !s) r.unsupported("the type is .u32 or .s32");
  operandsOf(r, t, t, t, mad ? t : Type::none);
  using I = int32_t;
  using U = uint32_t;
  if (mad && r.has(Modifier::sat_)) r.out.run = s && hi ? Handler{ternary<I, I, I, I, Mad24HighSat>} : nullptr;
  else if (mad && hi) r.out.run = s ? ternary<I, I, I, I, Mad24High> : ternary<U, U, U, U, Mad24High>;
  else if (mad) r.out.run = s ? ternary<I, I, I, I, Mad24Low> : ternary<U, U, U, U, Mad24Low>;
  else if (hi) r.out.run = s ? binary<I, I, I, Mul24High> : binary<U, U, U, Mul24High>;
  else r.out.run = s ? binary<I, I, I, Mul24Low> : binary<U, U, U, Mul24Low>;
}

template <class Op, class Relu>
void resolveMinMax(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t, t);
  if (r.has(Modifier::relu_)) {
    if (t == Type::s32) r.out.run = binary<int32_t, int32_t, int32_t, Relu>;
    if (t == Type::s16x2) r.out.run = halvesOf<Relu>(t);
    return;
  }
  r.out.run = binaryOf<Op>(t);
  if (!r.out.run) r.out.run = halvesOf<Op>(t);
}
template <class Op>
void resolveDiv(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t, t);
  r.out.run = binaryEachOf<Op>(t);
}
template <class Op>
void resolveUnary(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t);
  r.out.run = by16To64(t, [](auto tag) -> Handler {
    using T = typename decltype(tag)::type;
    if constexpr (std::is_signed_v<T>) return unary<T, T, Op>;
    else return nullptr;
  });
}
void resolveSad(Resolve& r) {
  Type t = r.type(0);
  operandsOf(r, t, t, t, t);
  r.out.run = ternaryOf<Sad>(t);
}
void resolveDot(Resolve& r) {
  Type a = r.type(0), b = r.type(1);
  bool sa = a == Type::s32, sb = b == Type::s32;
  if ((!sa && a != Type::u32) || (!sb && b != Type::u32)) r.unsupported("the types are .u32 or .s32");
  operandsOf(r, Type::b32, Type::b32, Type::b32, Type::b32);
  using U = uint32_t;
  if (r.in.mnemonic == Mnemonic::dp4a_) {
    r.out.run = sa ? (sb ? ternary<U, U, U, U, Dot4<int8_t, int8_t>> : ternary<U, U, U, U, Dot4<int8_t, uint8_t>>)
                   : (sb ? ternary<U, U, U, U, Dot4<uint8_t, int8_t>> : ternary<U, U, U, U, Dot4<uint8_t, uint8_t>>);
  } else if (r.has(Modifier::hi_)) {
    r.out.run = sa ? (sb ? ternary<U, U, U, U, Dot2<int8_t, int8_t, 16>> : ternary<U, U, U, U, Dot2<int8_t, uint8_t, 16>>)
                   : (sb ? ternary<U, U, U, U, Dot2<uint8_t, int8_t, 16>> : ternary<U, U, U, U, Dot2<uint8_t, uint8_t, 16>>);
  } else {
    r.out.run = sa ? (sb ? ternary<U, U, U, U, Dot2<int8_t, int8_t, 0>> : ternary<U, U, U, U, Dot2<int8_t, uint8_t, 0>>)
                   : (sb ? ternary<U, U, U, U, Dot2<uint8_t, int8_t, 0>> : ternary<U, U, U, U, Dot2<uint8_t, uint8_t, 0>>);
  }
}

// Mnemonics that integers share with floats go by the type.
template <ResolveFunction integer, ResolveFunction floating>
void byType(Resolve& r) {
  for (int k = 0; k < r.types(); ++k)
    if (isFloat(r.type(k))) return floating(r);
  integer(r);
}

}  // namespace

// Defined in float.cpp: the floating-point side of the mnemonics above.
void resolveFloatArithmetic(Resolve& r);

void registerInteger(Resolver& r) {
  r.add(Mnemonic::add_, byType<resolveAddSub, resolveFloatArithmetic>);
  r.add(Mnemonic::sub_, byType<resolveAddSub, resolveFloatArithmetic>);
  r.add(Mnemonic::addc_, resolveAddSub);
  r.add(Mnemonic::subc_, resolveAddSub);
  r.add(Mnemonic::mul_, byType<resolveMul, resolveFloatArithmetic>);
  r.add(Mnemonic::mad_, byType<resolveMul, resolveFloatArithmetic>);
  r.add(Mnemonic::madc_, resolveMul);
  r.add(Mnemonic::mul24_, resolveMul24);
  r.add(Mnemonic::mad24_, resolveMul24);
  r.add(Mnemonic::min_, byType<resolveMinMax<Min, MinRelu>, resolveFloatArithmetic>);
  r.add(Mnemonic::max_, byType<resolveMinMax<Max, MaxRelu>, resolveFloatArithmetic>);
  r.add(Mnemonic::div_, byType<resolveDiv<Div>, resolveFloatArithmetic>);
  r.add(Mnemonic::rem_, resolveDiv<Rem>);
  r.add(Mnemonic::abs_, byType<resolveUnary<Abs>, resolveFloatArithmetic>);
  r.add(Mnemonic::neg_, byType<resolveUnary<Neg>, resolveFloatArithmetic>);
  r.add(Mnemonic::sad_, resolveSad);
  r.add(Mnemonic::dp4a_, resolveDot);
  r.add(Mnemonic::dp2a_, resolveDot);
}

}  // namespace dsvc::emulator::DSVC_ARCH
