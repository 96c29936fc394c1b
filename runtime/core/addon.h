// What the files of the addon share: handles, and the checking of arguments.
#pragma once
#include <napi.h>

#include <cstring>
#include <memory>
#include <string>
#include <typeinfo>
#include <utility>
#include <vector>

#include "emulator/machine.h"

namespace dsvc::addon {

using namespace dsvc::emulator;

struct ProgramHandle {
  std::shared_ptr<Program> program;
};
// Devices that were made together, and live as long as any of them is held: they may reach each other's memory.
struct DeviceGroup {
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<std::shared_ptr<Program>> programs;  // whose variables lie on the devices
};
struct DeviceHandle {
  DeviceHandle(std::shared_ptr<DeviceGroup> g, size_t index)
      : group(std::move(g)), owner(group, group->devices[index].get()), device(*owner), programs(group->programs) {}
  std::shared_ptr<DeviceGroup> group;
  std::shared_ptr<Device> owner;  // shared with executors, which may outlive the handle
  Device& device;
  std::vector<std::shared_ptr<Program>>& programs;
};

[[noreturn]] inline void raise(Napi::Env env, const EmulatorError& e) {
  Napi::Error error = Napi::Error::New(env, e.message);
  error.Set("code", Napi::String::New(env, e.code));
  if (e.ptxLine) {
    error.Set("line", Napi::Number::New(env, e.ptxLine));
    error.Set("column", Napi::Number::New(env, e.ptxColumn));
  }
  throw error;
}

// Every exported function runs under this: our errors become JavaScript's.
template <Napi::Value (*Body)(const Napi::CallbackInfo&)>
Napi::Value guarded(const Napi::CallbackInfo& info) {
  try {
    return Body(info);
  } catch (const EmulatorError& e) {
    raise(info.Env(), e);
  } catch (const std::bad_alloc&) {
    raise(info.Env(), {"emu/out-of-memory", "the host has no memory left"});
  }
}

[[noreturn]] inline void argument(const std::string& what) { refuse("emu/bad-argument", what); }

inline uint64_t integer(const Napi::Value& v, const char* name) {
  if (v.IsBigInt()) {
    bool lossless = false;
    uint64_t x = v.As<Napi::BigInt>().Uint64Value(&lossless);
    if (!lossless) argument(std::string(name) + " is not an unsigned 64-bit integer");
    return x;
  }
  if (v.IsNumber()) {
    double d = v.As<Napi::Number>().DoubleValue();
    if (!(d >= 0) || d > 9007199254740991.0 || d != static_cast<double>(static_cast<uint64_t>(d)))
      argument(std::string(name) + " is not an unsigned integer");
    return static_cast<uint64_t>(d);
  }
  argument(std::string(name) + " is not an integer");
}
inline std::span<uint8_t> bytesOf(const Napi::Value& v, const char* name) {
  if (!v.IsTypedArray() || v.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
    argument(std::string(name) + " is not a Uint8Array");
  auto a = v.As<Napi::Uint8Array>();
  return {a.Data(), a.ByteLength()};
}
// napi_type_tag would do the same; a tag in the external keeps it in one place.
template <class T>
T& handle(const Napi::Value& v, const char* what) {
  if (!v.IsExternal()) argument(std::string("not a ") + what);
  auto* p = static_cast<std::pair<const void*, T>*>(v.As<Napi::External<std::pair<const void*, T>>>().Data());
  static_assert(sizeof(p->first) == sizeof(void*));
  if (!p || p->first != static_cast<const void*>(typeid(T).name())) argument(std::string("not a ") + what);
  return p->second;
}
template <class T, class... A>
Napi::Value makeHandle(Napi::Env env, A&&... a) {
  auto* p = new std::pair<const void*, T>(std::piecewise_construct, std::forward_as_tuple(typeid(T).name()),
                                          std::forward_as_tuple(std::forward<A>(a)...));
  return Napi::External<std::pair<const void*, T>>::New(env, p, [](Napi::Env, std::pair<const void*, T>* q) { delete q; });
}

template <class F>
void whenGiven(const Napi::Object& o, const char* name, F f) {
  if (!o.Has(name)) return;
  Napi::Value v = o.Get(name);
  if (!v.IsUndefined() && !v.IsNull()) f(v);
}
inline bool boolean(const Napi::Value& v, const char* name) {
  if (!v.IsBoolean()) argument(std::string(name) + " is not a boolean");
  return v.As<Napi::Boolean>().Value();
}
inline uint32_t small(const Napi::Value& v, const char* name) {
  uint64_t x = integer(v, name);
  if (x > 0xffffffffu) argument(std::string(name) + " is too large");
  return static_cast<uint32_t>(x);
}
inline std::string text(const Napi::Value& v, const char* name) {
  if (!v.IsString()) argument(std::string(name) + " is not a string");
  return v.As<Napi::String>().Utf8Value();
}

// What a launch said, as JavaScript has it (addon.cpp).
Napi::Object result(Napi::Env env, const Machine& m);
// The exports of the executor (addon_plan.cpp).
void addPlan(Napi::Env env, Napi::Object exports);

}  // namespace dsvc::addon
