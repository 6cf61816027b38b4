#pragma once
// For tests: ranks that are threads of this process.

#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "base/error.h"
#include "dist/group.h"

namespace taipan {

class Mailboxes {
 public:
  void Put(int from, int to, const Message& message) {
    const std::byte* const data = static_cast<const std::byte*>(message.data);
    const std::lock_guard<std::mutex> lock(mutex_);
    boxes_[{from, to}].emplace_back(data, data + message.bytes);
    changed_.notify_all();
  }
  void Take(int from, int to, const Message& message) {
    std::unique_lock<std::mutex> lock(mutex_);
    auto& box = boxes_[{from, to}];
    changed_.wait(lock, [&] { return closed_ || !box.empty(); });
    if (box.empty()) throw UserError(fmt::format("rank {}", from), "is gone");
    CHECK_EQ(static_cast<int64_t>(box.front().size()), message.bytes);
    std::copy(box.front().begin(), box.front().end(), static_cast<std::byte*>(message.data));
    box.pop_front();
  }
  void Close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<std::pair<int, int>, std::deque<std::vector<std::byte>>> boxes_;
  bool closed_ = false;
};

class ThreadGroup : public Group {
 public:
  ThreadGroup(int rank, int size, Mailboxes& boxes) : Group(rank, size), boxes_(boxes) { any_thread_ = true; }
  void Exchange(std::span<const Message> messages) override {
    for (const Message& m : messages) {
      if (m.way != Message::kSend) continue;
      boxes_.Put(rank_, m.peer, m);
      bytes_sent_ += m.bytes;
    }
    for (const Message& m : messages) {
      if (m.way == Message::kReceive) boxes_.Take(m.peer, rank_, m);
    }
  }
  void AllowAnyThread(bool allow) { any_thread_ = allow; }
  void Abort(int) override { throw InternalError("aborted"); }

 private:
  Mailboxes& boxes_;
};

// Calls act as each of n ranks; throws what that one threw that failed first.
inline void AsRanks(int n, const std::function<void(Group&)>& act) {
  Mailboxes boxes;
  std::exception_ptr first;
  std::mutex mutex;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < n; ++rank) {
    threads.emplace_back([&, rank] {
      ThreadGroup group(rank, n, boxes);
      try {
        act(group);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!first) first = std::current_exception();
        boxes.Close();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  if (first) std::rethrow_exception(first);
}

}  // namespace taipan
