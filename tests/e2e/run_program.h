#pragma once
// Runs the built program (or another one) and keeps what it says.

#include <string>
#include <vector>

namespace taipan {

struct ProgramResult {
  int exit_code = -1;  // 128 + signal where one ended it
  std::string out, err;
};
// arguments: after the program's name, as they are: no shell reads them. input: what standard input gives. The program
// uses one thread unless --threads says otherwise: tiny models on a busy machine wait for their threads, not for work.
ProgramResult RunTaipan(const std::vector<std::string>& arguments, const std::string& input = "");

// err is the one line "taipan: error: ..." and contains all parts; exit code as given; nothing on stdout.
void ExpectOneLineError(const ProgramResult& result, int exit_code, const std::vector<std::string>& parts);

}  // namespace taipan
