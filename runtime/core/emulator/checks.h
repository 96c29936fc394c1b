// The hooks of the checks and of the statistics: what runs tells a listener. A launch with checks or statistics on runs
// handlers that call these (Resolve::checked); otherwise nothing here is called. Defaults do nothing, so a listener
// overrides what it needs. checks/ holds the listeners; CheckList hands every call on to those that are on.
#pragma once
#include <cstdint>
#include <memory>
#include <vector>

#include "insn.h"
#include "memory.h"

namespace dsvc::emulator {

struct Cta;
class Warp;
class Machine;
struct Grid;
struct DecodedInsn;
struct Region;  // async/copy.h

enum class Order : uint8_t { weak, relaxed, acquire, release, acquireRelease, volatileAccess };
enum class Scope : uint8_t { thread, cta, cluster, gpu, sys };
enum class Proxy : uint8_t { generic, async, tensorCore };
enum class ProxyFence : uint8_t { alias, async, asyncGlobal, asyncShared, tensormap, mbarrierInit };

struct Access {
  AccessKind kind;
  Order order = Order::weak;
  Scope scope = Scope::thread;
  bool nonCoherent = false;  // ld.global.nc
  bool isSigned = false;     // a narrow load extends its sign
};

// One warp instruction's accesses to one stretch of memory: an allocation, a block's shared memory, or (one lane at a
// time) a thread's local memory or the parameters. An instruction whose lanes go to several gives several.
struct Accesses {
  Access how;
  Space space = Space::global;
  Allocation* allocation = nullptr;  // global and constant
  Cta* cta = nullptr;                // shared: whose
  uint32_t bytes = 0;                // of each lane
  Mask lanes = 0;
  bool dense = false;                // all 32 lanes, and lane l's bytes follow lane l - 1's
  const uint64_t* offsets = nullptr;  // by lane: in the allocation, the shared memory or the local memory
  // The registers that take or give a lane's bytes, in order, each as many bytes as the others; none where the handler
  // moves the bytes between lanes (ldmatrix, wmma).
  const Slot* parts = nullptr;
  uint32_t partCount = 0;
};

class Checks {
 public:
  virtual ~Checks() = default;

  // --- instructions ---------------------------------------------------------------------------------------------
  // Before a guarded instruction, with the lanes of its path, whether or not the guard holds for any. Again when retried.
  virtual void onGuard(Warp&, const Insn&, Mask) {}
  // Before each instruction, with the lanes whose guard holds. Runs again when a blocked instruction is tried again.
  virtual void onInsn(Warp&, const Insn&, Mask) {}
  // After it, unless it was blocked or moved the path elsewhere.
  virtual void afterInsn(Warp&, const Insn&, Mask) {}

  // A branch, call, return or exit that moved the lanes.
  virtual void onJump(Warp&, const DecodedInsn&, Mask) {}

  // --- memory ---------------------------------------------------------------------------------------------------
  // After bounds and alignment were found right, before the bytes move.
  virtual void onAccess(Warp&, const Insn&, const Accesses&) {}
  virtual void onFence(Warp&, const Insn&, Mask, Order, Scope) {}
  virtual void onProxyFence(Warp&, const Insn&, Mask, ProxyFence, Order, Scope) {}

  // --- barriers -------------------------------------------------------------------------------------------------
  // Barrier 16 is the cluster's. `generation` is unique per barrier and block (or cluster). `arrive`: the lanes came;
  // `leave`: they go on, the generation being complete.
  virtual void onBarrier(Cta&, uint32_t /*barrier*/, uint64_t /*generation*/, Warp&, const Insn&, Mask, bool /*arrive*/,
                         bool /*leave*/) {}
  // Lanes met in a .sync instruction (bar.warp.sync, shfl, vote, match, redux, elect).
  virtual void onWarpSync(Warp&, const Insn&, Mask) {}

  // --- asynchronous work ----------------------------------------------------------------------------------------
  // An operation was issued; `id` names it in what follows. One warp instruction's lanes may share one.
  virtual void onIssue(uint64_t /*id*/, Warp&, const Insn&, Mask, Proxy) {}
  // It will write there and then signal this mbarrier, which is in this phase. Once for each destination.
  virtual void onTarget(uint64_t /*id*/, const Region&, Cta&, uint32_t /*barrier offset*/, uint64_t /*phase*/) {}
  // It reads or writes these bytes now. For cp.async, the id's lowest five bits are the lane's.
  virtual void onTransfer(uint64_t /*id*/, const Region&, uint64_t /*at*/, uint64_t /*bytes*/, AccessKind) {}
  // It signalled an mbarrier in this phase, after all its writes.
  virtual void onSignal(uint64_t /*id*/, Cta&, uint32_t /*barrier offset*/, uint64_t /*phase*/) {}
  virtual void onMbarrierInit(Warp&, const Insn&, int /*lane*/, Cta&, uint32_t /*offset*/, bool /*inval*/) {}
  virtual void onMbarrierArrive(Warp&, const Insn&, int /*lane*/, Cta&, uint32_t /*offset*/, uint64_t /*phase*/, Order, Scope) {}
  // A wait that saw the phase complete.
  virtual void onMbarrierWait(Warp&, const Insn&, int /*lane*/, Cta&, uint32_t /*offset*/, uint64_t /*phase*/, Order, Scope) {}
  // cp.async.mbarrier.arrive: an arrival once the lane's cp.asyncs so far are done.
  virtual void onCopyArrive(Warp&, const Insn&, int /*lane*/, Cta&, uint32_t /*offset*/, uint64_t /*phase*/) {}
  // The lanes close a group of bulk copies or of cp.asyncs.
  virtual void onGroupCommit(Warp&, const Insn&, Mask, bool /*bulk*/) {}
  // A commit group's wait that is over, for the lanes: all but the newest `immediate` groups.
  virtual void onGroupWait(Warp&, const Insn&, Mask, bool /*bulk*/, bool /*readOnly*/) {}
  // This warp's part of a wgmma.mma_async reads 16 bytes at these offsets of its block's shared memory, until the warp
  // has waited for product `number` of its warpgroup.
  virtual void onProduct(Warp&, const Insn&, uint64_t /*number*/, const std::vector<uint32_t>& /*chunks*/) {}
  // wgmma.wait_group: the warp's products below `waited` are done.
  virtual void onProductWait(Warp&, const Insn&, uint64_t /*waited*/) {}

  // --- lives ----------------------------------------------------------------------------------------------------
  virtual void onCtaStart(Cta&) {}
  virtual void onCtaEnd(Cta&) {}
  virtual void onGridStart(Grid&) {}
  virtual void onGridEnd(Grid&) {}
};

// Every listener that the options ask for, as one; null when they ask for none.
std::unique_ptr<Checks> makeChecks(Machine& machine);

}  // namespace dsvc::emulator
