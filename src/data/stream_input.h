#pragma once
// Data that can be read once: standard input ("-") and pipes. It is read whole and kept until it is taken.

#include <string>

namespace taipan {

// "-", or a path that is a pipe.
bool IsStream(const std::string& path);
// What the stream gives, read at the first call; "standard input" in errors. UserError for a terminal, and for a stream
// that was taken before.
const std::string& PeekStream(const std::string& path);
std::string TakeStream(const std::string& path);

// The name for messages.
std::string StreamName(const std::string& path);

}  // namespace taipan
