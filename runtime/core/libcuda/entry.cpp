// The other names of functions: forms whose null stream is the thread's own, and looking functions up by name.
#include <cstring>

#include "state.h"

using namespace dsvc::driver;

namespace {

// For the time of one call, the null stream is the calling thread's.
struct OwnNullStream {
  bool before = thread().ownNullStream;
  OwnNullStream() { thread().ownNullStream = true; }
  ~OwnNullStream() { thread().ownNullStream = before; }
  OwnNullStream(const OwnNullStream&) = delete;
};

}  // namespace

#define DSVC_DRIVER(symbol, name, since, parameters, arguments)
#define DSVC_STREAM(symbol, name, since, suffix, parameters, arguments) \
  CUresult symbol##suffix parameters {                                  \
    OwnNullStream own;                                                  \
    return symbol arguments;                                            \
  }
#include "functions.inc"
#undef DSVC_DRIVER

namespace {

struct Entry {
  const char* name;
  int since;
  void* function;
  void* threadFunction;  // with the thread's own null stream; null: no such form
};
const Entry kEntries[] = {
#define DSVC_DRIVER(symbol, name, since, parameters, arguments) {#name, since, reinterpret_cast<void*>(&symbol), nullptr},
#define DSVC_STREAM(symbol, name, since, suffix, parameters, arguments) \
  {#name, since, reinterpret_cast<void*>(&symbol), reinterpret_cast<void*>(&symbol##suffix)},
#include "functions.inc"
#undef DSVC_DRIVER
};

// The newest form that the caller's version of CUDA knows.
CUresult find(const char* symbol, void** function, int version, cuuint64_t flags, CUdriverProcAddressQueryResult* status) {
  if (!symbol || !function || (flags & ~3ull) || flags == 3) return CUDA_ERROR_INVALID_VALUE;
  *function = nullptr;
  const Entry* best = nullptr;
  bool known = false;
  for (const Entry& e : kEntries) {
    if (std::strcmp(e.name, symbol) != 0) continue;
    known = true;
    if (e.since <= version && (!best || e.since >= best->since)) best = &e;
  }
  if (status)
    *status = best ? CU_GET_PROC_ADDRESS_SUCCESS : known ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
  if (!best) return CUDA_ERROR_NOT_FOUND;
  *function = (flags & 2) && best->threadFunction ? best->threadFunction : best->function;
  return CUDA_SUCCESS;
}

}  // namespace

// There is nothing to profile.
CUresult cuProfilerStart(void) {
  return inContext([](Process&, CUctx_st&) { return CUDA_SUCCESS; });
}
CUresult cuProfilerStop(void) { return cuProfilerStart(); }

CUresult cuGetProcAddress(const char* symbol, void** function, int version, cuuint64_t flags) { return find(symbol, function, version, flags, nullptr); }
CUresult cuGetProcAddress_v2(const char* symbol, void** function, int version, cuuint64_t flags, CUdriverProcAddressQueryResult* status) {
  return find(symbol, function, version, flags, status);
}
