// The N-API face of the plan executor. Callbacks into JavaScript come from inside a run: what they throw ends the run and
// leaves it as it was thrown.
#include "addon_observer.h"
#include "device/emulator_device.h"
#include "emulator/async/tensor_map_encode.h"
#include "plan/executor.h"

namespace {

using namespace dsvc::addon;
using dsvc::Status;
namespace plan = dsvc::plan;
namespace device = dsvc::device;

struct ExecutorHandle {
  std::shared_ptr<Device> owner;
  std::unique_ptr<device::EmulatorDevice> device;
  std::unique_ptr<plan::Executor> executor;
  Callbacks callbacks;
  Napi::Function codeOf;  // while an entry runs: a reference kept longer would keep its caller, which keeps this
};

// createExecutor(device, plan)
Napi::Value createExecutor(const Napi::CallbackInfo& info) {
  auto& d = handle<DeviceHandle>(info[0], "device");
  plan::Plan p;
  check(info.Env(), plan::load(bytesOf(info[1], "plan"), p));
  Napi::Value made = makeHandle<ExecutorHandle>(info.Env());
  auto& h = handle<ExecutorHandle>(made, "executor");
  h.owner = d.owner;
  h.device = std::make_unique<device::EmulatorDevice>(d.owner);
  auto codeOf = [&h](const plan::Kernel& k, plan::Bytes& code) {
    return h.callbacks.call([&] {
      Napi::HandleScope scope(h.codeOf.Env());
      auto bytes = bytesOf(h.codeOf.Call({Napi::String::New(h.codeOf.Env(), k.name)}), "the kernel's program");
      code.assign(bytes.begin(), bytes.end());
      return Status::ok();
    });
  };
  h.executor = std::make_unique<plan::Executor>(std::move(p), *h.device, codeOf);
  return made;
}

Napi::Object describe(Napi::Env env, const plan::ValueType& type) {
  auto o = Napi::Object::New(env);
  o.Set("type", type.text);
  auto names = Napi::Array::New(env);
  for (const plan::Component& c : type.components) names.Set(names.Length(), c.name);
  o.Set("components", names);
  return o;
}

// What the plan holds, in numbers, and each entry's arguments.
Napi::Value describePlan(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  const plan::Plan& p = handle<ExecutorHandle>(info[0], "executor").executor->plan();
  auto out = Napi::Object::New(env);
  auto entries = Napi::Array::New(env);
  size_t steps = 0;
  for (const plan::Function& f : p.functions) {
    steps += f.steps.size();
    if (!f.isEntry) continue;
    auto e = Napi::Object::New(env);
    e.Set("name", f.name);
    auto list = Napi::Array::New(env);
    for (const plan::Argument& a : f.arguments) {
      Napi::Object o = describe(env, p.types[a.type]);
      o.Set("name", a.name);
      o.Set("inout", Napi::Boolean::New(env, a.isInout));
      list.Set(list.Length(), o);
    }
    e.Set("arguments", list);
    e.Set("arenaBytes", Napi::Number::New(env, static_cast<double>(f.arenaBytes)));
    entries.Set(entries.Length(), e);
  }
  out.Set("entries", entries);
  auto number = [&](const char* name, uint64_t v) { out.Set(name, Napi::Number::New(env, static_cast<double>(v))); };
  number("functions", p.functions.size());
  number("steps", steps);
  number("kernels", p.kernels.size());
  number("weights", p.weights.size());
  number("weightBytes", p.weightBytes);
  return out;
}

Napi::Value writeWeight(const Napi::CallbackInfo& info) {
  auto& h = handle<ExecutorHandle>(info[0], "executor");
  check(info.Env(), h.executor->writeWeight(small(info[1], "weight"), small(info[2], "layer"), small(info[3], "component"), integer(info[4], "at"),
                                            bytesOf(info[5], "bytes")));
  return info.Env().Undefined();
}

// runEntry(executor, { entry, sizes: {dim: n}, arguments: [addresses], codeOf, onBefore?, onAfter?, onLaunched? }) -> results'
// arrays. codeOf(kernel) gives the decoded program of a kernel when it is first launched.
Napi::Value runEntry(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  auto& h = handle<ExecutorHandle>(info[0], "executor");
  if (!info[1].IsObject()) argument("the request is not an object");
  auto request = info[1].As<Napi::Object>();
  std::string entry = text(request.Get("entry"), "entry");
  std::vector<plan::GivenSize> sizes;
  whenGiven(request, "sizes", [&](Napi::Value v) {
    if (!v.IsObject()) argument("sizes is not an object");
    auto o = v.As<Napi::Object>();
    Napi::Array names = o.GetPropertyNames();
    for (uint32_t k = 0; k < names.Length(); ++k) {
      std::string name = text(names.Get(k), "a dim");
      sizes.push_back({name, integer(o.Get(name), name.c_str())});
    }
  });
  std::vector<device::Address> addresses;
  if (!request.Get("arguments").IsArray()) argument("arguments is not an array");
  auto list = request.Get("arguments").As<Napi::Array>();
  for (uint32_t k = 0; k < list.Length(); ++k) addresses.push_back(integer(list.Get(k), "an argument's address"));
  if (!request.Get("codeOf").IsFunction()) argument("codeOf is not a function");
  JsObserver observer(env, h.callbacks, request);

  if (h.device->onLaunched) argument("the executor runs an entry already");
  std::vector<std::vector<plan::Bytes>> results;
  h.device->onLaunched = [&](uint64_t, const Machine& machine) { observer.launched(machine); };
  // However the run ends.
  h.codeOf = request.Get("codeOf").As<Napi::Function>();
  std::shared_ptr<void> ended(nullptr, [&](void*) {
    h.device->onLaunched = nullptr;
    h.codeOf = {};
  });
  check(env, h.executor->run(entry, sizes, addresses, results, &observer), &h.callbacks);

  auto out = Napi::Array::New(env, results.size());
  for (uint32_t r = 0; r < results.size(); ++r) {
    auto arrays = Napi::Array::New(env, results[r].size());
    for (uint32_t c = 0; c < results[r].size(); ++c) {
      auto bytes = Napi::Uint8Array::New(env, results[r][c].size());
      if (!results[r][c].empty()) std::memcpy(bytes.Data(), results[r][c].data(), results[r][c].size());
      arrays.Set(c, bytes);
    }
    out.Set(r, arrays);
  }
  return out;
}

std::vector<uint64_t> numbers(const Napi::Object& o, const char* name, size_t most) {
  if (!o.Get(name).IsArray()) argument(std::string(name) + " is not an array");
  auto list = o.Get(name).As<Napi::Array>();
  if (list.Length() > most) argument(std::string(name) + " is too long");
  std::vector<uint64_t> out;
  for (uint32_t k = 0; k < list.Length(); ++k) out.push_back(integer(list.Get(k), name));
  return out;
}

// encodeTensorMap(address, { element, dims, strides, box, elementStrides, swizzle, interleave, fill }), numbers all: the
// device's own encoder.
Napi::Value encodeMap(const Napi::CallbackInfo& info) {
  if (!info[1].IsObject()) argument("the map is not an object");
  auto o = info[1].As<Napi::Object>();
  TensorMapSpec spec;
  spec.address = integer(info[0], "address");
  auto dims = numbers(o, "dims", 5), strides = numbers(o, "strides", 4), box = numbers(o, "box", 5), steps = numbers(o, "elementStrides", 5);
  if (strides.size() + 1 != dims.size() || box.size() != dims.size() || steps.size() != dims.size()) argument("the lists of the map differ in length");
  spec.rank = static_cast<uint32_t>(dims.size());
  std::copy(dims.begin(), dims.end(), spec.dims);
  std::copy(strides.begin(), strides.end(), spec.strides);
  std::copy(box.begin(), box.end(), spec.box);
  std::copy(steps.begin(), steps.end(), spec.steps);
  spec.element = small(o.Get("element"), "element");
  spec.swizzle = small(o.Get("swizzle"), "swizzle");
  spec.interleave = small(o.Get("interleave"), "interleave");
  spec.fillNan = small(o.Get("fill"), "fill") == 1;
  uint8_t object[128];
  if (Misuse m = encodeTensorMap(spec, object)) refuse(m.code, m.message);
  auto out = Napi::Uint8Array::New(info.Env(), sizeof object);
  std::memcpy(out.Data(), object, sizeof object);
  return out;
}

}  // namespace

void dsvc::addon::addPlan(Napi::Env env, Napi::Object exports) {
  auto add = [&](const char* name, auto function) { exports.Set(name, Napi::Function::New(env, function, name)); };
  add("createExecutor", guarded<createExecutor>);
  add("describePlan", guarded<describePlan>);
  add("writeWeight", guarded<writeWeight>);
  add("runEntry", guarded<runEntry>);
  add("encodeTensorMap", guarded<encodeMap>);
}
