// The hooks of the asynchronous families for the checks. A Checks object that is also an AsyncObserver hears of copies,
// mbarriers and proxy fences; the defaults do nothing. Nothing is called when checks are off.
#pragma once
#include <cstdint>

#include "../checks.h"
#include "../machine.h"
#include "copy.h"

namespace dsvc::emulator {

enum class ProxyFence : uint8_t { alias, async, asyncGlobal, asyncShared, tensormap, mbarrierInit };

class AsyncObserver {
 public:
  virtual ~AsyncObserver() = default;
  // An operation was issued; `id` names it in what follows. One warp instruction's lanes may share one.
  virtual void onIssue(uint64_t /*id*/, Warp&, const Insn&, Mask, Proxy) {}
  // It reads or writes these bytes now.
  virtual void onTransfer(uint64_t /*id*/, const Region&, uint64_t /*at*/, uint64_t /*bytes*/, AccessKind) {}
  // It signalled an mbarrier in this phase, after all its writes.
  virtual void onSignal(uint64_t /*id*/, Cta&, uint32_t /*barrier offset*/, uint64_t /*phase*/) {}
  virtual void onMbarrierInit(Warp&, const Insn&, int /*lane*/, Cta&, uint32_t /*offset*/, bool /*inval*/) {}
  virtual void onMbarrierArrive(Warp&, const Insn&, int /*lane*/, Cta&, uint32_t /*offset*/, uint64_t /*phase*/, Order, Scope) {}
  // A wait that saw the phase complete.
  virtual void onMbarrierWait(Warp&, const Insn&, int /*lane*/, Cta&, uint32_t /*offset*/, uint64_t /*phase*/, Order, Scope) {}
  // A commit group's wait that is over, for the lanes.
  virtual void onGroupWait(Warp&, const Insn&, Mask, bool /*bulk*/, bool /*readOnly*/) {}
  virtual void onProxyFence(Warp&, const Insn&, Mask, ProxyFence, Order, Scope) {}
};

// Null when no check listens.
inline AsyncObserver* observerOf(Machine& m) { return m.checks ? dynamic_cast<AsyncObserver*>(m.checks.get()) : nullptr; }

}  // namespace dsvc::emulator
