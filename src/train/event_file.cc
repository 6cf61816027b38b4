#include "train/event_file.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cstring>
#include <optional>

#include "base/files.h"

namespace taipan {
namespace {

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78u : 0u);
    table[i] = value;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = MakeTable();

// So that checksums of data which holds checksums are no special case.
uint32_t Masked(uint32_t crc) { return std::rotr(crc, 15) + 0xA282EAD8u; }

template <class T>
void AppendRaw(std::string& to, T value) {  // little-endian, as every machine here is
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  to.append(bytes, sizeof value);
}
template <class T>
T RawAt(const std::string& from, size_t at) {
  T value;
  std::memcpy(&value, from.data() + at, sizeof value);
  return value;
}

// Protocol buffers: a key is the field's number and its wire type.
enum Wire : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

void AppendVarint(std::string& to, uint64_t value) {
  for (; value >= 0x80; value >>= 7) to += static_cast<char>(value | 0x80);
  to += static_cast<char>(value);
}
void AppendKey(std::string& to, uint32_t field, Wire wire) { AppendVarint(to, field << 3 | wire); }
void AppendBytes(std::string& to, uint32_t field, std::string_view bytes) {
  AppendKey(to, field, kBytes);
  AppendVarint(to, bytes.size());
  to += bytes;
}

// message Event { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
std::string EventBegin(double time, int64_t step) {
  std::string event;
  AppendKey(event, 1, kFixed64);
  AppendRaw(event, time);
  if (step != 0) {
    AppendKey(event, 2, kVarint);
    AppendVarint(event, static_cast<uint64_t>(step));
  }
  return event;
}

std::string Record(const std::string& event) {
  std::string length, record;
  AppendRaw(length, static_cast<uint64_t>(event.size()));
  record = length;
  AppendRaw(record, Masked(Crc32c(length)));
  record += event;
  AppendRaw(record, Masked(Crc32c(event)));
  return record;
}

double SecondsSince1970() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string NameInFolder(const std::string& folder) {
  MakeDirectories(folder);
  return fmt::format("{}/events.out.tfevents.{:.0f}.taipan.{}", folder, SecondsSince1970(), ::getpid());
}

// The step of an event that this file wrote; none for another.
std::optional<int64_t> StepOf(std::string_view event) {
  if (event.size() < 9 || event[0] != '\x09') return std::nullopt;
  size_t at = 9;
  if (at == event.size() || event[at] != '\x10') return 0;
  uint64_t step = 0;
  for (int shift = 0; ++at < event.size() && shift < 64; shift += 7) {
    const auto byte = static_cast<uint8_t>(event[at]);
    step |= uint64_t{byte & 0x7Fu} << shift;
    if (byte < 0x80) return static_cast<int64_t>(step);
  }
  return std::nullopt;
}

std::string CutRecords(const std::string& all, int64_t last_step) {
  std::string kept;
  for (size_t at = 0; all.size() - at >= 16;) {
    const auto length = RawAt<uint64_t>(all, at);
    if (length > all.size() - at - 16) break;
    const std::string_view event(all.data() + at + 12, length);
    const bool whole = RawAt<uint32_t>(all, at + 8) == Masked(Crc32c(std::string_view(all).substr(at, 8))) &&
                       RawAt<uint32_t>(all, at + 12 + length) == Masked(Crc32c(event));
    const std::optional<int64_t> step = StepOf(event);
    if (!whole || !step) break;
    if (*step <= last_step) kept += all.substr(at, 16 + length);
    at += 16 + length;
  }
  return kept;
}

}  // namespace

uint32_t Crc32c(std::string_view bytes) {
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = kTable[(crc ^ static_cast<uint8_t>(c)) & 0xFF] ^ (crc >> 8);
  return ~crc;
}

std::string VersionRecord(double time) {
  std::string event = EventBegin(time, 0);
  AppendBytes(event, 3, "brain.Event:2");
  return Record(event);
}

// message Summary { message Value { string tag = 1; float simple_value = 2; } repeated Value value = 1; }
std::string ScalarRecord(double time, int64_t step, const Scalars& scalars) {
  std::string summary;
  for (const auto& [tag, number] : scalars) {
    std::string value;
    AppendBytes(value, 1, tag);
    AppendKey(value, 2, kFixed32);
    AppendRaw(value, static_cast<float>(number));
    AppendBytes(summary, 1, value);
  }
  std::string event = EventBegin(time, step);
  AppendBytes(event, 5, summary);
  return Record(event);
}

EventFile::EventFile(const std::string& folder) : file_(NameInFolder(folder)) {
  file_.Write(VersionRecord(SecondsSince1970()));
}

std::string EventFile::Add(int64_t step, const Scalars& scalars) {
  return file_.Write(ScalarRecord(SecondsSince1970(), step, scalars));
}

void CutEvents(const std::string& folder, int64_t last_step) {
  if (!IsDirectory(folder)) return;
  for (const std::string& name : ListDirectory(folder)) {
    if (name.find("tfevents") == name.npos || name.find(".tmp-") != name.npos) continue;
    const std::string path = folder + "/" + name, all = ReadFile(path), kept = CutRecords(all, last_step);
    if (kept.size() != all.size()) WriteFileAtomically(path, kept);
  }
}

}  // namespace taipan
