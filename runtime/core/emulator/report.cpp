// Names and formatting that everything shares.
#include "report.h"

#include <cstdarg>
#include <cstdio>

#include "names.h"
#include "types.h"

namespace dsvc::emulator {

std::string format(const char* pattern, ...) {
  va_list args, again;
  va_start(args, pattern);
  va_copy(again, args);
  int n = std::vsnprintf(nullptr, 0, pattern, args);
  va_end(args);
  std::string text(static_cast<size_t>(n), '\0');
  std::vsnprintf(text.data(), text.size() + 1, pattern, again);
  va_end(again);
  return text;
}

namespace {
constexpr const char* kMnemonics[] = {
#define DSVC_MNEMONIC(name, text) text,
#include "names.inc"
};
constexpr const char* kModifiers[] = {
#define DSVC_MODIFIER(name, text) text,
#include "names.inc"
};
constexpr const char* kSpecials[] = {
#define DSVC_SPECIAL(name, text) text,
#include "names.inc"
};
}  // namespace

const char* nameOf(Mnemonic m) { return m < Mnemonic::count_ ? kMnemonics[static_cast<size_t>(m)] : "?"; }
const char* nameOf(Modifier m) { return m < Modifier::count_ ? kModifiers[static_cast<size_t>(m)] : "?"; }
const char* nameOf(Special s) { return s < Special::count_ ? kSpecials[static_cast<size_t>(s)] : "?"; }

Type typeOf(Modifier m) {
  switch (m) {
#define TYPE(t) case Modifier::t##_: return Type::t;
    TYPE(pred) TYPE(b8) TYPE(b16) TYPE(b32) TYPE(b64) TYPE(b128)
    TYPE(u8) TYPE(u16) TYPE(u32) TYPE(u64) TYPE(s8) TYPE(s16) TYPE(s32) TYPE(s64)
    TYPE(f16) TYPE(f16x2) TYPE(bf16) TYPE(bf16x2) TYPE(f32) TYPE(f64) TYPE(tf32)
    TYPE(e4m3x2) TYPE(e5m2x2) TYPE(e4m3) TYPE(e5m2) TYPE(u16x2) TYPE(s16x2)
#undef TYPE
    case Modifier::b1_: case Modifier::u4_: case Modifier::s4_:
    case Modifier::e4m3x4_: case Modifier::e5m2x4_: return Type::other;
    default: return Type::none;
  }
}

}  // namespace dsvc::emulator
