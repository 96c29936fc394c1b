#include "sizes.h"

#include <algorithm>

namespace dsvc::plan {

namespace {

Status tooLarge(const std::string& what) { return Status::error("plan/overflow", what + " is larger than 2^63", "give smaller sizes"); }

// False on overflow, of 63 bits so that sums stay in range.
bool multiply(uint64_t a, uint64_t b, uint64_t& to) { return !__builtin_mul_overflow(a, b, &to) && to >> 63 == 0; }
bool add(uint64_t a, uint64_t b, uint64_t& to) { return !__builtin_add_overflow(a, b, &to) && to >> 63 == 0; }

}  // namespace

Sizes Sizes::bounds(const Plan& plan) {
  Sizes s;
  s.plan_ = &plan;
  for (const Dim& d : plan.dims) s.sizes_.push_back(d.bound);
  s.known_.assign(plan.dims.size(), true);
  return s;
}

Status Sizes::make(const Plan& plan, std::span<const GivenSize> given, Sizes& s) {
  s.plan_ = &plan;
  s.sizes_.assign(plan.dims.size(), 0);
  s.known_.assign(plan.dims.size(), false);
  for (const GivenSize& g : given) {
    auto it = std::find_if(plan.dims.begin(), plan.dims.end(), [&](const Dim& d) { return d.name == g.name; });
    if (it == plan.dims.end()) return Status::error("plan/unknown-dim", "the plan has no dim " + g.name);
    if (it->of != kNone) return Status::error("plan/derived-dim", "the size of " + g.name + " follows from " + plan.dims[it->of].name);
    if (it->bound && g.size > it->bound)
      return Status::error("plan/dim-bound", g.name + " is " + std::to_string(g.size) + ", but the plan bounds it by " + std::to_string(it->bound),
                           "give less, or compile with a larger bound: --set " + g.name + "=" + std::to_string(g.size));
    size_t k = static_cast<size_t>(it - plan.dims.begin());
    s.sizes_[k] = g.size;
    s.known_[k] = true;
  }
  for (size_t k = 0; k < plan.dims.size(); ++k) {
    const Dim& d = plan.dims[k];
    if (d.of == kNone || !s.known_[d.of]) continue;
    // The largest multiple of `align` that no grouping of the rows exceeds.
    uint64_t rows = 0, padding = 0, most = 0;
    if (!multiply(s.sizes_[d.of], d.per, rows) || !multiply(std::min(d.groups, rows), d.align - 1, padding) || !add(rows, padding, most))
      return tooLarge(d.name);
    s.sizes_[k] = most / d.align * d.align;
    s.known_[k] = true;
  }
  return Status::ok();
}

Status Sizes::of(uint32_t dim, uint64_t& size) const {
  if (!known_[dim])
    return Status::error("plan/unknown-dim", "nobody gave the size of " + plan_->dims[dim].name, "give it with the entry's arguments");
  size = sizes_[dim];
  return Status::ok();
}

Status Sizes::evaluate(const Extent& e, uint64_t& value) const {
  value = e.constant;
  for (const Extent::Term& t : e.terms) {
    uint64_t size = 0, part = 0;
    DSVC_TRY(of(t.dim, size));
    if (!multiply(size, t.factor, part) || !add(value, part, value)) return tooLarge("a size of " + plan_->dims[t.dim].name);
  }
  return Status::ok();
}

Status Sizes::bytesOf(const Component& c, uint64_t& bytes) const {
  uint64_t bits = c.bits;
  for (const Extent& e : c.shape) {
    uint64_t n = 0;
    DSVC_TRY(evaluate(e, n));
    if (!multiply(bits, n, bits)) return tooLarge(c.name);
  }
  bytes = (bits + 7) / 8;
  return Status::ok();
}

}  // namespace dsvc::plan
