#include "forms.h"

#include <cstdio>

#include "../report.h"

namespace dsvc::emulator::tensor {

Form formOf(const Resolve& r) {
  Form f;
  for (Modifier m : r.in.modifiers) {
    uint32_t a, b, c;
    char end;
    if (std::sscanf(nameOf(m), "m%un%uk%u%c", &a, &b, &c, &end) == 3) f.m = a, f.n = b, f.k = c;
    else if (isElement(m) || m == Modifier::f32_ || m == Modifier::s32_ || m == Modifier::f64_) f.types.push_back(m);
  }
  if (f.m == 0) r.unsupported("the matrix shape is missing");
  return f;
}

bool isElement(Modifier m) {
  switch (m) {
    case Modifier::f16_: case Modifier::bf16_: case Modifier::tf32_: case Modifier::e4m3_: case Modifier::e5m2_:
    case Modifier::s8_: case Modifier::u8_: case Modifier::s4_: case Modifier::u4_: case Modifier::b1_: return true;
    default: return false;
  }
}

Element elementOf(const Resolve& r, Modifier m) {
  switch (m) {
    case Modifier::f16_: return Element::f16;
    case Modifier::bf16_: return Element::bf16;
    case Modifier::tf32_: return Element::tf32;
    case Modifier::e4m3_: return Element::e4m3;
    case Modifier::e5m2_: return Element::e5m2;
    case Modifier::s8_: return Element::s8;
    case Modifier::u8_: return Element::u8;
    case Modifier::s4_: return Element::s4;
    case Modifier::u4_: return Element::u4;
    case Modifier::b1_: return Element::b1;
    default: r.unsupported(format(".%s is no element type of a matrix product", nameOf(m)));
  }
}

Result resultOf(const Resolve& r, Modifier m) {
  switch (m) {
    case Modifier::f32_: return Result::f32;
    case Modifier::f16_: return Result::f16;
    case Modifier::s32_: return Result::s32;
    default: r.unsupported(format(".%s is no accumulator type of a matrix product", nameOf(m)));
  }
}

std::vector<const Operand*> partsOf(const Resolve& r, size_t operand, size_t count) {
  const Operand& o = r.operand(operand);
  std::vector<const Operand*> parts;
  if (o.kind == OperandKind::vector)
    for (const Operand& p : o.parts) parts.push_back(&p);
  else
    parts.push_back(&o);
  if (parts.size() != count)
    r.unsupported(format("operand %zu has %zu registers where the shape needs %zu", operand + 1, parts.size(), count));
  return parts;
}

std::vector<Slot> sourcesOf(Resolve& r, size_t operand, size_t count, Type t) {
  std::vector<Slot> slots;
  for (const Operand* p : partsOf(r, operand, count)) slots.push_back(r.sourceOf(*p, t));
  return slots;
}

std::vector<Slot> destinationsOf(Resolve& r, size_t operand, size_t count, Type t) {
  std::vector<Slot> slots;
  for (const Operand* p : partsOf(r, operand, count)) slots.push_back(r.destinationOf(*p, t));
  return slots;
}

}  // namespace dsvc::emulator::tensor
