// The N-API face of the core: devices, memory, programs, launches. Thin: it converts and checks arguments, and turns
// EmulatorError into JavaScript errors with a `code` (and `line`, `column` where a PTX line is at fault).
#include <napi.h>

#include <chrono>
#include <cstring>
#include <memory>
#include <string>

#include "addon.h"
#include "emulator/resolver.h"
#include "statistics_object.h"

namespace {

using namespace dsvc::emulator;
using namespace dsvc::addon;

uint32_t nextDevice = 0;

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
  o.Set("device", Napi::Number::New(env, s.device));
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

std::shared_ptr<DeviceGroup> makeGroup(uint32_t count, const Options& options) {
  auto group = std::make_shared<DeviceGroup>();
  for (uint32_t k = 0; k < count; ++k) group->devices.push_back(std::make_unique<Device>(nextDevice++, options));
  for (auto& a : group->devices)
    for (auto& b : group->devices)
      if (a != b) a->memory.others.push_back(&b->memory);
  return group;
}

Napi::Value createDevice(const Napi::CallbackInfo& info) {
  return makeHandle<DeviceHandle>(info.Env(), makeGroup(1, readOptions(info[0], Options{})), 0);
}

// createDevices(count, options?): devices of one process, none with access to another's memory yet.
Napi::Value createDevices(const Napi::CallbackInfo& info) {
  uint32_t count = small(info[0], "count");
  if (count == 0 || count > 64) argument("count is not from 1 to 64");
  auto group = makeGroup(count, readOptions(info[1], Options{}));
  auto list = Napi::Array::New(info.Env(), count);
  for (uint32_t k = 0; k < count; ++k) list.Set(k, makeHandle<DeviceHandle>(info.Env(), group, k));
  return list;
}

// setPeerAccess(from, to, enabled): whether kernels of `from` may reach the memory of `to`; one direction.
Napi::Value setPeerAccess(const Napi::CallbackInfo& info) {
  auto& from = handle<DeviceHandle>(info[0], "device");
  auto& to = handle<DeviceHandle>(info[1], "device");
  if (from.group != to.group || &from.device == &to.device) argument("peers are two devices that were made together");
  auto& peers = from.device.memory.peers;
  std::erase(peers, &to.device.memory);
  if (boolean(info[2], "enabled")) peers.push_back(&to.device.memory);
  return info.Env().Undefined();
}

// The number that reports name a device by.
Napi::Value deviceOrdinal(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), handle<DeviceHandle>(info[0], "device").device.ordinal);
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

}  // namespace

Napi::Object dsvc::addon::result(Napi::Env env, const Machine& m) {
  auto out = Napi::Object::New(env);
  out.Set("reports", reportsOf(env, m.reports));
  out.Set("statistics", statisticsObject(env, m.statistics));
  return out;
}

namespace {

LaunchRequest requestOf(const Napi::Value& v) {
  if (!v.IsObject()) argument("the launch request is not an object");
  auto o = v.As<Napi::Object>();
  LaunchRequest r;
  r.kernel = text(o.Get("kernel"), "kernel");
  threeOf(o, "grid", r.grid);
  threeOf(o, "block", r.block);
  threeOf(o, "cluster", r.cluster);
  whenGiven(o, "dynamicSharedBytes", [&](Napi::Value x) { r.dynamicSharedBytes = small(x, "dynamicSharedBytes"); });
  whenGiven(o, "registers", [&](Napi::Value x) { r.registers = small(x, "registers"); });
  whenGiven(o, "blocks", [&](Napi::Value x) {
    if (!x.IsArray() || x.As<Napi::Array>().Length() == 0) argument("blocks is not an array of at least one block");
    auto list = x.As<Napi::Array>();
    for (uint32_t k = 0; k < list.Length(); ++k) r.blocks.push_back(integer(list.Get(k), "a block"));
  });
  whenGiven(o, "parameterBlock", [&](Napi::Value x) {
    auto b = bytesOf(x, "parameterBlock");
    r.parameters.assign(b.begin(), b.end());
  });
  return r;
}

// launchTogether([{device, program, request}], options?): grids of several devices in one machine, so that they may wait
// for each other.
Napi::Value launchTogether(const Napi::CallbackInfo& info) {
  if (!info[0].IsArray() || info[0].As<Napi::Array>().Length() == 0) argument("there are no launches");
  auto list = info[0].As<Napi::Array>();
  auto deviceAt = [&](uint32_t k) -> DeviceHandle& {
    Napi::Value v = list.Get(k);
    if (!v.IsObject()) argument("a launch is not an object");
    return handle<DeviceHandle>(v.As<Napi::Object>().Get("device"), "device");
  };
  Options options = readOptions(info[1], deviceAt(0).device.options);
  Machine machine(options);
  auto started = std::chrono::steady_clock::now();
  for (uint32_t k = 0; k < list.Length(); ++k) {
    auto& d = deviceAt(k);
    if (d.group != deviceAt(0).group) argument("devices that run together are made together");
    auto o = list.Get(k).As<Napi::Object>();
    d.device.resize(options.sms);
    machine.submit(d.device, *handle<ProgramHandle>(o.Get("program"), "program").program, requestOf(o.Get("request")));
  }
  machine.run();
  machine.statistics.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
  return result(info.Env(), machine);
}

// launch(device, program, request | request[], options?): several requests run together, as far as they fit.
Napi::Value launch(const Napi::CallbackInfo& info) {
  auto& d = handle<DeviceHandle>(info[0], "device");
  auto program = handle<ProgramHandle>(info[1], "program").program;
  // What a launch says about itself wins over what the device was made with; SMs belong to the device.
  Options options = readOptions(info.Length() > 3 ? info[3] : info[2], d.device.options);
  Machine machine(options);
  auto started = std::chrono::steady_clock::now();
  d.device.resize(options.sms);
  if (info[2].IsArray()) {
    auto list = info[2].As<Napi::Array>();
    for (uint32_t k = 0; k < list.Length(); ++k) machine.submit(d.device, *program, requestOf(list.Get(k)));
  } else {
    machine.submit(d.device, *program, requestOf(info[2]));
  }
  machine.run();
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
  add("createDevices", guarded<createDevices>);
  add("setPeerAccess", guarded<setPeerAccess>);
  add("deviceOrdinal", guarded<deviceOrdinal>);
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
  add("launchTogether", guarded<launchTogether>);
  add("coreInfo", guarded<coreInfo>);
  addPlan(env, exports);
  return exports;
}

}  // namespace

NODE_API_MODULE(dsvc_core, init)
