// The standard headers that nearly every file includes, for a precompiled header (scripts/build-native.mjs). Files
// include what they use themselves: nothing depends on this one.
#ifndef DSVC_PREFIX_H
#define DSVC_PREFIX_H
#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cinttypes>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <queue>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>
#endif
