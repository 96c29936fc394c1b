// What runs kernels, as an executor of plans sees it: memory, modules, launches, streams and events. The emulator is one;
// the CUDA driver API and the CPU fit the same calls. Handles are numbers of the device that gave them; 0 is none, but
// for streams, where 0 is the stream that always exists. Work of one stream happens in order. Calls without a stream
// come after all work that was issued before them, and have happened when they return.
//
// A device is used by one thread at a time.
#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "status.h"

namespace dsvc::device {

using Address = uint64_t;

enum class Module : uint32_t {};
enum class Function : uint32_t {};
enum class Stream : uint32_t {};
enum class Event : uint32_t {};
constexpr Stream kDefaultStream{0};

constexpr uint32_t kTensorMapBytes = 128, kTensorMapAlign = 64;

// Element types of tensor maps, by the numbers of tensormap.replace.
enum class TensorMapType : uint8_t { u8, u16, u32, s32, u64, s64, f16, f32, f32Ftz, f64, bf16, tf32, tf32Ftz };
constexpr uint32_t kTensorMapTypes = 13;

// What a tensor map describes: tiles of a dense tensor, without interleaving, zeros out of bounds. Innermost first.
struct TensorMap {
  TensorMapType type{};
  uint32_t rank = 0;  // 1 to 5
  Address address = 0;
  uint64_t dims[5] = {};
  uint64_t strides[4] = {};  // bytes, of dimensions 1 and up
  uint32_t box[5] = {};
  uint32_t swizzle = 0;  // 0 none, 1 32 bytes, 2 64, 3 128
};

struct Launch {
  Function function{};
  uint32_t grid[3] = {1, 1, 1}, block[3] = {1, 1, 1};
  uint32_t cluster[3] = {0, 0, 0};  // zeros: as the kernel declares
  uint32_t dynamicSharedBytes = 0;
  std::span<const uint8_t> parameters;  // the kernel's parameter block; copied
  uint64_t tag = 0;  // the caller's mark: a device that has remarks about launches gives it back with them
};

class Device {
 public:
  virtual ~Device() = default;

  // Memory. Addresses are those that kernels use. `name` is for messages. New memory holds nothing in particular.
  virtual Status allocate(uint64_t bytes, const std::string& name, Address& address) = 0;
  virtual Status free(Address address) = 0;
  virtual Status write(Address to, std::span<const uint8_t> bytes) = 0;
  virtual Status read(Address from, std::span<uint8_t> bytes) = 0;
  // Fails where bytes hold what nobody wrote, on devices that know.
  virtual Status expectInitialised(Address, uint64_t /*bytes*/) { return Status::ok(); }
  virtual Status fill(Address to, uint8_t value, uint64_t bytes, Stream stream = kDefaultStream) = 0;
  virtual Status copy(Address to, Address from, uint64_t bytes, Stream stream = kDefaultStream) = 0;
  // The bytes no longer mean anything: who checks for uninitialised data may take them as such.
  virtual Status discard(Address, uint64_t /*bytes*/) { return Status::ok(); }

  // Code, in the form that the device takes (codeForm says which).
  virtual const char* codeForm() const = 0;  // "program" (decoded PTX), "ptx", "cubin"
  virtual Status loadModule(std::span<const uint8_t> bytes, Module& module) = 0;
  virtual Status unloadModule(Module module) = 0;
  virtual Status function(Module module, const std::string& name, Function& function) = 0;
  virtual Status encodeTensorMap(const TensorMap& map, uint8_t (&object)[kTensorMapBytes]) = 0;
  virtual Status launch(const Launch& launch, Stream stream = kDefaultStream) = 0;

  virtual Status createStream(Stream& stream) = 0;
  virtual Status destroyStream(Stream stream) = 0;
  virtual Status createEvent(Event& event) = 0;
  virtual Status destroyEvent(Event event) = 0;
  // The event has happened when all work issued to the stream so far has.
  virtual Status record(Event event, Stream stream) = 0;
  // Later work of the stream comes after the event as last recorded; an event never recorded holds nothing up.
  virtual Status wait(Stream stream, Event event) = 0;
  // Waits until all work of the stream has happened.
  virtual Status synchronise(Stream stream) = 0;
};

}  // namespace dsvc::device
