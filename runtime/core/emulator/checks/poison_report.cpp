#include <bit>

#include "poison.h"

namespace dsvc::emulator {

namespace {
struct Wording {
  const char *code, *fix;
};
constexpr Wording kWordings[] = {
    {"emu/uninitialised-address", "initialise what the address is computed from"},
    {"emu/uninitialised-predicate", "initialise what the predicate is computed from, on every path that leads here"},
    {"emu/uninitialised-operand", "initialise what the operand is computed from"},
    {"emu/uninitialised-output", ""},
};
}  // namespace

void Poison::report(Warp& w, const Insn& i, int lane, Use use, const std::string& what, const std::string& origin) {
  if (!wanted_[static_cast<size_t>(use)]) return;
  const Wording& words = kWordings[static_cast<size_t>(use)];
  w.report(i, lane, Severity::error, words.code,
           format("%s: %s is uninitialised%s%s", spell(w.decoded(i)).c_str(), what.c_str(), origin.empty() ? "" : ": it comes from ", origin.c_str()),
           words.fix);
}

// Of a register that the resolver made: the one that it converts.
std::string Poison::nameOfStep(const Shadow& s, const PoisonRegister& q) const {
  const Code& code = *s.rules->code;
  for (size_t k = 0; k < code.insns.size(); ++k) {
    if (!code.operands[k].isStep || code.insns[k].d != q.slot) continue;
    const PoisonRule& r = s.rules->rules[k];
    if (r.data == 1) return nameOf(s, s.rules->registers[r.from + r.addresses]);
  }
  return "";
}

// "%f3"; empty for a register that the resolver made.
std::string Poison::nameOf(const Shadow& s, const PoisonRegister& q) const {
  const Function& f = *s.rules->code->function;
  const uint32_t at = q.slot & slot::kOffsetMask;
  uint32_t base = s.rules->predicateBytes, index = 0;
  if (q.cls == 0) {
    if (at >= base) return nameOfStep(s, q);
    index = at / 4;
  } else {
    for (uint8_t c = 1; c < q.cls; ++c) base += f.registers[c] * (c == 1 ? 128 : 256);
    index = (at - base) / (bytesOfClass(q.cls) * kLanes);
    if (at < base || index >= f.registers[q.cls]) return nameOfStep(s, q);
  }
  for (const auto& r : f.registerNames)
    if (r.cls == q.cls && r.index == index) return r.name;
  return "";
}

uint32_t Poison::originOf(std::string text) {
  constexpr size_t kMost = 4096;
  if (auto it = originIds_.find(text); it != originIds_.end()) return it->second;
  if (origins_.size() >= kMost) return static_cast<uint32_t>(kMost - 1);
  const auto id = static_cast<uint32_t>(origins_.size());
  originIds_.emplace(text, id);
  origins_.push_back(std::move(text));
  return id;
}

// Where a granule's poison came from; made for a register that was never written.
uint32_t Poison::originOf(const Shadow& s, uint32_t granule) {
  if (!s.origin.empty() && s.origin[granule]) return s.origin[granule];
  PoisonRegister q;
  const Function& f = *s.rules->code->function;
  if (granule < s.rules->predicates) {
    q = {granule * 4, 0, granule};
  } else {
    uint32_t at = granule - s.rules->predicates;
    if (at < f.registers[1]) {
      q = {s.rules->predicateBytes + at * 128, 1, granule};
    } else {
      at -= f.registers[1];
      const bool isDouble = at < f.registers[2] * 2;
      const uint32_t start = isDouble ? at / 2 * 2 : f.registers[2] * 2 + (at - f.registers[2] * 2) / 4 * 4;
      q = {s.rules->predicateBytes + (f.registers[1] + start) * 128, static_cast<uint8_t>(isDouble ? 2 : 3), granule};
    }
  }
  const std::string name = nameOf(s, q);
  return name.empty() ? 0 : originOf(name + ", which was never written");
}

std::string Poison::textOf(const Shadow& s, const PoisonRegister& q, int lane) const {
  for (uint32_t k = 0; k < granulesOf(q.cls); ++k) {
    if (!(s.any[q.granule + k] >> lane & 1)) continue;
    if (!s.origin.empty() && s.origin[q.granule + k]) return origins_[s.origin[q.granule + k]];
    const std::string name = nameOf(s, q);
    return name.empty() ? "" : name + ", which was never written";
  }
  return "";
}

}  // namespace dsvc::emulator
