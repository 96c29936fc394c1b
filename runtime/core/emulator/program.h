// The decoded program: what the PTX front encodes (format version 1, backends/ptx/decode) and the emulator loads.
// Loading checks every index and length: broken bytes give an EmulatorError, never a crash.
#pragma once
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "insn.h"
#include "names.h"
#include "types.h"

namespace dsvc::emulator {

enum class OperandKind : uint8_t {
  reg = 0,            // cls, index
  immediate = 1,      // cls = form (0 integer, 1 f32 bits, 2 f64 bits), value = bits
  address = 2,        // parts[0] = base, value = offset
  label = 3,          // index = decoded instruction
  vector = 4,         // parts
  special = 5,        // index = Special
  symbol = 6,         // index = variable, value = offset
  sink = 7,           // _
  notPredicate = 8,   // index = predicate register
  pair = 9,           // parts[0] | parts[1]
  function = 10,      // index
  parameter = 11,     // index, isReturn, value = offset: own .param of the function
  branchTable = 12,   // index
  prototype = 13,     // index
  tensorCoordinates = 14,  // parts[0] = map address, parts[1..] = coordinates
};

struct Operand {
  OperandKind kind = OperandKind::sink;
  uint8_t cls = 0;
  bool isReturn = false;
  uint32_t index = 0;
  int64_t value = 0;
  std::vector<Operand> parts;
};

struct DecodedInsn {
  Mnemonic mnemonic{};
  uint8_t guard = 0;  // 0 none, 1 @p, 2 @!p
  uint32_t guardIndex = 0;
  uint32_t ptxLine = 0, locFile = 0, locLine = 0;
  uint16_t ptxColumn = 0, locColumn = 0;
  std::vector<Modifier> modifiers;  // in source order
  std::vector<Operand> operands;
};

enum class VariableSpace : uint8_t { global = 0, constant = 1, shared = 2, local = 3, param = 4 };

struct Relocation {
  uint64_t at = 0;
  uint8_t kind = 0;  // 0 variable, 1 function
  uint32_t index = 0;
  int64_t addend = 0;
  bool isGeneric = false;
};

struct Variable {
  std::string name;
  VariableSpace space{};
  uint32_t align = 1;
  uint64_t size = 0;
  bool isExtern = false;  // extern .shared x[]: the launch's dynamic shared memory
  std::vector<uint8_t> init;
  std::vector<Relocation> relocations;
  int32_t function = -1;  // the one function whose instructions name it (params, locals), or -1
  // Where it lies: local and param: offset in the frame's block. Shared: see SharedLayout. Global and const: given at
  // the program's first launch on a device.
  uint64_t offset = 0;
};

struct Parameter {
  std::string name;
  Type type = Type::none;
  uint32_t align = 1;
  uint64_t size = 0, offset = 0;
};

struct CallPrototype {
  std::vector<Parameter> params, returns;
};

// The run-time form of a function's body, made by the resolver on first use; one without and one with checks.
struct Code {
  const struct Function* function = nullptr;
  bool checked = false;
  std::vector<Insn> insns;          // ends with a guard instruction that acts as exit/ret
  std::vector<uint32_t> entry;      // decoded index -> first Insn of it (one more at the end)
  uint32_t registerBytes = 0;       // of a frame, scratch slots included
  std::vector<std::unique_ptr<Extra>> extras;
  // Per Insn, which slots it reads and writes: for checks that follow values (poison).
  struct Operands {
    std::vector<Slot> reads, writes, addresses;  // addresses: those of `reads` that an access goes to
    bool isStep = false;  // not the instruction itself: a conversion of an operand around it
  };
  std::vector<Operands> operands;
  std::vector<std::pair<uint32_t, uint8_t>> scratches;  // offset in the frame and class of the resolver's own registers
  mutable std::shared_ptr<struct PoisonRules> poison;   // checks/poison_rules.h
};

struct Function {
  std::string name;
  uint32_t id = 0;  // index in Program::functions
  bool isEntry = false, isExtern = false, noReturn = false, explicitCluster = false;
  std::vector<Parameter> params, returns;
  uint32_t reqntid[3] = {0, 0, 0}, maxntid[3] = {0, 0, 0};
  uint32_t minnctapersm = 0, maxnctapersm = 0, maxnreg = 0;
  uint32_t reqnctapercluster[3] = {0, 0, 0}, maxclusterrank = 0;
  uint32_t registers[4] = {0, 0, 0, 0};
  struct RegisterName {
    uint8_t cls;
    uint32_t index;
    std::string name;
  };
  std::vector<RegisterName> registerNames;
  std::vector<std::vector<uint32_t>> branchTables;
  std::vector<CallPrototype> prototypes;
  std::vector<DecodedInsn> body;

  // Laid out at load. Bytes per lane; params of a kernel lie in the launch's block instead.
  uint64_t paramBytes = 0;   // own parameters of a .func, from offset 0, then returns from returnBase
  uint64_t returnBase = 0;
  uint64_t localBytes = 0;   // .local variables
  uint64_t callParamBytes = 0;  // call-scope .param variables

  std::unique_ptr<Code> code[2];  // [checked]; null until resolved
  // The lowest register count per thread that the directives force, or 0 when they do not say.
  uint32_t registersPerThread() const;
};

struct SourceFile {
  uint32_t index;
  std::string name;
};

// 32-lane broadcasts of immediates, shared by all functions of a program. Slots stay valid while it grows.
class ConstantPool {
 public:
  Slot word(uint32_t bits);
  Slot doubleWord(uint64_t bits);
  Slot quad(uint64_t low, uint64_t high);
  Slot predicate(bool value);
  const uint8_t* data() const { return reinterpret_cast<const uint8_t*>(blocks_.data()); }

 private:
  struct alignas(64) Block {
    uint8_t bytes[128];
  };
  Slot add(const void* lanes, size_t bytes);
  std::vector<Block> blocks_;
  std::unordered_map<uint32_t, Slot> words_;
  std::unordered_map<uint64_t, Slot> doubleWords_;
};

// Shared memory of a kernel's blocks, by offset in the CTA's window. Kernels of one module share it anew.
struct SharedLayout {
  std::vector<uint64_t> offsets;  // by variable; 0: not used
  uint64_t staticBytes = 0, dynamicOffset = 0;
};

class Program {
 public:
  // Throws EmulatorError{"emu/program-format"}.
  static std::unique_ptr<Program> load(std::span<const uint8_t> bytes);
  // Bytes of a whole program in memory, for callers that were given no length. Its lengths are trusted.
  static size_t lengthOf(const uint8_t* bytes);

  uint8_t ptxMajor = 0, ptxMinor = 0;
  std::string target;
  std::vector<SourceFile> files;
  std::vector<Variable> variables;
  std::vector<Function> functions;
  ConstantPool constants;

  const Function* kernel(const std::string& name) const;
  // The functions that the kernel may call, itself first.
  std::vector<uint32_t> reachable(const Function& kernel) const;
  // Where the shared variables of the kernel and all it may call lie.
  SharedLayout sharedOf(const Function& kernel) const;
  // Resolves the function and all it may call. Throws EmulatorError{"emu/unsupported-instruction"} with the place.
  void prepare(const Function& kernel, bool checked);
  const std::string& fileName(uint32_t index) const;
  // Special registers and variables' addresses in use, with their places in a warp's block of specials. Kept by the
  // resolver; the machine fills the block.
  struct SpecialUse {
    bool isSymbol = false;
    uint8_t cls = 1;     // 1: 32 bits per lane, 2: 64 bits
    uint32_t index = 0;  // Special, or variable (global: generic address; shared: offset in the window)
    Slot slot = 0;
  };
  std::vector<SpecialUse> specials;
  uint32_t specialBytes = 0;
  Slot specialSlot(bool isSymbol, uint8_t cls, uint32_t index);
  uint64_t serial = 0;  // grows with every resolved function, so that users notice
};

// What a function's address is in a program: no memory lies there.
constexpr uint64_t kFunctionAddresses = 0x10;
constexpr uint64_t functionAddress(uint32_t index) { return kFunctionAddresses * (uint64_t{index} + 1); }

// "ld.global.nc.v4.f32" for messages.
std::string spell(const DecodedInsn& d);

}  // namespace dsvc::emulator
