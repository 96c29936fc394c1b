// The run-time sizes of one call of an entry, and what follows from them.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "plan.h"

namespace dsvc::plan {

// Every array starts at a multiple of this (docs/BUNDLE.md).
constexpr uint64_t kAlignment = 256;
constexpr uint64_t alignUp(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

struct GivenSize {
  std::string name;
  uint64_t size = 0;
};

class Sizes {
 public:
  // Every dim at its bound.
  static Sizes bounds(const Plan& plan);
  // Takes plain dims, derives ragged ones. Codes: plan/unknown-dim, plan/dim-bound, plan/derived-dim.
  static Status make(const Plan& plan, std::span<const GivenSize> given, Sizes& sizes);

  // Codes: plan/unknown-dim (nobody gave its size), plan/overflow.
  Status of(uint32_t dim, uint64_t& size) const;
  Status evaluate(const Extent& extent, uint64_t& value) const;
  Status bytesOf(const Component& component, uint64_t& bytes) const;

 private:
  const Plan* plan_ = nullptr;
  std::vector<uint64_t> sizes_;
  std::vector<bool> known_;
};

}  // namespace dsvc::plan
