// How an instruction hands on what is not known of its operands: one rule per Insn, made when a frame first runs the
// code (poison_rules.cpp).
//
// Shadows have a granule for each predicate and for each 32 bits of a register: two for a 64-bit register, four for a
// 128-bit one, low ones first.
#pragma once
#include <vector>

#include "../program.h"

namespace dsvc::emulator {

enum class PoisonKind : uint8_t {
  whole,    // any poisoned byte of any operand poisons the result
  halves,   // the same for each 16-bit half by itself
  bits,     // moves and combines bits: what the result does not depend on, found by trying, leaves it clean
  compare,  // setp
  load,
  store,
  atomic,
  gather,   // lanes exchange values: shfl, vote, match, redux
  handler,  // the handler hands it on itself: ldmatrix, stmatrix, movmatrix, mma, wmma
  product,  // wgmma.mma_async
  operands, // must not have poisoned operands: asynchronous copies, mbarriers, barriers
  leave,    // ret
  branch,   // jumps by an index or an address
  none,
};

struct PoisonRule {
  PoisonKind kind = PoisonKind::none;
  bool isPure = false;      // does nothing but write registers: a poisoned guard poisons those
  uint8_t controls = 0;     // of `bits`, operands that say what moves where: 1 b, 2 c, 4 the slot in Insn::immediate
  uint8_t narrow = 0;       // bytes of each operand that matter; 0: all
  uint16_t reads = 0, writes = 0;          // granules, in PoisonRules::granules from `first` on: reads, then writes
  uint16_t addresses = 0, data = 0, results = 0;  // registers, in PoisonRules::registers from `from` on, in this order
  uint32_t first = 0, from = 0;
  uint32_t guard = 0;       // granule, where there is a guard
};

struct PoisonRegister {
  Slot slot = 0;
  uint8_t cls = 1;
  uint32_t granule = 0;
};

struct PoisonRules {
  const Code* code = nullptr;
  std::vector<PoisonRule> rules;  // by Insn
  std::vector<uint32_t> granules;
  std::vector<PoisonRegister> registers;
  uint32_t predicates = 0, predicateBytes = 0, count = 0;  // granules of predicates; where they end in the frame; all

  uint32_t granuleOf(Slot s) const {
    const uint32_t at = s & slot::kOffsetMask;
    return at < predicateBytes ? at / 4 : predicates + (at - predicateBytes) / 128;
  }
};

constexpr uint32_t granulesOf(uint8_t cls) { return cls == 3 ? 4 : cls == 2 ? 2 : 1; }
constexpr uint32_t bytesOfClass(uint8_t cls) { return cls == 3 ? 16 : cls == 2 ? 8 : 4; }

const PoisonRules& poisonRulesOf(const Code& code);

}  // namespace dsvc::emulator
