// Uninitialised data, followed as poison: bit by bit through registers, byte by byte through memory. Memory's maps are
// Allocation::initialised and Cta::sharedInitialised; registers, local memory and call parameters have theirs here.
// Poison is reported where it decides something: an address, a predicate of a branch or of an instruction with an
// effect, an operand of an asynchronous operation, an output.
//
// The common instruction reads only clean registers: then its results are marked clean, and that is all.
//   poison.cpp          instructions
//   poison_memory.cpp   loads, stores, atomics, calls' parameters
//   poison_lanes.cpp    what handlers hand on themselves: exchanges between lanes, matrices, wgmma
//   poison_report.cpp   reports, and where poison came from
#pragma once
#include <array>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "../machine.h"
#include "poison_rules.h"

namespace dsvc::emulator {

struct WgmmaExtra;
struct Wgmma;

// What is not known of a frame's registers.
struct Shadow {
  const PoisonRules* rules = nullptr;
  std::vector<Mask> any;  // by granule: lanes that have a poisoned bit
  // Poisoned bits by granule and lane. Made when the first register is poisoned by an instruction: until then poisoned
  // registers are the ones that were never written, and poisoned wholly. They count only where `any` has the lane.
  std::vector<std::array<uint32_t, kLanes>> bits;
  std::vector<uint32_t> origin;  // by granule: of the last poison; 0: never written
  // Bytes of Frame::params and callParams that are known: 1 each.
  std::vector<uint8_t> params, callParams;

  uint32_t bitsOf(uint32_t granule, int lane) const {
    return !(any[granule] >> lane & 1) ? 0 : bits.empty() ? ~0u : bits[granule][static_cast<size_t>(lane)];
  }
  // Lanes whose byte k has a poisoned bit.
  Mask byteOf(uint32_t granule, uint32_t k) const {
    if (bits.empty()) return any[granule];
    Mask p = 0;
    for (int l : lanesOf(any[granule])) p |= static_cast<Mask>((bits[granule][static_cast<size_t>(l)] >> 8 * k & 0xff) != 0) << l;
    return p;
  }
};
// Of a warp's local memory: as Warp::local.
struct LocalShadow {
  std::vector<uint8_t> known;
  uint64_t stride = 0;
  uint8_t* of(int lane, uint64_t needed);
};

class Poison : public Checks {
 public:
  explicit Poison(Machine& machine);
  ~Poison() override;

  void onGuard(Warp& w, const Insn& i, Mask lanes) override;
  void onInsn(Warp& w, const Insn& i, Mask m) override;
  void onAccess(Warp& w, const Insn& i, const Accesses& a) override;

  // --- for handlers that move values between lanes ----------------------------------------------------------------
  // True when the instruction that runs reads poison: its handler hands it on with the functions below.
  bool pending() const { return pending_ != 0; }
  // The poisoned bits of a lane's 32. Of a 64-bit register (class 2) any bit stands for all.
  void lanesOfRegister(Warp& w, Slot s, uint32_t* lanes, uint8_t cls = 1);
  void setRegister(Warp& w, Slot s, const uint32_t* lanes, uint8_t cls = 1);
  // 0xff for each poisoned byte; false when there is none.
  bool memory(Warp& w, const Place& p, uint32_t bytes, uint8_t* poison);
  void setMemory(Warp& w, const Insn& i, const Place& p, uint32_t bytes, const uint8_t* poison);
  // A rendezvous takes in its lanes' poison, and gives it out.
  void gather(Warp& w, const Insn& i, Mask m, Rendezvous& r);
  void scatter(Warp& w, const Insn& i, Mask m, const Rendezvous& r);
  // A wgmma reads its matrices and writes its accumulators now.
  void runProduct(Cta& cta, const WgmmaExtra& x, const Wgmma& p);

 private:
  enum class Use : uint8_t { address, predicate, operand, output };

  Shadow& shadowOf(Warp& w) {
    Frame& f = w.frame();
    return f.shadow ? *f.shadow : begin(w, f);
  }
  Shadow& begin(Warp& w, Frame& f);
  static const PoisonRule& ruleOf(const Shadow& s, const Insn& i) {
    return s.rules->rules[static_cast<size_t>(&i - s.rules->code->insns.data())];
  }

  void slow(Warp& w, const Insn& i, Mask m, Shadow& s, const PoisonRule& r);
  void tryBits(Warp& w, const Insn& i, Mask m, Shadow& s, const PoisonRule& r, Mask lost, uint32_t origin);
  void halves(Mask m, Shadow& s, const PoisonRule& r, Mask lost, uint32_t origin);
  Mask comparison(Warp& w, const Insn& i, const Shadow& s, const PoisonRule& r) const;
  Mask poisonOf(const Shadow& s, const PoisonRegister& q, uint32_t narrow = 0) const;
  void checkUse(Warp& w, const Insn& i, Mask m, const Shadow& s, const PoisonRule& r, uint32_t from, uint32_t count, Use use);
  void clear(Shadow& s, const PoisonRule& r, Mask m) const {
    const uint32_t* g = s.rules->granules.data() + r.first + r.reads;
    for (uint32_t k = 0; k < r.writes; ++k) s.any[g[k]] &= ~m;
  }
  // Marks lanes of a granule wholly.
  void poison(Shadow& s, uint32_t granule, Mask lanes, uint32_t origin);
  void setBits(Shadow& s, uint32_t granule, int lane, uint32_t poisoned);
  void setByte(Shadow& s, uint32_t granule, uint32_t k, Mask lanes, Mask poisoned);
  void detail(Shadow& s);
  void leave(Warp& w, Mask m);

  void load(Warp& w, const Insn& i, const Accesses& a);
  void store(Warp& w, const Insn& i, const Accesses& a);
  void atomic(Warp& w, const Insn& i, const Accesses& a);
  ByteSet* setOf(const Accesses& a) const;
  uint8_t* knownOf(Warp& w, const Insn& i, const Accesses& a, int lane);
  void mark(Warp& w, const Insn& i, const Accesses& a, int lane, uint64_t offset, uint32_t bytes, uint32_t poisoned, uint32_t origin);

  void report(Warp& w, const Insn& i, int lane, Use use, const std::string& what, const std::string& origin);
  std::string textOf(const Shadow& s, const PoisonRegister& q, int lane) const;
  std::string nameOfStep(const Shadow& s, const PoisonRegister& q) const;
  std::string nameOf(const Shadow& s, const PoisonRegister& q) const;
  uint32_t originOf(const Shadow& s, uint32_t granule);
  uint32_t originOf(Warp& w, const Accesses& a, uint64_t offset);
  uint32_t originOf(std::string text);

  Machine& machine_;
  bool wanted_[4] = {};
  Mask pending_ = 0;   // lanes that read poison in the instruction that runs
  Mask operands_ = 0;  // of an atomic: lanes whose operands are poisoned
  uint32_t operandOrigin_ = 0;
  std::vector<uint8_t> saved_, first_, varied_;  // tryBits
  std::vector<std::string> origins_{""};
  std::unordered_map<std::string, uint32_t> originIds_;
  std::unordered_map<uint64_t, uint32_t> stored_;  // origin of poison in memory, by a hash of the place
};

}  // namespace dsvc::emulator
