// Mnemonics, modifiers and special registers, numbered as in backends/ptx/decode/names.ts. names.inc is generated
// from it (scripts/emulator-names.mjs): only append there within a format version. Enumerators end in `_`, because
// some names are C++ keywords: Mnemonic::and_, Modifier::shared__cta_ (shared::cta), Special::tid_x_ (tid.x).
#pragma once
#include <cstdint>

namespace dsvc::emulator {

enum class Mnemonic : uint16_t {
#define DSVC_MNEMONIC(name, text) name##_,
#include "names.inc"
  count_
};

enum class Modifier : uint16_t {
#define DSVC_MODIFIER(name, text) name##_,
#include "names.inc"
  count_
};

enum class Special : uint8_t {
#define DSVC_SPECIAL(name, text) name##_,
#include "names.inc"
  count_
};

// The PTX spelling, without leading dot or %.
const char* nameOf(Mnemonic m);
const char* nameOf(Modifier m);
const char* nameOf(Special s);

}  // namespace dsvc::emulator
