// Errors as data: what a call that can fail gives back. Nothing here throws.
#pragma once
#include <cstdint>
#include <string>
#include <utility>

namespace dsvc {

// Ok unless it has a code.
struct [[nodiscard]] Status {
  std::string code;     // stable, "plan/unknown-entry"; empty: all is well
  std::string message;  // with the numbers
  std::string fix;      // may be empty
  std::string where;    // what was being done: the kernel, the author's line, the layer
  uint32_t line = 0, column = 0;  // in the PTX; 0: no place

  bool failed() const { return !code.empty(); }
  static Status ok() { return {}; }
  static Status error(std::string code, std::string message, std::string fix = "") {
    Status s;
    s.code = std::move(code);
    s.message = std::move(message);
    s.fix = std::move(fix);
    return s;
  }
};

}  // namespace dsvc

// Returns from the calling function when a call failed.
#define DSVC_TRY(call)                             \
  do {                                             \
    if (::dsvc::Status s_ = (call); s_.failed()) return s_; \
  } while (false)
