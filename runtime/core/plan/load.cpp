// Reads the binary form. Nothing in the bytes is trusted: a count is bounded by what is left, a string by the table.
// After the first mistake the reader gives zeros and the mistake is told at the end.
#include <cstring>

#include "plan.h"

namespace dsvc::plan {

namespace {

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}

  template <class T>
  T get() {
    T value{};
    if (bytes_.size() - at_ < sizeof(T)) {
      fail("it ends too early");
      return value;
    }
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  uint8_t u8() { return get<uint8_t>(); }
  uint32_t u32() { return get<uint32_t>(); }
  uint64_t u64() { return get<uint64_t>(); }
  bool flag() { return choice(2, "a flag") != 0; }
  uint8_t choice(uint8_t count, const char* what) {
    uint8_t v = u8();
    if (v < count) return v;
    fail(what);
    return 0;
  }
  std::span<const uint8_t> raw(size_t count) {
    if (bytes_.size() - at_ < count) {
      fail("it ends too early");
      return {};
    }
    auto part = bytes_.subspan(at_, count);
    at_ += count;
    return part;
  }
  // A count of things of at least `least` bytes each, so that no allocation runs away.
  uint32_t count(size_t least) {
    uint32_t n = u32();
    if (n <= (bytes_.size() - at_) / least) return n;
    fail("a count is larger than the rest");
    return 0;
  }
  template <class T, class F>
  std::vector<T> each(size_t least, F read) {
    std::vector<T> list;
    uint32_t n = count(least);
    list.reserve(n);
    for (uint32_t k = 0; k < n && !failed(); ++k) list.push_back(read());
    return list;
  }
  std::string str() {
    uint32_t k = u32();
    if (k < strings.size()) return strings[k];
    fail("a string's number");
    return {};
  }
  // After a mistake nothing is left to read: loops end by themselves.
  void fail(const char* what) {
    if (!failed()) problem_ = what;
    at_ = bytes_.size();
  }
  bool failed() const { return problem_ != nullptr; }
  const char* problem() const { return problem_; }
  bool atEnd() const { return at_ == bytes_.size(); }

  std::vector<std::string> strings;

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
  const char* problem_ = nullptr;
};

Extent extent(Reader& in) {
  Extent e;
  e.constant = in.u64();
  e.terms = in.each<Extent::Term>(12, [&] {
    Extent::Term t;
    t.dim = in.u32();
    t.factor = in.u64();
    return t;
  });
  return e;
}

std::vector<Extent> extents(Reader& in) {
  return in.each<Extent>(12, [&] { return extent(in); });
}

Dim dim(Reader& in) {
  Dim d;
  d.name = in.str();
  d.bound = in.u64();
  d.of = in.u32();
  if (d.of == kNone) return d;
  d.per = in.u64();
  d.groups = in.u64();
  d.align = in.u64();
  return d;
}

ValueType valueType(Reader& in) {
  ValueType t;
  t.text = in.str();
  t.components = in.each<Component>(16, [&] {
    Component c;
    c.name = in.str();
    c.dtype = in.str();
    c.bits = in.u32();
    c.shape = extents(in);
    return c;
  });
  return t;
}

Value value(Reader& in) {
  Value v;
  v.type = in.u32();
  v.places = in.each<Place>(13, [&] {
    Place p;
    p.base = static_cast<Place::Base>(in.choice(3, "a place's base"));
    p.index = in.u32();
    p.offset = in.u64();
    return p;
  });
  return v;
}

std::vector<Value> values(Reader& in) {
  return in.each<Value>(8, [&] { return value(in); });
}

Weight weight(Reader& in) {
  Weight w;
  w.name = in.str();
  w.type = in.u32();
  w.isLayered = in.flag();
  w.first = in.u32();
  w.count = in.u32();
  w.offset = in.u64();
  w.stride = in.u64();
  return w;
}

Parameter parameter(Reader& in) {
  Parameter p;
  p.kind = static_cast<Parameter::Kind>(in.choice(3, "a parameter's kind"));
  p.at = in.u32();
  if (p.kind == Parameter::Kind::size) {
    p.dim = in.u32();
    return p;
  }
  p.value = in.u32();
  p.component = in.u32();
  p.offset = in.u64();
  if (p.kind == Parameter::Kind::pointer) return p;
  p.type = static_cast<device::TensorMapType>(in.choice(device::kTensorMapTypes, "a tensor map's type"));
  p.swizzle = in.choice(4, "a swizzle");
  p.dims = extents(in);
  p.strides = extents(in);
  p.box = in.each<uint32_t>(4, [&] { return in.u32(); });
  return p;
}

Kernel kernel(Reader& in) {
  Kernel k;
  k.name = in.str();
  k.threads = in.u32();
  for (uint32_t& c : k.cluster) c = in.u32();
  k.dynamicSharedBytes = in.u32();
  k.parameterBytes = in.u32();
  k.scratchBytes = in.u64();
  k.grid = in.each<Kernel::Axis>(20, [&] {
    Kernel::Axis a;
    a.extent = extent(in);
    a.per = in.u64();
    return a;
  });
  k.atMost = in.u64();
  k.parameters = in.each<Parameter>(9, [&] { return parameter(in); });
  return k;
}

Step step(Reader& in) {
  Step s;
  s.kind = static_cast<Step::Kind>(in.choice(2, "a step's kind"));
  s.at = in.str();
  if (s.kind == Step::Kind::launch) {
    s.kernel = in.u32();
    s.operands = in.u32();
    s.values = values(in);
    return s;
  }
  s.function = in.u32();
  s.start = in.u32();
  s.stop = in.u32();
  s.arena = in.u64();
  s.arguments = in.each<Step::Operand>(9, [&] {
    Step::Operand o;
    o.mode = static_cast<Mode>(in.choice(3, "an operand's mode"));
    o.value = value(in);
    if (o.mode == Mode::carry) o.result = value(in);
    return o;
  });
  return s;
}

Function function(Reader& in) {
  Function f;
  f.name = in.str();
  f.isEntry = in.flag();
  f.arguments = in.each<Argument>(9, [&] {
    Argument a;
    a.name = in.str();
    a.type = in.u32();
    a.isInout = in.flag();
    return a;
  });
  f.arenaBytes = in.u64();
  f.steps = in.each<Step>(17, [&] { return step(in); });
  f.results = values(in);
  return f;
}

Status broken(const std::string& what) {
  return Status::error("plan/format", "the plan is broken: " + what, "compile the model again");
}

}  // namespace

Status load(std::span<const uint8_t> bytes, Plan& plan) {
  plan = {};
  Reader in(bytes);
  auto magic = in.raw(4);
  if (in.failed() || std::memcmp(magic.data(), "DPLN", 4) != 0) return broken("it does not start with DPLN");
  uint32_t version = in.u32();
  if (!in.failed() && version != kFormatVersion)
    return Status::error("plan/version", "the plan has format " + std::to_string(version) + "; this executor reads format " + std::to_string(kFormatVersion),
                         "compile the model again with this version");
  in.strings = in.each<std::string>(4, [&] {
    auto text = in.raw(in.count(1));
    return std::string(reinterpret_cast<const char*>(text.data()), text.size());
  });
  plan.dims = in.each<Dim>(16, [&] { return dim(in); });
  plan.types = in.each<ValueType>(8, [&] { return valueType(in); });
  plan.states = in.each<State>(12, [&] {
    State s;
    s.name = in.str();
    s.policy = in.str();
    s.page = in.u32();
    return s;
  });
  plan.weights = in.each<Weight>(33, [&] { return weight(in); });
  plan.weightBytes = in.u64();
  plan.kernels = in.each<Kernel>(52, [&] { return kernel(in); });
  plan.functions = in.each<Function>(25, [&] { return function(in); });
  if (in.failed()) return broken(in.problem());
  if (!in.atEnd()) return broken("bytes follow the last function");
  return verify(plan);
}

const Function* Plan::entry(const std::string& name) const {
  for (const Function& f : functions)
    if (f.isEntry && f.name == name) return &f;
  return nullptr;
}

}  // namespace dsvc::plan
