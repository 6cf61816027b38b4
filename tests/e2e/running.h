#pragma once
// A program that runs beside the test and gets signals.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <vector>

#include "base/error.h"

namespace taipan {

class Running {
 public:
  // Its stderr, and its stdout where a name is given, go to files; its standard input is `in`.
  Running(const std::vector<std::string>& arguments, const std::string& err, const std::string& out = "",
          int in = STDIN_FILENO, const char* program = TAIPAN_PROGRAM) {
    std::vector<char*> argv = {const_cast<char*>("taipan")};
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    child_ = ::fork();
    CHECK_GE(child_, 0);
    if (child_ != 0) return;
    ::dup2(in, STDIN_FILENO);
    ::dup2(Open(err), STDERR_FILENO);
    if (!out.empty()) ::dup2(Open(out), STDOUT_FILENO);
    ::execvp(program, argv.data());
    ::_exit(127);
  }
  ~Running() {
    if (child_ > 0) ::kill(child_, SIGKILL), Wait();
  }
  pid_t process() const { return child_; }
  void Send(int signal) const { ::kill(child_, signal); }
  int Wait() {  // waitpid's status
    int status = 0;
    CHECK_EQ(::waitpid(child_, &status, 0), child_);
    child_ = -1;
    return status;
  }
  bool Ended() {
    siginfo_t info = {};
    return ::waitid(P_PID, static_cast<id_t>(child_), &info, WEXITED | WNOHANG | WNOWAIT) != 0 || info.si_pid != 0;
  }

 private:
  static int Open(const std::string& path) { return ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600); }

  pid_t child_;
};

}  // namespace taipan
