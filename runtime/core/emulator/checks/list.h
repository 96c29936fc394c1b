// The listeners of a launch as one: every call goes to each, in order.
#pragma once
#include "../checks.h"

namespace dsvc::emulator {

class CheckList : public Checks {
 public:
  explicit CheckList(std::vector<std::unique_ptr<Checks>> list) : list_(std::move(list)) {}

  void onGuard(Warp& a, const Insn& b, Mask c) override {
    for (auto& check : list_) check->onGuard(a, b, c);
  }
  void onInsn(Warp& a, const Insn& b, Mask c) override {
    for (auto& check : list_) check->onInsn(a, b, c);
  }
  void afterInsn(Warp& a, const Insn& b, Mask c) override {
    for (auto& check : list_) check->afterInsn(a, b, c);
  }
  void onJump(Warp& a, const DecodedInsn& b, Mask c) override {
    for (auto& check : list_) check->onJump(a, b, c);
  }
  void onAccess(Warp& a, const Insn& b, const Accesses& c) override {
    for (auto& check : list_) check->onAccess(a, b, c);
  }
  void onFence(Warp& a, const Insn& b, Mask c, Order d, Scope e) override {
    for (auto& check : list_) check->onFence(a, b, c, d, e);
  }
  void onProxyFence(Warp& a, const Insn& b, Mask c, ProxyFence d, Order e, Scope f) override {
    for (auto& check : list_) check->onProxyFence(a, b, c, d, e, f);
  }
  void onBarrier(Cta& a, uint32_t b, uint64_t c, Warp& d, const Insn& e, Mask f, bool g, bool h) override {
    for (auto& check : list_) check->onBarrier(a, b, c, d, e, f, g, h);
  }
  void onWarpSync(Warp& a, const Insn& b, Mask c) override {
    for (auto& check : list_) check->onWarpSync(a, b, c);
  }
  void onIssue(uint64_t a, Warp& b, const Insn& c, Mask d, Proxy e) override {
    for (auto& check : list_) check->onIssue(a, b, c, d, e);
  }
  void onTarget(uint64_t a, const Region& b, Cta& c, uint32_t d, uint64_t e) override {
    for (auto& check : list_) check->onTarget(a, b, c, d, e);
  }
  void onCopyArrive(Warp& a, const Insn& b, int c, Cta& d, uint32_t e, uint64_t f) override {
    for (auto& check : list_) check->onCopyArrive(a, b, c, d, e, f);
  }
  void onGroupCommit(Warp& a, const Insn& b, Mask c, bool d) override {
    for (auto& check : list_) check->onGroupCommit(a, b, c, d);
  }
  void onTransfer(uint64_t a, const Region& b, uint64_t c, uint64_t d, AccessKind e) override {
    for (auto& check : list_) check->onTransfer(a, b, c, d, e);
  }
  void onSignal(uint64_t a, Cta& b, uint32_t c, uint64_t d) override {
    for (auto& check : list_) check->onSignal(a, b, c, d);
  }
  void onMbarrierInit(Warp& a, const Insn& b, int c, Cta& d, uint32_t e, bool f) override {
    for (auto& check : list_) check->onMbarrierInit(a, b, c, d, e, f);
  }
  void onMbarrierArrive(Warp& a, const Insn& b, int c, Cta& d, uint32_t e, uint64_t f, Order g, Scope h) override {
    for (auto& check : list_) check->onMbarrierArrive(a, b, c, d, e, f, g, h);
  }
  void onMbarrierWait(Warp& a, const Insn& b, int c, Cta& d, uint32_t e, uint64_t f, Order g, Scope h) override {
    for (auto& check : list_) check->onMbarrierWait(a, b, c, d, e, f, g, h);
  }
  void onGroupWait(Warp& a, const Insn& b, Mask c, bool d, bool e) override {
    for (auto& check : list_) check->onGroupWait(a, b, c, d, e);
  }
  void onProduct(Warp& a, const Insn& b, uint64_t c, const std::vector<uint32_t>& d) override {
    for (auto& check : list_) check->onProduct(a, b, c, d);
  }
  void onProductWait(Warp& a, const Insn& b, uint64_t c) override {
    for (auto& check : list_) check->onProductWait(a, b, c);
  }
  void onCtaStart(Cta& a) override {
    for (auto& check : list_) check->onCtaStart(a);
  }
  void onCtaEnd(Cta& a) override {
    for (auto& check : list_) check->onCtaEnd(a);
  }
  void onGridStart(Grid& a) override {
    for (auto& check : list_) check->onGridStart(a);
  }
  void onGridEnd(Grid& a) override {
    for (auto& check : list_) check->onGridEnd(a);
  }

 private:
  std::vector<std::unique_ptr<Checks>> list_;
};

}  // namespace dsvc::emulator
