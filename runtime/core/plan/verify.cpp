// What must hold of a plan for an executor to be safe with it, whatever the run-time sizes within their bounds.
#include <algorithm>

#include "plan.h"
#include "sizes.h"

namespace dsvc::plan {

namespace {

// Sums of a few such numbers cannot overflow.
constexpr uint64_t kMostBytes = 1ull << 48;
constexpr uint32_t kMostLayers = 1u << 20, kMostParameterBytes = 32764;
constexpr uint64_t kMostSteps = 1ull << 32;

class Verifier {
 public:
  explicit Verifier(Plan& plan) : p_(plan), bounds_(Sizes::bounds(plan)) {}

  Status run() {
    for (const Dim& d : p_.dims) dim(d);
    for (const ValueType& t : p_.types)
      for (const Component& c : t.components) {
        expect(c.bits >= 1 && c.bits <= 64, t.text, "has elements of 0 or more than 64 bits");
        for (const Extent& e : c.shape) extent(e, t.text);
      }
    if (problem_.failed()) return problem_;
    expect(p_.weightBytes <= kMostBytes, "the weights", "are too large");
    for (const Weight& w : p_.weights) weight(w);
    for (const Kernel& k : p_.kernels) kernel(k);
    for (size_t k = 0; k < p_.functions.size() && !problem_.failed(); ++k) function(k);
    return problem_;
  }

 private:
  // Layers that a function can be called for, and what a call of it costs.
  struct Callee {
    uint64_t first = 0, stop = ~0ull;
    uint64_t steps = 1;
  };
  Plan& p_;
  Sizes bounds_;
  std::vector<Callee> callees_;
  Status problem_;

  bool expect(bool holds, const std::string& whose, const std::string& what) {
    if (!holds && !problem_.failed())
      problem_ = Status::error("plan/format", "the plan is broken: " + whose + " " + what, "compile the model again");
    return holds;
  }

  void extent(const Extent& e, const std::string& whose) {
    for (const Extent::Term& t : e.terms) expect(t.dim < p_.dims.size(), whose, "has a dim that does not exist");
  }

  void dim(const Dim& d) {
    if (d.of == kNone) return;
    expect(d.of < p_.dims.size() && p_.dims[d.of].of == kNone, d.name, "counts rows of no plain dim");
    expect(d.per >= 1 && d.align >= 1, d.name, "has no rows or no alignment");
  }

  // Bytes of a component at the bounds; false where a dim has none.
  bool mostBytes(const Component& c, uint64_t& bytes) {
    for (const Extent& e : c.shape)
      for (const Extent::Term& t : e.terms)
        if (p_.dims[t.dim].bound == 0) return false;
    return expect(!bounds_.bytesOf(c, bytes).failed() && bytes <= kMostBytes, c.name, "is too large at the bounds");
  }

  void weight(const Weight& w) {
    if (!expect(w.type < p_.types.size(), w.name, "has no type") || !expect(w.count >= 1 && w.count <= kMostLayers, w.name, "has no layers")) return;
    expect(w.isLayered || w.count == 1, w.name, "has layers though it lies outside of them");
    uint64_t bytes = 0;
    for (const Component& c : p_.types[w.type].components) {
      for (const Extent& e : c.shape) expect(e.terms.empty(), w.name, "has a run-time size");
      uint64_t n = 0;
      mostBytes(c, n);
      bytes += alignUp(n);
      if (problem_.failed()) return;
    }
    expect(w.offset <= kMostBytes && w.stride <= kMostBytes / w.count && w.offset + (w.count - 1) * w.stride + bytes <= p_.weightBytes, w.name,
           "lies outside of the weights' memory");
  }

  void kernel(const Kernel& k) {
    expect(k.threads >= 1 && k.threads <= 1024, k.name, "has no threads, or more than 1024");
    expect(k.parameterBytes <= kMostParameterBytes, k.name, "has too many bytes of parameters");
    expect(k.scratchBytes <= kMostBytes, k.name, "has too much scratch memory");
    expect(k.grid.size() >= 1 && k.grid.size() <= 3, k.name, "has a grid without axes, or with more than three");
    for (const Kernel::Axis& a : k.grid) {
      expect(a.per >= 1, k.name, "has a grid of blocks of nothing");
      extent(a.extent, k.name);
    }
    for (const Parameter& p : k.parameters) {
      uint32_t bytes = p.kind == Parameter::Kind::size ? 4 : p.kind == Parameter::Kind::pointer ? 8 : device::kTensorMapBytes;
      uint32_t align = p.kind == Parameter::Kind::tensorMap ? device::kTensorMapAlign : bytes;
      expect(p.at % align == 0 && p.at <= k.parameterBytes && bytes <= k.parameterBytes - p.at, k.name, "has a parameter outside of its block");
      if (p.kind == Parameter::Kind::size) expect(p.dim < p_.dims.size(), k.name, "takes a dim that does not exist");
      else expect(p.value != kNone || k.scratchBytes > 0, k.name, "takes scratch memory and has none");
      if (p.kind != Parameter::Kind::tensorMap) continue;
      expect(p.dims.size() >= 1 && p.dims.size() <= 5 && p.strides.size() + 1 == p.dims.size() && p.box.size() == p.dims.size(), k.name,
             "has a tensor map of no rank");
      for (const Extent& e : p.dims) extent(e, k.name);
      for (const Extent& e : p.strides) extent(e, k.name);
    }
  }

  uint32_t arraysOf(uint32_t type, const std::string& whose) {
    return expect(type < p_.types.size(), whose, "has a value of no type") ? static_cast<uint32_t>(p_.types[type].components.size()) : 0;
  }

  void value(const Value& v, const Function& f, Callee& callee) {
    if (!expect(arraysOf(v.type, f.name) == v.places.size(), f.name, "has a value with too few or too many places")) return;
    for (size_t k = 0; k < v.places.size() && !problem_.failed(); ++k) {
      const Place& at = v.places[k];
      expect(at.offset <= kMostBytes, f.name, "has a place too far away");
      if (at.base == Place::Base::argument) {
        expect(at.index < f.slots, f.name, "has a place in an argument that it has not");
      } else if (at.base == Place::Base::weight) {
        if (!expect(at.index < p_.weights.size(), f.name, "has a place in a weight that does not exist")) return;
        const Weight& w = p_.weights[at.index];
        if (!w.isLayered) continue;
        expect(!f.isEntry, f.name, "is no layer, and takes the weight of one");
        callee.first = std::max<uint64_t>(callee.first, w.first);
        callee.stop = std::min<uint64_t>(callee.stop, uint64_t{w.first} + w.count);
      } else {
        uint64_t bytes = 0;
        if (mostBytes(p_.types[v.type].components[k], bytes))
          expect(at.offset + bytes <= f.arenaBytes, f.name, "has a value that leaves its arena");
      }
    }
  }

  void function(size_t number) {
    Function& f = p_.functions[number];
    Callee own;
    expect(f.arenaBytes <= kMostBytes, f.name, "has too large an arena");
    f.slots = 0;
    for (const Argument& a : f.arguments) f.slots += arraysOf(a.type, f.name);
    for (const Step& s : f.steps) {
      if (s.kind == Step::Kind::launch) launch(s, f, own);
      else repeat(s, number, own);
      if (problem_.failed()) return;
    }
    for (const Value& v : f.results) value(v, f, own);
    expect(own.steps <= kMostSteps, f.name, "runs more than 2^32 steps");
    callees_.push_back(own);
  }

  void launch(const Step& s, const Function& f, Callee& own) {
    if (!expect(s.kernel < p_.kernels.size(), f.name, "launches a kernel that does not exist")) return;
    const Kernel& k = p_.kernels[s.kernel];
    expect(s.operands <= s.values.size(), f.name, "has more operands than values");
    for (const Value& v : s.values) value(v, f, own);
    for (const Parameter& p : k.parameters) {
      if (p.kind == Parameter::Kind::size || p.value == kNone) continue;
      expect(p.value < s.values.size() && p.component < s.values[p.value].places.size(), f.name, "gives " + k.name + " too few values");
    }
    ++own.steps;
  }

  void repeat(const Step& s, size_t number, Callee& own) {
    const Function& f = p_.functions[number];
    if (!expect(s.function < number && !p_.functions[s.function].isEntry, f.name, "repeats a function that does not stand before it")) return;
    const Function& g = p_.functions[s.function];
    const Callee& callee = callees_[s.function];
    expect(s.start <= s.stop && s.stop <= kMostLayers, f.name, "repeats " + g.name + " for no range of layers");
    expect(s.start == s.stop || (s.start >= callee.first && s.stop <= callee.stop), f.name, "repeats " + g.name + " for layers without weights");
    expect(s.arena <= f.arenaBytes && g.arenaBytes <= f.arenaBytes - s.arena, f.name, "has no room for the arena of " + g.name);
    if (!expect(s.arguments.size() == g.arguments.size(), f.name, "gives " + g.name + " too few or too many operands")) return;
    size_t carried = 0;
    for (size_t k = 0; k < s.arguments.size() && !problem_.failed(); ++k) {
      const Step::Operand& o = s.arguments[k];
      size_t wanted = arraysOf(g.arguments[k].type, g.name);
      value(o.value, f, own);
      expect(o.value.places.size() == wanted, f.name, "gives " + g.name + " a value of another kind");
      if (o.mode != Mode::carry) continue;
      value(o.result, f, own);
      expect(o.result.places.size() == wanted && carried < g.results.size() && g.results[carried].places.size() == wanted, f.name,
             "carries a value that " + g.name + " does not return");
      ++carried;
    }
    own.steps = std::min(kMostSteps + 1, own.steps + uint64_t{s.stop - s.start} * callee.steps);
  }
};

}  // namespace

Status verify(Plan& plan) { return Verifier(plan).run(); }

}  // namespace dsvc::plan
