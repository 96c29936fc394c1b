// Loops over the 32 lanes of a warp, written so that the compiler turns them into SIMD, and the handlers made from
// them: unary<D, A, Op>, binary<D, A, B, Op>, ternary<D, A, B, C, Op> call Op::of on each lane.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "../machine.h"
#include "../resolver.h"
#include "../warp.h"
#include "families.h"

// A destination may be the very array of a source, never an overlapping one: lanes are independent.
#if defined(__clang__)
#define DSVC_LANES _Pragma("clang loop vectorize(assume_safety)") for (int l = 0; l < kLanes; ++l)
#else
#define DSVC_LANES _Pragma("GCC ivdep") for (int l = 0; l < kLanes; ++l)
#endif

namespace dsvc::emulator::DSVC_ARCH {

// What an array of lanes of T is made of: 8- and 16-bit values live in 32-bit slots.
template <class T>
using Cell = std::conditional_t<sizeof(T) == 8, T, std::conditional_t<std::is_floating_point_v<T>, T, uint32_t>>;

template <class T>
inline T get(Cell<T> c) {
  return static_cast<T>(c);
}
template <class T>
inline Cell<T> put(T v) {
  if constexpr (sizeof(T) == 8 || std::is_floating_point_v<T>) return v;
  else if constexpr (std::is_signed_v<T>) return static_cast<uint32_t>(static_cast<int32_t>(v));
  else return static_cast<uint32_t>(v);
}

template <class D, class F>
inline void store(Warp& w, Slot slot, Mask m, F f) {
  Cell<D>* d = w.out<Cell<D>>(slot);
  if (w.whole(m)) {
    DSVC_LANES d[l] = put<D>(f(l));
  } else {
    DSVC_LANES {
      Cell<D> v = put<D>(f(l));
      d[l] = (m >> l & 1) ? v : d[l];
    }
  }
}

template <class D, class A, class Op>
Flow unary(Warp& w, const Insn& i, Mask m) {
  const Cell<A>* a = w.in<Cell<A>>(i.a);
  store<D>(w, i.d, m, [&](int l) { return Op::of(get<A>(a[l])); });
  return Flow::next;
}
template <class D, class A, class B, class Op>
Flow binary(Warp& w, const Insn& i, Mask m) {
  const Cell<A>* a = w.in<Cell<A>>(i.a);
  const Cell<B>* b = w.in<Cell<B>>(i.b);
  store<D>(w, i.d, m, [&](int l) { return Op::of(get<A>(a[l]), get<B>(b[l])); });
  return Flow::next;
}
template <class D, class A, class B, class C, class Op>
Flow ternary(Warp& w, const Insn& i, Mask m) {
  const Cell<A>* a = w.in<Cell<A>>(i.a);
  const Cell<B>* b = w.in<Cell<B>>(i.b);
  const Cell<C>* c = w.in<Cell<C>>(i.c);
  store<D>(w, i.d, m, [&](int l) { return Op::of(get<A>(a[l]), get<B>(b[l]), get<C>(c[l])); });
  return Flow::next;
}
// For what no SIMD form exists: only active lanes are computed.
template <class D, class A, class Op>
Flow unaryEach(Warp& w, const Insn& i, Mask m) {
  const Cell<A>* a = w.in<Cell<A>>(i.a);
  Cell<D>* d = w.out<Cell<D>>(i.d);
  for (int l : lanesOf(m)) d[l] = put<D>(Op::of(get<A>(a[l])));
  return Flow::next;
}
template <class D, class A, class B, class Op>
Flow binaryEach(Warp& w, const Insn& i, Mask m) {
  const Cell<A>* a = w.in<Cell<A>>(i.a);
  const Cell<B>* b = w.in<Cell<B>>(i.b);
  Cell<D>* d = w.out<Cell<D>>(i.d);
  for (int l : lanesOf(m)) d[l] = put<D>(Op::of(get<A>(a[l]), get<B>(b[l])));
  return Flow::next;
}
template <class D, class A, class B, class C, class Op>
Flow ternaryEach(Warp& w, const Insn& i, Mask m) {
  const Cell<A>* a = w.in<Cell<A>>(i.a);
  const Cell<B>* b = w.in<Cell<B>>(i.b);
  const Cell<C>* c = w.in<Cell<C>>(i.c);
  Cell<D>* d = w.out<Cell<D>>(i.d);
  for (int l : lanesOf(m)) d[l] = put<D>(Op::of(get<A>(a[l]), get<B>(b[l]), get<C>(c[l])));
  return Flow::next;
}

// A mask of the lanes for which f holds.
template <class F>
inline Mask maskWhere(F f) {
  uint8_t bits[kLanes];
  DSVC_LANES bits[l] = f(l) ? 1 : 0;
  Mask m = 0;
  for (int k = 0; k < 4; ++k) {
    uint64_t eight;
    std::memcpy(&eight, bits + 8 * k, 8);
    // Gathers the low bit of each of 8 bytes into one byte.
    m |= static_cast<Mask>((eight * 0x0102040810204080ull) >> 56) << (8 * k);
  }
  return m;
}

template <class T>
struct Tag {
  using type = T;
};

// Calls f with the C++ type of an integer type; null when it is none.
template <class F>
Handler byInteger(Type t, F f) {
  switch (t) {
    case Type::u8: return f(Tag<uint8_t>{});
    case Type::s8: return f(Tag<int8_t>{});
    case Type::u16: return f(Tag<uint16_t>{});
    case Type::s16: return f(Tag<int16_t>{});
    case Type::u32: return f(Tag<uint32_t>{});
    case Type::s32: return f(Tag<int32_t>{});
    case Type::u64: return f(Tag<uint64_t>{});
    case Type::s64: return f(Tag<int64_t>{});
    default: return nullptr;
  }
}
template <class F>
Handler by16To64(Type t, F f) {
  switch (t) {
    case Type::u16: return f(Tag<uint16_t>{});
    case Type::s16: return f(Tag<int16_t>{});
    case Type::u32: return f(Tag<uint32_t>{});
    case Type::s32: return f(Tag<int32_t>{});
    case Type::u64: return f(Tag<uint64_t>{});
    case Type::s64: return f(Tag<int64_t>{});
    default: return nullptr;
  }
}
template <class F>
Handler byBits(Type t, F f) {
  switch (sizeOf(t)) {
    case 2: return f(Tag<uint16_t>{});
    case 4: return f(Tag<uint32_t>{});
    case 8: return f(Tag<uint64_t>{});
    default: return nullptr;
  }
}

// d, a, b, c of one type, as many as there are.
inline void operandsOf(Resolve& r, Type d, Type a, Type b = Type::none, Type c = Type::none) {
  r.out.a = r.source(1, a);
  if (b != Type::none) r.out.b = r.source(2, b);
  if (c != Type::none) r.out.c = r.source(3, c);
  r.out.d = r.destination(0, d);
}

}  // namespace dsvc::emulator::DSVC_ARCH
