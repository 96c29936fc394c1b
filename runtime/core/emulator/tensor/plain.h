// Products that need no model: integers, single bits, and plain f32 sums (tensorCore = 'f32').
#pragma once
#include <limits>

#include "exact.h"

namespace dsvc::emulator::DSVC_ARCH {

inline uint32_t addSaturated(int32_t c, int64_t sum, bool saturate) {
  const int64_t x = c + sum;
  if (!saturate) return static_cast<uint32_t>(x);
  constexpr int64_t least = std::numeric_limits<int32_t>::min(), most = std::numeric_limits<int32_t>::max();
  return static_cast<uint32_t>(static_cast<int32_t>(x < least ? least : x > most ? most : x));
}

inline void bitProducts(const Operation& o, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) {
  for (uint32_t r = 0; r < o.m; ++r)
    for (uint32_t n = 0; n < o.n; ++n) {
      uint32_t sum = c ? c[r * o.n + n] : 0;
      for (uint32_t w = 0; w < o.k / 32; ++w) {
        const uint32_t x = a[r * kRowWords + w], y = b[n * kRowWords + w];
        sum += static_cast<uint32_t>(std::popcount(o.isXor ? x ^ y : x & y));
      }
      d[r * o.n + n] = sum;
    }
}

inline void integerProducts(const Operation& o, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) {
  static thread_local int32_t columns[kMaxColumns / 8][64][8];
  const uint32_t n8 = (o.n + 7) / 8 * 8;
  for (uint32_t n = 0; n < n8; ++n)
    for (uint32_t k = 0; k < o.k; ++k)
      columns[n / 8][k][n % 8] = n < o.n ? integerAt(o.b, b + n * kRowWords, k) : 0;
  for (uint32_t r = 0; r < o.m; ++r) {
    int32_t row[64];
    for (uint32_t k = 0; k < o.k; ++k) row[k] = integerAt(o.a, a + r * kRowWords, k);
    for (uint32_t n0 = 0; n0 < o.n; n0 += 8) {
      int32_t sum[8] = {};
      for (uint32_t k = 0; k < o.k; ++k)
        for (uint32_t j = 0; j < 8; ++j) sum[j] += row[k] * columns[n0 / 8][k][j];
      for (uint32_t j = 0; j < 8 && n0 + j < o.n; ++j) {
        const uint32_t at = r * o.n + n0 + j;
        d[at] = addSaturated(c ? static_cast<int32_t>(c[at]) : 0, sum[j], o.saturate);
      }
    }
  }
}

// sum[j] += row[k] * columns[k][j], k by k. The vectors are spelled out where the compiler would not keep them in registers.
inline void addProducts(const float* row, const float (*columns)[kPlainBlock], uint32_t count, float* sum) {
#if defined(__AVX2__)
  constexpr int kVectors = kPlainBlock / 8;
  __m256 total[kVectors];
  for (int v = 0; v < kVectors; ++v) total[v] = _mm256_loadu_ps(sum + 8 * v);
  for (uint32_t k = 0; k < count; ++k) {
    const __m256 x = _mm256_set1_ps(row[k]);
    for (int v = 0; v < kVectors; ++v)
      total[v] = _mm256_add_ps(total[v], _mm256_mul_ps(x, _mm256_loadu_ps(columns[k] + 8 * v)));
  }
  for (int v = 0; v < kVectors; ++v) _mm256_storeu_ps(sum + 8 * v, total[v]);
#else
  for (uint32_t k = 0; k < count; ++k)
    for (uint32_t j = 0; j < kPlainBlock; ++j) sum[j] += row[k] * columns[k][j];
#endif
}

struct PlainScratch {
  alignas(64) float columns[kMaxColumns / kPlainBlock][32][kPlainBlock];
  // FP8 values of e4m3 and e5m2 with their infinities and NaN, looked up rather than computed.
  float codes[2][256];
  PlainScratch() {
    for (uint32_t x = 0; x < 256; ++x) codes[0][x] = valueOf(Element::e4m3, x), codes[1][x] = valueOf(Element::e5m2, x);
  }
};

// Products of 16-bit and tf32 numbers are exact in f32, so the order of k is all that matters.
inline void plainProducts(const Operation& o, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) {
  auto& columns = scratch<PlainScratch>().columns;
  const uint32_t padded = (o.n + kPlainBlock - 1) / kPlainBlock * kPlainBlock;
  auto value = [](Element e, const uint32_t* row, uint32_t k) {
    const uint32_t bits = elementAt(e, row, k);
    if (isFp8(e) || e == Element::f16) return valueOf(e, bits);
    return std::bit_cast<float>(e == Element::bf16 ? bits << 16 : bits & 0xffffe000u);
  };
  auto fill = [&](auto&& at) {
    for (uint32_t n = 0; n < padded; ++n)
      for (uint32_t k = 0; k < o.k; ++k)
        columns[n / kPlainBlock][k][n % kPlainBlock] = n < o.n ? at(b + n * kRowWords, k) : 0.0f;
  };
  const auto& codes = scratch<PlainScratch>().codes;
  auto byteAt = [](const uint32_t* row, uint32_t k) { return reinterpret_cast<const uint8_t*>(row)[k]; };
  const float* codesA = codes[o.a == Element::e5m2];
  const float* codesB = codes[o.b == Element::e5m2];
  if (isFp8(o.b))
    fill([&](const uint32_t* row, uint32_t k) { return codesB[byteAt(row, k)]; });
  else
    fill([&](const uint32_t* row, uint32_t k) { return value(o.b, row, k); });
  for (uint32_t r = 0; r < o.m; ++r) {
    float row[32];
    for (uint32_t k = 0; k < o.k; ++k) {
      const float x = isFp8(o.a) ? codesA[byteAt(a + r * kRowWords, k)] : value(o.a, a + r * kRowWords, k);
      row[k] = o.negate ? -x : x;
    }
    for (uint32_t n0 = 0; n0 < o.n; n0 += kPlainBlock) {
      float sum[kPlainBlock] = {};
      const uint32_t count = o.n - n0 < kPlainBlock ? o.n - n0 : kPlainBlock;
      for (uint32_t j = 0; c && j < count; ++j) {
        const uint32_t bits = c[r * o.n + n0 + j];
        sum[j] = o.c == Result::f16 ? halfToFloat(bits) : std::bit_cast<float>(bits);
      }
      addProducts(row, columns[n0 / kPlainBlock], o.k, sum);
      for (uint32_t j = 0; j < count; ++j) {
        uint32_t& to = d[r * o.n + n0 + j];
        if (std::isnan(sum[j])) to = nanOf(o.d);
        else to = o.d == Result::f16 ? doubleToHalf(sum[j]) : std::bit_cast<uint32_t>(sum[j]);
      }
    }
  }
}

// FP8 mma.sync as ptxas 13 lowers it for sm_90a: both operands to f16, a fused sum of the elements in the lower halves of
// all words without C, another of the upper halves on top of it, and an ordinary addition of C.
inline void fp8ByHalves(const Operation& o, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) {
  Operation half = o;
  half.a = half.b = Element::f16;
  half.k = o.k / 2;
  half.c = half.d;
  uint32_t rows[16 * kRowWords], columns[8 * kRowWords], sum[16 * 8];
  auto take = [&](Element e, const uint32_t* from, uint32_t* to, uint32_t count, uint32_t upper) {
    for (uint32_t r = 0; r < count; ++r)
      for (uint32_t w = 0; w < o.k / 4; ++w) {
        uint32_t packed = 0;
        for (uint32_t i = 0; i < 2; ++i) {
          const uint32_t code = from[r * kRowWords + w] >> (16 * upper + 8 * i) & 255;
          const float x = valueOf(e, code);
          packed |= static_cast<uint32_t>(std::isnan(x) ? kNan16 : (code & 0x7f) == 0 ? code << 8 : doubleToHalf(x)) << (16 * i);
        }
        to[r * kRowWords + w] = packed;
      }
  };
  for (uint32_t upper = 0; upper < 2; ++upper) {
    take(o.a, a, rows, o.m, upper);
    take(o.b, b, columns, o.n, upper);
    exactWide(half, rows, columns, upper ? sum : nullptr, sum);
  }
  for (uint32_t at = 0; at < o.m * o.n; ++at) {
    if (o.d == Result::f32) {
      const float x = std::bit_cast<float>(sum[at]) + std::bit_cast<float>(c ? c[at] : 0);
      d[at] = std::isnan(x) ? kNan32 : std::bit_cast<uint32_t>(x);
    } else {
      const double x = static_cast<double>(halfToFloat(sum[at])) + halfToFloat(c ? c[at] : 0);
      d[at] = x == 0 ? (std::signbit(x) ? 0x8000 : 0) : doubleToHalf(x);
    }
  }
}

inline void multiplyInline(const Operation& o, const uint32_t* a, const uint32_t* b, const uint32_t* c, uint32_t* d) {
  if (o.a == Element::b1) return bitProducts(o, a, b, c, d);
  if (isInteger(o.a)) return integerProducts(o, a, b, c, d);
  if (o.model == Model::plain) return plainProducts(o, a, b, c, d);
  if (!isFp8(o.a)) return exactWide(o, a, b, c, d);
  if (o.model == Model::wgmma) return exactNarrow(o, a, b, c, d);
  return fp8ByHalves(o, a, b, c, d);
}

}  // namespace dsvc::emulator::DSVC_ARCH
