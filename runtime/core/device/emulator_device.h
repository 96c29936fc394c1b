// The emulator as a device. A launch has run to its end when launch() returns, in the order of the calls: one of the
// orders that streams and events allow. An error that the emulator reports fails the launch, after all of its reports
// went to `onLaunched`.
#pragma once
#include <functional>
#include <memory>
#include <set>
#include <unordered_map>
#include <vector>

#include "../emulator/machine.h"
#include "device.h"

namespace dsvc::device {

class EmulatorDevice final : public Device {
 public:
  explicit EmulatorDevice(std::shared_ptr<emulator::Device> device) : device_(std::move(device)) {}
  ~EmulatorDevice() override;

  // Reports and statistics of each launch that began, with its tag.
  std::function<void(uint64_t tag, const emulator::Machine& machine)> onLaunched;

  Status allocate(uint64_t bytes, const std::string& name, Address& address) override;
  Status free(Address address) override;
  Status write(Address to, std::span<const uint8_t> bytes) override;
  Status read(Address from, std::span<uint8_t> bytes) override;
  Status expectInitialised(Address at, uint64_t bytes) override;
  Status fill(Address to, uint8_t value, uint64_t bytes, Stream stream) override;
  Status copy(Address to, Address from, uint64_t bytes, Stream stream) override;
  Status discard(Address at, uint64_t bytes) override;
  const char* codeForm() const override { return "program"; }
  Status loadModule(std::span<const uint8_t> bytes, Module& module) override;
  Status unloadModule(Module module) override;
  Status function(Module module, const std::string& name, Function& function) override;
  Status encodeTensorMap(const TensorMap& map, uint8_t (&object)[kTensorMapBytes]) override;
  Status launch(const Launch& launch, Stream stream) override;
  Status createStream(Stream& stream) override;
  Status destroyStream(Stream stream) override;
  Status createEvent(Event& event) override;
  Status destroyEvent(Event event) override;
  Status record(Event event, Stream stream) override;
  Status wait(Stream stream, Event event) override;
  Status synchronise(Stream stream) override;

 private:
  struct Loaded {
    std::shared_ptr<emulator::Program> program;
    std::string name;
    uint32_t module = 0;
  };
  std::shared_ptr<emulator::Device> device_;
  std::unordered_map<uint32_t, std::shared_ptr<emulator::Program>> modules_;
  std::unordered_map<uint32_t, Loaded> functions_;
  std::set<uint32_t> streams_, events_;
  uint32_t next_ = 1;  // handles of every kind: a mixed-up one is found

  Status known(Stream stream) const;
  Status known(Event event) const;
};

}  // namespace dsvc::device
