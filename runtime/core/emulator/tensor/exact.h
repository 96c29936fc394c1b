// The exact model: one fused sum of all products and C. Every term is truncated toward zero to F fraction bits of the
// largest exponent, the truncated terms are added exactly, and the sum is truncated (f32) or rounded (f16).
//
// The products are exact in f32 (FP8) and f64 (16 bits, tf32), so a term in units of 2^(largest - F) is the product times
// a power of two, truncated to an integer: no bit is lost on the way. Sums of the integers are exact as well: below
// 2^20 for F = 13 with 32 products, below 2^32 for F = 25 with 16.
#pragma once
#include <cmath>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "pack.h"

namespace dsvc::emulator::DSVC_ARCH {

// A sum that has an infinity or NaN among its terms, by IEEE rules; which of several does not matter.
inline uint32_t specialSum(const Operation& o, const uint32_t* a, const uint32_t* b, uint32_t c) {
  double sum = o.c == Result::f16 ? halfToFloat(c) : std::bit_cast<float>(c);
  for (uint32_t k = 0; k < o.k; ++k) {
    double p = static_cast<double>(valueOf(o.a, elementAt(o.a, a, k))) * valueOf(o.b, elementAt(o.b, b, k));
    sum += o.negate ? -p : p;
  }
  if (std::isnan(sum)) return nanOf(o.d);
  const bool negative = std::signbit(sum);
  if (o.d == Result::f16) return negative ? 0xfc00 : 0x7c00;
  return negative ? 0xff800000u : 0x7f800000u;
}

// --- FP8 with 13 fraction bits -------------------------------------------------------------------------------------

struct NarrowSums {
  alignas(64) int32_t sum[kNarrowBlock];
  alignas(64) int32_t largest[kNarrowBlock];  // of the products' exponents and C's
  alignas(64) int32_t products[kNarrowBlock];  // of the products' alone
};

inline void narrowRow(const float* a, const int8_t* ae, const NarrowColumns::Block& b, uint32_t k, const float* c,
                      const int32_t* ce, NarrowSums& s) {
  alignas(64) int8_t top[kNarrowBlock];
  alignas(64) float scale[kNarrowBlock];
#if defined(__AVX2__)
  __m256i most = _mm256_set1_epi8(-128);
  for (uint32_t i = 0; i < k; ++i)
    most = _mm256_max_epi8(most, _mm256_add_epi8(_mm256_set1_epi8(ae[i]),
                                                 _mm256_load_si256(reinterpret_cast<const __m256i*>(b.exponent[i]))));
  _mm256_store_si256(reinterpret_cast<__m256i*>(top), most);
#else
  for (uint32_t j = 0; j < kNarrowBlock; ++j) top[j] = -128;
  for (uint32_t i = 0; i < k; ++i)
    for (uint32_t j = 0; j < kNarrowBlock; ++j) {
      const int8_t e = static_cast<int8_t>(ae[i] + b.exponent[i][j]);
      top[j] = e > top[j] ? e : top[j];
    }
#endif
  for (uint32_t j = 0; j < kNarrowBlock; ++j) {
    const int32_t e = top[j], largest = e > ce[j] ? e : ce[j];
    s.products[j] = e;
    s.largest[j] = largest;
    // Only when no product is nonzero could the scale leave f32's range; then it does not matter.
    const int32_t power = 13 - largest > 127 ? 127 : 13 - largest;
    scale[j] = std::bit_cast<float>((power + 127) << 23);
  }
#if defined(__AVX2__)
  __m256 f[4];
  __m256i sum[4];
  for (int v = 0; v < 4; ++v) {
    f[v] = _mm256_load_ps(scale + 8 * v);
    sum[v] = _mm256_cvttps_epi32(_mm256_mul_ps(_mm256_loadu_ps(c + 8 * v), f[v]));
  }
  for (uint32_t i = 0; i < k; ++i) {
    const __m256 x = _mm256_set1_ps(a[i]);
    for (int v = 0; v < 4; ++v) {
      const __m256 p = _mm256_mul_ps(x, _mm256_load_ps(b.value[i] + 8 * v));
      sum[v] = _mm256_add_epi32(sum[v], _mm256_cvttps_epi32(_mm256_mul_ps(p, f[v])));
    }
  }
  for (int v = 0; v < 4; ++v) _mm256_store_si256(reinterpret_cast<__m256i*>(s.sum + 8 * v), sum[v]);
#else
  for (uint32_t j = 0; j < kNarrowBlock; ++j) s.sum[j] = static_cast<int32_t>(c[j] * scale[j]);
  for (uint32_t i = 0; i < k; ++i)
    for (uint32_t j = 0; j < kNarrowBlock; ++j)
      s.sum[j] += static_cast<int32_t>(a[i] * b.value[i][j] * scale[j]);
#endif
}

inline void exactNarrow(const Operation& o, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) {
  NarrowRows& rows = scratch<NarrowRows>();
  NarrowColumns& columns = scratch<NarrowColumns>();
  rows.load(o.a, a, o.m, o.k);
  columns.load(o.b, b, o.n, o.k);
  if (o.negate)
    for (uint32_t r = 0; r < o.m; ++r)
      for (uint32_t i = 0; i < o.k; ++i) rows.value[r][i] = -rows.value[r][i];
  const bool onlyNan = o.a == Element::e4m3 && o.b == Element::e4m3;
  NarrowSums s;
  alignas(64) float cv[kNarrowBlock] = {};
  alignas(64) int32_t ce[kNarrowBlock];
  for (uint32_t j = 0; j < kNarrowBlock; ++j) ce[j] = kLeastExponent;
  for (uint32_t r = 0; r < o.m; ++r) {
    for (uint32_t n0 = 0; n0 < o.n; n0 += kNarrowBlock) {
      const uint32_t count = o.n - n0 < kNarrowBlock ? o.n - n0 : kNarrowBlock;
      const uint32_t* from = c ? c + r * o.n + n0 : nullptr;
      bool special = rows.special[r] || columns.any;
      if (from && o.c == Result::f32) {
        uint32_t most = 0;
        for (uint32_t j = 0; j < count; ++j) {
          const uint32_t field = from[j] >> 23 & 255;
          most = field > most ? field : most;
          cv[j] = std::bit_cast<float>(from[j]);
          ce[j] = static_cast<int32_t>(field ? field : 1) - 127;
        }
        special |= most == 255;
      } else if (from) {
        for (uint32_t j = 0; j < count; ++j) {
          Addend q = addendOf(o.c, from[j]);
          cv[j] = q.value;
          ce[j] = q.exponent;
          special |= q.special;
        }
      }
      // Infinite addends are left to specialSum; the vector path must not see them.
      uint32_t saved[kNarrowBlock];
      if (special && from) {
        std::memcpy(saved, from, count * 4);
        for (uint32_t j = 0; j < count; ++j)
          if (ce[j] > 127) cv[j] = 0, ce[j] = kLeastExponent;
      }
      narrowRow(rows.value[r], rows.exponent[r], columns.blocks[n0 / kNarrowBlock], o.k, cv, ce, s);
      uint32_t* to = d + r * o.n + n0;
      if (o.d == Result::f32) {
        alignas(64) uint32_t result[kNarrowBlock];
        for (uint32_t j = 0; j < kNarrowBlock; ++j) {
          // 13 fraction bits of the result, scaled back.
          const float kept = std::bit_cast<float>(std::bit_cast<uint32_t>(static_cast<float>(s.sum[j])) & 0xfffffc00u);
          const int32_t power = s.largest[j] - 13 < -126 ? -126 : s.largest[j] - 13;
          const float scaled = kept * std::bit_cast<float>((power + 127) << 23);
          // No nonzero product: C alone, whose last bits go.
          const uint32_t alone = std::bit_cast<uint32_t>(cv[j]) & 0xfffffc00u;
          const uint32_t bits = s.products[j] < -40 ? alone : std::bit_cast<uint32_t>(scaled);
          result[j] = (bits << 1) == 0 ? 0 : bits;
        }
        std::memcpy(to, result, count * 4);
      } else {
        for (uint32_t j = 0; j < count; ++j) {
          const double x = s.products[j] < -40 ? static_cast<double>(cv[j])
                                               : static_cast<double>(s.sum[j]) * powerOfTwo(s.largest[j] - 13);
          to[j] = doubleToHalf(x);
        }
      }
      if (special)
        for (uint32_t j = 0; j < count; ++j) {
          const uint32_t cBits = from ? saved[j] : 0;
          // e4m3 has no infinity: one NaN makes the sum NaN.
          if (onlyNan && (rows.special[r] || columns.special[n0 + j])) to[j] = nanOf(o.d);
          else if (rows.special[r] || columns.special[n0 + j] || (from && addendOf(o.c, cBits).special))
            to[j] = specialSum(o, a + r * kRowWords, b + (n0 + j) * kRowWords, cBits);
        }
    }
  }
}

// --- 16-bit types and tf32 with 25 fraction bits --------------------------------------------------------------------

struct WideSums {
  alignas(64) double sum[kWideBlock];
  alignas(64) int16_t largest[kWideBlock];
};

inline void wideRow(const double* a, const int16_t* ae, const WideColumns::Block& b, uint32_t k, const double* c,
                    const int16_t* ce, WideSums& s) {
  alignas(64) double scale[kWideBlock];
#if defined(__AVX2__)
  __m256i most = _mm256_load_si256(reinterpret_cast<const __m256i*>(ce));
  for (uint32_t i = 0; i < k; ++i)
    most = _mm256_max_epi16(most, _mm256_add_epi16(_mm256_set1_epi16(ae[i]),
                                                   _mm256_load_si256(reinterpret_cast<const __m256i*>(b.exponent[i]))));
  _mm256_store_si256(reinterpret_cast<__m256i*>(s.largest), most);
#else
  for (uint32_t j = 0; j < kWideBlock; ++j) s.largest[j] = ce[j];
  for (uint32_t i = 0; i < k; ++i)
    for (uint32_t j = 0; j < kWideBlock; ++j) {
      const int16_t e = static_cast<int16_t>(ae[i] + b.exponent[i][j]);
      s.largest[j] = e > s.largest[j] ? e : s.largest[j];
    }
#endif
  for (uint32_t j = 0; j < kWideBlock; ++j)
    scale[j] = std::bit_cast<double>(static_cast<int64_t>(1023 + 25 - s.largest[j]) << 52);
#if defined(__AVX2__)
  constexpr int kToZero = _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC;
  __m256d f[4], sum[4];
  for (int v = 0; v < 4; ++v) {
    f[v] = _mm256_load_pd(scale + 4 * v);
    sum[v] = _mm256_round_pd(_mm256_mul_pd(_mm256_load_pd(c + 4 * v), f[v]), kToZero);
  }
  for (uint32_t i = 0; i < k; ++i) {
    const __m256d x = _mm256_set1_pd(a[i]);
    for (int v = 0; v < 4; ++v) {
      const __m256d p = _mm256_mul_pd(x, _mm256_load_pd(b.value[i] + 4 * v));
      sum[v] = _mm256_add_pd(sum[v], _mm256_round_pd(_mm256_mul_pd(p, f[v]), kToZero));
    }
  }
  for (int v = 0; v < 4; ++v) _mm256_store_pd(s.sum + 4 * v, sum[v]);
#else
  // Terms stay below 2^27: a conversion to 32 bits truncates them.
  for (uint32_t j = 0; j < kWideBlock; ++j) s.sum[j] = static_cast<int32_t>(c[j] * scale[j]);
  for (uint32_t i = 0; i < k; ++i)
    for (uint32_t j = 0; j < kWideBlock; ++j)
      s.sum[j] += static_cast<double>(static_cast<int32_t>(a[i] * b.value[i][j] * scale[j]));
#endif
}

inline void exactWide(const Operation& o, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) {
  WideRows& rows = scratch<WideRows>();
  WideColumns& columns = scratch<WideColumns>();
  rows.load(o.a, a, o.m, o.k);
  columns.load(o.b, b, o.n, o.k);
  if (o.negate)
    for (uint32_t r = 0; r < o.m; ++r)
      for (uint32_t i = 0; i < o.k; ++i) rows.value[r][i] = -rows.value[r][i];
  WideSums s;
  alignas(64) double cv[kWideBlock] = {};
  alignas(64) int16_t ce[kWideBlock];
  for (uint32_t j = 0; j < kWideBlock; ++j) ce[j] = kLeastExponent;
  for (uint32_t r = 0; r < o.m; ++r) {
    for (uint32_t n0 = 0; n0 < o.n; n0 += kWideBlock) {
      const uint32_t count = o.n - n0 < kWideBlock ? o.n - n0 : kWideBlock;
      bool special = rows.special[r] || columns.any;
      uint32_t saved[kWideBlock] = {};
      if (c) {
        std::memcpy(saved, c + r * o.n + n0, count * 4);
        for (uint32_t j = 0; j < count; ++j) {
          Addend q = addendOf(o.c, saved[j]);
          cv[j] = q.value;
          ce[j] = static_cast<int16_t>(q.exponent);
          special |= q.special;
        }
      }
      wideRow(rows.value[r], rows.exponent[r], columns.blocks[n0 / kWideBlock], o.k, cv, ce, s);
      uint32_t* to = d + r * o.n + n0;
      for (uint32_t j = 0; j < count; ++j) {
        const double x = s.sum[j] * powerOfTwo(s.largest[j] - 25);
        to[j] = o.d == Result::f32 ? truncateToFloat(x) : doubleToHalf(x);
      }
      if (special)
        for (uint32_t j = 0; j < count; ++j)
          if (rows.special[r] || columns.special[n0 + j] || addendOf(o.c, saved[j]).special)
            to[j] = specialSum(o, a + r * kRowWords, b + (n0 + j) * kRowWords, saved[j]);
    }
  }
}

}  // namespace dsvc::emulator::DSVC_ARCH
