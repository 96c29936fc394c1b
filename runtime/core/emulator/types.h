// The type modifiers of PTX, with their sizes.
#pragma once
#include <cstdint>
#include <optional>

#include "names.h"

namespace dsvc::emulator {

enum class Type : uint8_t {
  none, pred,
  b8, b16, b32, b64, b128,
  u8, u16, u32, u64,
  s8, s16, s32, s64,
  f16, f16x2, bf16, bf16x2, f32, f64, tf32,
  e4m3x2, e5m2x2, e4m3, e5m2, u16x2, s16x2, other
};

// Bytes of a value of the type; 0 for none, predicates and types we do not know.
constexpr uint32_t sizeOf(Type t) {
  switch (t) {
    case Type::b8: case Type::u8: case Type::s8: case Type::e4m3: case Type::e5m2: return 1;
    case Type::b16: case Type::u16: case Type::s16: case Type::f16: case Type::bf16:
    case Type::e4m3x2: case Type::e5m2x2: return 2;
    case Type::b32: case Type::u32: case Type::s32: case Type::f32: case Type::f16x2: case Type::bf16x2:
    case Type::tf32: case Type::u16x2: case Type::s16x2: return 4;
    case Type::b64: case Type::u64: case Type::s64: case Type::f64: return 8;
    case Type::b128: return 16;
    default: return 0;
  }
}
constexpr bool isSigned(Type t) { return t == Type::s8 || t == Type::s16 || t == Type::s32 || t == Type::s64; }
constexpr bool isFloat(Type t) {
  return t == Type::f16 || t == Type::bf16 || t == Type::f16x2 || t == Type::bf16x2 || t == Type::f32 || t == Type::f64;
}

// The register class that holds the type: 0 predicate, 1 up to 32 bits, 2 64 bits, 3 128 bits.
constexpr uint8_t classOf(Type t) {
  if (t == Type::pred) return 0;
  uint32_t n = sizeOf(t);
  return n <= 4 ? 1 : n == 8 ? 2 : 3;
}

// Type::none when the modifier is not a type.
Type typeOf(Modifier m);

}  // namespace dsvc::emulator
