#include "poison_rules.h"

#include <algorithm>

#include "../tensor/warpgroup.h"

namespace dsvc::emulator {

namespace {

bool has(const DecodedInsn& d, Modifier m) { return std::find(d.modifiers.begin(), d.modifiers.end(), m) != d.modifiers.end(); }
Type typeAt(const DecodedInsn& d, int n) {
  for (Modifier m : d.modifiers)
    if (Type t = typeOf(m); t != Type::none && n-- == 0) return t;
  return Type::none;
}
bool isPair(Type t) { return t == Type::f16x2 || t == Type::bf16x2 || t == Type::u16x2 || t == Type::s16x2; }
bool isInteger(Type t) { return sizeOf(t) > 0 && !isFloat(t) && !isPair(t) && t < Type::f16; }

PoisonKind kindOf(const DecodedInsn& d) {
  const Type t = typeAt(d, 0);
  switch (d.mnemonic) {
    case Mnemonic::mov_: case Mnemonic::and_: case Mnemonic::or_: case Mnemonic::xor_: case Mnemonic::not_:
    case Mnemonic::lop3_: case Mnemonic::prmt_: case Mnemonic::shl_: case Mnemonic::shr_: case Mnemonic::shf_:
    case Mnemonic::bfi_: case Mnemonic::bfe_: case Mnemonic::selp_: case Mnemonic::brev_:
      return PoisonKind::bits;
    case Mnemonic::cvt_: {
      const bool plain = isInteger(t) && isInteger(typeAt(d, 1)) && !has(d, Modifier::sat_);
      return plain ? PoisonKind::bits : PoisonKind::whole;
    }
    case Mnemonic::setp_: return PoisonKind::compare;
    case Mnemonic::ld_: case Mnemonic::ldu_: return PoisonKind::load;
    case Mnemonic::st_: return PoisonKind::store;
    case Mnemonic::atom_: return PoisonKind::atomic;
    case Mnemonic::red_: return has(d, Modifier::async_) ? PoisonKind::store : PoisonKind::atomic;
    case Mnemonic::shfl_: case Mnemonic::vote_: case Mnemonic::match_: case Mnemonic::redux_: return PoisonKind::gather;
    case Mnemonic::ldmatrix_: case Mnemonic::stmatrix_: case Mnemonic::movmatrix_: case Mnemonic::mma_: case Mnemonic::wmma_:
      return PoisonKind::handler;
    case Mnemonic::wgmma_: return PoisonKind::product;
    case Mnemonic::bar_: case Mnemonic::barrier_: case Mnemonic::mbarrier_: case Mnemonic::cp_: case Mnemonic::tensormap_:
    case Mnemonic::elect_:
      return PoisonKind::operands;
    case Mnemonic::ret_: return PoisonKind::leave;
    case Mnemonic::brx_: case Mnemonic::call_: return PoisonKind::branch;
    case Mnemonic::bra_: case Mnemonic::exit_: case Mnemonic::trap_: case Mnemonic::fence_: case Mnemonic::membar_:
    case Mnemonic::setmaxnreg_: case Mnemonic::griddepcontrol_: case Mnemonic::nanosleep_: case Mnemonic::prefetch_:
    case Mnemonic::prefetchu_: case Mnemonic::discard_: case Mnemonic::applypriority_: case Mnemonic::brkpt_: case Mnemonic::pmevent_:
      return PoisonKind::none;
    default: return isPair(t) && d.mnemonic != Mnemonic::set_ ? PoisonKind::halves : PoisonKind::whole;
  }
}

uint8_t controlsOf(Mnemonic m) {
  switch (m) {
    case Mnemonic::shl_: case Mnemonic::shr_: return 1;
    case Mnemonic::shf_: case Mnemonic::prmt_: return 2;
    case Mnemonic::bfe_: return 3;
    case Mnemonic::bfi_: return 6;
    default: return 0;
  }
}

// Bytes of each operand that the instruction looks at, where they are fewer than the register has.
uint8_t narrowOf(const DecodedInsn& d) {
  if (has(d, Modifier::wide_)) return 0;
  Type t = typeAt(d, d.mnemonic == Mnemonic::cvt_ ? 1 : d.mnemonic == Mnemonic::set_ ? 1 : 0);
  const uint32_t n = sizeOf(t);
  return n == 1 || n == 2 ? static_cast<uint8_t>(n) : 0;
}

class Maker {
 public:
  explicit Maker(const Code& code) : code_(code), f_(*code.function) {
    out_.code = &code;
    out_.predicates = f_.registers[0];
    out_.predicateBytes = (f_.registers[0] * 4 + 127) / 128 * 128;
    out_.count = out_.predicates + (code.registerBytes - out_.predicateBytes + 127) / 128;
  }
  PoisonRules make() {
    for (size_t k = 0; k < code_.insns.size(); ++k) add(code_.insns[k], code_.operands[k]);
    return std::move(out_);
  }

 private:
  uint8_t classOfSlot(Slot s) const {
    const uint32_t at = s & slot::kOffsetMask;
    if (at < out_.predicateBytes) return 0;
    uint32_t end = out_.predicateBytes + f_.registers[1] * 128;
    if (at < end) return 1;
    if (at < end + f_.registers[2] * 256) return 2;
    if (at < end + f_.registers[2] * 256 + f_.registers[3] * 512) return 3;
    auto it = std::upper_bound(code_.scratches.begin(), code_.scratches.end(), at, [](uint32_t v, const auto& e) { return v < e.first; });
    return it == code_.scratches.begin() ? 1 : std::prev(it)->second;
  }
  void put(Slot s, uint16_t& registers, uint16_t& granules) {
    if (s == slot::kNone || s >> 30 != 0) return;
    const PoisonRegister r{s, classOfSlot(s), out_.granuleOf(s)};
    for (size_t k = out_.registers.size() - registers; k < out_.registers.size(); ++k)
      if (out_.registers[k].slot == s) return;
    out_.registers.push_back(r);
    ++registers;
    for (uint32_t k = 0; k < granulesOf(r.cls); ++k) out_.granules.push_back(r.granule + k);
    granules = static_cast<uint16_t>(granules + granulesOf(r.cls));
  }

  void add(const Insn& i, const Code::Operands& o) {
    static const DecodedInsn end{};
    const DecodedInsn& d = i.decoded < f_.body.size() ? f_.body[i.decoded] : end;
    const bool isEnd = i.decoded >= f_.body.size();
    PoisonRule r;
    r.kind = o.isStep ? PoisonKind::bits : isEnd ? (f_.isEntry ? PoisonKind::none : PoisonKind::leave) : kindOf(d);
    if (r.kind == PoisonKind::product && !has(d, Modifier::mma_async_)) r.kind = PoisonKind::none;
    r.controls = o.isStep ? 0 : controlsOf(d.mnemonic);
    r.narrow = o.isStep ? 0 : narrowOf(d);
    r.isPure = r.kind <= PoisonKind::load;
    r.first = static_cast<uint32_t>(out_.granules.size());
    r.from = static_cast<uint32_t>(out_.registers.size());
    for (Slot s : o.addresses) put(s, r.addresses, r.reads);
    auto isAddress = [&](Slot s) { return std::find(o.addresses.begin(), o.addresses.end(), s) != o.addresses.end(); };
    const bool takesData = r.kind != PoisonKind::load && r.kind != PoisonKind::store && r.kind != PoisonKind::none && r.kind != PoisonKind::leave;
    if (r.kind == PoisonKind::product) {
      const auto& x = extraOf<WgmmaExtra>(i);
      for (Slot s : {x.aDescriptor, x.bDescriptor, x.keep}) put(s, r.data, r.reads);
    } else if (takesData) {
      for (Slot s : o.reads)
        if (s != i.guard && !isAddress(s) && !isWidened(i, s)) put(s, r.data, r.reads);
    }
    if (i.guard != slot::kNone) {
      r.guard = out_.granuleOf(i.guard);
      out_.granules.push_back(r.guard);
      ++r.reads;
    }
    if (r.kind != PoisonKind::product)
      for (Slot s : o.writes) put(s, r.results, r.writes);
    out_.rules.push_back(r);
  }
  // A register that an Insn in front turns into the operand: that one counts.
  bool isWidened(const Insn& i, Slot s) const {
    for (const Insn* p = &i; p > code_.insns.data();) {
      --p;
      if (p->decoded != i.decoded || !code_.operands[static_cast<size_t>(p - code_.insns.data())].isStep) return false;
      if (p->a == s && i.a != s && i.b != s && i.c != s) return true;
    }
    return false;
  }

  const Code& code_;
  const Function& f_;
  PoisonRules out_;
};

}  // namespace

const PoisonRules& poisonRulesOf(const Code& code) {
  if (!code.poison) code.poison = std::make_shared<PoisonRules>(Maker(code).make());
  return *code.poison;
}

}  // namespace dsvc::emulator
