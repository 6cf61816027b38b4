// Handlers of a host that never heard of signal stacks, at random moments of f32 training: oneDNN's code for these
// products has the stack pointer for data, so a handler on that stack destroys the heap or the sums.

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <thread>

#include "train/test_model.h"

namespace taipan {
namespace {

std::atomic<int> noted{0};
void Note(int) { noted = noted + 1; }

// Wide enough for the kernels that real models get.
ModelConfig WideConfig() {
  ModelConfig config = TestConfig();
  config.hidden_size = 128;
  config.intermediate_size = 256;
  config.head_dim = 32;
  config.attention_head_dim = 64;
  return config;
}

std::vector<float> TrainedWeights(int threads, int steps, const std::atomic<bool>* more = nullptr,
                                  int* done = nullptr) {
  TrainSettings settings = TestSettings();
  settings.context = 128;
  settings.steps = 1000;
  TestTraining t(settings, WideConfig());
  SetNumThreads(threads);
  int step = 0;
  while (step < steps || (more && *more)) t.trainer.Step(), ++step;
  if (done) *done = step;
  SetNumThreads(1);
  return Weights(t.trainer);
}

// Signals to the process and to each of its threads in turn, until 200 went out.
void SendSignals(std::atomic<bool>& sending) {
  const pid_t self = static_cast<pid_t>(syscall(SYS_gettid));
  for (int sent = 0; sent < 200;) {
    for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
      const pid_t thread = std::stoi(task.path().filename().string());
      if (thread == self) continue;
      usleep(
          static_cast<useconds_t>(RandomBelow({.seed = 2, .stream = kTestStream}, static_cast<uint64_t>(sent), 2000)));
      syscall(SYS_tgkill, getpid(), thread, SIGUSR1);
      kill(getpid(), SIGUSR2);
      ++sent;
    }
  }
  sending = false;
}

void ExpectUndisturbed(int threads) {
  struct sigaction action = {}, before1, before2;
  action.sa_handler = Note;  // no SA_ONSTACK
  sigaction(SIGUSR1, &action, &before1);
  sigaction(SIGUSR2, &action, &before2);
  noted = 0;
  std::atomic<bool> sending{true};
  int steps = 0;
  std::thread sender(SendSignals, std::ref(sending));
  const std::vector<float> disturbed = TrainedWeights(threads, 5, &sending, &steps);
  sender.join();
  sigaction(SIGUSR1, &before1, nullptr);
  sigaction(SIGUSR2, &before2, nullptr);
  EXPECT_GT(noted, 100);
  EXPECT_EQ(disturbed, TrainedWeights(threads, steps));
}

TEST(Signals, ChangeNoBitOfTrainingOnOneThread) { ExpectUndisturbed(1); }
TEST(Signals, ChangeNoBitOfTrainingOnTwoThreads) { ExpectUndisturbed(2); }

}  // namespace
}  // namespace taipan
