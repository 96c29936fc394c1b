// What the matrix instructions' names say: shape and types, in the order of the source.
#pragma once
#include <cstdint>
#include <vector>

#include "../resolver.h"
#include "operation.h"

namespace dsvc::emulator::tensor {

struct Form {
  uint32_t m = 0, n = 0, k = 0;  // .m16n8k16
  std::vector<Modifier> types;   // element types in order
};
// Refuses an instruction without a shape.
Form formOf(const Resolve& r);

bool isElement(Modifier m);
Element elementOf(const Resolve& r, Modifier m);
Result resultOf(const Resolve& r, Modifier m);

// The parts of a vector operand; an operand that is no vector is its own part. Refuses another count than `count`.
std::vector<const Operand*> partsOf(const Resolve& r, size_t operand, size_t count);
std::vector<Slot> sourcesOf(Resolve& r, size_t operand, size_t count, Type t);
std::vector<Slot> destinationsOf(Resolve& r, size_t operand, size_t count, Type t);

}  // namespace dsvc::emulator::tensor
