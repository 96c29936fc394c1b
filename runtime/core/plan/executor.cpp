#include "executor.h"

#include <algorithm>
#include <new>
#include <utility>

namespace dsvc::plan {

using device::Address;

Executor::Executor(Plan plan, device::Device& device, CodeSource code)
    : plan_(std::move(plan)), device_(device), code_(std::move(code)), loaded_(plan_.kernels.size()) {}

// What the device says now no longer interests anybody: it is being given back.
Executor::~Executor() {
  auto drop = [](Status) {};
  for (Loaded& l : loaded_) {
    if (l.scratch) drop(device_.free(l.scratch));
    if (l.isReady) drop(device_.unloadModule(l.module));
  }
  if (arena_) drop(device_.free(arena_));
  if (weights_) drop(device_.free(weights_));
}

Status Executor::makeWeights() {
  return weights_ ? Status::ok() : device_.allocate(std::max<uint64_t>(1, plan_.weightBytes), "weights", weights_);
}

Status Executor::writeWeight(uint32_t weight, uint32_t layer, uint32_t component, uint64_t at, std::span<const uint8_t> bytes) {
  if (weight >= plan_.weights.size()) return Status::error("plan/unknown-weight", "the plan has no weight " + std::to_string(weight));
  const Weight& w = plan_.weights[weight];
  const ValueType& type = plan_.types[w.type];
  uint32_t first = w.isLayered ? w.first : 0;
  if (component >= type.components.size() || layer < first || layer - first >= w.count)
    return Status::error("plan/unknown-weight", w.name + " has no array " + std::to_string(component) + " for layer " + std::to_string(layer));
  uint64_t to = w.offset + (layer - first) * w.stride, size = 0;
  Sizes none = Sizes::bounds(plan_);
  for (uint32_t k = 0; k <= component; ++k) {
    to += alignUp(size);
    DSVC_TRY(none.bytesOf(type.components[k], size));
  }
  if (at > size || bytes.size() > size - at)
    return Status::error("plan/weight-range", w.name + "." + type.components[component].name + " has " + std::to_string(size) + " bytes; " +
                                                  std::to_string(bytes.size()) + " from byte " + std::to_string(at) + " were given");
  DSVC_TRY(makeWeights());
  return device_.write(weights_ + to + at, bytes);
}

// The arena stays for the next call of the same entry, which begins with nothing in it.
Status Executor::makeArena(const Function& entry) {
  uint64_t bytes = std::max<uint64_t>(1, entry.arenaBytes);
  if (arenaOf_ == &entry) return device_.discard(arena_, bytes);
  if (arena_) {
    arenaOf_ = nullptr;
    DSVC_TRY(device_.free(std::exchange(arena_, 0)));
  }
  DSVC_TRY(device_.allocate(bytes, "arena of " + entry.name, arena_));
  arenaOf_ = &entry;
  return Status::ok();
}

Address Executor::address(const Place& place, const Frame& frame) const {
  switch (place.base) {
    case Place::Base::arena: return frame.arena + place.offset;
    case Place::Base::argument: return frame.slots[place.index] + place.offset;
    case Place::Base::weight: break;
  }
  const Weight& w = plan_.weights[place.index];
  return weights_ + w.offset + (w.isLayered ? (frame.layer - w.first) * w.stride : 0) + place.offset;
}

Status Executor::run(const std::string& name, std::span<const GivenSize> given, std::span<const Address> arguments,
                     std::vector<std::vector<Bytes>>& results, Observer* observer) {
  const Function* entry = plan_.entry(name);
  if (!entry) return Status::error("plan/unknown-entry", "the plan has no entry " + name);
  if (arguments.size() != entry->slots)
    return Status::error("plan/arguments", name + " takes " + std::to_string(entry->slots) + " arrays; " + std::to_string(arguments.size()) + " were given");
  Run run;
  run.observer = observer;
  DSVC_TRY(Sizes::make(plan_, given, run.sizes));
  DSVC_TRY(makeWeights());
  DSVC_TRY(makeArena(*entry));
  Frame frame{*entry, arena_, kNone, {arguments.begin(), arguments.end()}};
  DSVC_TRY(steps(frame, run));
  results.clear();
  for (const Value& v : entry->results) DSVC_TRY(read(v, frame, run, results.emplace_back()));
  return Status::ok();
}

Status Executor::read(const Value& v, const Frame& frame, const Run& run, std::vector<Bytes>& arrays) {
  for (size_t k = 0; k < v.places.size(); ++k) {
    const Component& c = plan_.types[v.type].components[k];
    uint64_t bytes = 0;
    DSVC_TRY(run.sizes.bytesOf(c, bytes));
    try {
      arrays.emplace_back(bytes);
    } catch (const std::bad_alloc&) {
      return Status::error("plan/out-of-memory", "the host has no room for the " + std::to_string(bytes) + " bytes of a result", "give smaller sizes");
    }
    // Of a ragged value the rows in use were written, and only the device knows how many they are.
    bool ragged = false;
    for (const Extent& e : c.shape)
      for (const Extent::Term& t : e.terms) ragged |= plan_.dims[t.dim].of != kNone;
    if (!ragged) DSVC_TRY(device_.expectInitialised(address(v.places[k], frame), bytes));
    DSVC_TRY(device_.read(address(v.places[k], frame), arrays.back()));
  }
  return Status::ok();
}

Status Executor::steps(const Frame& frame, Run& run) {
  for (uint32_t k = 0; k < frame.function.steps.size(); ++k) {
    const Step& s = frame.function.steps[k];
    DSVC_TRY(s.kind == Step::Kind::launch ? launch(frame, k, run) : repeat(frame, s, run));
  }
  return Status::ok();
}

Status Executor::repeat(const Frame& caller, const Step& step, Run& run) {
  const Function& callee = plan_.functions[step.function];
  auto placesOf = [&](const Value& v, const Frame& frame) {
    std::vector<Address> list;
    for (const Place& p : v.places) list.push_back(address(p, frame));
    return list;
  };
  // Where each array of each argument begins, and how far the next layer's part is.
  std::vector<Address> start;
  std::vector<uint64_t> stride;
  struct Carried {
    const ValueType* type;
    std::vector<Address> place;
  };
  std::vector<Carried> carried;
  for (size_t k = 0; k < step.arguments.size(); ++k) {
    const Step::Operand& o = step.arguments[k];
    const ValueType& type = plan_.types[callee.arguments[k].type];
    std::vector<Address> from = placesOf(o.value, caller);
    if (o.mode == Mode::carry) {
      carried.push_back({&type, placesOf(o.result, caller)});
      DSVC_TRY(copy(type, from, carried.back().place, run));
      from = carried.back().place;
    }
    for (size_t c = 0; c < from.size(); ++c) {
      uint64_t bytes = 0;
      if (o.mode == Mode::indexed) DSVC_TRY(run.sizes.bytesOf(type.components[c], bytes));
      start.push_back(from[c]);
      stride.push_back(bytes);
    }
  }
  Frame frame{callee, caller.arena + step.arena, kNone, start};
  for (uint32_t layer = step.start; layer < step.stop; ++layer) {
    frame.layer = layer;
    for (size_t k = 0; k < start.size(); ++k) frame.slots[k] = start[k] + layer * stride[k];
    DSVC_TRY(steps(frame, run));
    // Carried values come first among the results, in the order of the operands.
    for (size_t k = 0; k < carried.size(); ++k)
      DSVC_TRY(copy(*carried[k].type, placesOf(callee.results[k], frame), carried[k].place, run));
  }
  return Status::ok();
}

Status Executor::copy(const ValueType& type, std::span<const Address> from, std::span<const Address> to, const Run& run) {
  for (size_t k = 0; k < to.size(); ++k) {
    if (from[k] == to[k]) continue;
    uint64_t bytes = 0;
    DSVC_TRY(run.sizes.bytesOf(type.components[k], bytes));
    DSVC_TRY(device_.copy(to[k], from[k], bytes));
  }
  return Status::ok();
}

}  // namespace dsvc::plan
