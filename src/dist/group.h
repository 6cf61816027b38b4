#pragma once
// Processes ("ranks") that train one model together. One process alone is a group of one, whose collectives do nothing.
//
// Collectives are called by every rank, in the same order and with the same sizes. Sums are added in the order of the
// ranks, so their bits depend on how many there are and never on timing. A backend has to exchange messages; what it
// does better than the collectives made of them (device buffers, a switch that adds) it overrides.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace taipan {

struct Message {
  enum Way { kSend, kReceive };
  Way way = kSend;
  int peer = 0;
  void* data = nullptr;  // only read where it is sent
  int64_t bytes = 0;
};

class Group {
 public:
  virtual ~Group() = default;
  int rank() const { return rank_; }
  int size() const { return size_; }
  bool leads() const { return rank_ == 0; }
  bool alone() const { return size_ == 1; }
  // Ranks on this machine, and those of them that may use the same CPUs as this one; with this one.
  int on_machine() const { return on_machine_; }
  int on_cpus() const { return on_cpus_; }
  int64_t bytes_sent() const { return bytes_sent_; }

  // Sends and receives all of them at once and returns when that is done. Between two ranks messages arrive in the
  // order in which they were sent; sizes on both sides agree.
  virtual void Exchange(std::span<const Message> messages) = 0;

  // In place, over all ranks.
  virtual void Sum(std::span<float> values);
  virtual void Sum(std::span<double> values);
  // bounds [size + 1]: rank r's piece is [bounds[r], bounds[r + 1]) of the values.
  // Each rank has the sums of its own piece afterwards; what the rest holds is left open.
  virtual void SumPieces(std::span<float> values, std::span<const int64_t> bounds);
  // Each rank gives its own piece and has all of them afterwards. bounds: in bytes.
  virtual void GatherPieces(std::span<std::byte> bytes, std::span<const int64_t> bounds);
  virtual void Broadcast(std::span<std::byte> bytes, int from = 0);
  void Barrier();

  // Ends the processes of all ranks, this one too.
  [[noreturn]] virtual void Abort(int exit_code) = 0;

  // Whether another thread than the one that joined may call, one at a time.
  bool any_thread() const { return any_thread_; }
  // While it lives this thread adds up alone: helpers are left to a thread that computes meanwhile.
  class Beside {
   public:
    explicit Beside(Group& group) : group_(group) { group_.beside_ = true; }
    ~Beside() { group_.beside_ = false; }
    Beside(const Beside&) = delete;
    Beside& operator=(const Beside&) = delete;

   private:
    Group& group_;
  };

  // The others are left in the middle of something: from now on this process ends without them.
  void Desert() { deserted_ = true; }

 protected:
  Group(int rank, int size) : rank_(rank), size_(size) {}

  int rank_, size_;
  int on_machine_ = 1, on_cpus_ = 1;
  int64_t bytes_sent_ = 0;
  bool deserted_ = false, any_thread_ = false;

 private:
  template <class T>
  void SumInRankOrder(std::span<T> values);
  template <class T>
  void SumOwnPiece(std::span<T> values, std::span<const int64_t> bounds);

  bool beside_ = false;
  std::vector<std::byte> received_;
};

class GroupOfOne : public Group {
 public:
  GroupOfOne() : Group(0, 1) {}
  void Exchange(std::span<const Message> messages) override;
  [[noreturn]] void Abort(int exit_code) override;
};
Group& Alone();  // one of these

// The ranks of this program: those that mpirun started, or this process alone. MPI is loaded for more than one rank
// only. UserError where it cannot be.
std::unique_ptr<Group> JoinGroup();

// [n + 1]: 0 ... count in n pieces that differ by one unit at most.
std::vector<int64_t> EvenBounds(int64_t count, int n, int64_t unit = 1);

// Every rank's text, or values, in the order of the ranks; lengths may differ.
std::vector<std::string> GatherTexts(Group& group, const std::string& own);
std::vector<float> GatherFloats(Group& group, std::span<const float> own);
std::string BroadcastText(Group& group, const std::string& text);  // rank 0's

}  // namespace taipan
