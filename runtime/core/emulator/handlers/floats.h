// Single and double precision as the ISA wants it: flushing, saturation, canonical NaNs, directed rounding.
#pragma once
#include <bit>
#include <cfenv>
#include <cmath>
#include <cstdint>

#include "lanes.h"
#include "numbers.h"

namespace dsvc::emulator::DSVC_ARCH {

inline constexpr uint32_t kNan32 = 0x7fffffffu;

// Subnormals become zero of their sign.
inline float flush(float v) {
  uint32_t b = std::bit_cast<uint32_t>(v);
  return std::bit_cast<float>((b & 0x7f800000u) ? b : b & 0x80000000u);
}
inline float canonical(float v) { return v == v ? v : std::bit_cast<float>(kNan32); }
inline double canonical(double v) { return v; }
// [0, 1]; NaN and -0 become +0.
inline float saturate(float v) { return v > 0 ? (v < 1 ? v : 1.0f) : 0.0f; }
inline double saturate(double v) { return v > 0 ? (v < 1 ? v : 1.0) : 0.0; }

// The bits of Insn::flags of floating-point handlers.
constexpr uint32_t kFtz = 1, kSat = 2;

inline Rounding roundingOf(const Resolve& r) {
  if (r.hasAny(Modifier::rz_, Modifier::rzi_)) return Rounding::zero;
  if (r.hasAny(Modifier::rm_, Modifier::rmi_)) return Rounding::down;
  if (r.hasAny(Modifier::rp_, Modifier::rpi_)) return Rounding::up;
  if (r.has(Modifier::rna_)) return Rounding::away;
  return Rounding::nearest;
}

// Sets the processor's rounding while it lives. The compiler does not know of it: values pass through `pin` on their
// way in and out, so that no arithmetic moves across.
class RoundingScope {
 public:
  explicit RoundingScope(Rounding m) : before_(std::fegetround()) {
    std::fesetround(m == Rounding::zero ? FE_TOWARDZERO : m == Rounding::down ? FE_DOWNWARD : m == Rounding::up ? FE_UPWARD : FE_TONEAREST);
  }
  ~RoundingScope() { std::fesetround(before_); }

 private:
  int before_;
};
template <class T>
inline T pin(T v) {
  asm volatile("" : "+m"(v) : : "memory");
  return v;
}

}  // namespace dsvc::emulator::DSVC_ARCH
