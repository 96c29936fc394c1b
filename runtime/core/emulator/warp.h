// A warp: 32 lanes in SIMD, as a set of paths. A path is a set of lanes with one program counter and one call frame.
// A divergent branch splits a path; paths that meet at the same instruction in the same frame merge. The path with the
// deepest frame and the lowest program counter runs first, so code reconverges early, but nothing's result may depend
// on it: instructions that need other lanes wait for them.
#pragma once
#include <memory>
#include <vector>

#include "async.h"
#include "checks.h"
#include "insn.h"
#include "memory.h"
#include "program.h"
#include "report.h"

namespace dsvc::emulator {

struct Grid;
class Machine;

// One call of a function by the lanes of one path. Lanes that split inside share it.
struct Frame {
  const Function* function = nullptr;
  const Code* code = nullptr;
  uint32_t references = 0;  // paths in it, and frames that it called
  uint32_t depth = 0;
  Frame* caller = nullptr;
  const Insn* call = nullptr;  // the calling Insn; execution goes on behind it
  uint8_t* registers = nullptr;
  // Per lane, lane-major (lane * stride): own parameters and return values; call-scope .param variables.
  std::vector<uint8_t> params, callParams;
  uint32_t paramStride = 0, callParamStride = 0;
  uint64_t localBase = 0;  // offset of its .local variables in each lane's local memory
  std::shared_ptr<struct Shadow> shadow;  // with checks on: what is not known of it (checks/poison.h)
};

enum class WaitKind : uint8_t {
  none,
  convergence,     // an .aligned instruction waits for the other lanes of the warp
  warpSync,        // a .sync instruction waits for the lanes in its member mask
  barrier,         // bar.sync; id = barrier
  clusterBarrier,
  mbarrier,        // address = generic shared address
  asyncGroup,
  wgmma,
  registers,       // setmaxnreg.inc
  sleep,           // until the engine's tick `id`
  grid             // griddepcontrol.wait
};

struct Wait {
  WaitKind kind = WaitKind::none;
  uint64_t id = 0;
  Mask lanes = 0;  // the lanes waited for, where that makes sense
};

struct Path {
  Mask lanes = 0;
  const Insn* pc = nullptr;
  Frame* frame = nullptr;
  Wait wait;             // kind none: can run
  uint64_t seen = 0;     // Machine::version when it blocked: run again only after a change
  uint32_t stage = 0;    // the blocked instruction's memory: see Flow::blocked
  uint64_t token = 0;
  uint32_t used = 0;     // instructions since the paths last took turns
};

// One warp-wide .sync operation: inputs of the lanes that have arrived, results once all have.
struct Rendezvous {
  uint32_t signature = 0;  // mnemonic and mode: only equal ones meet
  Mask members = 0, arrived = 0, collected = 0;
  uint64_t ticket = 0;
  bool complete = false;
  Mask inputMask = 0, outputMask = 0;  // predicates
  uint64_t a[kLanes], b[kLanes], c[kLanes], d[kLanes];
  // With checks on: lanes that gave uninitialised data, by byte of `a`; as another operand; where it came from.
  Mask poison[4] = {}, poisonedControl = 0;
  uint32_t poisonOrigin = 0;
};

class Warp {
 public:
  Warp(Machine& machine, Cta& cta, uint32_t index, Mask lanes);
  ~Warp();

  Machine& machine;
  Cta& cta;
  const uint32_t index;  // %warpid: in the CTA
  Mask exists;           // lanes with a thread
  Mask live;             // not exited
  const uint8_t* bases[4] = {nullptr, nullptr, nullptr, nullptr};  // of the current path: see Slot
  std::vector<Path> paths;
  size_t current = 0;  // index in paths while the run loop is in this warp
  std::vector<std::unique_ptr<Rendezvous>> rendezvous;  // of .sync operations that wait for lanes
  uint64_t tickets = 0;
  std::shared_ptr<WarpAsync> async;
  Mask clusterArrived = 0;  // lanes between barrier.cluster.arrive and .wait
  uint64_t clusterGeneration[kLanes] = {};
  uint8_t* specials = nullptr;
  Mask carry = 0;              // the condition code register: one carry bit per lane
  uint32_t registerCount = 0;  // per thread, as setmaxnreg leaves it
  uint32_t turns = 0;
  // Local memory of 32 threads, lane-major; grown on demand.
  std::vector<uint8_t> local;
  uint64_t localStride = 0;
  std::shared_ptr<struct LocalShadow> localShadow;  // with checks on: which bytes of it were written
  const void* recent[8] = {};  // allocations last hit, by instruction
  void* races = nullptr;       // the race check's own

  Path& path() { return paths[current]; }
  Frame& frame() { return *paths[current].frame; }

  // The 32 lanes of an operand. T is uint32_t or float for classes 0..1, uint64_t or double for 2.
  template <class T>
  const T* in(Slot s) const {
    return reinterpret_cast<const T*>(bases[s >> 30] + (s & slot::kOffsetMask));
  }
  template <class T>
  T* out(Slot s) const {
    return reinterpret_cast<T*>(const_cast<uint8_t*>(bases[0]) + (s & slot::kOffsetMask));
  }
  Mask predicate(Slot s) const { return *in<Mask>(s); }
  void setPredicate(Slot s, Mask value, Mask active) {
    Mask& p = *out<Mask>(s);
    p = (p & ~active) | (value & active);
  }
  // True when every lane may be overwritten: the active ones are all that still run.
  bool whole(Mask active) const { return (active | ~live) == kFull; }

  // --- control flow, for handlers -------------------------------------------------------------------------------
  // Moves the lanes `m` of the current path to `target`; the rest goes on behind `i`. Returns Flow::jumped.
  Flow jump(const Insn& i, Mask m, const Insn* target);
  // Ends the lanes for good.
  Flow exitLanes(const Insn& i, Mask m);
  // Blocks the current path at its instruction.
  Flow block(WaitKind kind, uint64_t id = 0, Mask lanes = 0);
  // For .aligned instructions: true when all live lanes are here. False: the handler must return the given flow
  // (blocked until the other paths come). Reports emu/divergent-barrier when they cannot come.
  bool converged(const Insn& i, Mask m, Flow& otherwise);
  Frame* newFrame(const Function& f, const Code& code, Frame* caller, const Insn* call);
  void release(Frame* f);  // drops a reference; the last one frees it and drops its caller's
  void rebase();           // bases for the current path
  void removePath();       // the current one
  // The lane's bytes of local memory, grown to `needed` bytes per lane.
  uint8_t* localOf(int lane, uint64_t needed);

  // --- memory, for handlers -------------------------------------------------------------------------------------
  // Finds and checks one lane's access of `bytes` bytes; alignment is to `align`. Reports what is wrong.
  Place locate(const Insn& i, int lane, Space space, uint64_t address, uint32_t bytes, uint32_t align, AccessKind kind);

  // --- reports --------------------------------------------------------------------------------------------------
  // Records it at the instruction's place; an error ends the launch (StopLaunch) unless it is to go on after errors.
  void report(const Insn& i, int lane, Severity severity, const char* code, std::string message, std::string fix = "");
  Site site(const Insn& i, int lane) const;
  const DecodedInsn& decoded(const Insn& i) const;

  // Runs up to `budget` instructions; returns how many. 0: nothing can run now.
  uint64_t run(uint64_t budget);
  bool finished() const { return paths.empty(); }
  // Instructions that poll memory (acquire and volatile loads) charge the turn, so that spinning warps give way.
  uint64_t charge = 0;

 private:
  template <bool Checked>
  uint64_t runPath(uint64_t budget);
  bool removed_ = false;  // the running path ended
  bool choosePath();
  void mergePaths();
};

}  // namespace dsvc::emulator
