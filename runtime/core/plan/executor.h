// Runs a plan's entries on a device: weights resident, one arena, every launch of the plan in order, repeats layer by
// layer (docs/BUNDLE.md says how). Everything a host knows beyond the plan comes in from outside: the kernels' code, the
// weights, the arrays of an entry's arguments.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "plan.h"
#include "sizes.h"

namespace dsvc::plan {

struct Array {
  device::Address address = 0;
  uint64_t bytes = 0;
};

class Executor;
struct Frame;

// One launch, as an observer sees it. Valid during the call only.
struct Site {
  const Function& function;
  uint32_t index;  // of the step in the function
  const Step& step;
  const Kernel& kernel;
  uint32_t layer;  // kNone outside of repeats
  uint64_t tag;    // counts the launches of a run from 0: what the device gives back with its remarks
  const Executor& executor;
  const Frame& frame;
  const Sizes& sizes;

  // Where the arrays of value `k` of the step lie, at the sizes of this run.
  Status arrays(uint32_t k, std::vector<Array>& arrays) const;
  std::string text() const;  // "rms_norm_956ea709, layer 3 (model.ts:10:5)"
};

// Called around every launch, also those whose grid is empty and that do nothing. A failure ends the run.
class Observer {
 public:
  virtual ~Observer() = default;
  virtual Status before(const Site&) { return Status::ok(); }
  virtual Status after(const Site&) { return Status::ok(); }
};

// An array of an entry's result, read back.
using Bytes = std::vector<uint8_t>;

class Executor {
 public:
  // Gives a kernel's code in the form that the device takes.
  using CodeSource = std::function<Status(const Kernel& kernel, Bytes& code)>;

  // The plan must have come through load() or verify(). The device outlives the executor.
  Executor(Plan plan, device::Device& device, CodeSource code);
  ~Executor();
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  const Plan& plan() const { return plan_; }

  // Writes a part of a weight's array: bytes [at, at + size) of a component, for one of its layers (0 outside of
  // layers). Makes the weights' memory first. Codes: plan/unknown-weight, plan/weight-range, the device's.
  Status writeWeight(uint32_t weight, uint32_t layer, uint32_t component, uint64_t at, std::span<const uint8_t> bytes);

  // Runs an entry. `arguments`: where each array of each argument lies, in order, at least as large as its type at these
  // sizes; inout ones are updated there. `results`: arrays of each result, by component. Where a launch fails, the status
  // says which. Codes: plan/unknown-entry, plan/arguments, plan/out-of-memory, those of Sizes, the code source's and the device's.
  Status run(const std::string& entry, std::span<const GivenSize> sizes, std::span<const device::Address> arguments,
             std::vector<std::vector<Bytes>>& results, Observer* observer = nullptr);

  // Where an array lies in a call of a function.
  device::Address address(const Place& place, const Frame& frame) const;

 private:
  struct Loaded {
    bool isReady = false;
    device::Module module{};
    device::Function function{};
    device::Address scratch = 0;
  };
  struct Run {
    Sizes sizes;
    Observer* observer = nullptr;
    uint64_t launches = 0;
  };

  Status makeWeights();
  Status makeArena(const Function& entry);
  Status prepare(uint32_t kernel);
  Status steps(const Frame& frame, Run& run);
  Status launch(const Frame& frame, uint32_t index, Run& run);
  Status issue(const Site& site);
  Status parameters(const Site& site, const Loaded& loaded, Bytes& block) const;
  Status repeat(const Frame& frame, const Step& step, Run& run);
  Status read(const Value& value, const Frame& frame, const Run& run, std::vector<Bytes>& arrays);
  Status copy(const ValueType& type, std::span<const device::Address> from, std::span<const device::Address> to, const Run& run);

  Plan plan_;
  device::Device& device_;
  CodeSource code_;
  std::vector<Loaded> loaded_;  // by kernel
  device::Address weights_ = 0, arena_ = 0;
  const Function* arenaOf_ = nullptr;
};

// One call of a function.
struct Frame {
  const Function& function;
  device::Address arena = 0;
  uint32_t layer = kNone;
  std::vector<device::Address> slots;  // arrays of the arguments
};

}  // namespace dsvc::plan
