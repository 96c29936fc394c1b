// The N-API face of the core: devices, memory, programs, launches. Thin: it converts and checks arguments, and turns
// EmulatorError into JavaScript errors with a `code` (and `line`, `column` where a PTX line is at fault).
#include <napi.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string>

#include "emulator/machine.h"
#include "emulator/resolver.h"
#include "statistics_object.h"

namespace {

using namespace dsvc::emulator;

struct ProgramHandle {
  std::shared_ptr<Program> program;
};
struct DeviceHandle {
  explicit DeviceHandle(uint32_t ordinal, Options o) : device(ordinal, std::move(o)) {}
  Device device;
  std::vector<std::shared_ptr<Program>> programs;  // whose variables lie on the device
};
uint32_t nextDevice = 0;

[[noreturn]] void raise(Napi::Env env, const EmulatorError& e) {
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

[[noreturn]] void argument(const std::string& what) { refuse("emu/bad-argument", what); }

uint64_t integer(const Napi::Value& v, const char* name) {
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
std::span<uint8_t> bytesOf(const Napi::Value& v, const char* name) {
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
bool boolean(const Napi::Value& v, const char* name) {
  if (!v.IsBoolean()) argument(std::string(name) + " is not a boolean");
  return v.As<Napi::Boolean>().Value();
}
uint32_t small(const Napi::Value& v, const char* name) {
  uint64_t x = integer(v, name);
  if (x > 0xffffffffu) argument(std::string(name) + " is too large");
  return static_cast<uint32_t>(x);
}
std::string text(const Napi::Value& v, const char* name) {
  if (!v.IsString()) argument(std::string(name) + " is not a string");
  return v.As<Napi::String>().Utf8Value();
}

Options readOptions(const Napi::Value& v, Options o) {
  if (!v.IsObject()) return o;
  auto from = v.As<Napi::Object>();
  whenGiven(from, "sms", [&](Napi::Value x) { o.sms = small(x, "sms"); });
  whenGiven(from, "seed", [&](Napi::Value x) { o.seed = integer(x, "seed"); });
  whenGiven(from, "maxInstructions", [&](Napi::Value x) { o.maxInstructions = integer(x, "maxInstructions"); });
  whenGiven(from, "stopAtError", [&](Napi::Value x) { o.stopAtError = boolean(x, "stopAtError"); });
  whenGiven(from, "statistics", [&](Napi::Value x) { o.statistics = boolean(x, "statistics"); });
  whenGiven(from, "tensorCore", [&](Napi::Value x) {
    std::string t = text(x, "tensorCore");
    if (t != "exact" && t != "f32") argument("tensorCore is 'exact' or 'f32'");
    o.tensorCoreExact = t == "exact";
  });
  whenGiven(from, "checks", [&](Napi::Value x) {
    if (!x.IsArray()) argument("checks is not an array");
    o.checks.clear();
    auto list = x.As<Napi::Array>();
    for (uint32_t k = 0; k < list.Length(); ++k) o.checks.push_back(text(list.Get(k), "a check"));
  });
  return o;
}

Napi::Array triple(Napi::Env env, const uint32_t* v) {
  auto a = Napi::Array::New(env, 3);
  for (uint32_t k = 0; k < 3; ++k) a.Set(k, Napi::Number::New(env, v[k]));
  return a;
}

Napi::Object siteOf(Napi::Env env, const Site& s) {
  auto o = Napi::Object::New(env);
  o.Set("kernel", s.kernel);
  o.Set("block", triple(env, s.block));
  o.Set("warp", Napi::Number::New(env, s.warp));
  o.Set("lane", Napi::Number::New(env, s.lane));
  o.Set("ptxLine", Napi::Number::New(env, s.ptxLine));
  o.Set("ptxColumn", Napi::Number::New(env, s.ptxColumn));
  o.Set("locFile", s.locFile);
  o.Set("locLine", Napi::Number::New(env, s.locLine));
  o.Set("locColumn", Napi::Number::New(env, s.locColumn));
  o.Set("what", s.what);
  return o;
}

Napi::Array reportsOf(Napi::Env env, const std::vector<Report>& list) {
  auto reports = Napi::Array::New(env, list.size());
  for (uint32_t k = 0; k < list.size(); ++k) {
    const Report& r = list[k];
    Napi::Object o = siteOf(env, r.site);
    o.Set("code", r.code);
    o.Set("severity", r.severity == Severity::error ? "error" : r.severity == Severity::warning ? "warning" : "note");
    o.Set("message", r.message);
    o.Set("fix", r.fix);
    o.Set("count", Napi::Number::New(env, static_cast<double>(r.count)));
    auto others = Napi::Array::New(env, r.others.size());
    for (uint32_t j = 0; j < r.others.size(); ++j) others.Set(j, siteOf(env, r.others[j]));
    o.Set("others", others);
    reports.Set(k, o);
  }
  return reports;
}

Napi::Value createDevice(const Napi::CallbackInfo& info) {
  return makeHandle<DeviceHandle>(info.Env(), nextDevice++, readOptions(info[0], Options{}));
}

Napi::Value allocate(const Napi::CallbackInfo& info) {
  auto& d = handle<DeviceHandle>(info[0], "device");
  std::string name = info.Length() > 2 && info[2].IsString() ? text(info[2], "name") : "buffer";
  Allocation& a = d.device.memory.allocate(integer(info[1], "bytes"), name, d.device.options.checked());
  if (info.Length() > 3 && info[3].IsNumber()) a.elementBytes = std::max(1u, small(info[3], "elementBytes"));
  return Napi::BigInt::New(info.Env(), a.base);
}

Napi::Value freeMemory(const Napi::CallbackInfo& info) {
  handle<DeviceHandle>(info[0], "device").device.memory.free(integer(info[1], "address"));
  return info.Env().Undefined();
}

Napi::Value write(const Napi::CallbackInfo& info) {
  GlobalMemory& m = handle<DeviceHandle>(info[0], "device").device.memory;
  uint64_t address = integer(info[1], "address");
  auto data = bytesOf(info[2], "data");
  uint8_t* to = m.host(address, data.size(), "a host write");
  if (!data.empty()) std::memcpy(to, data.data(), data.size());
  if (Allocation* a = m.nearest(address)) a->markInitialised(address - a->base, data.size(), true);
  return info.Env().Undefined();
}

Napi::Value read(const Napi::CallbackInfo& info) {
  GlobalMemory& m = handle<DeviceHandle>(info[0], "device").device.memory;
  uint64_t n = integer(info[2], "bytes");
  const uint8_t* from = m.host(integer(info[1], "address"), n, "a host read");
  auto out = Napi::Uint8Array::New(info.Env(), n);
  if (n) std::memcpy(out.Data(), from, n);
  return out;
}

Napi::Value copy(const Napi::CallbackInfo& info) {
  auto& d = handle<DeviceHandle>(info[0], "device");
  d.device.memory.copy(integer(info[1], "to"), integer(info[2], "from"), integer(info[3], "bytes"));
  return info.Env().Undefined();
}

Napi::Value firstUninitialised(const Napi::CallbackInfo& info) {
  auto& d = handle<DeviceHandle>(info[0], "device");
  const uint64_t bytes = integer(info[2], "bytes"), at = d.device.memory.firstUninitialised(integer(info[1], "address"), bytes);
  return Napi::Number::New(info.Env(), at == bytes ? -1 : static_cast<double>(at));
}

Napi::Value markInitialised(const Napi::CallbackInfo& info) {
  GlobalMemory& m = handle<DeviceHandle>(info[0], "device").device.memory;
  uint64_t address = integer(info[1], "address"), n = integer(info[2], "bytes");
  m.host(address, n, "markInitialised");
  Allocation* a = m.nearest(address);
  if (a) a->markInitialised(address - a->base, n, info.Length() < 4 || boolean(info[3], "value"));
  return info.Env().Undefined();
}

// The allocation is an output: stores of uninitialised data to it are remembered.
Napi::Value markOutput(const Napi::CallbackInfo& info) {
  GlobalMemory& m = handle<DeviceHandle>(info[0], "device").device.memory;
  uint64_t address = integer(info[1], "address");
  m.host(address, 0, "markOutput");
  if (Allocation* a = m.nearest(address); a && !a->output) a->output = std::make_unique<PoisonedStores>();
  return info.Env().Undefined();
}

// What the allocation that starts at the address lacks as an output: see memory.h.
Napi::Value outputReportsOf(const Napi::CallbackInfo& info) {
  auto& d = handle<DeviceHandle>(info[0], "device");
  Allocation* a = d.device.memory.nearest(integer(info[1], "address"));
  std::vector<Report> found;
  if (a)
    for (Report& r : outputReports(*a))
      if (d.device.options.checks_(r.code.substr(4))) found.push_back(std::move(r));
  return reportsOf(info.Env(), found);
}

Napi::Value loadProgram(const Napi::CallbackInfo& info) {
  auto& d = handle<DeviceHandle>(info[0], "device");
  std::shared_ptr<Program> p = Program::load(bytesOf(info[1], "program"));
  d.programs.push_back(p);
  return makeHandle<ProgramHandle>(info.Env(), ProgramHandle{p});
}

Napi::Value describeProgram(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  Program& p = *handle<ProgramHandle>(info[0], "program").program;
  auto out = Napi::Object::New(env);
  auto kernels = Napi::Array::New(env);
  for (const Function& f : p.functions) {
    if (!f.isEntry) continue;
    auto k = Napi::Object::New(env);
    k.Set("name", f.name);
    auto parameters = Napi::Array::New(env);
    uint64_t end = 0;
    for (const Parameter& q : f.params) {
      auto o = Napi::Object::New(env);
      o.Set("name", q.name);
      o.Set("size", Napi::Number::New(env, static_cast<double>(q.size)));
      o.Set("align", Napi::Number::New(env, q.align));
      o.Set("offset", Napi::Number::New(env, static_cast<double>(q.offset)));
      parameters.Set(parameters.Length(), o);
      end = std::max(end, q.offset + q.size);
    }
    k.Set("parameters", parameters);
    k.Set("parameterBytes", Napi::Number::New(env, static_cast<double>(end)));
    k.Set("staticShared", Napi::Number::New(env, static_cast<double>(p.sharedOf(f).staticBytes)));
    k.Set("registers", Napi::Number::New(env, f.registersPerThread()));
    k.Set("reqntid", triple(env, f.reqntid));
    k.Set("maxntid", triple(env, f.maxntid));
    k.Set("minnctapersm", Napi::Number::New(env, f.minnctapersm));
    k.Set("maxnreg", Napi::Number::New(env, f.maxnreg));
    k.Set("reqnctapercluster", triple(env, f.reqnctapercluster));
    kernels.Set(kernels.Length(), k);
  }
  out.Set("kernels", kernels);
  auto variables = Napi::Array::New(env);
  for (const Variable& v : p.variables) {
    if (v.space != VariableSpace::global && v.space != VariableSpace::constant) continue;
    auto o = Napi::Object::New(env);
    o.Set("name", v.name);
    o.Set("size", Napi::Number::New(env, static_cast<double>(v.size)));
    o.Set("isConstant", Napi::Boolean::New(env, v.space == VariableSpace::constant));
    variables.Set(variables.Length(), o);
  }
  out.Set("variables", variables);
  out.Set("target", p.target);
  return out;
}

// The address of a module-scope variable on the device.
Napi::Value variableAddress(const Napi::CallbackInfo& info) {
  auto& d = handle<DeviceHandle>(info[0], "device");
  auto& p = handle<ProgramHandle>(info[1], "program").program;
  std::string name = text(info[2], "name");
  const auto& module = d.device.module(*p);
  for (size_t k = 0; k < p->variables.size(); ++k)
    if (p->variables[k].name == name && module.addresses[k]) return Napi::BigInt::New(info.Env(), module.addresses[k]);
  refuse("emu/no-such-variable", "the program has no global or constant variable " + name);
}

void threeOf(const Napi::Object& o, const char* name, uint32_t (&to)[3]) {
  whenGiven(o, name, [&](Napi::Value v) {
    if (!v.IsArray()) argument(std::string(name) + " is not an array");
    auto a = v.As<Napi::Array>();
    if (a.Length() > 3) argument(std::string(name) + " has more than three dimensions");
    for (uint32_t k = 0; k < 3; ++k) to[k] = k < a.Length() ? small(a.Get(k), name) : 1;
  });
}

Napi::Object result(Napi::Env env, const Machine& m) {
  auto out = Napi::Object::New(env);
  out.Set("reports", reportsOf(env, m.reports));
  out.Set("statistics", statisticsObject(env, m.statistics));
  return out;
}

// launch(device, program, request | request[], options?): several requests run together, as far as they fit.
Napi::Value launch(const Napi::CallbackInfo& info) {
  auto& d = handle<DeviceHandle>(info[0], "device");
  auto program = handle<ProgramHandle>(info[1], "program").program;
  auto one = [&](Napi::Value v) {
    if (!v.IsObject()) argument("the launch request is not an object");
    auto o = v.As<Napi::Object>();
    LaunchRequest r;
    r.kernel = text(o.Get("kernel"), "kernel");
    threeOf(o, "grid", r.grid);
    threeOf(o, "block", r.block);
    threeOf(o, "cluster", r.cluster);
    whenGiven(o, "dynamicSharedBytes", [&](Napi::Value x) { r.dynamicSharedBytes = small(x, "dynamicSharedBytes"); });
    whenGiven(o, "registers", [&](Napi::Value x) { r.registers = small(x, "registers"); });
    whenGiven(o, "parameterBlock", [&](Napi::Value x) {
      auto b = bytesOf(x, "parameterBlock");
      r.parameters.assign(b.begin(), b.end());
    });
    return r;
  };
  // What a launch says about itself wins over what the device was made with; SMs belong to the device.
  Options options = readOptions(info.Length() > 3 ? info[3] : info[2], d.device.options);
  Machine machine(options);
  auto started = std::chrono::steady_clock::now();
  d.device.resize(options.sms);
  if (info[2].IsArray()) {
    auto list = info[2].As<Napi::Array>();
    for (uint32_t k = 0; k < list.Length(); ++k) machine.submit(d.device, *program, one(list.Get(k)));
  } else {
    machine.submit(d.device, *program, one(info[2]));
  }
  machine.run();
  if (!machine.poison) d.device.memory.assumeInitialised();
  machine.statistics.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return result(info.Env(), machine);
}

// The instruction-set level that handlers run at.
Napi::Value coreInfo(const Napi::CallbackInfo& info) {
  auto o = Napi::Object::New(info.Env());
  o.Set("level", levelName());
  o.Set("programVersion", Napi::Number::New(info.Env(), 1));
  return o;
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  auto add = [&](const char* name, auto function) { exports.Set(name, Napi::Function::New(env, function, name)); };
  add("createDevice", guarded<createDevice>);
  add("allocate", guarded<allocate>);
  add("free", guarded<freeMemory>);
  add("write", guarded<write>);
  add("read", guarded<read>);
  add("copy", guarded<copy>);
  add("firstUninitialised", guarded<firstUninitialised>);
  add("markInitialised", guarded<markInitialised>);
  add("markOutput", guarded<markOutput>);
  add("outputReports", guarded<outputReportsOf>);
  add("loadProgram", guarded<loadProgram>);
  add("describeProgram", guarded<describeProgram>);
  add("variableAddress", guarded<variableAddress>);
  add("launch", guarded<launch>);
  add("coreInfo", guarded<coreInfo>);
  return exports;
}

}  // namespace

NODE_API_MODULE(dsvc_core, init)
