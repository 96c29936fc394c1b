#include "statistics_object.h"

#include "emulator/performance.h"

using namespace dsvc::emulator;

namespace {

// Objects are filled in the order of their keys in docs/EMULATOR.md.
class Maker {
 public:
  explicit Maker(Napi::Env env) : env_(env), object(Napi::Object::New(env)) {}
  template <class T>
  Maker& number(const char* name, T v) {
    object.Set(name, Napi::Number::New(env_, static_cast<double>(v)));
    return *this;
  }
  template <class V>
  Maker& set(const char* name, V v) {
    object.Set(name, v);
    return *this;
  }

 private:
  Napi::Env env_;

 public:
  Napi::Object object;
};

double ratio(uint64_t a, uint64_t b) { return b ? static_cast<double>(a) / static_cast<double>(b) : 0; }

Napi::Object bytesObject(Napi::Env env, const Performance::Bytes (&list)[7]) {
  static constexpr const char* kNames[] = {"generic", "global", "constant", "shared", "sharedCluster", "local", "param"};
  Maker out(env);
  for (size_t k = 0; k < 7; ++k)
    if (list[k].read || list[k].written)
      out.set(kNames[k], Maker(env).number("read", list[k].read).number("written", list[k].written).object);
  return out.object;
}

Napi::Array instructionsArray(Napi::Env env, const Performance& p) {
  auto out = Napi::Array::New(env);
  for (const InsnPerformance& i : p.instructions) {
    Maker m(env);
    m.set("function", i.function).number("line", i.line).number("column", i.column).set("text", i.text);
    if (i.phases)
      m.set("shared", Maker(env).number("phases", i.phases).number("passes", i.passes).number("averageConflicts", i.conflicts()).number("worstConflicts", i.worst).object);
    if (i.requests)
      m.set("global", Maker(env).number("requests", i.requests).number("sectors", i.sectors).number("idealSectors", i.idealSectors)
                          .number("sectorsPerRequest", ratio(i.sectors, i.requests)).object);
    out.Set(out.Length(), m.object);
  }
  return out;
}

Napi::Object performanceObject(Napi::Env env, const Performance& p) {
  static constexpr const char* kWaits[] = {"barrier", "cluster", "mbarrier", "copies", "wgmma"};
  Maker waits(env), products(env), out(env);
  for (size_t k = 0; k < static_cast<size_t>(WaitPoint::count_); ++k)
    waits.set(kWaits[k], Maker(env).number("count", p.waits[k].count).number("blocked", p.waits[k].blocked).number("turns", p.waits[k].turns).object);
  for (const auto& [types, q] : p.products)
    products.set(types.c_str(), Maker(env).number("instructions", q.instructions).number("flop", q.flop).object);
  Napi::Value ring = env.Null();
  if (p.ring.waits)
    ring = Maker(env).number("waits", p.ring.waits).number("waited", p.ring.waited).number("averageLead", ratio(p.ring.lead, p.ring.waits))
               .number("leastLead", p.ring.least).object;
  out.number("laneUtilisation", ratio(p.lanes, 32 * p.executed))
      .set("bytes", bytesObject(env, p.bytes)).set("copiedBytes", bytesObject(env, p.copied))
      .set("waits", waits.object).set("ring", ring).set("tensorCore", products.object).set("instructions", instructionsArray(env, p));
  return out.object;
}

}  // namespace

Napi::Object statisticsObject(Napi::Env env, const Statistics& s) {
  Maker out(env);
  out.number("warpInstructions", s.warpInstructions).number("laneInstructions", s.laneInstructions).number("ctas", s.ctas)
      .number("turns", s.turns).number("asyncEvents", s.asyncEvents).number("seconds", s.seconds);
  if (!s.byMnemonic.empty()) {
    Maker by(env);
    for (size_t k = 0; k < s.byMnemonic.size(); ++k)
      if (s.byMnemonic[k]) by.number(nameOf(static_cast<Mnemonic>(k)), s.byMnemonic[k]);
    out.set("byMnemonic", by.object);
  }
  if (s.performance) out.set("performance", performanceObject(env, *s.performance));
  return out.object;
}
