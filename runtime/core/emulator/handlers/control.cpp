// Control flow: branches, calls and returns, exit, trap, sleep; setmaxnreg and griddepcontrol.
#include <cinttypes>

#include "../calls.h"
#include "lanes.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

Flow branch(Warp& w, const Insn& i, Mask m) { return w.jump(i, m, &i + i.immediate); }

struct TableExtra : Extra {
  const std::vector<uint32_t>* table = nullptr;
};
Flow branchIndexed(Warp& w, const Insn& i, Mask m) {
  const auto& table = *extraOf<TableExtra>(i).table;
  const uint32_t* index = w.in<uint32_t>(i.a);
  const Code& code = *w.frame().code;
  uint32_t k = index[std::countr_zero(m)];
  Mask same = 0;
  for (int l : lanesOf(m)) {
    if (index[l] >= table.size()) {
      w.report(i, l, Severity::error, "emu/branch-index", format("brx.idx with index %u; the table has %zu targets", index[l], table.size()),
               "bound the index before the branch");
      index = nullptr;
      break;
    }
    if (index[l] == k) same |= 1u << l;
  }
  if (!index) return w.exitLanes(i, m);
  const Insn* target = code.insns.data() + code.entry[table[k]];
  if (same == m) return w.jump(i, m, target);
  // Several targets: the lanes of the first leave, the others execute the branch again as a path of their own.
  Path& p = w.path();
  Mask others = m & ~same, rest = p.lanes & ~m;
  Frame* frame = p.frame;
  p.lanes = same;
  p.pc = target;
  frame->references += 1 + (rest ? 1 : 0);
  Path again;
  again.lanes = others;
  again.pc = &i;
  again.frame = frame;
  w.paths.push_back(again);
  if (rest) {
    Path on = again;
    on.lanes = rest;
    on.pc = &i + 1;
    w.paths.push_back(on);
  }
  return Flow::jumped;
}

// --- calls ---------------------------------------------------------------------------------------------------------
uint8_t* itemBytes(Frame& f, const CallItem& item, int lane) {
  if (item.kind == CallItem::Kind::callParam) return f.callParams.data() + size_t{f.callParamStride} * lane + item.offset;
  return f.params.data() + size_t{f.paramStride} * lane + item.offset;
}
size_t cellBytes(uint8_t cls) { return cls == 2 ? 8 : cls == 3 ? 16 : 4; }

constexpr uint32_t kMostDepth = 512;
// Local memory of a thread, all its calls together (admission.cpp has the kernel's own).
constexpr uint64_t kMostLocal = 512 * 1024;

Flow call(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<CallExtra>(i);
  const Program& program = *w.cta.grid->program;
  const Function* callee = e.callee;
  if (!callee) {
    // Indirect: the lanes that call the first lane's function go, the rest try again.
    const uint64_t* a = w.in<uint64_t>(i.a);
    int first = std::countr_zero(m);
    uint64_t address = a[first], k = address / kFunctionAddresses - 1;
    if (address % kFunctionAddresses || address == 0 || k >= program.functions.size()) {
      w.report(i, first, Severity::error, "emu/bad-call", format("an indirect call to 0x%" PRIx64 ", which is no function", address), "call an address that mov took of a .func of this module");
      return w.exitLanes(i, m);
    }
    callee = &program.functions[k];
    Mask same = 0;
    for (int l : lanesOf(m))
      if (a[l] == address) same |= 1u << l;
    if (same != m) {
      Path& p = w.path();
      Path again = p;
      again.lanes = m & ~same;
      again.pc = &i;
      ++p.frame->references;
      Mask rest = p.lanes & ~m;
      p.lanes = same;
      Frame* frame = p.frame;
      w.paths.push_back(again);
      if (rest) {
        Path on = again;
        on.lanes = rest;
        on.pc = &i + 1;
        ++frame->references;
        w.paths.push_back(on);
      }
      m = same;
    }
  }
  if (callee->isEntry) {
    w.report(i, std::countr_zero(m), Severity::error, "emu/bad-call", callee->name + " is a kernel: only functions can be called", "call a .func");
    return w.exitLanes(i, m);
  }
  const Code* code = callee->code[w.cta.grid->code->checked].get();
  if (!code) {
    w.report(i, std::countr_zero(m), Severity::error, "emu/bad-call", callee->name + " has no body", "link the module that defines it");
    return w.exitLanes(i, m);
  }
  if (w.frame().depth >= kMostDepth) {
    w.report(i, std::countr_zero(m), Severity::error, "emu/stack-overflow", format("calls nested more than %u deep", kMostDepth), "bound the recursion");
    return w.exitLanes(i, m);
  }
  Frame& caller = w.frame();
  uint64_t local = caller.localBase + caller.function->localBytes + callee->localBytes;
  if (local > kMostLocal) {
    w.report(i, std::countr_zero(m), Severity::error, "emu/stack-overflow",
             format("the call needs %" PRIu64 " bytes of local memory per thread; there are %" PRIu64, local, kMostLocal), "bound the recursion, or make .local variables smaller");
    return w.exitLanes(i, m);
  }
  Frame* made = w.newFrame(*callee, *code, &caller, &i);
  made->references = 1;
  for (size_t k = 0; k < e.arguments.size() && k < callee->params.size(); ++k) {
    const CallItem& item = e.arguments[k];
    const Parameter& q = callee->params[k];
    for (int l : lanesOf(m)) {
      uint8_t* to = made->params.data() + size_t{made->paramStride} * l + q.offset;
      if (item.kind == CallItem::Kind::slot) {
        size_t n = cellBytes(item.cls);
        std::memcpy(to, w.in<uint8_t>(item.slot) + n * l, std::min<uint64_t>(n, q.size));
      } else {
        std::memcpy(to, itemBytes(caller, item, l), std::min(item.size, q.size));
      }
    }
  }
  Path& p = w.path();
  p.wait = {};
  if (p.lanes != m) {
    Path rest = p;
    rest.lanes = p.lanes & ~m;
    rest.pc = &i + 1;
    ++p.frame->references;
    p.lanes = m;
    p.frame = made;
    p.pc = code->insns.data();
    --caller.references;  // this path's; newFrame holds one for the callee
    w.paths.push_back(rest);
    return Flow::jumped;
  }
  p.frame = made;
  p.pc = code->insns.data();
  --caller.references;
  return Flow::jumped;
}

Flow leave(Warp& w, const Insn& i, Mask m) {
  Frame* f = &w.frame();
  if (!f->caller) return w.exitLanes(i, m);
  Frame* caller = f->caller;
  const auto& e = extraOf<CallExtra>(*f->call);
  for (size_t k = 0; k < e.returns.size() && k < f->function->returns.size(); ++k) {
    const CallItem& item = e.returns[k];
    const Parameter& q = f->function->returns[k];
    for (int l : lanesOf(m)) {
      const uint8_t* from = f->params.data() + size_t{f->paramStride} * l + q.offset;
      if (item.kind == CallItem::Kind::slot) {
        size_t n = cellBytes(item.cls);
        uint8_t* to = caller->registers + (item.slot & slot::kOffsetMask) + n * l;
        std::memset(to, 0, n);
        std::memcpy(to, from, std::min<uint64_t>(n, q.size));
      } else {
        std::memcpy(itemBytes(*caller, item, l), from, std::min(item.size, q.size));
      }
    }
  }
  const Insn* back = f->call + 1;
  Path& p = w.path();
  p.wait = {};
  ++caller->references;
  if (p.lanes == m) {
    p.frame = caller;
    p.pc = back;
    w.release(f);
    return Flow::jumped;
  }
  Path returned = p;
  returned.lanes = m;
  returned.frame = caller;
  returned.pc = back;
  p.lanes &= ~m;
  p.pc = &i + 1;
  w.paths.push_back(returned);
  return Flow::jumped;
}

Flow exitThread(Warp& w, const Insn& i, Mask m) { return w.exitLanes(i, m); }

Flow trap(Warp& w, const Insn& i, Mask m) {
  w.report(i, std::countr_zero(m), Severity::error, "emu/trap", "the kernel executed trap", "look at the condition that leads here");
  return w.exitLanes(i, m);
}
Flow nothing(Warp&, const Insn&, Mask) { return Flow::next; }

// An argument of a call of the device runtime.
uint64_t argumentOf(Warp& w, const CallItem& item, int lane) {
  uint64_t v = 0;
  if (item.kind == CallItem::Kind::slot) std::memcpy(&v, w.in<uint8_t>(item.slot) + cellBytes(item.cls) * lane, cellBytes(item.cls));
  else std::memcpy(&v, itemBytes(w.frame(), item, lane), std::min<uint64_t>(item.size, sizeof v));
  return v;
}
// A C string in memory, cut at kMostText characters.
std::string textAt(Warp& w, const Insn& i, int lane, uint64_t address) {
  constexpr size_t kMostText = 400;
  std::string s;
  while (address && s.size() < kMostText) {
    Place p = w.locate(i, lane, Space::generic, address++, 1, 1, AccessKind::read);
    if (!p.bytes || !*p.bytes) break;
    s += static_cast<char>(*p.bytes);
  }
  return s;
}

// What C++'s assert calls: (message, file, line, function, size of a character).
Flow assertFail(Warp& w, const Insn& i, Mask m) {
  const auto& e = extraOf<CallExtra>(i);
  const int lane = std::countr_zero(m);
  auto text = [&](size_t k) { return textAt(w, i, lane, argumentOf(w, e.arguments[k], lane)); };
  w.report(i, lane, Severity::error, "emu/assert-failed",
           format("%s:%" PRIu64 ": %s: assertion failed: %s", text(1).c_str(), argumentOf(w, e.arguments[2], lane) & 0xffffffff,
                  text(3).c_str(), text(0).c_str()),
           "look at what the assertion demands");
  return w.exitLanes(i, m);
}

Flow nanosleep(Warp& w, const Insn& i, Mask m) {
  // A turn is taken for some hundred nanoseconds; what matters is that others run meanwhile.
  Path& p = w.path();
  if (p.stage == 0) {
    uint32_t longest = 0;
    const uint32_t* a = w.in<uint32_t>(i.a);
    for (int l : lanesOf(m)) longest = std::max(longest, std::min(a[l], 1'000'000u));
    p.stage = 1;
    p.token = w.machine.engine.now() + 1 + longest / 128;
    Machine& machine = w.machine;
    machine.engine.post(1 + longest / 128, 1 + longest / 128, [&machine] { machine.changed(); });
    return w.block(WaitKind::sleep, p.token);
  }
  if (w.machine.engine.now() < p.token) return w.block(WaitKind::sleep, p.token);
  return Flow::next;
}

Flow setMaxRegisters(Warp& w, const Insn& i, Mask m) {
  Flow otherwise;
  if (!w.converged(i, m, otherwise)) return otherwise;
  const Grid& g = *w.cta.grid;
  uint32_t want = static_cast<uint32_t>(i.immediate), have = w.registerCount;
  bool increase = i.flags & 1;
  if (g.kernel->registersPerThread() == 0 && g.request.registers == 0) {
    w.report(i, -1, Severity::warning, "emu/setmaxnreg-ignored", "setmaxnreg needs a known register count, and the kernel names none: ptxas ignores it",
             "give .maxnreg, or .reqntid with .minnctapersm");
    return Flow::next;
  }
  if (increase ? want < have : want > have) {
    w.report(i, -1, Severity::error, "emu/setmaxnreg",
             format("setmaxnreg.%s to %u registers, but the warp has %u", increase ? "inc" : "dec", want, have),
             increase ? "inc needs a count above the current one" : "dec needs a count below the current one");
    return Flow::next;
  }
  int64_t change = (static_cast<int64_t>(want) - have) * kLanes;
  if (!w.machine.moveRegisters(w.cta, change)) return w.block(WaitKind::registers, want);
  w.registerCount = want;
  return Flow::next;
}

// --- resolving -----------------------------------------------------------------------------------------------------
void resolveBranch(Resolve& r) {
  const Operand& target = r.operand(0);
  if (target.kind != OperandKind::label) r.unsupported("the target is no label");
  r.out.immediate = target.index;
  r.out.flags = insnflag::kBranch;
  r.out.run = branch;
}
void resolveBranchIndexed(Resolve& r) {
  if (!r.has(Modifier::idx_) || r.operand(1).kind != OperandKind::branchTable) r.unsupported("brx.idx index, table is the form");
  r.out.a = r.source(0, Type::u32);
  r.extra<TableExtra>().table = &r.function.branchTables[r.operand(1).index];
  r.out.run = branchIndexed;
}
CallItem itemOf(Resolve& r, const Operand& o, bool isReturn) {
  CallItem item;
  switch (o.kind) {
    case OperandKind::symbol: {
      const Variable& v = r.program.variables[o.index];
      if (v.space != VariableSpace::param) break;
      item.kind = CallItem::Kind::callParam;
      if (o.value < 0 || static_cast<uint64_t>(o.value) > v.size) r.unsupported("a call's operand outside of its variable");
      item.offset = v.offset + static_cast<uint64_t>(o.value);
      item.size = v.size - static_cast<uint64_t>(o.value);
      return item;
    }
    case OperandKind::parameter: {
      if (r.function.isEntry) break;
      const Parameter& q = (o.isReturn ? r.function.returns : r.function.params)[o.index];
      item.kind = CallItem::Kind::ownParam;
      item.offset = q.offset;
      item.size = q.size;
      return item;
    }
    case OperandKind::reg:
      item.cls = o.cls;
      item.slot = r.registerSlot(o.cls, o.index);
      if (o.cls == 0) r.unsupported("a predicate as a call's operand");
      return item;
    case OperandKind::immediate:
      if (isReturn) break;
      item.cls = 2;
      item.slot = r.sourceOf(o, Type::b64);
      return item;
    case OperandKind::sink:
      item.cls = 2;
      item.slot = r.scratch(2);
      return item;
    default: break;
  }
  r.unsupported("a call's operand of an unknown kind");
}
void resolveCall(Resolve& r) {
  const Operand& returns = r.operand(0);
  const Operand& callee = r.operand(1);
  const Operand& arguments = r.operand(2);
  auto& e = r.extra<CallExtra>();
  for (const Operand& o : returns.parts) e.returns.push_back(itemOf(r, o, true));
  for (const Operand& o : arguments.parts) e.arguments.push_back(itemOf(r, o, false));
  if (callee.kind == OperandKind::function) {
    e.callee = &r.program.functions[callee.index];
    // A kernel's parameters are laid out for a launch, not for a call.
    if (e.callee->isEntry) r.unsupported(e.callee->name + " is a kernel: only functions can be called");
    if (e.callee->isExtern && e.callee->body.empty()) {
      if (e.callee->name == "__assertfail" && e.arguments.size() == 5) {
        r.out.run = assertFail;
        return;
      }
      // The device runtime's printf does nothing here; others would give wrong results.
      if (e.callee->name != "vprintf") r.unsupported(e.callee->name + " is extern and has no body in this module");
      r.out.run = nothing;
      return;
    }
  } else {
    r.out.a = r.source(1, Type::u64);
  }
  r.out.run = call;
}
void resolveReturn(Resolve& r) { r.out.run = leave; }
void resolveExit(Resolve& r) { r.out.run = exitThread; }
void resolveTrap(Resolve& r) { r.out.run = trap; }
void resolveNothing(Resolve& r) { r.out.run = nothing; }
void resolveSleep(Resolve& r) {
  r.out.a = r.source(0, Type::u32);
  r.out.run = nanosleep;
}
void resolveSetMaxRegisters(Resolve& r) {
  int64_t n = r.constant(0);
  if (n < 24 || n > 256 || n % 8) r.unsupported("the count is a multiple of 8 from 24 to 256");
  r.out.immediate = n;
  r.out.flags = r.has(Modifier::inc_) ? 1 : 0;
  r.out.run = setMaxRegisters;
}

}  // namespace

void registerControl(Resolver& r) {
  r.add(Mnemonic::bra_, resolveBranch);
  r.add(Mnemonic::brx_, resolveBranchIndexed);
  r.add(Mnemonic::call_, resolveCall);
  r.add(Mnemonic::ret_, resolveReturn);
  r.add(Mnemonic::exit_, resolveExit);
  r.add(Mnemonic::trap_, resolveTrap);
  r.add(Mnemonic::brkpt_, resolveNothing);
  r.add(Mnemonic::pmevent_, resolveNothing);
  r.add(Mnemonic::nanosleep_, resolveSleep);
  r.add(Mnemonic::setmaxnreg_, resolveSetMaxRegisters);
  // Grids run one after the other unless they were queued together, so a dependent one finds all memory written.
  r.add(Mnemonic::griddepcontrol_, resolveNothing);
}

}  // namespace dsvc::emulator::DSVC_ARCH
