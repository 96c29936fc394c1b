// How runs of the executor tell JavaScript of their launches, and how failures get out of a run.
#pragma once
#include <optional>

#include "addon.h"
#include "plan/executor.h"

namespace dsvc::addon {

// Keeps what JavaScript threw while C++ unwinds by statuses.
struct Callbacks {
  std::optional<Napi::Error> thrown;

  template <class F>
  Status call(F body) {
    try {
      return body();
    } catch (const Napi::Error& e) {
      thrown = e;
      return Status::error("plan/callback", "a callback failed");
    } catch (const EmulatorError& e) {
      return Status::error(e.code, e.message);
    }
  }
};

inline Napi::Value fromStatus(Napi::Env env, const Status& s) {
  Napi::Error error = Napi::Error::New(env, s.message);
  error.Set("code", Napi::String::New(env, s.code));
  error.Set("fix", Napi::String::New(env, s.fix));
  error.Set("where", Napi::String::New(env, s.where));
  if (s.line) {
    error.Set("line", Napi::Number::New(env, s.line));
    error.Set("column", Napi::Number::New(env, s.column));
  }
  return error.Value();
}

// A failed call becomes an exception: the one that a callback threw, else the status.
inline void check(Napi::Env env, const Status& s, Callbacks* callbacks = nullptr) {
  std::optional<Napi::Error> thrown;
  if (callbacks) thrown = std::exchange(callbacks->thrown, std::nullopt);
  if (!s.failed()) return;
  if (thrown) throw *thrown;
  throw Napi::Error(env, fromStatus(env, s));
}

// Calls JavaScript around launches.
class JsObserver : public plan::Observer {
 public:
  JsObserver(Napi::Env env, Callbacks& callbacks, Napi::Object request) : env_(env), callbacks_(callbacks) {
    auto take = [&](const char* name, Napi::Function& to) {
      whenGiven(request, name, [&](Napi::Value v) {
        if (!v.IsFunction()) argument(std::string(name) + " is not a function");
        to = v.As<Napi::Function>();
      });
    };
    take("onBefore", before_);
    take("onAfter", after_);
    take("onLaunched", launched_);
  }

  Status before(const plan::Site& site) override {
    site_ = &site;
    return before_.IsEmpty() ? Status::ok() : tell(before_, site);
  }
  Status after(const plan::Site& site) override {
    if (told_.failed()) return told_;
    return after_.IsEmpty() ? Status::ok() : tell(after_, site);
  }

  // From the device, while it launches: what goes wrong here ends the run when the launch is over.
  void launched(const Machine& machine) {
    if (launched_.IsEmpty() || !site_) return;
    told_ = callbacks_.call([&] {
      Napi::HandleScope scope(env_);
      launched_.Call({result(env_, machine), site(*site_)});
      return Status::ok();
    });
  }

 private:
  Napi::Env env_;
  Callbacks& callbacks_;
  Napi::Function before_, after_, launched_;
  const plan::Site* site_ = nullptr;
  Status told_;

  Status tell(Napi::Function& to, const plan::Site& s) {
    return callbacks_.call([&] {
      Napi::HandleScope scope(env_);
      Napi::Object o = site(s);
      auto operands = Napi::Array::New(env_), results = Napi::Array::New(env_);
      for (uint32_t k = 0; k < s.step.values.size(); ++k) {
        auto& list = k < s.step.operands ? operands : results;
        list.Set(list.Length(), value(s, k));
      }
      o.Set("operands", operands);
      o.Set("results", results);
      auto sizes = Napi::Object::New(env_);
      const auto& dims = s.executor.plan().dims;
      for (uint32_t k = 0; k < dims.size(); ++k) {
        uint64_t size = 0;
        if (!s.sizes.of(k, size).failed()) sizes.Set(dims[k].name, Napi::Number::New(env_, static_cast<double>(size)));
      }
      o.Set("sizes", sizes);
      to.Call({o});
      return Status::ok();
    });
  }

  Napi::Object value(const plan::Site& s, uint32_t k) {
    const plan::ValueType& type = s.executor.plan().types[s.step.values[k].type];
    std::vector<plan::Array> arrays;
    check(env_, s.arrays(k, arrays));
    auto o = Napi::Object::New(env_);
    o.Set("type", type.text);
    auto list = Napi::Array::New(env_);
    for (size_t c = 0; c < arrays.size(); ++c) {
      auto a = Napi::Object::New(env_);
      a.Set("component", type.components[c].name);
      a.Set("address", Napi::BigInt::New(env_, arrays[c].address));
      a.Set("bytes", Napi::Number::New(env_, static_cast<double>(arrays[c].bytes)));
      list.Set(static_cast<uint32_t>(c), a);
    }
    o.Set("arrays", list);
    return o;
  }

  Napi::Object site(const plan::Site& s) {
    auto o = Napi::Object::New(env_);
    o.Set("kernel", s.kernel.name);
    o.Set("function", s.function.name);
    o.Set("step", Napi::Number::New(env_, s.index));
    o.Set("launch", Napi::Number::New(env_, static_cast<double>(s.tag)));
    o.Set("layer", s.layer == plan::kNone ? env_.Null() : Napi::Value(Napi::Number::New(env_, s.layer)));
    o.Set("at", s.step.at);
    return o;
  }
};

}  // namespace dsvc::addon
