// A plan as data: what a host does to run an entry of a model. compiler/plan-file writes it (format version 1), load()
// reads it and checks everything that does not depend on run-time sizes: every index, that arenas nest, that a repeat's
// weights exist for all of its layers, that functions only call functions before them. Nothing is unrolled over layers
// or tokens.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "../device/device.h"

namespace dsvc::plan {

constexpr uint32_t kFormatVersion = 1;
constexpr uint32_t kNone = 0xffffffff;

// A run-time size.
struct Dim {
  std::string name;
  uint64_t bound = 0;  // 0: no bound (columns of the page table)
  // Ragged: rows grouped by expert, `per` for each element of `of`, groups aligned; the host never gives its size.
  uint32_t of = kNone;
  uint64_t per = 0, groups = 0, align = 1;
};

// constant + sum of factor * dim
struct Extent {
  struct Term {
    uint32_t dim = 0;
    uint64_t factor = 0;
  };
  uint64_t constant = 0;
  std::vector<Term> terms;
};

// One array of a value: dense, row-major.
struct Component {
  std::string name;   // "data", "scale0", "pages" ...
  std::string dtype;  // as the IR spells it
  uint32_t bits = 0;  // of an element
  std::vector<Extent> shape;
};

struct ValueType {
  std::string text;  // as the IR prints it
  std::vector<Component> components;
};

// Where an array begins.
struct Place {
  enum class Base : uint8_t { arena = 0, argument = 1, weight = 2 } base{};
  uint32_t index = 0;   // argument: number of the array, counted through all arguments; weight: its number
  uint64_t offset = 0;  // bytes
};

struct Value {
  uint32_t type = 0;
  std::vector<Place> places;  // by component
};

struct Weight {
  std::string name;  // "model.layers.{i}.mlp.up_proj.weight"
  uint32_t type = 0;
  bool isLayered = false;
  uint32_t first = 0, count = 1;     // layers that have it
  uint64_t offset = 0, stride = 0;   // in the weights' memory: of the first layer, and to the next
};

struct State {
  std::string name, policy;
  uint32_t page = 0;
};

struct Parameter {
  enum class Kind : uint8_t { pointer = 0, size = 1, tensorMap = 2 } kind{};
  uint32_t at = 0;  // byte in the parameter block
  uint32_t dim = 0;  // size: u32 of this dim
  // pointer, tensorMap: a component of the launch's value, or scratch (value kNone), `offset` bytes into it
  uint32_t value = 0, component = 0;
  uint64_t offset = 0;
  device::TensorMapType type{};
  uint32_t swizzle = 0;
  std::vector<Extent> dims, strides;
  std::vector<uint32_t> box;
};

struct Kernel {
  std::string name;
  uint32_t threads = 0, cluster[3] = {0, 0, 0};
  uint32_t dynamicSharedBytes = 0, parameterBytes = 0;
  uint64_t scratchBytes = 0;  // 0: none
  // Blocks: ceil(extent / per) by axis; atMost > 0: their product along x, at most so many.
  struct Axis {
    Extent extent;
    uint64_t per = 1;
  };
  std::vector<Axis> grid;
  uint64_t atMost = 0;
  std::vector<Parameter> parameters;
};

enum class Mode : uint8_t { same = 0, carry = 1, indexed = 2 };

struct Step {
  enum class Kind : uint8_t { launch = 0, repeat = 1 } kind{};
  std::string at;  // the author's line; may be empty
  // Launch: the kernel's operands, then its results that are no operands.
  uint32_t kernel = 0, operands = 0;
  std::vector<Value> values;
  // Repeat: layers [start, stop) of a function whose arena begins at `arena` in the caller's.
  uint32_t function = 0, start = 0, stop = 0;
  uint64_t arena = 0;
  struct Operand {
    Mode mode{};
    Value value, result;  // result: of a carried one only
  };
  std::vector<Operand> arguments;
};

struct Argument {
  std::string name;
  uint32_t type = 0;
  bool isInout = false;
};

struct Function {
  std::string name;
  bool isEntry = false;
  std::vector<Argument> arguments;
  uint64_t arenaBytes = 0;
  std::vector<Step> steps;
  std::vector<Value> results;
  uint32_t slots = 0;  // arrays of all arguments; counted at load
};

struct Plan {
  std::vector<Dim> dims;
  std::vector<ValueType> types;
  std::vector<State> states;
  std::vector<Weight> weights;
  uint64_t weightBytes = 0;
  std::vector<Kernel> kernels;
  std::vector<Function> functions;  // callees first

  const Function* entry(const std::string& name) const;
};

// Fills `plan` from its bytes. Codes: plan/format (the bytes are broken), plan/version.
Status load(std::span<const uint8_t> bytes, Plan& plan);

// What load() does after reading: everything that must hold for an executor to be safe. Codes: plan/format.
Status verify(Plan& plan);

}  // namespace dsvc::plan
