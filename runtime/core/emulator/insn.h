// A resolved instruction: what the run loop executes. The resolver (resolver.h) makes these from the decoded program.
#pragma once
#include <bit>
#include <cstdint>
#include <memory>

namespace dsvc::emulator {

class Warp;
struct Insn;

// One bit per lane of a warp.
using Mask = uint32_t;
constexpr Mask kFull = 0xffffffffu;
constexpr int kLanes = 32;

// What a handler tells the run loop.
//   next     go on with the instruction after this one.
//   jumped   the handler changed the path (pc, frame, lanes), split it, or ended it: read it anew.
//   blocked  nothing more can happen now: the path stays at this instruction, `Path::wait` says why, and the handler
//            runs again when something in reach has changed (Machine::changed). What the first run already did is
//            remembered in Path::stage and Path::token, which are zero at first and cleared when the path moves on.
enum class Flow : uint32_t { next, jumped, blocked };

// `active`: lanes of the path whose guard holds; never zero.
using Handler = Flow (*)(Warp&, const Insn&, Mask active);

// Where an operand's 32 lanes lie: the two upper bits choose the block (Warp::bases), the rest is a byte offset.
// A 32-bit value takes 32 x uint32_t, a 64-bit one 32 x uint64_t, a 128-bit one 32 x 2 uint64_t, a predicate one Mask.
// Types below 32 bits live in 32-bit slots: readers use the low bits, writers zero- or sign-extend by the type.
using Slot = uint32_t;
namespace slot {
constexpr Slot kRegister = 0u << 30;  // the frame's registers
constexpr Slot kConstant = 1u << 30;  // the program's pool: immediates, broadcast to 32 lanes
constexpr Slot kSpecial = 2u << 30;   // the warp's special registers (%tid.x ...) and the addresses of variables,
                                      // written at its admission
constexpr Slot kOffsetMask = (1u << 30) - 1;
constexpr Slot kNone = 0xffffffffu;
}  // namespace slot

// Whatever a handler needs beyond four operands (vectors, shapes, tables). Owned by the code that holds the Insn.
struct Extra {
  virtual ~Extra() = default;
};

struct Insn {
  Handler run = nullptr;
  Slot d = slot::kNone, a = slot::kNone, b = slot::kNone, c = slot::kNone;
  Slot guard = slot::kNone;  // predicate's slot
  Mask guardFlip = 0;        // all ones for @!p
  uint32_t decoded = 0;      // index of the decoded instruction (source position, names for messages)
  uint32_t flags = 0;        // the handler's own
  int64_t immediate = 0;     // the handler's own: address offset, branch target, ...
  const Extra* extra = nullptr;
};

// Bits of Insn::flags with a meaning for all; a handler's own bits lie below.
namespace insnflag {
constexpr uint32_t kBranch = 1u << 31;  // immediate is a decoded index, turned into the distance to its first Insn
}

template <class T>
const T& extraOf(const Insn& i) {
  return *static_cast<const T*>(i.extra);
}

// Iterates over the set lanes of a mask: `for (int l : lanesOf(m))`.
class LanesOf {
 public:
  explicit LanesOf(Mask m) : m_(m) {}
  struct It {
    Mask m;
    int operator*() const { return std::countr_zero(m); }
    It& operator++() { m &= m - 1; return *this; }
    bool operator!=(const It& o) const { return m != o.m; }
  };
  It begin() const { return {m_}; }
  It end() const { return {0}; }

 private:
  Mask m_;
};
inline LanesOf lanesOf(Mask m) { return LanesOf(m); }

}  // namespace dsvc::emulator
