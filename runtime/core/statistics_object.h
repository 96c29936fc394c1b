// Statistics of a launch as a JavaScript object.
#pragma once
#include <napi.h>

#include "emulator/machine.h"

Napi::Object statisticsObject(Napi::Env env, const dsvc::emulator::Statistics& s);
