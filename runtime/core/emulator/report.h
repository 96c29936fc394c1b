// What the emulator has to say about a launch: errors and hazards as data. The TypeScript face turns them into
// diagnostics; nothing here prints.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace dsvc::emulator {

enum class Severity : uint8_t { error, warning, note };

// One lane at one instruction: the place of a report, or the other access of a race.
struct Site {
  std::string kernel;
  uint32_t block[3] = {0, 0, 0};
  uint64_t grid = 0;    // the launch, by its number in its machine; 0: unknown
  uint32_t device = 0;  // its device's ordinal
  int32_t warp = -1;  // -1: not of one warp (a whole block, an asynchronous copy)
  int32_t lane = -1;  // -1: the whole warp
  uint32_t ptxLine = 0, ptxColumn = 0;
  std::string locFile;  // .loc: the model file's line; empty when the PTX has none
  uint32_t locLine = 0, locColumn = 0;
  std::string what;  // for the other access: "st.shared of 4 bytes"
};

struct Report {
  std::string code;  // stable, "emu/out-of-bounds"
  Severity severity = Severity::error;
  std::string message;
  Site site;
  std::vector<Site> others;  // the other access of a race; who waits in a deadlock
  std::string fix;
  uint64_t count = 1;  // how often the same code came from the same instruction
};

// Ends a launch at its first error. Thrown by Machine::report, caught by Machine::run.
struct StopLaunch {};

// Refuses a program, a launch or a call before anything ran. `code` as in Report.
struct EmulatorError {
  std::string code;
  std::string message;
  uint32_t ptxLine = 0, ptxColumn = 0;  // 0: no place
};

[[noreturn]] inline void refuse(std::string code, std::string message) {
  throw EmulatorError{std::move(code), std::move(message), 0, 0};
}

// printf into a std::string.
std::string format(const char* pattern, ...) __attribute__((format(printf, 1, 2)));

}  // namespace dsvc::emulator
