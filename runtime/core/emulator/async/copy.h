// What asynchronous operations share: the memory that they hold on to, where their reports go, and when they run.
#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "../machine.h"
#include "../resolver.h"
#include "../warp.h"

namespace dsvc::emulator {

// A broken rule; no code: none was.
struct Misuse {
  const char* code = nullptr;
  std::string message, fix;
  explicit operator bool() const { return code != nullptr; }
};

// Who issued an operation, for reports when it runs.
struct Origin {
  Machine* machine = nullptr;
  Site site;
  Origin(Warp& w, const Insn& i, int lane) : machine(&w.machine), site(w.site(i, lane)) {}
  void report(Severity severity, const char* code, std::string message, std::string fix) const;
  // For the checks: bytes that it saved to global memory, of which those with a zero in `known` are uninitialised.
  void saved(const struct Region& to, int64_t at, const uint8_t* known, size_t n) const;
  void report(const Misuse& m) const { report(Severity::error, m.code, m.message, m.fix); }
};

// Memory that an operation reads or writes when it runs. Shared memory stays alive through its block.
struct Region {
  uint8_t* bytes = nullptr;
  Allocation* allocation = nullptr;  // global memory
  std::shared_ptr<Cta> cta;          // shared memory: whose
  uint64_t offset = 0;               // of byte 0, in the allocation or the block's shared memory

  explicit operator bool() const { return bytes != nullptr; }
  // True when it is known which bytes were written (checks on).
  bool tracked() const;
  // `known`: a byte per byte, 1 when it was initialised; may be null.
  void load(int64_t at, uint8_t* to, uint8_t* known, size_t n) const;
  void save(int64_t at, const uint8_t* from, const uint8_t* known, size_t n) const;
};
Region regionOf(const Place& place);
std::shared_ptr<Cta> pointerTo(Cta& cta);

// Bytes on their way, with what is known of them.
struct Cargo {
  std::vector<uint8_t> data, known;
  explicit Cargo(size_t n) : data(n), known(n, 1) {}
};

// Runs `work` at a time that the seed chooses: mostly soon, sometimes much later, so that copies overtake each other.
void postLater(Machine& machine, std::function<void()> work);

// An operation's number for the checks.
uint64_t nextOperation();

// True when all threads of the block have exited.
bool hasExited(const Cta& cta);
// The same for the block that a copy writes to: then nothing may be written to it any more, and the error is reported.
bool hasExited(const Origin& origin, const Region& to, uint64_t bytes);
// A copy out of the shared memory of a block that has exited: a warning.
void warnAboutExit(const Origin& origin, const Region& from, uint64_t bytes);

// The modifier list's state spaces, in order: destination first.
Space spaceOf(Modifier m);
Space spaceAt(const Resolve& r, int n);

// A lane's address.
struct AddressOperand {
  Slot base = slot::kNone;
  int64_t offset = 0;
  uint64_t of(const Warp& w, int lane) const { return w.in<uint64_t>(base)[lane] + static_cast<uint64_t>(offset); }
};
AddressOperand addressAt(Resolve& r, size_t n);
AddressOperand addressFrom(Resolve& r, const Operand& o);

}  // namespace dsvc::emulator
