// The asynchronous family's resolve functions, one per mnemonic or form. handlers/async.cpp registers them. None of
// this gains from wider SIMD, so it is compiled once, not once per instruction-set level.
#pragma once
#include "../checks.h"
#include "../resolver.h"

namespace dsvc::emulator {

void resolveMbarrier(Resolve& r);  // mbarrier.*
void resolveCp(Resolve& r);        // cp.async*, cp.reduce.async*
void resolveTensormap(Resolve& r); // tensormap.replace, tensormap.cp_fenceproxy

void resolveMbarrierWait(Resolve& r);   // mbarrier.test_wait, try_wait
void resolveAsyncCopy(Resolve& r);      // cp.async.ca, cp.async.cg
void resolveCopyMbarrier(Resolve& r);   // cp.async.mbarrier.arrive
void resolveCopyGroup(Resolve& r);      // cp.async[.bulk].commit_group, wait_group, wait_all
void resolveBulkCopy(Resolve& r);       // cp.async.bulk, cp.reduce.async.bulk, cp.async.bulk.prefetch
void resolveTensorCopy(Resolve& r);     // the same with .tensor

// Forms of mnemonics that belong to other families.
void resolveStAsync(Resolve& r);   // st.async
void resolveRedAsync(Resolve& r);  // red.async
void resolveProxyFence(Resolve& r);   // fence.proxy.*, fence.mbarrier_init

Order orderOf(const Resolve& r, Order whenAbsent);
Scope scopeOf(const Resolve& r, Scope whenAbsent);

}  // namespace dsvc::emulator
