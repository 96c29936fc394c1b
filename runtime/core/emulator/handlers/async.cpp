// Registers the asynchronous family (async/): mbarrier, bulk and tensor copies, cp.async, st.async, proxy fences. The
// handlers are the same for every instruction-set level.
#include "../async/family.h"

#include "families.h"

namespace dsvc::emulator::DSVC_ARCH {

namespace {

// fence belongs to the memory model's family but for the forms between proxies.
ResolveFunction otherFence;

void resolveFence(Resolve& r) {
  if (r.hasAny(Modifier::proxy_, Modifier::mbarrier_init_)) return resolveProxyFence(r);
  if (otherFence) otherFence(r);
}

}  // namespace

void resolveStoreAsync(Resolve& r) { resolveStAsync(r); }
void resolveReduceAsync(Resolve& r) { resolveRedAsync(r); }

void registerAsync(Resolver& r) {
  r.add(Mnemonic::mbarrier_, resolveMbarrier);
  r.add(Mnemonic::cp_, resolveCp);
  r.add(Mnemonic::tensormap_, resolveTensormap);
  otherFence = r.find(Mnemonic::fence_);
  r.add(Mnemonic::fence_, resolveFence);
}

}  // namespace dsvc::emulator::DSVC_ARCH
