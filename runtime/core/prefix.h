// What nearly every file includes, for a precompiled header (scripts/build-native.mjs). Files include what they use
// themselves: nothing depends on this one.
#pragma once
#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstring>

#include "emulator/machine.h"
#include "emulator/resolver.h"
