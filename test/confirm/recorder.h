// Host side of the kernels here. Nothing is launched: each launch is written down as `dsvc emu` reads it, with what the
// host itself computed as the expected result. The driver's cuTensorMapEncodeTiled is replaced by one that remembers its
// arguments, so the maps are those that CUTLASS asked for.
#pragma once
#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

namespace confirm {

struct Buffer {
  std::string name;
  std::vector<uint8_t> bytes, expected;  // expected: empty for inputs
};
struct Map {
  uint32_t type, rank, interleave, swizzle, fill;
  uint64_t address;
  std::vector<uint64_t> dims, strides, box, steps;
};
struct Recording {
  std::vector<Buffer> buffers;
  std::vector<Map> maps;
  std::vector<std::string> launches;
};
inline Recording& recording() {
  static Recording r;
  return r;
}

// What stands for the address of a byte of a buffer: bits 63-48 are the tag, 47-32 the buffer. Padding of parameters holds
// whatever the stack held, so tags are rare numbers, and a stale one does no harm.
constexpr uint64_t kPointerTag = 0x7d5c, kMapTag = 0x6d61707461670001;

inline uint64_t addressOf(size_t buffer) { return kPointerTag << 48 | uint64_t(buffer) << 32; }

/** A buffer with this content. */
template <class T>
T* input(std::string const& name, std::vector<T> const& content) {
  auto const* p = reinterpret_cast<uint8_t const*>(content.data());
  recording().buffers.push_back({name, {p, p + content.size() * sizeof(T)}, {}});
  return reinterpret_cast<T*>(addressOf(recording().buffers.size() - 1));
}
/** A buffer, full of 0xcc at first, that must hold `expected` in the end. */
template <class T>
T* output(std::string const& name, std::vector<T> const& expected) {
  T* at = input(name, expected);
  Buffer& b = recording().buffers.back();
  b.expected.swap(b.bytes);
  b.bytes.assign(b.expected.size(), 0xcc);
  return at;
}

inline std::string hexOf(uint8_t const* bytes, size_t count) {
  std::string s(2 * count, '0');
  for (size_t i = 0; i < count; ++i) {
    s[2 * i] = "0123456789abcdef"[bytes[i] >> 4];
    s[2 * i + 1] = "0123456789abcdef"[bytes[i] & 15];
  }
  return s;
}
inline std::string pointerText(uint64_t word) {
  return "\"buffer\": \"" + recording().buffers.at(word >> 32 & 0xffff).name + "\", \"offset\": " + std::to_string(word & 0xffffffff);
}
inline std::string listText(std::vector<uint64_t> const& list) {
  std::string s;
  for (uint64_t v : list) s += (s.empty() ? "[" : ", ") + std::to_string(v);
  return (s.empty() ? "[" : s) + "]";
}
inline std::string mapText(Map const& m) {
  // The driver's enumerations, in order.
  static char const* const types[] = {"U8", "U16", "U32", "I32", "U64", "I64", "F16", "F32", "F64", "BF16", "F32_FTZ", "TF32", "TF32_FTZ"};
  static char const* const swizzles[] = {"none", "32B", "64B", "128B"};
  static char const* const interleaves[] = {"none", "16B", "32B"};
  return "{" + pointerText(m.address) + ", \"dtype\": \"" + types[m.type] + "\", \"dims\": " + listText(m.dims) + ", \"strides\": " +
         listText(m.strides) + ", \"box\": " + listText(m.box) + ", \"elementStrides\": " + listText(m.steps) + ", \"swizzle\": \"" +
         swizzles[m.swizzle] + "\", \"interleave\": \"" + interleaves[m.interleave] + "\", \"fill\": \"" + (m.fill ? "nan" : "zero") + "\"}";
}

/** A parameter's bytes: pointers and maps by name, the rest as it is. */
inline std::string parameterText(uint8_t const* bytes, size_t size) {
  auto word = [&](size_t at) {
    uint64_t v = 0;
    if (at + 8 <= size) std::memcpy(&v, bytes + at, 8);
    return v;
  };
  if (size == 8 && word(0) >> 48 == kPointerTag) return "{" + pointerText(word(0)) + "}";
  std::string s, plain;
  size_t from = 0;
  auto flush = [&](size_t end) {
    if (end > from) s += (s.empty() ? "" : ", ") + ("{\"at\": " + std::to_string(from)) + ", \"hex\": \"" + hexOf(bytes + from, end - from) + "\"}";
  };
  for (size_t at = 0; at + 8 <= size; at += 8) {
    if (at % 64 == 0 && at + 128 <= size && word(at) == kMapTag) {
      flush(at);
      s += (s.empty() ? "" : ", ") + ("{\"at\": " + std::to_string(at)) + ", \"tensorMap\": " + mapText(recording().maps.at(word(at + 16))) + "}";
      at += 120;
      from = at + 8;
    } else if (word(at) >> 48 == kPointerTag) {
      flush(at);
      s += (s.empty() ? "" : ", ") + ("{\"at\": " + std::to_string(at)) + ", " + pointerText(word(at)) + "}";
      from = at + 8;
    }
  }
  flush(size);
  return "{\"fields\": [" + s + "]}";
}

inline std::string dimText(dim3 d) { return listText({d.x, d.y, d.z}); }

template <class... P>
void launch(char const* kernel, dim3 grid, dim3 block, dim3 cluster, size_t dynamicShared, P const&... parameters) {
  std::string list;
  ((list += (list.empty() ? "" : ",\n    ") + parameterText(reinterpret_cast<uint8_t const*>(&parameters), sizeof parameters)), ...);
  recording().launches.push_back("{\"kernel\": \"" + std::string(kernel) + "\", \"grid\": " + dimText(grid) + ", \"block\": " + dimText(block) +
                                 ", \"cluster\": " + dimText(cluster) + ", \"dynamicSharedBytes\": " + std::to_string(dynamicShared) +
                                 ", \"parameters\": [" + list + "]}");
}

/** Registered at start-up by each kernel; main runs them all. */
inline std::vector<std::function<void()>>& cases() {
  static std::vector<std::function<void()>> list;
  return list;
}
struct Case {
  explicit Case(std::function<void()> f) { cases().push_back(std::move(f)); }
};

/** Small whole numbers, so that every order of summing is exact. */
inline int small(uint32_t i, int most = 4) {
  i = (i + 1) * 2654435761u;
  i ^= i >> 15;
  i *= 2246822519u;
  i ^= i >> 13;
  return static_cast<int>(i % (2 * most + 1)) - most;
}
inline std::vector<int> smalls(size_t count, uint32_t seed, int least, int most) {
  std::vector<int> v(count);
  for (size_t i = 0; i < count; ++i) v[i] = least + (small(static_cast<uint32_t>(i) + seed * 977, 1 << 14) + (1 << 14)) % (most - least + 1);
  return v;
}
template <class T>
std::vector<T> as(std::vector<int> const& v) {
  std::vector<T> out;
  out.reserve(v.size());
  for (int x : v) out.push_back(static_cast<T>(static_cast<float>(x)));
  return out;
}

/** Writes launch.json and expected.json into a folder. */
inline int write(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
    return 2;
  }
  for (auto const& f : cases()) f();
  std::ofstream launches(std::string(argv[1]) + "/launch.json"), expected(std::string(argv[1]) + "/expected.json");
  auto& r = recording();
  std::string outputs, want;
  launches << "{\"buffers\": {";
  for (size_t i = 0; i < r.buffers.size(); ++i) {
    Buffer const& b = r.buffers[i];
    launches << (i ? ",\n  " : "") << '"' << b.name << "\": {\"dtype\": \"U8\", \"shape\": [" << b.bytes.size() << "], \"hex\": \""
             << hexOf(b.bytes.data(), b.bytes.size()) << "\"}";
    if (b.expected.empty()) continue;
    outputs += (outputs.empty() ? "\"" : ", \"") + b.name + "\"";
    want += (want.empty() ? "\"" : ",\n\"") + b.name + "\": \"" + hexOf(b.expected.data(), b.expected.size()) + "\"";
  }
  launches << "},\n\"outputs\": [" << outputs << "],\n\"launches\": [";
  for (size_t i = 0; i < r.launches.size(); ++i) launches << (i ? ",\n  " : "") << r.launches[i];
  launches << "]}\n";
  expected << "{" << want << "}\n";
  return launches && expected ? 0 : 1;
}

}  // namespace confirm

// Instead of the driver's.
extern "C" inline CUresult confirmEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank, void* address, cuuint64_t const* dims,
                                              cuuint64_t const* strides, cuuint32_t const* box, cuuint32_t const* steps,
                                              CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle, CUtensorMapL2promotion,
                                              CUtensorMapFloatOOBfill fill) {
  auto& maps = confirm::recording().maps;
  maps.push_back({uint32_t(type), rank, uint32_t(interleave), uint32_t(swizzle), uint32_t(fill), reinterpret_cast<uint64_t>(address),
                  {dims, dims + rank}, {strides, strides + rank - 1}, {box, box + rank}, {steps, steps + rank}});
  std::memset(map, 0, sizeof *map);
  auto* words = reinterpret_cast<uint64_t*>(map);
  words[0] = confirm::kMapTag;
  words[2] = maps.size() - 1;
  return CUDA_SUCCESS;
}
#define cuTensorMapEncodeTiled confirmEncodeTiled
