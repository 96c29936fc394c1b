// Element by element reductions of bytes in memory, as cp.reduce.async.bulk and red.async do them.
#pragma once
#include <cstddef>
#include <cstdint>

#include "../resolver.h"
#include "../types.h"

namespace dsvc::emulator {

enum class Reduction : uint8_t { none, add, min, max, inc, dec, and_, or_, xor_ };

// to[k] = to[k] op from[k] for `bytes` bytes; null where PTX has no such form.
using Reduce = void (*)(uint8_t* to, const uint8_t* from, size_t bytes);
Reduce reduceOf(Reduction op, Type t);

// The operation that the instruction's modifiers name.
Reduction reductionOf(const Resolve& r);

}  // namespace dsvc::emulator
