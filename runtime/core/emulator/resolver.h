// Turns decoded instructions into Insns. Each family of instructions registers a function per mnemonic that looks at
// modifiers and operands, chooses a handler and fills an Insn. A slot from source() is only read, one from
// destination() only written (a source that is also written, as `+` operands are, needs both calls):
//
//   static void resolveAdd(Resolve& r) {
//     Type t = r.type(0);
//     r.out.d = r.destination(0, t);  r.out.a = r.source(1, t);  r.out.b = r.source(2, t);
//     r.out.run = ...;
//   }
//   void registerArithmetic(Resolver& resolver) { resolver.add(Mnemonic::add_, resolveAdd); }
//
// Handlers live in handlers/*.cpp, inside namespace DSVC_ARCH, and are compiled once per instruction-set level (baseline
// and AVX2+FMA, scripts/build-native.mjs); families.h lists the register functions.
#pragma once
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "program.h"

namespace dsvc::emulator {

class Resolve {
 public:
  Resolve(Program& p, Function& f, Code& code, const DecodedInsn& in, uint32_t index, bool checked)
      : program(p), function(f), code(code), in(in), index(index), checked(checked) {}

  Program& program;
  Function& function;
  Code& code;
  const DecodedInsn& in;
  const uint32_t index;
  const bool checked;  // choose handlers that call the checks
  Insn out;

  bool has(Modifier m) const;
  // True when one of them is there.
  template <class... M>
  bool hasAny(M... m) const { return (has(m) || ...); }
  // The nth modifier that is a type, counted from 0; Type::none when there are fewer.
  Type type(int n) const;
  int types() const;
  size_t operands() const { return in.operands.size(); }
  const Operand& operand(size_t n) const;  // refuses when missing

  // A slot to read a value of the type from: registers, immediates, specials, symbols' addresses. A register of
  // another width is narrowed or zero-extended (sign-extended for signed types) into a scratch slot by an Insn in front.
  Slot source(size_t n, Type t) { return sourceOf(operand(n), t); }
  Slot sourceOf(const Operand& o, Type t);
  // A slot to write to. `_` gets a scratch slot. A wider register gets the value extended by an Insn behind.
  Slot destination(size_t n, Type t) { return destinationOf(operand(n), t); }
  Slot destinationOf(const Operand& o, Type t);
  // A predicate source: register, !p, or immediate.
  Slot predicate(size_t n) { return predicateOf(operand(n)); }
  Slot predicateOf(const Operand& o);
  // An address operand: slot of a 64-bit base per lane and the constant offset. 32-bit bases are zero-extended.
  struct Address {
    Slot base;
    int64_t offset;
    // The variable or parameter that the address names, if it does: then the space is known.
    const Variable* variable = nullptr;
    bool isParameter = false;
  };
  Address address(size_t n) { return addressOf(operand(n)); }
  Address addressOf(const Operand& o);
  // An integer that must be known now. Refuses others.
  int64_t constant(size_t n) const;
  int64_t constantOf(const Operand& o) const;
  Slot scratch(uint8_t cls);
  Slot registerSlot(uint8_t cls, uint32_t index) const;

  // The Insn's own data, owned by the code.
  template <class T>
  T& extra() {
    auto made = std::make_unique<T>();
    T& ref = *made;
    code.extras.push_back(std::move(made));
    out.extra = &ref;
    return ref;
  }
  // Extra Insns around the resolved one, run under the same guard.
  void before(Insn i) { before_.push_back(i); }
  void after(Insn i) { after_.push_back(i); }
  // Ends resolving: "emu/unsupported-instruction" at the instruction's line.
  [[noreturn]] void unsupported(const std::string& why) const;

 private:
  friend class Resolver;
  Slot immediateSlot(const Operand& o, Type t);
  Slot variableSlot(uint32_t variable, int64_t offset, Type t);
  Slot readSlot(Slot s) { reads_.push_back(s); return s; }
  Slot computed(Handler run, Slot a, int64_t immediate, uint8_t cls, uint32_t flags = 0);
  std::vector<Insn> before_, after_;
  std::vector<Slot> reads_, writes_, addresses_;
};

// The instruction-set level in use: "base" or "avx2".
const char* levelName();

using ResolveFunction = void (*)(Resolve&);

class Resolver {
 public:
  Resolver();
  // The resolver with every family of the best instruction-set level of this machine.
  static const Resolver& instance();

  void add(Mnemonic m, ResolveFunction f) { table_[static_cast<size_t>(m)] = f; }
  // Null when none was added: for families that take over some forms of another's mnemonic.
  ResolveFunction find(Mnemonic m) const { return table_[static_cast<size_t>(m)]; }
  // Resolves one function (not its callees).
  void resolve(Program& program, Function& f, bool checked) const;

 private:
  std::vector<ResolveFunction> table_;
};

}  // namespace dsvc::emulator
