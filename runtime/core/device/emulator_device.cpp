#include "emulator_device.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "../emulator/async/tensor_map_encode.h"

namespace dsvc::device {

namespace {

using emulator::EmulatorError;

// Runs what may throw; an EmulatorError becomes a status.
template <class F>
Status guarded(F body) {
  try {
    return body();
  } catch (const EmulatorError& e) {
    Status s = Status::error(e.code, e.message);
    s.line = e.ptxLine;
    s.column = e.ptxColumn;
    return s;
  } catch (const std::bad_alloc&) {
    return Status::error("emu/out-of-memory", "the host has no memory left");
  }
}

Status unknown(const char* what, uint32_t number) {
  return Status::error("device/bad-handle", emulator::format("%u is no %s of this device", number, what), "this is a bug of the caller");
}

}  // namespace

EmulatorDevice::~EmulatorDevice() {
  for (auto& [number, program] : modules_) device_->forget(*program);
}

Status EmulatorDevice::allocate(uint64_t bytes, const std::string& name, Address& address) {
  return guarded([&] {
    address = device_->memory.allocate(bytes, name, device_->options.checked()).base;
    return Status::ok();
  });
}

Status EmulatorDevice::free(Address address) {
  return guarded([&] {
    device_->memory.free(address);
    return Status::ok();
  });
}

Status EmulatorDevice::write(Address to, std::span<const uint8_t> bytes) {
  if (bytes.empty()) return Status::ok();
  return guarded([&] {
    std::memcpy(device_->memory.host(to, bytes.size(), "a host write"), bytes.data(), bytes.size());
    emulator::Allocation* a = device_->memory.nearest(to);
    a->markInitialised(to - a->base, bytes.size(), true);
    return Status::ok();
  });
}

Status EmulatorDevice::read(Address from, std::span<uint8_t> bytes) {
  if (bytes.empty()) return Status::ok();
  return guarded([&] {
    std::memcpy(bytes.data(), device_->memory.host(from, bytes.size(), "a host read"), bytes.size());
    return Status::ok();
  });
}

Status EmulatorDevice::expectInitialised(Address at, uint64_t bytes) {
  return guarded([&] {
    const uint64_t first = device_->memory.firstUninitialised(at, bytes);
    if (first >= bytes) return Status::ok();
    return Status::error("emu/uninitialised-output",
                         emulator::format("byte %llu of %llu holds data that no kernel initialised", static_cast<unsigned long long>(first),
                                          static_cast<unsigned long long>(bytes)),
                         "run with --compare ref to find the kernel");
  });
}

Status EmulatorDevice::fill(Address to, uint8_t value, uint64_t bytes, Stream stream) {
  DSVC_TRY(known(stream));
  if (bytes == 0) return Status::ok();
  return guarded([&] {
    std::memset(device_->memory.host(to, bytes, "a fill"), value, bytes);
    emulator::Allocation* a = device_->memory.nearest(to);
    a->markInitialised(to - a->base, bytes, true);
    return Status::ok();
  });
}

Status EmulatorDevice::copy(Address to, Address from, uint64_t bytes, Stream stream) {
  DSVC_TRY(known(stream));
  if (bytes == 0 || to == from) return Status::ok();
  return guarded([&] {
    device_->memory.copy(to, from, bytes);
    return Status::ok();
  });
}

Status EmulatorDevice::discard(Address at, uint64_t bytes) {
  if (bytes == 0) return Status::ok();
  return guarded([&] {
    device_->memory.host(at, bytes, "a discard");
    emulator::Allocation* a = device_->memory.nearest(at);
    a->markInitialised(at - a->base, bytes, false);
    return Status::ok();
  });
}

Status EmulatorDevice::loadModule(std::span<const uint8_t> bytes, Module& module) {
  return guarded([&] {
    std::shared_ptr<emulator::Program> program = emulator::Program::load(bytes);
    modules_[next_] = std::move(program);
    module = Module{next_++};
    return Status::ok();
  });
}

Status EmulatorDevice::unloadModule(Module module) {
  auto number = static_cast<uint32_t>(module);
  auto it = modules_.find(number);
  if (it == modules_.end()) return unknown("module", number);
  return guarded([&] {
    device_->forget(*it->second);
    modules_.erase(it);
    std::erase_if(functions_, [&](const auto& f) { return f.second.module == number; });
    return Status::ok();
  });
}

Status EmulatorDevice::function(Module module, const std::string& name, Function& function) {
  auto it = modules_.find(static_cast<uint32_t>(module));
  if (it == modules_.end()) return unknown("module", static_cast<uint32_t>(module));
  if (!it->second->kernel(name)) return Status::error("emu/no-such-kernel", "the module has no kernel " + name);
  functions_[next_] = {it->second, name, it->first};
  function = Function{next_++};
  return Status::ok();
}

Status EmulatorDevice::encodeTensorMap(const TensorMap& map, uint8_t (&object)[kTensorMapBytes]) {
  emulator::TensorMapSpec spec;
  spec.rank = map.rank;
  spec.element = static_cast<uint32_t>(map.type);
  spec.swizzle = map.swizzle;
  spec.address = map.address;
  std::copy(std::begin(map.dims), std::end(map.dims), spec.dims);
  std::copy(std::begin(map.strides), std::end(map.strides), spec.strides);
  std::copy(std::begin(map.box), std::end(map.box), spec.box);
  if (emulator::Misuse m = emulator::encodeTensorMap(spec, object)) return Status::error(m.code, m.message, m.fix);
  return Status::ok();
}

Status EmulatorDevice::launch(const Launch& launch, Stream stream) {
  DSVC_TRY(known(stream));
  auto it = functions_.find(static_cast<uint32_t>(launch.function));
  if (it == functions_.end()) return unknown("function", static_cast<uint32_t>(launch.function));
  Loaded& loaded = it->second;
  return guarded([&] {
    emulator::LaunchRequest request;
    request.kernel = loaded.name;
    for (int k = 0; k < 3; ++k) {
      request.grid[k] = launch.grid[k];
      request.block[k] = launch.block[k];
      request.cluster[k] = launch.cluster[k];
    }
    request.dynamicSharedBytes = launch.dynamicSharedBytes;
    request.parameters.assign(launch.parameters.begin(), launch.parameters.end());
    emulator::Machine machine(device_->options);
    auto started = std::chrono::steady_clock::now();
    machine.submit(*device_, *loaded.program, std::move(request));
    machine.run();
    machine.statistics.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    if (onLaunched) onLaunched(launch.tag, machine);
    for (const emulator::Report& r : machine.reports) {
      if (r.severity != emulator::Severity::error) continue;
      Status s = Status::error(r.code, r.message, r.fix);
      s.line = r.site.ptxLine;
      s.column = r.site.ptxColumn;
      return s;
    }
    return Status::ok();
  });
}

Status EmulatorDevice::known(Stream stream) const {
  auto number = static_cast<uint32_t>(stream);
  return number == 0 || streams_.contains(number) ? Status::ok() : unknown("stream", number);
}
Status EmulatorDevice::known(Event event) const {
  auto number = static_cast<uint32_t>(event);
  return events_.contains(number) ? Status::ok() : unknown("event", number);
}

Status EmulatorDevice::createStream(Stream& stream) {
  streams_.insert(next_);
  stream = Stream{next_++};
  return Status::ok();
}
Status EmulatorDevice::destroyStream(Stream stream) {
  auto number = static_cast<uint32_t>(stream);
  return streams_.erase(number) ? Status::ok() : unknown("stream", number);
}
Status EmulatorDevice::createEvent(Event& event) {
  events_.insert(next_);
  event = Event{next_++};
  return Status::ok();
}
Status EmulatorDevice::destroyEvent(Event event) {
  auto number = static_cast<uint32_t>(event);
  return events_.erase(number) ? Status::ok() : unknown("event", number);
}
// Whatever was issued has happened: an event has nothing to wait for.
Status EmulatorDevice::record(Event event, Stream stream) {
  DSVC_TRY(known(event));
  return known(stream);
}
Status EmulatorDevice::wait(Stream stream, Event event) {
  DSVC_TRY(known(event));
  return known(stream);
}
Status EmulatorDevice::synchronise(Stream stream) { return known(stream); }

}  // namespace dsvc::device
