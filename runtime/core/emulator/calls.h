// A call's arguments and results: what the call's handler moves, and the checks with it.
#pragma once
#include <vector>

#include "program.h"

namespace dsvc::emulator {

struct CallItem {
  enum class Kind : uint8_t { callParam, ownParam, slot } kind = Kind::slot;
  uint64_t offset = 0, size = 0;  // in the caller's blocks
  Slot slot = slot::kNone;
  uint8_t cls = 1;
};
struct CallExtra : Extra {
  std::vector<CallItem> arguments, returns;
  const Function* callee = nullptr;  // null: indirect, the address in Insn::a
};

// Insn::flags of loads and stores of a function's parameters: of a call in the making, not the function's own.
constexpr uint32_t kCallScope = 1;

}  // namespace dsvc::emulator
