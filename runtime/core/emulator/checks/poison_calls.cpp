// What frames and calls know of their parameters and local memory.
#include <cstring>

#include "../calls.h"
#include "poison.h"

namespace dsvc::emulator {

uint8_t* LocalShadow::of(int lane, uint64_t needed) {
  if (needed > stride) {
    const uint64_t wide = std::max<uint64_t>(stride * 2, (needed + 63) / 64 * 64);
    std::vector<uint8_t> grown(wide * kLanes, 0);
    for (int l = 0; l < kLanes; ++l)
      if (stride) std::memcpy(grown.data() + wide * l, known.data() + stride * l, stride);
    known = std::move(grown);
    stride = wide;
  }
  return known.data() + stride * lane;
}

// The first instruction of a frame: its registers are poisoned, its parameters as known as the caller's arguments.
Shadow& Poison::begin(Warp& w, Frame& f) {
  auto made = std::make_shared<Shadow>();
  Shadow& s = *made;
  s.rules = &poisonRulesOf(*f.code);
  s.any.assign(s.rules->count, kFull);
  s.params.assign(f.params.size(), 0);
  s.callParams.assign(f.callParams.size(), 0);
  f.shadow = std::move(made);
  const Mask lanes = w.path().lanes;
  // What another call left in this local memory is not this one's.
  if (w.localShadow && f.function->localBytes)
    for (int l : lanesOf(lanes)) std::memset(w.localShadow->of(l, f.localBase + f.function->localBytes) + f.localBase, 0, f.function->localBytes);
  if (!f.caller || !f.caller->shadow) return s;
  const Shadow& from = *f.caller->shadow;
  const auto& e = extraOf<CallExtra>(*f.call);
  for (size_t k = 0; k < e.arguments.size() && k < f.function->params.size(); ++k) {
    const CallItem& item = e.arguments[k];
    const Parameter& q = f.function->params[k];
    for (int l : lanesOf(lanes)) {
      uint8_t* to = s.params.data() + size_t{f.paramStride} * l + q.offset;
      if (item.kind == CallItem::Kind::slot) {
        const bool inRegister = item.slot >> 30 == 0;
        const uint32_t g = inRegister ? from.rules->granuleOf(item.slot) : 0;
        for (uint64_t b = 0; b < q.size; ++b) to[b] = !inRegister || b >= bytesOfClass(item.cls) || !(from.byteOf(g + b / 4, b % 4) >> l & 1);
      } else {
        const auto& source = item.kind == CallItem::Kind::callParam ? from.callParams : from.params;
        const size_t stride = item.kind == CallItem::Kind::callParam ? f.caller->callParamStride : f.caller->paramStride;
        std::memcpy(to, source.data() + stride * l + item.offset, std::min(item.size, q.size));
      }
    }
  }
  return s;
}

// Before ret: the results go to the caller.
void Poison::leave(Warp& w, Mask m) {
  Frame& f = w.frame();
  if (!f.caller || !f.caller->shadow) return;
  const Shadow& s = shadowOf(w);
  Shadow& to = *f.caller->shadow;
  const auto& e = extraOf<CallExtra>(*f.call);
  for (size_t k = 0; k < e.returns.size() && k < f.function->returns.size(); ++k) {
    const CallItem& item = e.returns[k];
    const Parameter& q = f.function->returns[k];
    for (int l : lanesOf(m)) {
      const uint8_t* from = s.params.data() + size_t{f.paramStride} * l + q.offset;
      if (item.kind == CallItem::Kind::slot) {
        const uint32_t g = to.rules->granuleOf(item.slot);
        for (uint32_t b = 0; b < bytesOfClass(item.cls); ++b) setByte(to, g + b / 4, b % 4, 1u << l, b >= q.size || from[b] ? 0 : kFull);
      } else {
        auto& target = item.kind == CallItem::Kind::callParam ? to.callParams : to.params;
        const size_t stride = item.kind == CallItem::Kind::callParam ? f.caller->callParamStride : f.caller->paramStride;
        std::memcpy(target.data() + stride * l + item.offset, from, std::min(item.size, q.size));
      }
    }
  }
}

}  // namespace dsvc::emulator
