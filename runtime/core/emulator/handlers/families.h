// Every family of instructions, once per instruction-set level: DSVC_ARCH is `base` or `avx2` (the build says which).
#pragma once
#include "../resolver.h"

#ifndef DSVC_ARCH
#define DSVC_ARCH base
#endif

namespace dsvc::emulator {
namespace base {
void registerAll(Resolver& r);
}
namespace avx2 {
void registerAll(Resolver& r);
}

namespace DSVC_ARCH {
void registerInteger(Resolver& r);      // integer arithmetic
void registerBits(Resolver& r);         // logic, shifts, bit fields, prmt
void registerFloat(Resolver& r);        // f32, f64
void registerHalf(Resolver& r);         // f16, bf16 and their pairs (called by the float family's mnemonics)
void registerApproximate(Resolver& r);  // rcp, sqrt, ex2, ...
void registerCompare(Resolver& r);      // setp, set, selp, slct, testp
void registerConvert(Resolver& r);      // cvt
void registerMove(Resolver& r);         // mov, cvta, isspacep, mapa, ...
void registerMemory(Resolver& r);       // ld, st, prefetch
void registerAtomic(Resolver& r);       // atom, red, fences
void registerControl(Resolver& r);      // bra, call, ret, exit, ...
void registerBarrier(Resolver& r);      // bar, barrier, barrier.cluster
void registerWarpWide(Resolver& r);     // shfl, vote, match, redux, elect
// The asynchronous and matrix families.
__attribute__((weak)) void registerAsync(Resolver& r);
__attribute__((weak)) void registerMatrix(Resolver& r);
void resolveWarpBarrier(Resolve& r);  // bar.warp.sync
void resolvePack(Resolve& r);         // cvt.pack
// st.async and red.async, called from st and red.
__attribute__((weak)) void resolveStoreAsync(Resolve& r);
__attribute__((weak)) void resolveReduceAsync(Resolve& r);
}  // namespace DSVC_ARCH
}  // namespace dsvc::emulator
