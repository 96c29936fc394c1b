#include "resolver.h"

#include <bit>
#include <cstdlib>
#include <cstring>

#include "handlers/families.h"
#include "memory.h"
#include "report.h"
#include "warp.h"
#include "machine.h"

namespace dsvc::emulator {

namespace {

// --- Insns in front of and behind others: conversions between register widths, computed operands ------------------

Flow narrow(Warp& w, const Insn& i, Mask m) {
  const uint64_t* a = w.in<uint64_t>(i.a);
  uint32_t* d = w.out<uint32_t>(i.d);
  for (int l : lanesOf(m)) d[l] = static_cast<uint32_t>(a[l]);
  return Flow::next;
}
// flags: bits of the value; immediate: 1 for a signed one.
Flow widen(Warp& w, const Insn& i, Mask m) {
  const uint32_t* a = w.in<uint32_t>(i.a);
  uint64_t* d = w.out<uint64_t>(i.d);
  uint32_t shift = 64 - i.flags;
  for (int l : lanesOf(m)) {
    uint64_t v = static_cast<uint64_t>(a[l]) << shift;
    d[l] = i.immediate ? static_cast<uint64_t>(static_cast<int64_t>(v) >> shift) : v >> shift;
  }
  return Flow::next;
}
// A 64- or 32-bit value into a 128-bit register, zero-extended. flags: the source's class.
Flow widenQuad(Warp& w, const Insn& i, Mask m) {
  uint64_t* d = w.out<uint64_t>(i.d);
  for (int l : lanesOf(m)) {
    d[2 * l] = i.flags == 2 ? w.in<uint64_t>(i.a)[l] : w.in<uint32_t>(i.a)[l];
    d[2 * l + 1] = 0;
  }
  return Flow::next;
}
Flow negatePredicate(Warp& w, const Insn& i, Mask) {
  *w.out<Mask>(i.d) = ~w.predicate(i.a);
  return Flow::next;
}
Flow addOffset(Warp& w, const Insn& i, Mask m) {
  if (i.flags == 2)
    for (int l : lanesOf(m)) w.out<uint64_t>(i.d)[l] = w.in<uint64_t>(i.a)[l] + static_cast<uint64_t>(i.immediate);
  else
    for (int l : lanesOf(m)) w.out<uint32_t>(i.d)[l] = w.in<uint32_t>(i.a)[l] + static_cast<uint32_t>(i.immediate);
  return Flow::next;
}
Flow localAddress(Warp& w, const Insn& i, Mask m) {
  uint64_t v = w.frame().localBase + static_cast<uint64_t>(i.immediate);
  if (i.flags == 2)
    for (int l : lanesOf(m)) w.out<uint64_t>(i.d)[l] = v;
  else
    for (int l : lanesOf(m)) w.out<uint32_t>(i.d)[l] = static_cast<uint32_t>(v);
  return Flow::next;
}
Flow readClock(Warp& w, const Insn& i, Mask m) {
  uint64_t v = 0;
  switch (static_cast<Special>(i.immediate)) {
    case Special::clock_: case Special::clock64_: v = w.machine.clock(); break;
    case Special::clock_hi_: v = w.machine.clock() >> 32; break;
    case Special::globaltimer_: case Special::globaltimer_lo_: v = w.machine.nanoseconds(); break;
    case Special::globaltimer_hi_: v = w.machine.nanoseconds() >> 32; break;
    default: break;
  }
  if (i.flags == 2)
    for (int l : lanesOf(m)) w.out<uint64_t>(i.d)[l] = v;
  else
    for (int l : lanesOf(m)) w.out<uint32_t>(i.d)[l] = static_cast<uint32_t>(v);
  return Flow::next;
}
bool isClock(uint32_t special) {
  auto s = static_cast<Special>(special);
  return s == Special::clock_ || s == Special::clock64_ || s == Special::clock_hi_ || s == Special::globaltimer_ ||
         s == Special::globaltimer_lo_ || s == Special::globaltimer_hi_;
}

uint32_t registerBase(const Function& f, uint8_t cls) {
  uint32_t predicates = (f.registers[0] * 4 + 127) / 128 * 128;
  switch (cls) {
    case 0: return 0;
    case 1: return predicates;
    case 2: return predicates + f.registers[1] * 128;
    default: return predicates + f.registers[1] * 128 + f.registers[2] * 256;
  }
}
constexpr uint32_t kClassBytes[4] = {4, 128, 256, 512};

// What the end of a body does when no exit or ret stands there. The mnemonic's own handler serves.
DecodedInsn endOf(const Function& f) {
  DecodedInsn d;
  d.mnemonic = f.isEntry ? Mnemonic::exit_ : Mnemonic::ret_;
  if (!f.body.empty()) {
    d.ptxLine = f.body.back().ptxLine;
    d.ptxColumn = f.body.back().ptxColumn;
  }
  return d;
}

}  // namespace

Slot Program::specialSlot(bool isSymbol, uint8_t cls, uint32_t index) {
  for (const SpecialUse& u : specials)
    if (u.isSymbol == isSymbol && u.cls == cls && u.index == index) return u.slot;
  Slot s = slot::kSpecial | specialBytes;
  specials.push_back({isSymbol, cls, index, s});
  specialBytes += kClassBytes[cls];
  return s;
}

bool Resolve::has(Modifier m) const {
  for (Modifier q : in.modifiers)
    if (q == m) return true;
  return false;
}

Type Resolve::type(int n) const {
  for (Modifier q : in.modifiers)
    if (Type t = typeOf(q); t != Type::none && n-- == 0) return t;
  return Type::none;
}

int Resolve::types() const {
  int n = 0;
  for (Modifier q : in.modifiers) n += typeOf(q) != Type::none;
  return n;
}

const Operand& Resolve::operand(size_t n) const {
  if (n >= in.operands.size()) unsupported(format("operand %zu is missing", n + 1));
  return in.operands[n];
}

void Resolve::unsupported(const std::string& why) const {
  throw EmulatorError{"emu/unsupported-instruction", spell(in) + ": " + why, in.ptxLine, in.ptxColumn};
}

Slot Resolve::registerSlot(uint8_t cls, uint32_t index) const {
  return slot::kRegister | (registerBase(function, cls) + index * kClassBytes[cls]);
}

Slot Resolve::scratch(uint8_t cls) {
  // A block of its own for each, so that nothing overlaps; predicates take a whole one too.
  Slot s = slot::kRegister | code.registerBytes;
  code.scratches.push_back({code.registerBytes, cls});
  code.registerBytes += cls == 0 ? 128 : kClassBytes[cls];
  if (code.registerBytes > slot::kOffsetMask) unsupported("the function needs too many registers");
  return s;
}

Slot Resolve::computed(Handler run, Slot a, int64_t immediate, uint8_t cls, uint32_t flags) {
  Insn i;
  i.run = run;
  i.a = a;
  i.d = scratch(cls);
  i.immediate = immediate;
  i.flags = flags;
  before_.push_back(i);
  return i.d;
}

Slot Resolve::immediateSlot(const Operand& o, Type t) {
  uint64_t bits = static_cast<uint64_t>(o.value);
  if (o.cls == 2 && (t == Type::f32 || t == Type::tf32)) {
    // A decimal literal is a double; in a 32-bit place it is rounded to single.
    float f = static_cast<float>(std::bit_cast<double>(bits));
    bits = std::bit_cast<uint32_t>(f);
  } else if (o.cls == 1 && t == Type::f64) {
    bits = std::bit_cast<uint64_t>(static_cast<double>(std::bit_cast<float>(static_cast<uint32_t>(bits))));
  } else if (o.cls == 0 && (t == Type::f32 || t == Type::f64)) {
    unsupported("an integer where a floating-point value must stand");
  }
  switch (classOf(t)) {
    case 0: return program.constants.predicate(bits != 0);
    case 2: return program.constants.doubleWord(bits);
    case 3: return program.constants.quad(bits, o.value < 0 ? ~0ull : 0);
    default: return program.constants.word(static_cast<uint32_t>(bits));
  }
}

Slot Resolve::variableSlot(uint32_t index, int64_t offset, Type t) {
  uint8_t cls = classOf(t);
  if (cls == 0 || cls == 3 || isFloat(t)) unsupported("a variable's address where it cannot stand");
  const Variable& v = program.variables[index];
  if (v.space == VariableSpace::local)
    return computed(localAddress, slot::kNone, static_cast<int64_t>(v.offset) + offset, cls, cls);
  if (v.space == VariableSpace::param) unsupported("the address of a call's .param variable");
  Slot base = program.specialSlot(true, cls, index);
  return offset == 0 ? base : computed(addOffset, base, offset, cls, cls);
}

Slot Resolve::sourceOf(const Operand& o, Type t) {
  uint8_t cls = classOf(t);
  switch (o.kind) {
    case OperandKind::reg: {
      if (t == Type::pred) return predicateOf(o);
      Slot s = registerSlot(o.cls, o.index);
      if (o.cls == cls) return readSlot(s);
      if (o.cls == 2 && cls == 1) return readSlot(computed(narrow, readSlot(s), 0, 1));
      unsupported(format("a source register of the wrong width (%s)", o.cls == 0 ? "a predicate" : o.cls < cls ? "too narrow" : "too wide"));
    }
    case OperandKind::immediate: return immediateSlot(o, t);
    case OperandKind::special: {
      if (cls == 0 || cls == 3) unsupported("a special register where it cannot stand");
      if (isClock(o.index)) return computed(readClock, slot::kNone, o.index, cls, cls);
      return program.specialSlot(false, cls, o.index);
    }
    case OperandKind::symbol: return variableSlot(o.index, o.value, t);
    case OperandKind::function:
      return immediateSlot(Operand{OperandKind::immediate, 0, false, 0, static_cast<int64_t>(functionAddress(o.index)), {}}, t);
    case OperandKind::parameter: {
      if (!function.isEntry) unsupported("the address of a function's parameter");
      int64_t at = static_cast<int64_t>(function.params[o.index].offset) + o.value;
      return immediateSlot(Operand{OperandKind::immediate, 0, false, 0, at, {}}, t);
    }
    case OperandKind::notPredicate: return predicateOf(o);
    default: unsupported("an operand of a kind that cannot be read here");
  }
}

Slot Resolve::predicateOf(const Operand& o) {
  if (o.kind == OperandKind::reg && o.cls == 0) return readSlot(registerSlot(0, o.index));
  if (o.kind == OperandKind::notPredicate) return readSlot(computed(negatePredicate, readSlot(registerSlot(0, o.index)), 0, 0));
  if (o.kind == OperandKind::immediate) return program.constants.predicate(o.value != 0);
  unsupported("a predicate must stand here");
}

Slot Resolve::destinationOf(const Operand& o, Type t) {
  uint8_t cls = classOf(t);
  if (o.kind == OperandKind::sink) return scratch(cls);
  if (o.kind != OperandKind::reg) unsupported("the destination is no register");
  Slot s = registerSlot(o.cls, o.index);
  writes_.push_back(s);
  if (o.cls == cls) return s;
  if (cls == 0 || o.cls == 0 || o.cls < cls) unsupported("a destination register of the wrong width");
  Insn i;
  i.a = scratch(cls);
  i.d = s;
  if (o.cls == 3) {
    i.run = widenQuad;
    i.flags = cls;
  } else {
    i.run = widen;
    i.flags = sizeOf(t) * 8;
    i.immediate = isSigned(t) ? 1 : 0;
  }
  after_.push_back(i);
  writes_.push_back(i.a);
  return i.a;
}

Resolve::Address Resolve::addressOf(const Operand& o) {
  if (o.kind != OperandKind::address) unsupported("an address must stand here");
  const Operand& base = o.parts[0];
  Address a{slot::kNone, o.value, nullptr, false};
  switch (base.kind) {
    case OperandKind::reg:
      if (base.cls == 2) {
        a.base = sourceOf(base, Type::u64);
        addresses_.push_back(a.base);
      } else if (base.cls == 1) {
        // 32-bit addresses (shared, local): the offset wraps in 64 bits, and negative sums are out of bounds anyway.
        a.base = readSlot(computed(widen, readSlot(registerSlot(1, base.index)), 0, 2, 32));
        addresses_.push_back(a.base);
      } else {
        unsupported("an address in a register of the wrong width");
      }
      return a;
    case OperandKind::immediate:
      a.base = program.constants.doubleWord(static_cast<uint64_t>(base.value));
      return a;
    case OperandKind::symbol: {
      a.variable = &program.variables[base.index];
      a.offset += base.value;
      if (a.variable->space == VariableSpace::param) {
        a.offset += static_cast<int64_t>(a.variable->offset);
        a.base = program.constants.doubleWord(0);
      } else {
        a.base = variableSlot(base.index, 0, Type::u64);
      }
      return a;
    }
    case OperandKind::parameter: {
      const Parameter& q = (base.isReturn ? function.returns : function.params)[base.index];
      a.isParameter = true;
      a.offset += static_cast<int64_t>(q.offset) + base.value;
      a.base = program.constants.doubleWord(0);
      return a;
    }
    default: unsupported("an address of an unknown form");
  }
}

int64_t Resolve::constant(size_t n) const { return constantOf(operand(n)); }
int64_t Resolve::constantOf(const Operand& o) const {
  if (o.kind != OperandKind::immediate || o.cls != 0) unsupported("an integer constant must stand here");
  return o.value;
}

Resolver::Resolver() : table_(static_cast<size_t>(Mnemonic::count_), nullptr) {}

namespace {
bool hasAvx2() {
#if defined(__x86_64__)
  // For tests: the plain level on a machine that has the better one.
  const char* asked = std::getenv("DSVC_CORE_LEVEL");
  if (asked && std::strcmp(asked, "base") == 0) return false;
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
#else
  return false;
#endif
}
}  // namespace

const char* levelName() { return hasAvx2() ? "avx2" : "base"; }

const Resolver& Resolver::instance() {
  static const Resolver made = [] {
    Resolver r;
#if defined(__x86_64__)
    if (hasAvx2()) {
      avx2::registerAll(r);
      return r;
    }
#endif
    base::registerAll(r);
    return r;
  }();
  return made;
}

void Resolver::resolve(Program& program, Function& f, bool checked) const {
  if (f.code[checked]) return;
  auto code = std::make_unique<Code>();
  code->registerBytes = registerBase(f, 3) + f.registers[3] * 512;
  if (code->registerBytes > (64u << 20)) refuse("emu/program-format", f.name + " has more registers than the emulator holds (64 MiB of them for a warp)");
  // Labels are decoded indices until all Insns are placed.
  const size_t n = f.body.size();
  DecodedInsn end = endOf(f);
  for (size_t k = 0; k <= n; ++k) {
    const DecodedInsn& d = k < n ? f.body[k] : end;
    code->entry.push_back(static_cast<uint32_t>(code->insns.size()));
    Resolve r(program, f, *code, d, static_cast<uint32_t>(k), checked);
    ResolveFunction family = table_[static_cast<size_t>(d.mnemonic)];
    if (!family) r.unsupported("the emulator does not execute this instruction");
    family(r);
    if (!r.out.run) r.unsupported("the emulator does not execute this form");
    Slot guard = slot::kNone;
    if (d.guard) {
      guard = r.registerSlot(0, d.guardIndex);
      r.reads_.push_back(guard);
    }
    auto place = [&](Insn i, Code::Operands operands) {
      i.decoded = static_cast<uint32_t>(k);
      i.guard = guard;
      i.guardFlip = d.guard == 2 ? kFull : 0;
      code->insns.push_back(i);
      code->operands.push_back(std::move(operands));
    };
    for (const Insn& i : r.before_) place(i, {{i.a}, {i.d}, {}, true});
    place(r.out, {r.reads_, r.writes_, r.addresses_, false});
    for (const Insn& i : r.after_) place(i, {{i.a}, {i.d}, {}, true});
  }
  code->function = &f;
  code->checked = checked;
  for (size_t k = 0; k < code->insns.size(); ++k) {
    Insn& i = code->insns[k];
    if (i.flags & insnflag::kBranch) i.immediate = static_cast<int64_t>(code->entry[static_cast<size_t>(i.immediate)]) - static_cast<int64_t>(k);
  }
  f.code[checked] = std::move(code);
}

void Program::prepare(const Function& kernel, bool checked) {
  for (uint32_t k : reachable(kernel)) {
    Function& f = functions[k];
    if (f.isExtern && f.body.empty()) continue;
    Resolver::instance().resolve(*this, f, checked);
  }
}

}  // namespace dsvc::emulator
