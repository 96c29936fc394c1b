// Prototypes of everything that the stand-in libcuda exports.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif
#define DSVC_DRIVER(symbol, name, since, parameters, arguments) __attribute__((visibility("default"))) CUresult symbol parameters;
#include "functions.inc"
#undef DSVC_DRIVER
#define DSVC_DRIVER(symbol, name, since, parameters, arguments)
#define DSVC_STREAM(symbol, name, since, suffix, parameters, arguments) __attribute__((visibility("default"))) CUresult symbol##suffix parameters;
#include "functions.inc"
#undef DSVC_DRIVER
#ifdef __cplusplus
}
#endif
