// Performance of a launch, as notes.cpp gathers it and notes_report.cpp puts it into words.
#pragma once
#include <unordered_map>

#include "../machine.h"
#include "../performance.h"

namespace dsvc::emulator {

class Notes : public Checks {
 public:
  explicit Notes(Machine& machine) : machine_(machine), out_(std::make_shared<Performance>()) {}

  void onInsn(Warp& w, const Insn& i, Mask m) override;
  void afterInsn(Warp& w, const Insn& i, Mask m) override;
  void onJump(Warp&, const DecodedInsn&, Mask m) override;
  void onAccess(Warp& w, const Insn& i, const Accesses& a) override;
  void onTransfer(uint64_t id, const Region& region, uint64_t at, uint64_t bytes, AccessKind kind) override;
  void onSignal(uint64_t id, Cta& cta, uint32_t offset, uint64_t phase) override;
  void onMbarrierWait(Warp& w, const Insn& i, int lane, Cta& cta, uint32_t offset, uint64_t phase, Order, Scope) override;
  void onCtaEnd(Cta& cta) override { rings_.erase(&cta); }
  void onGridEnd(Grid& grid) override;

 private:
  // What an instruction is, found once.
  struct Known {
    bool known = false, counts = false;
    WaitPoint wait = WaitPoint::count_;
    Performance::Products* products = nullptr;
    uint64_t flop = 0;
  };
  struct PerCode {
    std::vector<Known> known;                // by Insn
    std::vector<InsnPerformance> counts;     // by decoded instruction
  };
  struct Gathered {
    Mask lanes = 0;
    uint32_t bytes = 0;
    uint64_t at[kLanes];
    void take(const Accesses& a, uint64_t base);
  };
  // Phases of a block's mbarriers that were waited for, of those that copies complete.
  using Ring = std::unordered_map<uint32_t, uint64_t>;

  PerCode& of(const Code& code);
  Known& knownOf(Warp& w, const Insn& i);
  void classify(const DecodedInsn& d, Known& k);
  InsnPerformance& countsOf(Warp& w, const Insn& i);
  void countShared(InsnPerformance& p);
  void countGlobal(InsnPerformance& p);
  void tell(const Grid& grid);
  void note(const Grid& grid, const InsnPerformance* at, const char* code, std::string message, std::string fix);

  Machine& machine_;
  std::shared_ptr<Performance> out_;
  std::unordered_map<const Code*, PerCode> codes_;
  const Code* lastCode_ = nullptr;
  PerCode* last_ = nullptr;
  Gathered shared_, global_;
  std::unordered_map<uint64_t, uint64_t> started_;  // a wait's first try: warp and instruction, turn
  std::unordered_map<const Cta*, Ring> rings_;
};

}  // namespace dsvc::emulator
