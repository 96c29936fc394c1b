// Which listeners a launch gets.
#include "../machine.h"
#include "list.h"
#include "listeners.h"

namespace dsvc::emulator {

std::unique_ptr<Checks> makeChecks(Machine& machine) {
  std::vector<std::unique_ptr<Checks>> list;
  if (machine.options.seed) list.push_back(makeLateWrites(machine));
  if (machine.options.statistics) {
    list.push_back(makeCounters(machine));
    list.push_back(makeNotes(machine));
  }
  if (machine.options.checked()) list.push_back(makeRegisterCheck(machine));
  if (wantsPoison(machine.options)) list.push_back(makePoison(machine));
  if (machine.options.checked())
    if (auto races = makeRaceCheck(machine)) list.push_back(std::move(races));
  if (list.empty()) return nullptr;
  if (list.size() == 1) return std::move(list.front());
  return std::make_unique<CheckList>(std::move(list));
}

}  // namespace dsvc::emulator
