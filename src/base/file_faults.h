#pragma once
// What happens when the bytes behind a mapping are gone: the file was cut by someone else, or its disk failed.

#include <cstdint>

namespace taipan {

// For programs: a SIGBUS within a mapped file ends the process with one line that names the file and exit code 1; any
// other SIGBUS does what it did before.
void ReportFileFaults();

// Which memory is which file, for the handler. The path must live until the mapping is forgotten.
void RememberMapping(const char* data, int64_t size, const char* path);
void ForgetMapping(const char* data);

}  // namespace taipan
