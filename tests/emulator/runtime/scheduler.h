// The runtime's inside: fibers, who may run, and what a module of instructions hooks into.
//
// A module (asynchronous copies, and whatever instructions join later) is one .cpp file. It suspends the running
// thread with block_on, lets others run again with wake, gathers a warp with warp_rendezvous (api.h), leaves work to
// the end of time with defer (api.h), and registers a Module to hear of blocks and threads.
#pragma once
#include <emulator/api.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace emulator {

constexpr int max_threads = 1024;
constexpr int warp_lanes = 32;
constexpr unsigned window_limit = 232448;

// Numbers of threads of a block.
class ThreadSet {
 public:
  void clear() { *this = ThreadSet(); }
  void add(unsigned thread) { words_[thread / 64] |= bit(thread); }
  void remove(unsigned thread) { words_[thread / 64] &= ~bit(thread); }
  bool has(unsigned thread) const { return (words_[thread / 64] & bit(thread)) != 0; }
  void add_all(const ThreadSet& others) {
    for (int i = 0; i < word_count; ++i) words_[i] |= others.words_[i];
  }
  int size() const;
  int first() const;  // -1 for none
  int last() const;
  std::string examples() const;  // "0, 1, 2, ..."

 private:
  static constexpr int word_count = max_threads / 64;
  static uint64_t bit(unsigned thread) { return uint64_t{1} << (thread % 64); }
  uint64_t words_[word_count] = {};
};

enum class State { ready, waiting, exited };

struct Fiber {
  void* stack_pointer = nullptr;
  unsigned char* stack = nullptr;  // lowest byte; pages below it are inaccessible
  void* asan_stack = nullptr;
  void* tsan_fiber = nullptr;
};

struct Thread : Fiber {
  unsigned linear = 0, warp = 0, lane = 0;
  Index3 index{};
  State state = State::exited;
  const char* waits_for = "";
  Site site{"", 0};  // where it waits, or the runtime was last called from
};

struct Schedule {
  bool reverse = false;  // threads and blocks from the last to the first
  bool lazy = false;     // asynchronous work as late as it may come
};

enum class Failure { none, check, memory_fault, canary };

// What went wrong; read by the Python side.
struct Report {
  Failure failure;
  uint32_t block[3], thread[3];
  uint32_t has_thread, writes;
  uint64_t address, program_counter;
  uint64_t module_offset;
  char module[512];
  const char* file;
  int32_t line;
  char text[8192];
};

// One block at a time.
struct Run {
  Thread* threads = nullptr;  // the pool, max_threads of them
  int thread_count = 0, live = 0;
  Thread* current = nullptr;  // null outside kernels
  ThreadSet ready, exited;
  Schedule schedule;
  void (*call)(const void*) = nullptr;
  const void* packed = nullptr;
  Report report{};
};
extern Run run;

struct Module {
  void (*block_begins)();
  void (*thread_exits)(Thread&);
  Module* next;
  Module(void (*begins)(), void (*exits)(Thread&));
};

void block_on(const char* what, Site site);  // returns after someone has called wake
void wake(Thread& thread);
void wake_all(const ThreadSet& threads);
void requeue();  // lets threads that come earlier in the schedule run first
std::string positions(const ThreadSet& threads);  // "thread 3" or "12 threads (0, 1, 2, ...)"
[[noreturn]] void fail_block(const char* text);   // of no single thread

bool run_block(Index3 block_index);  // false after a failure, which run.report tells

// fibers.cpp
void make_fibers();
void prepare_fiber(Thread& thread, void (*entry)());
void switch_from_host(Thread& to);
void switch_between(Thread& from, Thread& to);
[[noreturn]] void switch_to_host();
void* host_stack_pointer();
void before_resuming_host();
void after_failure();
extern "C" void emulator_resume(void* stack_pointer);
void happens_before(void* tag);
void happens_after(void* tag);
void shadow_write(void* address, size_t bytes);
void shadow_read(const void* address, size_t bytes);
void poison(const void* address, size_t bytes);
void unpoison(const void* address, size_t bytes);

// memory.cpp
void open_window(unsigned bytes);
void fill_window();
bool check_window();        // false, with a report, where bytes around the window changed
bool check_allocations();

// faults.cpp
class FaultHandlers {  // installed while one launch runs
 public:
  FaultHandlers();
  ~FaultHandlers();
};

}  // namespace emulator
