#include "../machine.h"
#include "../tensor/warpgroup.h"
#include "listeners.h"

namespace dsvc::emulator {

namespace {

class RegisterCheck : public Checks {
 public:
  void onInsn(Warp& w, const Insn& i, Mask) override { tensor::checkRegisters(w, i); }
};

}  // namespace

std::unique_ptr<Checks> makeRegisterCheck(Machine&) { return std::make_unique<RegisterCheck>(); }

}  // namespace dsvc::emulator
