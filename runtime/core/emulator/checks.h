// The hooks of the checks. A launch with checks on runs handlers that call them (Resolve::checked); without checks
// nothing here is called. Defaults do nothing, so a check overrides what it needs.
#pragma once
#include <cstdint>

#include "insn.h"
#include "memory.h"

namespace dsvc::emulator {

struct Cta;
class Warp;
struct Grid;

enum class Order : uint8_t { weak, relaxed, acquire, release, acquireRelease, volatileAccess };
enum class Scope : uint8_t { thread, cta, cluster, gpu, sys };
enum class Proxy : uint8_t { generic, async, tensorCore };

struct Access {
  AccessKind kind;
  Order order = Order::weak;
  Scope scope = Scope::thread;
  Proxy proxy = Proxy::generic;
  bool nonCoherent = false;  // ld.global.nc
};

class Checks {
 public:
  virtual ~Checks() = default;
  // One lane's access, after bounds and alignment were found right.
  virtual void onAccess(Warp&, const Insn&, int /*lane*/, const Place&, uint32_t /*bytes*/, const Access&) {}
  // Before each instruction of the checked loop.
  virtual void onInsn(Warp&, const Insn&, Mask) {}
  virtual void onFence(Warp&, const Insn&, Mask, Order, Scope, Proxy) {}
  // All lanes that a barrier released. `generation` is unique per barrier and CTA.
  virtual void onBarrier(Cta&, uint32_t /*barrier*/, uint64_t /*generation*/, Warp&, Mask, bool /*arrive*/, bool /*leave*/) {}
  virtual void onWarpSync(Warp&, Mask) {}
  virtual void onCtaStart(Cta&) {}
  virtual void onCtaEnd(Cta&) {}
  virtual void onGridEnd(Grid&) {}
};

}  // namespace dsvc::emulator
