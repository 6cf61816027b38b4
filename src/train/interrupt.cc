#include "train/interrupt.h"

#include <csignal>
#include <cstdlib>
#include <cstring>

namespace taipan {
namespace {

volatile std::sig_atomic_t interrupts = 0, first_signal = 0;
constexpr int kSignals[] = {SIGINT, SIGTERM};
struct sigaction previous_actions[2], previous_file_size;

void OnSignal(int signal) {
  if (interrupts == 0) first_signal = signal;
  interrupts = interrupts + 1;
  if (interrupts > 1) std::_Exit(128 + signal);
}

}  // namespace

InterruptGuard::InterruptGuard() {
  interrupts = 0;
  first_signal = 0;
  struct sigaction action = {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESTART;
  sigemptyset(&action.sa_mask);
  for (int i = 0; i < 2; ++i) sigaction(kSignals[i], &action, &previous_actions[i]);
  action.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &action, &previous_file_size);
}

InterruptGuard::~InterruptGuard() {
  for (int i = 0; i < 2; ++i) sigaction(kSignals[i], &previous_actions[i], nullptr);
  sigaction(SIGXFSZ, &previous_file_size, nullptr);
}

bool Interrupted() { return interrupts != 0; }

std::string InterruptSignal() {
  const char* const name = first_signal == 0 ? nullptr : sigabbrev_np(first_signal);
  return name == nullptr ? "" : std::string("SIG") + name;
}

}  // namespace taipan
