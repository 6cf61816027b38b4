#include "cli/text_output.h"

#include <sys/stat.h>
#include <unistd.h>

#include "cli/output.h"

namespace taipan {
namespace {

// Whether standard output and standard error end up in one file or pipe.
bool OneFile() {
  struct stat out, err;
  return ::fstat(STDOUT_FILENO, &out) == 0 && ::fstat(STDERR_FILENO, &err) == 0 && out.st_dev == err.st_dev &&
         out.st_ino == err.st_ino;
}

}  // namespace

TextOutput::TextOutput(const Tokenizer& tokenizer, std::optional<int32_t> after, const TextOutputOptions& options)
    : options_(options), tokenizer_(tokenizer), stream_(tokenizer), stop_(options.stop) {
  if (after) stream_.Append(*after);
}

bool TextOutput::Add(int32_t token) {
  ShowToken(token);
  if (options_.keep) tokens_.push_back(token);
  return !stop_.found();
}

void TextOutput::Finish(std::optional<int32_t> stop_token) {
  if (stop_token && options_.show_special) ShowToken(*stop_token);
  Show(stop_.Append(stream_.Flush()));
  Show(stop_.Flush());
  if (!options_.show) return;
  if (isatty(STDOUT_FILENO) != 0 || (options_.end_line && last_ != '\n')) {
    Print("\n");
    OutputWorks();
  } else if (last_ != '\n' && OneFile()) {
    Note("");  // what follows on standard error begins a line of its own
  }
}

void TextOutput::ShowToken(int32_t token) {
  if (options_.show_special || !tokenizer_.IsSpecial(token)) Show(stop_.Append(stream_.Append(token)));
}

void TextOutput::Show(const std::string& piece) {
  if (options_.keep) text_ += piece;
  if (!options_.show || piece.empty()) return;
  last_ = piece.back();
  Print(piece);
  OutputWorks();  // shown at once, and before what goes to standard error
}

}  // namespace taipan
