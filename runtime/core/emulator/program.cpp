// Loads the decoded program and lays out its variables. Nothing in the bytes is trusted: every count, index and
// length is checked before use.
#include "program.h"

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <set>

#include "memory.h"
#include "report.h"
#include "resolver.h"

namespace dsvc::emulator {

namespace {

[[noreturn]] void broken(const char* what) { refuse("emu/program-format", format("the decoded program is broken: %s", what)); }

class Reader {
 public:
  explicit Reader(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  template <class T>
  T get() {
    if (bytes_.size() - at_ < sizeof(T)) broken("it ends too early");
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  uint8_t u8() { return get<uint8_t>(); }
  uint16_t u16() { return get<uint16_t>(); }
  uint32_t u32() { return get<uint32_t>(); }
  uint64_t u64() { return get<uint64_t>(); }
  int64_t i64() { return get<int64_t>(); }
  // A count of things of at least `least` bytes each: bounded by what is left, so that no allocation runs away.
  uint32_t count(size_t least) {
    uint32_t n = u32();
    if (n > (bytes_.size() - at_) / least) broken("a count is larger than the rest");
    return n;
  }
  std::span<const uint8_t> bytes() {
    uint32_t n = count(1);
    auto part = bytes_.subspan(at_, n);
    at_ += n;
    return part;
  }
  bool atEnd() const { return at_ == bytes_.size(); }
  size_t position() const { return at_; }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
};

class Loader {
 public:
  Loader(std::span<const uint8_t> bytes, Program& p) : in_(bytes), p_(p) {}

  // `length`: where the program ends, for callers that do not know; else nothing may follow it.
  void run(size_t* length) {
    char magic[4];
    for (char& c : magic) c = static_cast<char>(in_.u8());
    if (std::memcmp(magic, "DPTX", 4) != 0) broken("it does not start with DPTX");
    if (uint32_t v = in_.u32(); v != 1)
      refuse("emu/program-format", format("decoded program of version %u: this emulator reads version 1", v));
    for (uint32_t n = in_.count(4); n > 0; --n) {
      auto b = in_.bytes();
      strings_.emplace_back(reinterpret_cast<const char*>(b.data()), b.size());
    }
    p_.ptxMajor = in_.u8();
    p_.ptxMinor = in_.u8();
    p_.target = str();
    if (in_.u8() != 64) broken("only 64-bit modules are supported");
    for (uint32_t n = in_.count(8); n > 0; --n) {
      uint32_t index = in_.u32();
      p_.files.push_back({index, str()});
    }
    for (uint32_t n = in_.count(30); n > 0; --n) p_.variables.push_back(variable());
    uint32_t functions = in_.count(60);
    functionCount_ = functions;
    for (uint32_t k = 0; k < functions; ++k) {
      p_.functions.emplace_back();
      p_.functions.back().id = k;
      function(p_.functions.back());
    }
    if (length) *length = in_.position();
    else if (!in_.atEnd()) broken("bytes follow the last function");
    for (const Variable& v : p_.variables)
      for (const Relocation& r : v.relocations) {
        if (r.kind > 1 || r.index >= (r.kind == 0 ? p_.variables.size() : p_.functions.size())) broken("a relocation's target");
        if (r.at > v.size || v.size - r.at < 4) broken("a relocation's place");
      }
  }

 private:
  Reader in_;
  Program& p_;
  std::vector<std::string> strings_;
  uint32_t functionCount_ = 0;

  const std::string& str() {
    uint32_t k = in_.u32();
    if (k >= strings_.size()) broken("a string's number");
    return strings_[k];
  }
  uint32_t alignment() {
    uint32_t a = in_.u32();
    if (a == 0 || (a & (a - 1)) != 0 || a > (1u << 20)) broken("an alignment that is no power of two");
    return a;
  }

  Variable variable() {
    Variable v;
    v.name = str();
    uint8_t space = in_.u8();
    if (space > 4) broken("a variable's space");
    v.space = static_cast<VariableSpace>(space);
    v.align = alignment();
    v.size = in_.u64();
    if (v.size > (1ull << 36)) broken("a variable's size");
    v.isExtern = in_.u8() != 0;
    auto init = in_.bytes();
    if (init.size() > v.size && !v.isExtern) broken("an initialiser longer than its variable");
    v.init.assign(init.begin(), init.end());
    for (uint32_t n = in_.count(22); n > 0; --n) {
      Relocation r;
      r.at = in_.u64();
      r.kind = in_.u8();
      r.index = in_.u32();
      r.addend = in_.i64();
      r.isGeneric = in_.u8() != 0;
      v.relocations.push_back(r);
    }
    return v;
  }

  std::vector<Parameter> parameters() {
    std::vector<Parameter> list;
    for (uint32_t n = in_.count(25); n > 0; --n) {
      Parameter q;
      q.name = str();
      uint8_t type = in_.u8();
      q.type = typeOf(static_cast<Modifier>(type));
      q.align = alignment();
      q.size = in_.u64();
      q.offset = in_.u64();
      if (q.size > 65536 || q.offset > 65536) broken("a parameter's size or offset");
      list.push_back(std::move(q));
    }
    return list;
  }

  void function(Function& f) {
    f.name = str();
    f.isEntry = in_.u8() != 0;
    f.isExtern = in_.u8() != 0;
    f.params = parameters();
    f.returns = parameters();
    for (uint32_t& v : f.reqntid) v = in_.u32();
    for (uint32_t& v : f.maxntid) v = in_.u32();
    f.minnctapersm = in_.u32();
    f.maxnctapersm = in_.u32();
    f.maxnreg = in_.u32();
    for (uint32_t& v : f.reqnctapercluster) v = in_.u32();
    f.maxclusterrank = in_.u32();
    f.explicitCluster = in_.u8() != 0;
    f.noReturn = in_.u8() != 0;
    for (uint32_t& v : f.registers) {
      v = in_.u32();
      if (v > 200000) broken("a function with more than 200,000 registers");
    }
    for (uint32_t n = in_.count(9); n > 0; --n) {
      Function::RegisterName r;
      r.cls = in_.u8();
      r.index = in_.u32();
      r.name = str();
      if (r.cls > 3 || r.index >= f.registers[r.cls]) broken("a register's number");
      f.registerNames.push_back(std::move(r));
    }
    for (uint32_t n = in_.count(4); n > 0; --n) {
      std::vector<uint32_t> table;
      for (uint32_t k = in_.count(4); k > 0; --k) table.push_back(in_.u32());
      f.branchTables.push_back(std::move(table));
    }
    for (uint32_t n = in_.count(8); n > 0; --n) {
      CallPrototype q;
      q.params = parameters();
      q.returns = parameters();
      f.prototypes.push_back(std::move(q));
    }
    uint32_t count = in_.count(20);
    f.body.reserve(count);
    for (uint32_t k = 0; k < count; ++k) f.body.push_back(instruction(f, count));
    for (const auto& table : f.branchTables)
      for (uint32_t target : table)
        if (target > count) broken("a branch table's target");
  }

  DecodedInsn instruction(const Function& f, uint32_t count) {
    DecodedInsn d;
    uint16_t m = in_.u16();
    if (m >= static_cast<uint16_t>(Mnemonic::count_)) broken("a mnemonic's number");
    d.mnemonic = static_cast<Mnemonic>(m);
    for (uint8_t n = in_.u8(); n > 0; --n) {
      uint16_t q = in_.u16();
      if (q >= static_cast<uint16_t>(Modifier::count_)) broken("a modifier's number");
      d.modifiers.push_back(static_cast<Modifier>(q));
    }
    d.guard = in_.u8();
    if (d.guard > 2) broken("a guard");
    if (d.guard) {
      d.guardIndex = in_.u32();
      if (d.guardIndex >= f.registers[0]) broken("a guard's predicate");
    }
    d.ptxLine = in_.u32();
    d.ptxColumn = in_.u16();
    d.locFile = in_.u32();
    d.locLine = in_.u32();
    d.locColumn = in_.u16();
    for (uint8_t n = in_.u8(); n > 0; --n) d.operands.push_back(operand(f, count, 0));
    return d;
  }

  Operand operand(const Function& f, uint32_t count, int depth) {
    if (depth > 4) broken("operands nested too deeply");
    Operand o;
    uint8_t kind = in_.u8();
    if (kind > 14) broken("an operand's kind");
    o.kind = static_cast<OperandKind>(kind);
    auto list = [&](uint8_t n) {
      for (; n > 0; --n) o.parts.push_back(operand(f, count, depth + 1));
    };
    switch (o.kind) {
      case OperandKind::reg:
        o.cls = in_.u8();
        o.index = in_.u32();
        if (o.cls > 3 || o.index >= f.registers[o.cls]) broken("a register's number");
        break;
      case OperandKind::immediate:
        o.cls = in_.u8();
        o.value = in_.i64();
        if (o.cls > 2) broken("an immediate's form");
        break;
      case OperandKind::address:
        list(1);
        o.value = in_.i64();
        break;
      case OperandKind::label:
        o.index = in_.u32();
        if (o.index > count) broken("a label's target");
        break;
      case OperandKind::vector: list(in_.u8()); break;
      case OperandKind::special:
        o.index = in_.u8();
        if (o.index >= static_cast<uint32_t>(Special::count_)) broken("a special register's number");
        break;
      case OperandKind::symbol:
        o.index = in_.u32();
        o.value = in_.i64();
        if (o.index >= p_.variables.size()) broken("a variable's number");
        break;
      case OperandKind::sink: break;
      case OperandKind::notPredicate:
        o.index = in_.u32();
        if (o.index >= f.registers[0]) broken("a predicate's number");
        break;
      case OperandKind::pair: list(2); break;
      case OperandKind::function:
        o.index = in_.u32();
        if (o.index >= functionCount_) broken("a function's number");
        break;
      case OperandKind::parameter:
        o.index = in_.u32();
        o.isReturn = in_.u8() != 0;
        o.value = in_.i64();
        if (o.index >= (o.isReturn ? f.returns : f.params).size()) broken("a parameter's number");
        break;
      case OperandKind::branchTable:
        o.index = in_.u32();
        if (o.index >= f.branchTables.size()) broken("a branch table's number");
        break;
      case OperandKind::prototype:
        o.index = in_.u32();
        if (o.index >= f.prototypes.size()) broken("a prototype's number");
        break;
      case OperandKind::tensorCoordinates:
        list(1);
        list(in_.u8());
        break;
    }
    return o;
  }
};

uint64_t alignUp(uint64_t v, uint64_t a) { return (v + a - 1) / a * a; }

void visit(const Operand& o, auto&& see) {
  see(o);
  for (const Operand& q : o.parts) visit(q, see);
}

uint64_t layOut(std::vector<Parameter>& list, uint64_t base) {
  uint64_t end = base;
  for (Parameter& q : list) {
    q.offset = alignUp(end, q.align);
    end = q.offset + q.size;
  }
  return end;
}

// Local and call-scope param variables belong to the one function that names them.
void layOutVariables(Program& p) {
  for (Function& f : p.functions) {
    for (const DecodedInsn& d : f.body)
      for (const Operand& o : d.operands)
        visit(o, [&](const Operand& q) {
          if (q.kind != OperandKind::symbol) return;
          Variable& v = p.variables[q.index];
          if (v.function == static_cast<int32_t>(f.id)) return;
          bool own = v.space == VariableSpace::local || v.space == VariableSpace::param;
          if (own && v.function >= 0) broken("two functions name one local variable");
          v.function = static_cast<int32_t>(f.id);
          if (own) {
            uint64_t& end = v.space == VariableSpace::local ? f.localBytes : f.callParamBytes;
            v.offset = alignUp(end, v.align);
            end = v.offset + v.size;
            if (end > (1u << 24)) broken("more than 16 MiB of local variables");
          }
        });
    if (!f.isEntry) {
      f.returnBase = alignUp(layOut(f.params, 0), 16);
      f.paramBytes = layOut(f.returns, f.returnBase);
    }
  }
}

}  // namespace

std::unique_ptr<Program> Program::load(std::span<const uint8_t> bytes) {
  auto p = std::make_unique<Program>();
  Loader(bytes, *p).run(nullptr);
  layOutVariables(*p);
  return p;
}

size_t Program::lengthOf(const uint8_t* bytes) {
  Program p;
  size_t length = 0;
  Loader({bytes, SIZE_MAX / 4}, p).run(&length);
  return length;
}

const Function* Program::kernel(const std::string& name) const {
  for (const Function& f : functions)
    if (f.isEntry && f.name == name) return &f;
  return nullptr;
}

std::vector<uint32_t> Program::reachable(const Function& kernel) const {
  std::set<uint32_t> seen;
  std::vector<uint32_t> order, todo{kernel.id};
  bool indirect = false;
  while (!todo.empty()) {
    uint32_t k = todo.back();
    todo.pop_back();
    if (!seen.insert(k).second) continue;
    order.push_back(k);
    for (const DecodedInsn& d : functions[k].body)
      for (const Operand& o : d.operands)
        visit(o, [&](const Operand& q) {
          if (q.kind == OperandKind::function) todo.push_back(q.index);
          if (q.kind != OperandKind::prototype || indirect) return;
          // An indirect call may reach any function whose address a variable holds; those whose address an
          // instruction takes are named there.
          indirect = true;
          for (const Variable& v : variables)
            for (const Relocation& r : v.relocations)
              if (r.kind == 1) todo.push_back(r.index);
        });
  }
  return order;
}

SharedLayout Program::sharedOf(const Function& kernel) const {
  std::set<uint32_t> used;
  for (uint32_t k : reachable(kernel))
    for (const DecodedInsn& d : functions[k].body)
      for (const Operand& o : d.operands)
        visit(o, [&](const Operand& q) {
          if (q.kind == OperandKind::symbol && variables[q.index].space == VariableSpace::shared) used.insert(q.index);
        });
  SharedLayout layout;
  layout.offsets.assign(variables.size(), 0);
  uint64_t end = shared::kReserved, dynamicAlign = 16;
  for (uint32_t k : used) {
    const Variable& v = variables[k];
    if (v.isExtern) {
      dynamicAlign = std::max<uint64_t>(dynamicAlign, v.align);
      continue;
    }
    layout.offsets[k] = alignUp(end, v.align);
    end = layout.offsets[k] + v.size;
  }
  // Dynamic shared memory starts after the static variables, for every extern array at the same place.
  layout.dynamicOffset = alignUp(end, dynamicAlign);
  for (uint32_t k : used)
    if (variables[k].isExtern) layout.offsets[k] = layout.dynamicOffset;
  layout.staticBytes = end - shared::kReserved;
  return layout;
}

const std::string& Program::fileName(uint32_t index) const {
  static const std::string none;
  for (const SourceFile& f : files)
    if (f.index == index) return f.name;
  return none;
}

uint32_t Function::registersPerThread() const {
  auto volume = [](const uint32_t* v) {
    auto most = [](uint64_t a, uint32_t b) { return std::min<uint64_t>(a * std::max(1u, b), 1u << 20); };
    return v[0] ? most(most(most(1, v[0]), v[1]), v[2]) : 0;
  };
  uint64_t threads = volume(reqntid) ? volume(reqntid) : volume(maxntid);
  uint64_t most = maxnreg;
  if (!most && threads && minnctapersm) {
    // A quarter of the registers serves a quarter of the warps.
    constexpr uint64_t kQuarter = 65536 / 4;
    const uint64_t warps = (threads + kLanes - 1) / kLanes * minnctapersm;
    most = std::clamp<uint64_t>(kQuarter / ((warps + 3) / 4 * kLanes) / 8 * 8, 24, 255);
  }
  if (!most) return 0;
  // ptxas gives a kernel no more at its entry than its largest setmaxnreg.inc asks for.
  int64_t asked = 0;
  for (const DecodedInsn& d : body)
    if (d.mnemonic == Mnemonic::setmaxnreg_ && !d.operands.empty() &&
        std::find(d.modifiers.begin(), d.modifiers.end(), Modifier::inc_) != d.modifiers.end())
      asked = std::max(asked, d.operands[0].value);
  return static_cast<uint32_t>(asked > 0 ? std::min<uint64_t>(most, static_cast<uint64_t>(asked)) : most);
}

Slot ConstantPool::add(const void* lanes, size_t bytes) {
  size_t at = blocks_.size(), need = (bytes + sizeof(Block) - 1) / sizeof(Block);
  if (at + need > (slot::kOffsetMask >> 7)) refuse("emu/program-format", "too many constants");
  blocks_.resize(at + need);
  std::memcpy(blocks_[at].bytes, lanes, bytes);
  return slot::kConstant | static_cast<Slot>(at * sizeof(Block));
}
Slot ConstantPool::word(uint32_t bits) {
  auto [it, made] = words_.try_emplace(bits, 0);
  if (made) {
    uint32_t lanes[kLanes];
    std::fill_n(lanes, kLanes, bits);
    it->second = add(lanes, sizeof lanes);
  }
  return it->second;
}
Slot ConstantPool::doubleWord(uint64_t bits) {
  auto [it, made] = doubleWords_.try_emplace(bits, 0);
  if (made) {
    uint64_t lanes[kLanes];
    std::fill_n(lanes, kLanes, bits);
    it->second = add(lanes, sizeof lanes);
  }
  return it->second;
}
Slot ConstantPool::quad(uint64_t low, uint64_t high) {
  uint64_t lanes[2 * kLanes];
  for (int l = 0; l < kLanes; ++l) {
    lanes[2 * l] = low;
    lanes[2 * l + 1] = high;
  }
  return add(lanes, sizeof lanes);
}
Slot ConstantPool::predicate(bool value) { return word(value ? kFull : 0); }

std::string spell(const DecodedInsn& d) {
  std::string s = nameOf(d.mnemonic);
  for (Modifier m : d.modifiers) s += std::string(".") + nameOf(m);
  return s;
}

}  // namespace dsvc::emulator
